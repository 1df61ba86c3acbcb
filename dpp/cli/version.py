"""`dpp version`."""

from __future__ import annotations

import click

from dpp.cli.command import Command, with_session
from dpp.cli.session import Session
from dpp.resources import sql_dir
from dpp.version import VERSION


@click.command("version", cls=Command)
@click.option(
    "--schema",
    "schema_alone",
    is_flag=True,
    help="Print the last migration that it knows, and nothing else.",
)
@with_session
def version(session: Session, *, schema_alone: bool) -> None:
    """Print the version, and which schema of the database it works on."""
    schema = max(path.stem for path in (sql_dir() / "migrations").glob("*.sql"))
    session.out.result({"version": VERSION, "schema": schema})
    session.out.say(schema if schema_alone else f"dpp {VERSION}")
