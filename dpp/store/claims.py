"""Claiming runs: hold the lease row and the turns, then count exactly and stamp, in two statements.

COMMIT is sent only after the claiming statement was answered. A claim whose COMMIT got no answer
is asked for through `claimed_under`: a lock on the lease row waits for the old backend, and only
the next statement reads the runs.
"""

from collections.abc import Mapping, Sequence
from uuid import UUID

from dpp.claims import AGED_S, CLAIM_BYTES, Claim, Claimed
from dpp.leases import Fence, LeaseGone, NodeLease
from dpp.messages import Sighting
from dpp.metrics import zombie_writes_refused_total
from dpp.money import Micros
from dpp.plans import Plans
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import transaction

PRIORITIES = 10  # 0 … 9; a claim carries one low bound for each


async def queued_tenants(connection: Connection, after: str, limit: int) -> list[str]:
    """Return tenants with queued runs, by name."""
    async with transaction(connection):
        rows = await queries.queued_tenants.fetch(connection, after=after, limit=limit)
    return [row["tenant_id"] for row in rows]


async def claim_runs(
    connection: Connection, claim: Claim, plans: Plans
) -> list[Claimed] | LeaseGone:
    """Stamp due runs with the lease; `LeaseGone` = the lease does not live, nothing was claimed."""
    caps = {name: plan.concurrent_runs for name, plan in plans.items()}
    weights = [plan.weight for plan in plans.values()]
    async with transaction(connection, "claim"):
        turns = await queries.hold_turns.fetch(
            connection,
            lease_id=claim.lease.lease_id,
            tenant_ids=[turn.tenant_id for turn in claim.turns],
            plans=list(caps),
            caps=list(caps.values()),
            weights=weights,
        )
        able = {row["tenant_id"]: row for row in turns if row["tenant_id"] is not None}
        rows = await stamp(connection, claim, able) if able else []
    if not turns:  # counted here: whoever asked has lost its tenure, and waits no more
        zombie_writes_refused_total.labels("claim_runs").inc()
        return LeaseGone()
    return [claimed(row, claim.lease, able[row["tenant_id"]]["weight"]) for row in rows]


async def stamp(connection: Connection, claim: Claim, able: Mapping[str, Row]) -> list[Row]:
    """Send the claiming statement for the tenants whose turn this is."""
    asked = {turn.tenant_id: turn for turn in claim.turns}
    unbounded = (None,) * PRIORITIES
    return await queries.claim_runs.fetch(
        connection,
        lease_id=claim.lease.lease_id,
        tenant_ids=list(able),
        caps=[row["cap"] for row in able.values()],
        shares=[asked[tenant_id].share for tenant_id in able],
        packs=list(claim.packs),
        lows=[low for tenant_id in able for low in asked[tenant_id].lows or unbounded],
        aged_s=AGED_S,
        bytes=CLAIM_BYTES,
    )


async def claimed_under(
    connection: Connection, lease: NodeLease, known: Sequence[Fence], plans: Plans
) -> list[Claimed] | LeaseGone:
    """Return the attempts stamped with this lease, after any open claim under it is over.

    But for those that are `known`: else one lost claim would read the inputs of all that works.
    """
    async with transaction(connection, "ask_claim"):
        held = await queries.lock_lease.fetch(connection, lease_id=lease.lease_id)
        rows = await queries.claimed_under.fetch(
            connection,
            lease_id=lease.lease_id,
            run_ids=[fence.run_id for fence in known],
            epochs=[fence.lease_epoch for fence in known],
        )
    if not held:
        return LeaseGone()
    weights = {name: plan.weight for name, plan in plans.items()}
    return [claimed(row, lease, weights.get(row["plan"], 1)) for row in rows]


async def sight_runs(connection: Connection, run_ids: Sequence[UUID]) -> list[Sighting]:
    """Return those of these runs that there are."""
    rows = await queries.sighted_runs.fetch(connection, run_ids=list(run_ids))
    return [Sighting(row["run_id"], row["tenant_id"], row["waits"]) for row in rows]


def claimed(row: Row, lease: NodeLease, weight: int) -> Claimed:
    """Read one attempt."""
    return Claimed(
        fence=Fence(row["run_id"], lease.lease_id, row["lease_epoch"]),
        tenant_id=row["tenant_id"],
        pack_type=row["pack_type"],
        inputs=row["inputs"],
        max_cost=Micros(row["max_cost"]),
        minimum_fee=Micros(row["minimum_fee"]),
        timebox_s=row["timebox_s"],
        priority=row["priority"],
        available_at=row["available_at"],
        attempt=row["attempts_spent"] + 1,
        trace_id=row["trace_id"],
        created_at=row["created_at"],
        weight=weight,
    )
