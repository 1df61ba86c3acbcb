"""A tenant's own API keys: made, rotated and revoked with one of them that may."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from urllib.parse import quote

from dpp.client import asking
from dpp.client.steps import Context, Items, Steps
from dpp.client.submissions import Money, usd
from dpp.client.values import Key

ROOT = "/v1/keys"


def keys(context: Context) -> Items[Key]:
    """Give the tenant's keys, without their secrets."""
    return asking.pages(context, ROOT, Key)


def create_key(
    context: Context,
    scopes: Iterable[str],
    *,
    expires_at: datetime | str | None = None,
    expires_in_s: int | None = None,
    spend_limit: Money | None = None,
) -> Steps[Key]:
    """Make a key, at most as mighty as the one that asks; its `api_key` is in this answer alone.

    Without an end it ends with the key that asks. Asked again only when it was certainly not done.
    """
    members = {
        "scopes": [*scopes],
        "expires_at": asking.moment(expires_at),
        "expires_in_s": expires_in_s,
        "spend_limit_usd": None if spend_limit is None else usd(spend_limit),
    }
    return asking.fetch(context, asking.send("POST", ROOT, members, repeatable=False), Key)


def rotate_key(context: Context, key_id: str, *, overlap_s: int | None = None) -> Steps[Key]:
    """Make a key in the place of another, which goes on for `overlap_s`, at most a week."""
    request = asking.send(
        "POST", f"{_path(key_id)}:rotate", {"overlap_s": overlap_s}, repeatable=False
    )
    return asking.fetch(context, request, Key)


def revoke_key(context: Context, key_id: str) -> Steps[None]:
    """Revoke a key: refused everywhere within five seconds."""
    yield from asking.deleted(context, _path(key_id))


def _path(key_id: str) -> str:
    return f"{ROOT}/{quote(key_id, safe='')}"
