"""Values that many tests start from. Ids rise from call to call, so runs are ordered as they were made."""  # noqa: E501

from __future__ import annotations

import itertools
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

from dpp.admission import Submission
from dpp.claims import Claimed, Turn
from dpp.ids import uuid7
from dpp.keys import NewKey
from dpp.leases import Fence, NodeLease
from dpp.ledger import Kind, Posting
from dpp.money import Micros
from dpp.plans import Plan
from dpp.pricing import Appraised, FeeRule
from dpp.settlement import Completed, End
from dpp.tenants import NewTenant
from tests.conftest import PLANS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpp.pricing import Appraisal
    from dpp.settlement import Outcome

DOLLAR = 1_000_000
PRIORITIES = 10
LEASE_S = 30.0
FREE = FeeRule(floor=Micros(0), percent_ppm=0, cap=Micros(0))
STORE_PLANS = {
    **PLANS,
    "picky": Plan("picky", packs=frozenset({"decision", "echo"}), max_cost=Micros(5 * DOLLAR)),
    "short": Plan("short", queued_runs=2, fee=FREE),
    "capped": Plan(
        "capped",
        spend_per_day=Micros(10 * DOLLAR),
        spend_per_month=Micros(12 * DOLLAR),
        fee=FREE,
    ),
}

_numbers = itertools.count(1)


def run_id() -> UUID:
    """Return an id greater than all before it."""
    n = next(_numbers)
    return uuid7(1_760_000_000_000 + n, 0, n)


def key_of(tenant_id: str) -> str:
    """Return the id of the key that `new_tenant` makes."""
    return f"key-of-{tenant_id}"


def new_tenant(tenant_id: str, *, plan: str = "unlimited", deposit: int = 10 * DOLLAR) -> NewTenant:
    """Return a tenant to make."""
    return NewTenant(
        tenant_id=tenant_id,
        plan=plan,
        key=new_key(key_of(tenant_id), tenant_id),
        deposit=Micros(deposit),
        reference="first",
        operator="ops",
    )


def new_key(key_id: str, tenant_id: str, *, lives_s: int | None = None) -> NewKey:
    """Return a key to make."""
    digest = sha256(key_id.encode()).digest()
    return NewKey(
        key_id=key_id, tenant_id=tenant_id, secret_sha256=digest, scopes=("runs",), lives_s=lives_s
    )


def submission(
    tenant_id: str = "acme",
    key: str | None = None,
    *,
    max_cost: int = DOLLAR,
    priority: int = 5,
    timebox_s: int = 60,
    pack_type: str = "echo",
    body: str = "a request",
    key_id: str | None = None,
    appraisal: Appraisal | None = None,
    of: UUID | None = None,
) -> Submission:
    """Return a submission of a new run; `key` is its idempotency key, `body` what its fingerprint is of."""  # noqa: E501
    new_id = of or run_id()
    return Submission(
        run_id=new_id,
        tenant_id=tenant_id,
        key_id=key_id or key_of(tenant_id),
        idempotency_key=key or f"order-{new_id}",
        fingerprint=b"\x01" + sha256(body.encode()).digest(),
        pack_type=pack_type,
        pack_version="1",
        inputs=f'{{"body":"{body}"}}'.encode(),
        max_cost=Micros(max_cost),
        priority=priority,
        timebox_s=timebox_s,
        trace_id="0" * 31 + "1",
        appraisal=appraisal or Appraised(),
    )


def posting(
    amount: int,
    reference: str,
    *,
    tenant_id: str = "acme",
    kind: Kind = Kind.DEPOSIT,
    run_id: UUID | None = None,
) -> Posting:
    """Return a transfer to post; a refund's `run_id` is its run, no other kind has one."""
    return Posting(
        tenant_id=tenant_id,
        kind=kind,
        amount=Micros(amount),
        reference=reference,
        operator="ops",
        run_id=run_id if kind is Kind.REFUND else None,
        reason=None if kind in {Kind.DEPOSIT, Kind.WITHDRAW} else "a test",
    )


def new_lease(node_id: str = "node-1") -> NodeLease:
    """Return a tenure that was never taken."""
    return NodeLease(uuid4(), node_id)


def turns(*tenant_ids: str, share: int) -> tuple[Turn, ...]:
    """Return turns without bounds."""
    return tuple(Turn(tenant_id, share) for tenant_id in tenant_ids)


def end(
    claimed: Claimed,
    outcome: Outcome | None = None,
    *,
    fence: Fence | None = None,
    ending_id: UUID | None = None,
) -> End:
    """Return the end of an attempt; by default it completed and charged a tenth of a dollar."""
    return End(
        ending_id or uuid4(),
        claimed.tenant_id,
        fence or claimed.fence,
        outcome or Completed(b'"done"', Micros(DOLLAR // 10)),
    )


def ids(runs: Sequence[Claimed]) -> list[UUID]:
    """Return whose attempts these are, in their order."""
    return [one.fence.run_id for one in runs]
