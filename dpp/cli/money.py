"""`dpp deposit` and `dpp withdraw`: money into and out of a tenant's budget."""

from __future__ import annotations

import uuid

import click

from dpp.cli import reach
from dpp.cli.command import Command, with_session
from dpp.cli.session import Session
from dpp.cli.tables import show_budget
from dpp.cli.tenant import F, by_operator

# Without a reference of the operator's, one is made, so that a retry of this command's books once.
MADE = "cli-"


def transfer(function: F) -> F:
    """Add the arguments and options of a transfer."""
    tenant = click.argument("tenant")
    amount = click.argument("amount", metavar="USD")
    reference = click.option(
        "--reference",
        metavar="TEXT",
        help="Names the transfer: the same again is booked once. Else one is made.",
    )
    return tenant(amount(reference(by_operator(function))))


def _book(
    session: Session,
    path: str,
    tenant: str,
    amount: str,
    reference: str | None,
    operator: str | None,
    reason: str | None,
) -> None:
    made = reference or f"{MADE}{uuid.uuid4()}"
    with reach.admin(session, operator) as admin:
        answer = admin.book(path, tenant, amount, reference=made, reason=reason)
    if reference is None:
        session.out.note(f"reference {made}")
    session.out.result({"budget": answer["budget"]})
    show_budget(session.out, answer["budget"])


@click.command("deposit", cls=Command)
@transfer
@with_session
def deposit(
    session: Session,
    *,
    tenant: str,
    amount: str,
    reference: str | None,
    operator: str | None,
    reason: str | None,
) -> None:
    """Add USD to what a tenant may spend."""
    _book(session, "deposits", tenant, amount, reference, operator, reason)


@click.command("withdraw", cls=Command)
@transfer
@with_session
def withdraw(
    session: Session,
    *,
    tenant: str,
    amount: str,
    reference: str | None,
    operator: str | None,
    reason: str | None,
) -> None:
    """Take USD out again, at most what is available."""
    _book(session, "withdrawals", tenant, amount, reference, operator, reason)
