"""`dpp version`."""

from __future__ import annotations

import click

from dpp.cli.command import Command, with_session
from dpp.cli.session import Session
from dpp.version import VERSION


@click.command("version", cls=Command)
@with_session
def version(session: Session) -> None:
    """Print the version."""
    session.out.result({"version": VERSION})
    session.out.say(f"dpp {VERSION}")
