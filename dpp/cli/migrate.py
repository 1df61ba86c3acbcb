"""`dpp migrate`: the schema of the database, forward, back, and compared with what it must be.

An embedded database is migrated when its node starts; these are for an external one, and to look.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any

import click

from dpp import datadir
from dpp.cli.command import Command, Group, with_session
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session

IN_USE = Trouble(
    "node-running",
    "A node works on this database: without its tables it would end at once.",
    "DPP changed nothing.",
    "Stop the node first, then ask again. A node of this release applies them anew at its start.",
)


@click.group("migrate", cls=Group)
def migrate() -> None:
    """Bring the database's schema to what this release knows."""


def _assert_there(session: Session, action: str) -> None:
    """Refuse a directory that is not ours to open; and one without a database, but to make it."""
    directory = session.data_dir()
    try:
        datadir.running(directory)
    except PermissionError:
        raise Stop(
            Exit.UNREACHABLE,
            Trouble(
                "no-access",
                f"This user may not look into {directory}.",
                "DPP changed nothing.",
                "Run as the user of the node, or name another directory by --data-dir.",
            ),
        ) from None
    if action != "up" and not (directory / "postgres").exists():
        raise Stop(
            Exit.UNREACHABLE,
            Trouble(
                "no-database",
                f"There is no database in {directory}.",
                "DPP changed nothing.",
                "Name the right directory by --data-dir; `dpp serve` makes one.",
            ),
        )


def _ask(session: Session, action: str, **more: Any) -> dict[str, Any]:
    config = session.node_config(quiet=True)
    if config.database.embedded:
        _assert_there(session, action)
    import trio

    from dpp import node

    ask = partial(node.migrate, config, action, data_dir=session.data_dir(), **more)
    answer: dict[str, Any] = trio.run(ask)
    session.out.result(answer)
    return answer


@migrate.command("up", cls=Command)
@with_session
def up(session: Session) -> None:
    """Apply what is missing, each migration in a transaction of its own."""
    applied = _ask(session, "up")["applied"]
    session.out.say("\n".join(f"applied {name}" for name in applied) or "nothing to apply")


@migrate.command("down", cls=Command)
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many.")
@click.option("--yes", is_flag=True, help="Do not ask; without a terminal nobody is asked.")
@with_session
def down(session: Session, count: int, *, yes: bool) -> None:
    """Take back the last migration: what only its tables held is lost."""
    if session.config().database.embedded and datadir.running(session.data_dir()) is not None:
        raise Stop(Exit.NEGATIVE, IN_USE)
    if sys.stdin and sys.stdin.isatty() and not yes:
        click.confirm("What only its tables hold will be lost. Go on?", abort=True, err=True)
    taken = _ask(session, "down", count=count)["taken_back"]
    session.out.say("\n".join(f"took back {name}" for name in taken) or "nothing to take back")


@migrate.command("status", cls=Command)
@with_session
def status(session: Session) -> int:
    """List the migrations; status 1 unless the schema is the one this release knows."""
    answer = _ask(session, "status")
    rows = [(one["name"], "yes" if one["applied"] else "no") for one in answer["migrations"]]
    session.out.table(("migration", "applied"), rows)
    session.out.say(f"schema: {answer['state']}")
    return Exit.GOOD if answer["state"] == "current" else Exit.NEGATIVE


@migrate.command("check", cls=Command)
@with_session
def check(session: Session) -> int:
    """Compare the live catalog with what the migrations make; status 1 where they differ."""
    answer = _ask(session, "check")
    session.out.say("\n".join(answer["differences"]) or "the catalog is what the migrations make")
    return Exit.GOOD if answer["ok"] is True else Exit.NEGATIVE
