"""API keys, as they go out."""

from collections.abc import Sequence

from attrs import asdict, frozen

from dpp.http.views.encoding import Time
from dpp.keyring import Rotated
from dpp.keys import Key, made_by_key
from dpp.money import show


@frozen(kw_only=True, slots=False)
class KeyView:
    """An API key, without its secret.

    `created_by`: "operator", "key:…" or "rotation:…" with the id of a key. `last_used_at`: true to
    an hour. `ended`: revoked or expired. `spent_usd` is what counts against the spend limit, which
    keys may share: what their runs cost, and what is reserved for those under way.
    """

    key_id: str
    scopes: Sequence[str]
    created_at: Time
    created_by: str
    expires_at: Time | None
    last_used_at: Time | None
    revoked: bool
    ended: bool
    spend_limit_usd: str | None
    spent_usd: str | None


@frozen(kw_only=True, slots=False)
class MadeKeyView(KeyView):
    """A key that was made; `api_key` is in this answer alone."""

    api_key: str


@frozen(kw_only=True, slots=False)
class RotatedKeyView(MadeKeyView):
    """A key that was made by a rotation, and the one that it replaces."""

    replaces: KeyView


@frozen(slots=False)
class KeyList:
    """A page of keys, newest first."""

    items: list[KeyView]
    next_cursor: str | None


def key_view(key: Key) -> KeyView:
    """Return a key as its tenant sees it; which operator made it is the operators' own."""
    allowance = key.allowance
    return KeyView(
        key_id=key.key_id,
        scopes=key.scopes,
        created_at=key.created_at,
        created_by=key.created_by if made_by_key(key.created_by) else "operator",
        expires_at=key.expires_at,
        last_used_at=key.last_used_at,
        revoked=key.revoked,
        ended=key.ended,
        spend_limit_usd=None if allowance is None else show(allowance.limit),
        spent_usd=None if allowance is None else show(allowance.used),
    )


def made_key_view(key: Key, api_key: str) -> MadeKeyView:
    """Return a new key with the one sight of its secret."""
    return MadeKeyView(**asdict(key_view(key), recurse=False), api_key=api_key)


def rotated_key_view(rotated: Rotated, api_key: str) -> RotatedKeyView:
    """Return a new key with the one sight of its secret, and the old one."""
    made = asdict(made_key_view(rotated.new, api_key), recurse=False)
    return RotatedKeyView(**made, replaces=key_view(rotated.old))
