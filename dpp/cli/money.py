"""`dpp deposit`, `withdraw`, `refund` and `adjust`: money into and out of a tenant's budget."""

from __future__ import annotations

import re
import uuid

import click

from dpp.cli import reach
from dpp.cli.command import Command, with_session
from dpp.cli.session import Session
from dpp.cli.tables import show_budget
from dpp.cli.tenant import F, by_operator

# Without a reference of the operator's, one is made, so that a retry of this command's books once.
MADE = "cli-"
NEGATIVE = re.compile(r"-[0-9.]")


def by_reference(function: F) -> F:
    """Add the option that names a transfer."""
    option = click.option(
        "--reference",
        metavar="TEXT",
        help="Names the transfer: the same again is booked once. Else one is made.",
    )
    return option(function)


def transfer(function: F) -> F:
    """Add the arguments and options of a transfer."""
    tenant = click.argument("tenant")
    amount = click.argument("amount", metavar="USD")
    return tenant(amount(by_reference(by_operator(function))))


def explained(function: F) -> F:
    """Add the options of a transfer that nobody makes without saying why."""
    operator = click.option("--operator", metavar="NAME", help="Who does it; else the user's name.")
    reason = click.option("--reason", required=True, metavar="TEXT", help="Why; it must be said.")
    return by_reference(operator(reason(function)))


def _book(
    session: Session,
    path: str,
    tenant: str | None,
    amount: str,
    *,
    reference: str | None,
    operator: str | None,
    reason: str | None,
    run_id: str | None = None,
) -> None:
    made = reference or f"{MADE}{uuid.uuid4()}"
    with reach.admin(session, operator) as admin:
        if tenant is None:
            tenant = str(admin.run(run_id or "")["tenant_id"])
        if reference is None:
            session.out.note(f"reference {made}")
        answer = admin.book(path, tenant, amount, reference=made, run_id=run_id, reason=reason)
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
    by = {"reference": reference, "operator": operator, "reason": reason}
    _book(session, "deposits", tenant, amount, **by)


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
    by = {"reference": reference, "operator": operator, "reason": reason}
    _book(session, "withdrawals", tenant, amount, **by)


@click.command("refund", cls=Command)
@click.argument("of", nargs=-1, metavar="[TENANT] RUN USD")
@explained
@with_session
def refund(
    session: Session,
    *,
    of: tuple[str, ...],
    reference: str | None,
    operator: str | None,
    reason: str,
) -> None:
    """Give back USD of what a run cost, at most what is left of it.

    The run and its usage stay as they are. A TENANT that is named must be the run's.
    """
    if len(of) not in {2, 3}:
        message = "name the run and how much to give back: [TENANT] RUN USD"
        raise click.UsageError(message)
    *tenant, run_id, amount = of
    by = {"reference": reference, "operator": operator, "reason": reason, "run_id": run_id}
    _book(session, "refunds", tenant[0] if tenant else None, amount, **by)


def _argument(context: click.Context, _: click.Parameter, value: str) -> str:
    """Take an amount below 0 for what it is, though it looks like an option."""
    if value.startswith("-") and NEGATIVE.match(value) is None:
        raise click.NoSuchOption(value, ctx=context)
    return value


@click.command("adjust", cls=Command, context_settings={"ignore_unknown_options": True})
@click.argument("tenant", callback=_argument)
@click.argument("amount", metavar="±USD", callback=_argument)
@explained
@with_session
def adjust(
    session: Session,
    *,
    tenant: str,
    amount: str,
    reference: str | None,
    operator: str | None,
    reason: str,
) -> None:
    """Correct a budget: 5.00 adds to what is available, -5.00 takes away, at most what there is."""
    by = {"reference": reference, "operator": operator, "reason": reason}
    _book(session, "adjusts", tenant, amount, **by)
