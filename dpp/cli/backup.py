"""`dpp backup`, `receive-wal`, `verify`, `restore`: the data directory of a node with its own database."""  # noqa: E501

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs
import click

from dpp.cli.command import Command, with_session
from dpp.cli.database import assert_ours
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session
from dpp.moments import parse

if TYPE_CHECKING:
    from dpp.backups.receiver import Facts

FOLDER = click.Path(file_okay=False, path_type=Path)
EXTERNAL = Trouble(
    "external_database",
    "database.url names a PostgreSQL of your own.",
    "DPP copied nothing.",
    "Back it up by its own means: docs/backup.md has the commands that were tried.",
)


@click.command("backup", cls=Command)
@click.argument("into", type=FOLDER)
@click.option("--keep", type=click.IntRange(1), help="How many to keep; 7 by default.")
@click.option("--verify", "look", is_flag=True, help="Verify it, before an older one goes.")
@with_session
def backup(session: Session, into: Path, keep: int | None, *, look: bool) -> None:
    """Take a backup of the node that runs here into a new directory below INTO.

    Older ones but the newest are deleted. Run it as the node's user.
    """
    from dpp.backups import copies

    refuse_external(session)
    assert_ours(session, may_be_new=True)
    with refusals():
        taken = copies.take(session.data_dir(), into, say=session.out.note)
        about = copies.verify(taken, say=session.out.note) if look else copies.read_about(taken)
        copies.keep(into, keep or copies.KEEP)
    tell(session, taken, attrs.asdict(about), "taken")


@click.command("receive-wal", cls=Command)
@click.argument("into", type=FOLDER)
@click.option("--status", "look", is_flag=True, help="How far it is; status 1 if behind or away.")
@click.option("--forget", is_flag=True, help="Let the node keep no WAL for a receiver any more.")
@with_session
def receive_wal(session: Session, into: Path, *, look: bool, forget: bool) -> int:
    """Receive the node's WAL and results into INTO, where its backups lie, until SIGTERM.

    With it `dpp restore --to` reaches any moment since a backup. Run it as the node's user.
    """
    from dpp.backups import receiver

    refuse_external(session)
    assert_ours(session, may_be_new=True)
    with refusals():
        if forget:
            gone = receiver.forget(session.data_dir())
            session.out.result({"forgotten": gone})
            session.out.say("forgotten" if gone else "there was nothing to forget")
            return Exit.GOOD
        if look:
            return show(session, receiver.ask(session.data_dir()))
        session.node_config()
        signal.signal(signal.SIGTERM, stopped)
        with suppress(Stopped):
            receiver.Receiver(session.data_dir(), into).run()
    session.out.result({"status": "stopped"})
    return Exit.GOOD


class Stopped(BaseException):
    """SIGTERM came."""


def stopped(*_: object) -> None:
    """End what waits."""
    raise Stopped


def show(session: Session, facts: Facts) -> int:
    """Say how far the receiver is."""
    slot = facts.slot
    document = {
        "well": facts.well,
        "receives": slot is not None and slot.receives,
        "behind_bytes": facts.behind,
        "lag_s": None if slot is None else slot.lag_s,
        "slot": None if slot is None else slot.status,
        "left_bytes": None if slot is None else slot.left,
        "bound": facts.bound,
    }
    session.out.result(document)
    session.out.pairs(document)
    return Exit.GOOD if facts.well else Exit.NEGATIVE


@click.command("verify", cls=Command)
@click.argument("backup_", metavar="BACKUP", type=FOLDER)
@with_session
def verify(session: Session, backup_: Path) -> int:
    """Hold BACKUP against the hashes of all its files, and read the WAL received since.

    Of a directory of backups, the newest one. Status 1 where a file differs, or a segment of WAL is
    missing between others.
    """
    from dpp.backups import copies, restoring

    with refusals():
        backup_ = restoring.chosen(backup_, restoring.Target())
        about = copies.verify(backup_, say=session.out.note)
        session.out.note("write-ahead log")
        wal = copies.wal_after(backup_)
    more = {"wal": None if wal is None else attrs.asdict(wal)}
    tell(session, backup_, attrs.asdict(about) | more, "whole")
    if wal is None:
        return Exit.GOOD
    until = wal.until or "its end, for no transaction came after it"
    session.out.say(f"WAL leads on to {until}, in {wal.segments} segments")
    if wal.missing is not None:
        session.out.say(f"{wal.missing} is missing: it restores to there, and to nothing later")
    return Exit.GOOD if wal.missing is None else Exit.NEGATIVE


class Moment(click.ParamType[datetime]):
    """A time with its offset from UTC."""

    name = "TIME"

    def convert(
        self, value: str | datetime, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        """Read it."""
        moment = value if isinstance(value, datetime) else parse(value)
        if moment is None:
            self.fail(f"{value!r} is no time such as 2026-11-29T03:15:02Z", param, ctx)
        return moment


@click.command("restore", cls=Command)
@click.argument("backup_", metavar="BACKUP", type=FOLDER)
@click.option("--to", type=Moment(), help="Replay up to this moment; else all that was received.")
@click.option("--timeline", type=click.IntRange(1), help="Which one to replay; else the newest.")
@click.option("--alone", is_flag=True, help="Replay nothing: what BACKUP holds.")
@with_session
def restore(
    session: Session, backup_: Path, to: datetime | None, timeline: int | None, *, alone: bool
) -> None:
    """Verify BACKUP and make a data directory of it, the one that --data-dir names.

    Of a directory of backups it takes the newest that serves. The WAL received since is replayed.
    There must be no database in the data directory yet. Start `dpp serve` on it then, and ask
    `dpp audit`.
    """
    from dpp.backups import restoring

    if alone and (to is not None or timeline is not None):
        raise click.UsageError("--alone replays nothing: leave --to and --timeline out.")
    target = restoring.Target(to, timeline, alone)
    with refusals("Nothing was restored."):
        made = restoring.restore(backup_, session.data_dir(), target, say=session.out.note)
    more = {"backup": str(made.backup), "until": made.until, "timeline": made.timeline,
            "missing": made.missing}  # fmt: skip
    tell(session, session.data_dir(), attrs.asdict(made.about) | more, "restored")
    if made.timeline is not None:
        until = made.until or "the end of the backup: no transaction came after it"
        session.out.say(f"replayed to {until}; it goes on as timeline {made.timeline}")
    if made.missing is not None:
        session.out.note(f"warning: {made.missing} is missing, and what came after it was left out")


def refuse_external(session: Session) -> None:
    """Refuse a node whose PostgreSQL is somebody else's to copy."""
    if not session.config().database.embedded:
        raise Stop(Exit.NEGATIVE, EXTERNAL)


def tell(session: Session, path: Path, about: dict[str, Any], word: str) -> None:
    """Say what was done."""
    session.out.result({"path": str(path), **about})
    session.out.say(f"{word}: {path} (of {about['taken_at']}, {about['results']} stored results)")


@contextmanager
def refusals(did: str = "Nothing was changed.") -> Iterator[None]:
    """End the command with the words of what was refused, and of what was done all the same."""
    from dpp.backups.programs import BackupRefused

    try:
        yield
    except BackupRefused as refused:
        status = Exit.UNREACHABLE if refused.away else Exit.NEGATIVE
        raise Stop(status, Trouble("backup", refused.what, did, refused.todo)) from refused
