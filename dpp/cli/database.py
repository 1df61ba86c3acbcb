"""`dpp database run`: PostgreSQL's own programs, and any other, beside the embedded database."""

from __future__ import annotations

import os
import sys
from functools import partial
from pathlib import Path

import click

from dpp import accounts, datadir
from dpp.cli.command import Command, Group, with_session
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session

EXTERNAL = Trouble(
    "external-database",
    "database.url names a PostgreSQL of your own.",
    "DPP ran nothing.",
    "Give its URL to the program itself.",
)


ANOTHER = Trouble(
    "another-database",
    "The node that runs here has no PostgreSQL of its own, and this command's configuration none "
    "of yours.",
    "DPP changed nothing.",
    "Give the command what the node has: DPP_CONFIG, or "
    "DPP_DATABASE__URL_FILE=/etc/dpp/credentials/database.url.",
)


@click.group("database", cls=Group)
def database() -> None:
    """Reach the PostgreSQL that a node runs for itself."""


@database.command("run", cls=Command)
@click.option(
    "--role",
    type=click.Choice(("dpp_audit", "dpp_app", "dpp_owner", "postgres")),
    default="dpp_audit",
    show_default=True,
    help="Whom it connects as; dpp_audit only reads, and no secrets of webhooks.",
)
@click.argument("command", nargs=-1, required=True)
@with_session
def run(session: Session, role: str, command: tuple[str, ...]) -> int:
    """Run COMMAND with PGHOST, PGDATABASE, PGUSER leading to the database; give `--` before it.

    Names without a schema are those of DPP.

    PostgreSQL's programs, psql among them, come first on its PATH. Where no node runs, PostgreSQL
    is started for the length of COMMAND. Run it as the node's user. The status is COMMAND's own.
    """
    config = session.node_config(quiet=True)
    if not config.database.embedded:
        raise Stop(Exit.NEGATIVE, EXTERNAL)
    assert_there(session)
    import trio

    from dpp.database import run_beside

    # One document goes to stdout: what the command prints makes room for it.
    stdout = sys.stderr.fileno() if session.out.as_json else None
    beside = partial(run_beside, config, session.data_dir(), command, role, stdout=stdout)
    try:
        status: int = trio.run(beside)
    except FileNotFoundError as error:
        raise Stop(Exit.USAGE, missing(command[0])) from error
    session.out.result({"status": status})
    return status


def assert_there(session: Session, *, may_be_new: bool = False) -> None:
    """Refuse a directory that is not ours to open, and one without a database unless it may be."""
    assert_ours(session, may_be_new=may_be_new)
    directory = session.data_dir()
    if datadir.running(directory) and not (directory / "postgres" / "postmaster.pid").exists():
        raise Stop(Exit.NEGATIVE, ANOTHER)


def assert_ours(session: Session, *, may_be_new: bool = False) -> None:
    """The same, whether its PostgreSQL can be asked just now or not."""
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
    if not may_be_new and not (directory / "postgres").exists():
        raise Stop(
            Exit.UNREACHABLE,
            Trouble(
                "no-database",
                f"There is no database in {directory}.",
                "DPP changed nothing.",
                "Name the right directory by --data-dir; `dpp serve` makes one.",
            ),
        )
    if directory.exists() and directory.stat().st_uid != os.geteuid():
        raise Stop(Exit.UNREACHABLE, _of_another_user(directory))


def _of_another_user(directory: Path) -> Trouble:
    """Say as whom to come: PostgreSQL lets no other user in, root neither."""
    owner = accounts.by_uid(directory.stat().st_uid)
    name = owner.name if owner else str(directory.stat().st_uid)
    return Trouble(
        "other-user",
        f"{directory} belongs to the user {name}, whom alone PostgreSQL there lets in.",
        "DPP changed nothing.",
        f"Run it as that user: runuser -u {name} -- dpp … --data-dir {directory}",
    )


def missing(program: str) -> Trouble:
    """Say that there is no such program."""
    return Trouble(
        "no-program",
        f"There is no program {program}.",
        "DPP ran nothing.",
        "Name one of PostgreSQL's (psql, pg_dump), one on PATH, or a path.",
    )
