"""`dpp tenant`: who may submit, on which plan, with which money."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from dpp.cli import reach
from dpp.cli.command import Command, Group, with_session
from dpp.cli.session import Session
from dpp.cli.tables import show_budget, show_tenants

F = TypeVar("F", bound=Callable[..., Any])


@click.group("tenant", cls=Group)
def tenant() -> None:
    """Create tenants, look at them, suspend and resume them, change their plan."""


def by_operator(function: F) -> F:
    """Add the options that are written beside every change."""
    operator = click.option("--operator", metavar="NAME", help="Who does it; else the user's name.")
    reason = click.option("--reason", metavar="TEXT", help="Why.")
    return operator(reason(function))


def _show(session: Session, answer: dict[str, Any]) -> None:
    session.out.result(answer)
    show_tenants(session.out, [answer])


@tenant.command("create", cls=Command)
@click.argument("name")
@click.option("--plan", required=True, metavar="PLAN", help="A plan of the configuration.")
@click.option("--deposit", "deposit_usd", metavar="USD", help='Its first deposit: "10.00".')
@by_operator
@with_session
def create(
    session: Session,
    *,
    name: str,
    plan: str,
    deposit_usd: str | None,
    operator: str | None,
    reason: str | None,
) -> None:
    """Create a tenant with its first API key, shown this once; one that exists: status 1."""
    with reach.admin(session, operator) as admin:
        answer = admin.create_tenant(name, plan=plan, deposit_usd=deposit_usd, reason=reason)
    names = ("tenant_id", "plan", "api_key", "budget")
    session.out.result({name: answer[name] for name in names})
    session.out.say(f"tenant {answer['tenant_id']}, plan {answer['plan']}")
    session.out.say(f"api key {answer['api_key']}  (shown this once)")
    show_budget(session.out, answer["budget"])


@tenant.command("list", cls=Command)
@with_session
def list_(session: Session) -> None:
    """List all tenants, by name."""
    with reach.admin(session) as admin:
        tenants = list(admin.tenants())
    session.out.result({"items": tenants, "next_cursor": None})
    show_tenants(session.out, tenants)


@tenant.command("show", cls=Command)
@click.argument("name")
@with_session
def show(session: Session, name: str) -> None:
    """Show a tenant and its budget."""
    with reach.admin(session) as admin:
        _show(session, admin.tenant(name))


@tenant.command("suspend", cls=Command)
@click.argument("name")
@by_operator
@with_session
def suspend(session: Session, name: str, operator: str | None, reason: str | None) -> None:
    """Refuse its new submissions; accepted runs go on."""
    with reach.admin(session, operator) as admin:
        _show(session, admin.set_suspended(name, suspended=True, reason=reason))


@tenant.command("resume", cls=Command)
@click.argument("name")
@by_operator
@with_session
def resume(session: Session, name: str, operator: str | None, reason: str | None) -> None:
    """Let it submit again."""
    with reach.admin(session, operator) as admin:
        _show(session, admin.set_suspended(name, suspended=False, reason=reason))


@tenant.command("plan", cls=Command)
@click.argument("name")
@click.argument("new_plan", metavar="PLAN")
@by_operator
@with_session
def plan(
    session: Session, name: str, new_plan: str, operator: str | None, reason: str | None
) -> None:
    """Give it another plan, felt from the next submission on."""
    with reach.admin(session, operator) as admin:
        _show(session, admin.set_plan(name, new_plan, reason=reason))
