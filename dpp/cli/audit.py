"""`dpp audit`: every invariant of the books, over one snapshot of the live database."""

from __future__ import annotations

import click

from dpp.cli import reach
from dpp.cli.command import Command, with_session
from dpp.cli.exits import Exit
from dpp.cli.session import Session
from dpp.cli.tables import show_audit


@click.command("audit", cls=Command)
@with_session
def audit(session: Session) -> int:
    """Prove the books: status 1 unless every invariant holds and no finding is open."""
    with reach.admin(session) as admin:
        answer = admin.audit()
    session.out.result(answer)
    show_audit(session.out, answer)
    return Exit.GOOD if answer.get("ok") is True else Exit.NEGATIVE
