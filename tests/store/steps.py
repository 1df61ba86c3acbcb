"""Steps that tests of the store take through its verbs, each of which must succeed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import trio

from dpp.admission import Busy, Created, Submission
from dpp.claims import Claim, Claimed, Turn
from dpp.money import Micros
from dpp.settlement import Completed
from dpp.tenants import Tenant
from tests.store.examples import DOLLAR, LEASE_S, end, new_lease, new_tenant, submission, turns

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from dpp.claims import Seen
    from dpp.leases import NodeLease
    from dpp.ledger import Budget, Entry
    from dpp.ports import Store
    from dpp.runs import Run
    from dpp.settlement import Outcome, Settlement

ALL = 1_000


async def make_tenant(
    store: Store, tenant_id: str = "acme", *, plan: str = "unlimited", deposit: int = 10 * DOLLAR
) -> Tenant:
    """Make a tenant with a key and money."""
    made = await store.create_tenant(new_tenant(tenant_id, plan=plan, deposit=deposit))
    assert isinstance(made, Tenant)
    return made


async def submit(store: Store, *batch: Submission) -> list[Any]:
    """Submit a batch in one call."""
    return await store.submit_runs(batch, wait=True)


async def submit_alone(store: Store, one: Submission) -> Any:
    """Submit one run as a lane does it: again while its tenant is waited for by somebody else."""
    while True:
        (answer,) = await submit(store, one)
        if answer != Busy():
            return answer
        await trio.lowlevel.checkpoint()


async def create(store: Store, tenant_id: str = "acme", **values: Any) -> Submission:
    """Create one run."""
    one = submission(tenant_id, **values)
    (answer,) = await submit(store, one)
    assert isinstance(answer, Created), answer
    return one


async def take_lease(
    store: Store, node_id: str = "node-1", *, lease_s: float = LEASE_S
) -> NodeLease:
    """Begin a tenure."""
    lease = new_lease(node_id)
    await store.take_lease(lease, lease_s=lease_s, hand_back=[])
    return lease


def claim_of(  # as many as a claim has
    lease: NodeLease,
    *tenant_ids: str,
    share: int = ALL,
    packs: tuple[str, ...] = ("echo",),
    bounded: Sequence[Turn] = (),
) -> Claim:
    """Return a claim; of tenant acme where none is named."""
    asked = tuple(bounded) or turns(*(tenant_ids or ("acme",)), share=share)
    return Claim(lease=lease, turns=asked, packs=packs)


async def claim(store: Store, lease: NodeLease, *tenant_ids: str, **values: Any) -> list[Claimed]:
    """Claim under a lease that lives."""
    claimed = await store.claim_runs(claim_of(lease, *tenant_ids, **values))
    assert isinstance(claimed, list), claimed
    return claimed


async def begin(store: Store, lease: NodeLease, tenant_id: str = "acme", **values: Any) -> Claimed:
    """Create one run and claim it: an attempt that is being executed."""
    one = await create(store, tenant_id, **values)
    (claimed,) = await claim(store, lease, tenant_id)
    assert claimed.fence.run_id == one.run_id
    return claimed


async def end_one(store: Store, claimed: Claimed, outcome: Outcome | None = None) -> Settlement:
    """End an attempt."""
    (answer,) = await store.end_runs([end(claimed, outcome)], wait=True)
    return answer  # type: ignore[return-value]  # never Busy: nobody else waits


async def settle(
    store: Store, tenant_id: str = "acme", *, cost: int = DOLLAR, max_cost: int = DOLLAR
) -> UUID:
    """Let a run complete at this cost; returns its id."""
    claimed = await begin(store, await take_lease(store), tenant_id, max_cost=max_cost)
    await end_one(store, claimed, Completed(b"{}", Micros(cost)))
    return claimed.fence.run_id


async def read(store: Store, run_id: UUID, tenant_id: str = "acme") -> Run:
    """Read a run that is there."""
    run = await store.get_run(tenant_id, run_id)
    assert run is not None
    return run


async def books_of(store: Store, *tenant_ids: str) -> list[tuple[Budget, list[Run], list[Entry]]]:
    """Read everything of some tenants, to see that nothing changed."""
    return [
        (
            await store.get_budget(tenant_id),
            [*(await store.list_runs(tenant_id, before=None, limit=ALL)).runs],
            await store.list_transfers(tenant_id, before=None, limit=ALL),
        )
        for tenant_id in tenant_ids or ("acme",)
    ]


async def budget_of(store: Store, tenant_id: str = "acme") -> tuple[int, int, int, int]:
    """Read deposited, available, held, spent."""
    budget = await store.get_budget(tenant_id)
    return budget.deposited, budget.available, budget.held, budget.spent


async def orphans(store: Store) -> list[Seen]:
    """Reap every lapsed lease, then scan for runs without one."""
    while await store.reap_lease() is not None:
        pass
    return await store.orphaned_runs(ALL)
