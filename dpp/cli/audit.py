"""`dpp audit`: every invariant of the books over one snapshot; and what was found, and resolved."""

from __future__ import annotations

from typing import Any

import click

from dpp.cli import problems, reach
from dpp.cli.command import Command, Group, with_session
from dpp.cli.exits import Exit, Stop
from dpp.cli.session import Session
from dpp.cli.tables import show_audit, show_finding, show_findings


@click.group("audit", cls=Group, invoke_without_command=True)
@click.pass_context
@with_session
def audit(session: Session, context: click.Context) -> int | None:
    """Prove the books: status 1 unless every invariant holds and no finding is open.

    Alone it reads everything, in one snapshot, and writes nothing. Status 3 where it could not.
    """
    if context.invoked_subcommand is not None:
        return None
    from dpp.client.faults import ApiProblem

    with reach.admin(session) as admin:
        try:
            answer = admin.audit()
        except ApiProblem as error:  # whatever it is, nobody looked
            trouble = problems.trouble_of(error.problem, error.retry_after_s)
            raise Stop(Exit.UNREACHABLE, trouble) from error
    session.out.result(answer)
    show_audit(session.out, answer)
    return Exit.GOOD if answer.get("ok") is True else Exit.NEGATIVE


@audit.command("list", cls=Command)
@with_session
def list_(session: Session) -> None:
    """List the findings that are open, oldest first."""
    with reach.admin(session) as admin:
        findings = list(admin.findings())
    session.out.result({"items": findings, "next_cursor": None})
    show_findings(session.out, findings)


@audit.command("show", cls=Command)
@click.argument("finding_id", metavar="ID")
@with_session
def show(session: Session, finding_id: str) -> None:
    """Show a finding: its evidence and, once it is resolved, how."""
    with reach.admin(session) as admin:
        finding = admin.finding(finding_id)
    session.out.result(finding)
    show_finding(session.out, finding)


@audit.command("resolve", cls=Command)
@click.argument("finding_id", metavar="ID")
@click.option("--settle", metavar="USD", help="End the run FAILED, at this cost.")
@click.option("--void", is_flag=True, help="End the run FAILED, at no cost.")
@click.option("--refold", is_flag=True, help="Write the budget row anew, from its facts.")
@click.option("--accept", is_flag=True, help="Leave it as it is, and do not report it again.")
@click.option("--operator", metavar="NAME", help="Who does it; else the user's name.")
@click.option("--reason", required=True, metavar="TEXT", help="Why; it must be said.")
@with_session
def resolve(  # each an option
    session: Session,
    *,
    finding_id: str,
    settle: str | None,
    void: bool,
    refold: bool,
    accept: bool,
    operator: str | None,
    reason: str,
) -> None:
    """Resolve a finding; the last one of a tenant lets it submit again."""
    asked = {"settle": settle is not None, "void": void, "refold": refold, "accept": accept}
    ways = [way for way, is_asked in asked.items() if is_asked]
    if len(ways) != 1:
        message = "say one of --settle USD, --void, --refold, --accept"
        raise click.UsageError(message)
    with reach.admin(session, operator) as admin:
        answer: dict[str, Any] = admin.resolve(finding_id, ways[0], cost_usd=settle, reason=reason)
    session.out.result(answer)
    show_finding(session.out, answer["finding"])
    tenant = answer["finding"].get("tenant_id")
    if tenant is not None:
        still = "is still frozen: `dpp audit list`" if answer["tenant_frozen"] else "may submit"
        session.out.say(f"tenant {tenant} {still}")
