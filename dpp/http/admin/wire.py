"""The bodies of the admin API. Every write carries `operator` and may say its `reason`."""

import re
from typing import Annotated, Final, Literal

from attrs import frozen
from msgspec import Meta

from dpp import money
from dpp.http.wire import Lives, Moment, Money, Overlap, Scopes
from dpp.keys import SCOPES
from dpp.packs.strict import Check, Wrong

TENANT: Final = r"^[a-z0-9][a-z0-9_-]{0,62}$"
FINDING_ID: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
RUN_ID: Final = r"^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
PRINTABLE: Final = r"^[^\x00-\x1f\x7f-\x9f]*$"


def _not_zero(text: str) -> None:
    if money.parse_signed(text) == 0:
        raise Wrong("must not be 0")


def _run_id(text: str) -> None:
    if re.fullmatch(RUN_ID, text) is None:
        raise Wrong("must be the run_id of a run")


def _says_something(text: str) -> None:
    if not text.strip():
        raise Wrong("must say why")


TenantName = Annotated[str, Meta(pattern=TENANT)]
Word = Annotated[str, Meta(min_length=1, max_length=64, pattern=PRINTABLE)]
Reference = Annotated[str, Meta(min_length=1, max_length=255, pattern=PRINTABLE)]
Reason = Annotated[str, Meta(max_length=500, pattern=PRINTABLE)]
Why = Annotated[Reason, Check(_says_something)]
SignedMoney = Annotated[str, Check(_not_zero)]
RunId = Annotated[str, Check(_run_id)]


@frozen(kw_only=True)
class Change:
    """Who changes something, and why."""

    operator: Word = "admin"
    reason: Reason | None = None


@frozen(kw_only=True)
class NewTenantBody(Change):
    """A tenant with its first key and maybe its first money."""

    tenant_id: TenantName
    plan: Word
    deposit_usd: Money | None = None


@frozen(kw_only=True)
class PlanBody(Change):
    """Another plan."""

    plan: Word


@frozen(kw_only=True)
class NewKeyBody(Change):
    """A key; without scopes it has all of them, without an end it lives until revoked.

    With a spend limit it may spend no more than that in all, with those that it makes.
    """

    scopes: Scopes = SCOPES
    expires_at: Moment | None = None
    expires_in_s: Lives | None = None
    spend_limit_usd: Money | None = None


@frozen(kw_only=True)
class RotateKeyBody(Change):
    """A new key in the place of another, which goes on for `overlap_s`."""

    overlap_s: Overlap = 86_400


@frozen(kw_only=True)
class TransferBody(Change):
    """Money in or out; the reference names the transfer, once."""

    amount_usd: Money
    reference: Reference


@frozen(kw_only=True)
class RefundBody(TransferBody):
    """Some of what a run cost, given back; whoever asks says why."""

    run_id: RunId
    reason: Why


@frozen(kw_only=True)
class AdjustBody(TransferBody):
    """An operator's correction, with a minus sign to take away; whoever asks says why."""

    amount_usd: SignedMoney
    reason: Why


@frozen(kw_only=True)
class DrainBody(Change):
    """A node is asked to drain; whoever asks says why."""

    reason: Why


@frozen(kw_only=True)
class ModeBody(Change):
    """A mode for all nodes, and why; without an end it stays until it is changed."""

    mode: Literal["normal", "no-submit", "drain"]
    reason: Why
    expires_in_s: Lives | None = None


@frozen(kw_only=True)
class ResolveBody(Change):
    """What is done about a finding, and why; `cost_usd` goes with settle alone."""

    how: Literal["settle", "void", "refold", "accept"]
    cost_usd: Money | None = None
    reason: Why
