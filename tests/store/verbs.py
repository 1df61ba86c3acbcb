"""The store's transactions as plain functions of a connection, so that a test can hold one open."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING
from uuid import uuid4

from dpp.store import cancels, claims, endings, findings, leases, submissions, tenants, transfers
from tests.conftest import LIMITS
from tests.store.examples import LEASE_S, STORE_PLANS

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from uuid import UUID

    from dpp.admission import Admission, Busy, Submission
    from dpp.cancels import CancelOutcome
    from dpp.claims import Claim, Claimed, Seen
    from dpp.leases import Fence, Lapse, LeaseGone, NodeLease
    from dpp.ledger import Posting, PostingOutcome
    from dpp.settlement import End, Settlement
    from dpp.store.connections import Connection
    from dpp.tenants import NewTenant


def submitting(
    *batch: Submission, wait: bool = True
) -> Callable[[Connection], Awaitable[list[Admission | Busy]]]:
    return partial(
        submissions.submit_runs,
        batch=batch,
        wait=wait,
        plans=STORE_PLANS,
        terms=LIMITS.terms,
    )


def claiming(claim: Claim) -> Callable[[Connection], Awaitable[list[Claimed] | LeaseGone]]:
    return partial(claims.claim_runs, claim=claim, plans=STORE_PLANS)


def asking(lease: NodeLease) -> Callable[[Connection], Awaitable[list[Claimed] | LeaseGone]]:
    return partial(claims.claimed_under, lease=lease, known=(), plans=STORE_PLANS)


def ending(*batch: End) -> Callable[[Connection], Awaitable[list[Settlement | Busy]]]:
    return partial(endings.end_runs, batch=batch, wait=True, attempts_max=LIMITS.attempts_max)


def taking_back(seen: Sequence[Seen], lapse: Lapse) -> Callable[[Connection], Awaitable[int]]:
    return partial(
        endings.take_back,
        seen=seen,
        lapse=lapse,
        ending_ids=[uuid4() for _ in seen],
        attempts_max=LIMITS.attempts_max,
    )


def expiring(seen: Sequence[Seen]) -> Callable[[Connection], Awaitable[int]]:
    return partial(endings.expire_runs, seen=seen, ending_ids=[uuid4() for _ in seen])


def cancelling(
    run_id: UUID, tenant_id: str = "acme"
) -> Callable[[Connection], Awaitable[CancelOutcome]]:
    return partial(
        cancels.cancel_run, tenant_id=tenant_id, run_id=run_id, ending_id=uuid4(), wait=True
    )


def setting_aside(seen: Seen) -> Callable[[Connection], Awaitable[bool]]:
    return partial(findings.quarantine_run, seen=seen, evidence={}, finding_id=uuid4())


def renewing(lease: NodeLease) -> Callable[[Connection], Awaitable[object]]:
    return partial(leases.renew_lease, lease=lease, lease_s=LEASE_S)


def ending_lease(lease: NodeLease, *, hand_back: bool) -> Callable[[Connection], Awaitable[int]]:
    return partial(leases.end_lease, lease=lease, hand_back=hand_back)


def handing_back(*fences: Fence) -> Callable[[Connection], Awaitable[int]]:
    return partial(
        endings.hand_back_runs,
        fences=fences,
        ids=[uuid4() for _ in fences],
        attempts_max=LIMITS.attempts_max,
    )


def posting_transfer(posting: Posting) -> Callable[[Connection], Awaitable[PostingOutcome]]:
    return partial(transfers.post_transfer, posting=posting, wait=True)


def making_tenant(new: NewTenant) -> Callable[[Connection], Awaitable[object]]:
    return partial(tenants.create_tenant, new=new)
