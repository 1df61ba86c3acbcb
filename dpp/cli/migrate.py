"""`dpp migrate`: the schema of the database, forward, back, and compared with what it must be.

An embedded database is migrated when its node starts; these are for an external one, and to look.
"""

from __future__ import annotations

import sys
from functools import partial
from typing import Any, TextIO

import click

from dpp import datadir
from dpp.cli.command import Command, Group, with_session
from dpp.cli.database import assert_there
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session

IN_USE = Trouble(
    "node-running",
    "A node works on this database: without its tables it would end at once.",
    "DPP changed nothing.",
    "Stop the node first, then ask again. A node of this release applies them anew at its start.",
)

EMBEDDED = Trouble(
    "embedded",
    "The database is the embedded one: its node makes these roles itself, at each start.",
    "DPP changed nothing.",
    "For a server of your own, set database.url to its URL first.",
)


@click.group("migrate", cls=Group)
def migrate() -> None:
    """Bring the database's schema to what this release knows."""


def _ask(session: Session, action: str, **more: Any) -> dict[str, Any]:
    config = session.node_config(quiet=True)
    if config.database.embedded:
        assert_there(session, may_be_new=action == "up")
    import trio

    from dpp.database import migrate_database

    ask = partial(migrate_database, config, action, data_dir=session.data_dir(), **more)
    answer: dict[str, Any] = trio.run(ask)
    session.out.result(answer)
    return answer


@migrate.command("up", cls=Command)
@with_session
def up(session: Session) -> None:
    """Apply what is missing, each migration in a transaction of its own.

    What takes away waits for nodes of other versions: run it again when they have gone.
    """
    answer = _ask(session, "up")
    session.out.say(
        "\n".join(f"applied {name}" for name in answer["applied"]) or "nothing to apply"
    )
    for name in answer["waiting"]:
        session.out.say(f"waits   {name}, for {', '.join(answer['nodes'])}")


@migrate.command("roles", cls=Command)
@click.option(
    "--admin-url-file",
    type=click.File(),
    metavar="FILE",
    help='File with the URL of a superuser, or of a role with CREATEROLE; "-": standard input.',
)
@click.option("--admin-url", metavar="URL", help="The same, without a password: PGPASSWORD has it.")
@with_session
def roles(session: Session, admin_url_file: TextIO | None, admin_url: str | None) -> int:
    """Make dpp_owner, dpp_app and dpp_audit, with their limits, on a server of your own.

    Their passwords are those in database.url and database.migrations_url. What that role may not
    do is printed, for somebody who may; status 1 then.
    """
    from dpp.sections import POSTGRES
    from dpp.urls import SecretUrl, password_of

    if (admin_url_file is None) is (admin_url is None):
        raise click.UsageError("name one of --admin-url-file and --admin-url")
    if admin_url is not None and password_of(admin_url):
        raise click.UsageError(
            "every user of this machine can read a command line: give the password in PGPASSWORD, "
            "or the URL by --admin-url-file"
        )
    url = admin_url or (admin_url_file.read().strip() if admin_url_file else "")
    try:
        SecretUrl(POSTGRES, words=()).read(url)
    except ValueError:
        raise click.UsageError("the URL must start with postgresql:// or postgres://") from None
    config = session.node_config(quiet=True)
    if config.database.embedded:
        raise Stop(Exit.NEGATIVE, EMBEDDED)
    import trio

    from dpp.database import provide_roles

    answer: dict[str, Any] = trio.run(partial(provide_roles, config, url))
    session.out.result(answer)
    session.out.say("\n".join(answer["done"]) or "nothing to make")
    for note in answer["notes"]:
        session.out.say(f"note: {note}")
    for one in answer["left"]:
        session.out.say(f"NOT DONE: {one['statement']};  ({one['why']})")
    return Exit.GOOD if answer["ok"] else Exit.NEGATIVE


@migrate.command("down", cls=Command)
@click.option("--count", type=click.IntRange(1), default=1, show_default=True, help="How many.")
@click.option(
    "--to",
    metavar="NAME",
    help="Take back all that came after this one: what `dpp version --schema` of a release says.",
)
@click.option("--yes", is_flag=True, help="Do not ask; without a terminal nobody is asked.")
@with_session
def down(session: Session, count: int, to: str | None, *, yes: bool) -> None:
    """Take back the last migration, or several: what only their tables held is lost."""
    if session.config().database.embedded and datadir.running(session.data_dir()) is not None:
        raise Stop(Exit.NEGATIVE, IN_USE)
    if sys.stdin and sys.stdin.isatty() and not yes:
        click.confirm("What only its tables hold will be lost. Go on?", abort=True, err=True)
    taken = _ask(session, "down", count=count, to=to)["taken_back"]
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
