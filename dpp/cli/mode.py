"""`dpp mode`: what all nodes take and do, for maintenance."""

from __future__ import annotations

from typing import Any

import click

from dpp.cli import reach
from dpp.cli.command import Command, Group, with_session
from dpp.cli.session import Session
from dpp.cli.spans import Span
from dpp.cli.tables import show_mode
from dpp.modes import Mode


@click.group("mode", cls=Group)
def mode() -> None:
    """Let all nodes take no submissions, or claim nothing; see who asked for what."""


@mode.command("show", cls=Command)
@with_session
def show(session: Session) -> None:
    """Show the mode in force, and the trail."""
    with reach.admin(session) as admin:
        _show(session, admin.mode())


@mode.command("set", cls=Command)
@click.argument("new_mode", metavar="MODE", type=click.Choice([one.value for one in Mode]))
@click.option("--reason", required=True, metavar="TEXT", help="Why; it stays in the trail.")
@click.option(
    "--for",
    "expires_in_s",
    type=Span(),
    metavar="TIME",
    help="For how long, such as 30m; then it is normal again. Else until it is changed.",
)
@click.option("--operator", metavar="NAME", help="Who does it; else the user's name.")
@with_session
def set_(
    session: Session, new_mode: str, reason: str, expires_in_s: int | None, operator: str | None
) -> None:
    """Put all nodes into MODE, felt at once by submits and claims.

    no-submit: new submissions are answered 503 with Retry-After, replays as ever, runs go on.
    drain: nothing is claimed, submissions wait, runs in work go on. normal: all of it again.
    """
    with reach.admin(session, operator) as admin:
        _show(session, admin.set_mode(new_mode, reason=reason, expires_in_s=expires_in_s))


def _show(session: Session, answer: dict[str, Any]) -> None:
    session.out.result(answer)
    show_mode(session.out, answer)
