"""`dpp key`: a tenant's API keys."""

from __future__ import annotations

import click

from dpp.cli import reach
from dpp.cli.command import Command, Group, with_session
from dpp.cli.session import Session
from dpp.cli.spans import Span
from dpp.cli.tables import show_keys
from dpp.cli.tenant import by_operator
from dpp.keys import SCOPES


@click.group("key", cls=Group)
def key() -> None:
    """Make, list, rotate and revoke API keys."""


@key.command("create", cls=Command)
@click.argument("tenant")
@click.option(
    "--scope",
    "scopes",
    multiple=True,
    metavar="SCOPE",
    help=f"What it may do, one or more of {', '.join(SCOPES)}; else all of it.",
)
@click.option(
    "--expires-in",
    "expires_in_s",
    type=Span(),
    metavar="TIME",
    help="How long it lives, such as 12h or 30d; else until revoked.",
)
@click.option(
    "--spend-limit",
    "spend_limit_usd",
    metavar="USD",
    help='What it may spend in all, with the keys that it makes: "5.00"; else no limit.',
)
@by_operator
@with_session
def create(
    session: Session,
    *,
    tenant: str,
    scopes: tuple[str, ...],
    expires_in_s: int | None,
    spend_limit_usd: str | None,
    operator: str | None,
    reason: str | None,
) -> None:
    """Make a key; it is shown this once."""
    with reach.admin(session, operator) as admin:
        answer = admin.create_key(
            tenant,
            scopes=scopes,
            expires_in_s=expires_in_s,
            spend_limit_usd=spend_limit_usd,
            reason=reason,
        )
    _show(session, answer["key_id"], answer["api_key"])


@key.command("list", cls=Command)
@click.argument("tenant")
@click.option("--all", "ended", is_flag=True, help="Those that were revoked or have expired, too.")
@with_session
def list_(session: Session, tenant: str, *, ended: bool) -> None:
    """List a tenant's keys, newest first; never their secrets."""
    with reach.admin(session) as admin:
        keys = list(admin.keys(tenant, ended=ended))
    session.out.result({"items": keys, "next_cursor": None})
    show_keys(session.out, keys)


@key.command("rotate", cls=Command)
@click.argument("tenant")
@click.argument("key_id")
@click.option(
    "--overlap",
    "overlap_s",
    type=Span(),
    metavar="TIME",
    help="How long the old key goes on, at most 7d; 0 ends it. A day if nothing is said.",
)
@by_operator
@with_session
def rotate(
    session: Session,
    *,
    tenant: str,
    key_id: str,
    overlap_s: int | None,
    operator: str | None,
    reason: str | None,
) -> None:
    """Make a key in the place of another, with the same rights; it is shown this once."""
    with reach.admin(session, operator) as admin:
        answer = admin.rotate_key(tenant, key_id, overlap_s=overlap_s, reason=reason)
    ends_at = answer["replaces"]["expires_at"]
    _show(session, answer["key_id"], answer["api_key"], old_ends_at=ends_at)
    session.out.say(f"the old one ends {ends_at}")


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


def _show(session: Session, key_id: str, api_key: str, **more: str) -> None:
    session.out.result({"key_id": key_id, "api_key": api_key, **more})
    session.out.say(f"key {key_id}")
    session.out.say(f"api key {api_key}  (shown this once)")
