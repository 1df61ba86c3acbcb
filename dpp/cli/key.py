"""`dpp key`: a tenant's API keys."""

from __future__ import annotations

import click

from dpp.cli import reach
from dpp.cli.command import Command, Group, with_session
from dpp.cli.session import Session
from dpp.cli.tables import show_keys
from dpp.cli.tenant import by_operator
from dpp.keys import SCOPES


@click.group("key", cls=Group)
def key() -> None:
    """Make, list and revoke API keys."""


@key.command("create", cls=Command)
@click.argument("tenant")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help=f"What it may do, one or more of {', '.join(SCOPES)}; else all of it.",
)
@click.option("--lives", "lives_s", type=click.IntRange(1), metavar="S", help="Else until revoked.")
@by_operator
@with_session
def create(
    session: Session,
    *,
    tenant: str,
    scopes: tuple[str, ...],
    lives_s: int | None,
    operator: str | None,
    reason: str | None,
) -> None:
    """Make a key; it is shown this once."""
    with reach.admin(session, operator) as admin:
        answer = admin.create_key(tenant, scopes=scopes, lives_s=lives_s, reason=reason)
    session.out.result({"key_id": answer["key_id"], "api_key": answer["api_key"]})
    session.out.say(f"key {answer['key_id']}")
    session.out.say(f"api key {answer['api_key']}  (shown this once)")


@key.command("list", cls=Command)
@click.argument("tenant")
@with_session
def list_(session: Session, tenant: str) -> None:
    """List a tenant's keys; never their secrets."""
    with reach.admin(session) as admin:
        keys = list(admin.keys(tenant))
    session.out.result({"items": keys, "next_cursor": None})
    show_keys(session.out, keys)


@key.command("revoke", cls=Command)
@click.argument("tenant")
@click.argument("key_id")
@by_operator
@with_session
def revoke(
    session: Session, tenant: str, key_id: str, operator: str | None, reason: str | None
) -> None:
    """Revoke a key: refused everywhere within five seconds."""
    with reach.admin(session, operator) as admin:
        admin.revoke_key(tenant, key_id, reason=reason)
    session.out.result({"key_id": key_id, "revoked": True})
    session.out.say(f"revoked {key_id}")
