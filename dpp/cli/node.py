"""`dpp node`: the nodes of a deployment."""

from __future__ import annotations

from typing import Any

import click

from dpp.cli import reach
from dpp.cli.command import Command, Group, with_session
from dpp.cli.session import Session
from dpp.cli.tables import show_node, show_nodes
from dpp.cli.tenant import by_operator


@click.group("node", cls=Group)
def node() -> None:
    """See which nodes there are and how each is; let one drain, let it work again."""


@node.command("list", cls=Command)
@with_session
def list_(session: Session) -> None:
    """List every node that ever was, by its id."""
    with reach.admin(session) as admin:
        nodes = list(admin.nodes())
    session.out.result({"items": nodes, "next_cursor": None})
    show_nodes(session.out, nodes)


@node.command("show", cls=Command)
@click.argument("node_id", metavar="NODE")
@with_session
def show(session: Session, node_id: str) -> None:
    """Show one: version, load, lease, when each of its loops last did its work."""
    with reach.admin(session) as admin:
        _show(session, admin.node(node_id))


@node.command("drain", cls=Command)
@click.argument("node_id", metavar="NODE")
@click.option("--reason", required=True, metavar="TEXT", help="Why; `dpp node show` says it.")
@click.option("--operator", metavar="NAME", help="Who does it; else the user's name.")
@with_session
def drain(session: Session, node_id: str, reason: str, operator: str | None) -> None:
    """Let NODE claim nothing more; runs that do not end in time go to others, no attempt spent.

    It goes on answering requests, and /readyz there says 503, so that balancers leave it alone. It
    stays so, through a restart too, until `dpp node undrain`.
    """
    with reach.admin(session, operator) as admin:
        _show(session, admin.set_drain(node_id, drain=True, reason=reason))


@node.command("undrain", cls=Command)
@click.argument("node_id", metavar="NODE")
@by_operator
@with_session
def undrain(session: Session, node_id: str, operator: str | None, reason: str | None) -> None:
    """Let NODE work again."""
    with reach.admin(session, operator) as admin:
        _show(session, admin.set_drain(node_id, drain=False, reason=reason))


def _show(session: Session, answer: dict[str, Any]) -> None:
    session.out.result(answer)
    show_node(session.out, answer)
