"""The contract of resolving findings: what an operator may do, whoever implements the store."""

from __future__ import annotations

from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from attrs import evolve

from dpp.admission import Created
from dpp.findings import Finding, FindingUnknown, Resolved, ResolvedAlready
from dpp.money import Micros
from dpp.resolutions import (
    Accept,
    CostTooHigh,
    Refold,
    Remedy,
    Resolving,
    RunEnded,
    Settle,
    Unfit,
    Void,
)
from dpp.runs import ErrorCode, Status
from dpp.settlement import LeaseLost
from tests.store.contract import seen
from tests.store.examples import DOLLAR, submission
from tests.store.steps import (
    begin,
    books_of,
    budget_of,
    create,
    end_one,
    make_tenant,
    read,
    submit,
    take_lease,
)

if TYPE_CHECKING:
    from dpp.claims import Claimed
    from dpp.ports import Store
    from tests.store.worlds import World

HALF = Micros(DOLLAR // 2)


def resolving(finding_id: UUID, remedy: Remedy, *, reason: str = "looked at") -> Resolving:
    return Resolving(finding_id=finding_id, remedy=remedy, operator="ops", reason=reason)


async def set_aside(store: Store) -> tuple[Claimed, Finding]:
    """Have a run that the database refuses to end."""
    await make_tenant(store)
    claimed = await begin(store, await take_lease(store))
    await store.quarantine_run(seen(claimed), {"why": "refused"})
    (finding,) = await store.list_findings()
    return claimed, finding


async def is_frozen(store: Store, tenant_id: str = "acme") -> bool:
    tenant = await store.get_tenant(tenant_id)
    assert tenant is not None
    return tenant.frozen


class ResolveContract:
    @pytest.mark.parametrize(
        ("remedy", "cost", "kind", "how"),
        [
            (Settle(HALF), HALF, "settle", "settle"),
            (Settle(Micros(1)), 1, "settle", "settle"),
            (Settle(Micros(DOLLAR)), DOLLAR, "settle", "settle"),
            (Void(), 0, "void", "void"),
        ],
    )
    async def test_a_run_that_is_set_aside_is_ended_and_its_tenant_thawed(
        self, world: World, remedy: Remedy, cost: int, kind: str, how: str
    ) -> None:
        store = world.store
        claimed, finding = await set_aside(store)

        answer = await store.resolve_finding(resolving(finding.finding_id, remedy))

        assert isinstance(answer, Resolved)
        run = await read(store, claimed.fence.run_id)
        assert (run.status, run.actual_cost) == (Status.FAILED, cost)
        assert run.failure is not None
        assert run.failure.code is ErrorCode.RESOLVED_BY_OPERATOR
        assert run.result is None
        (entry, *_) = await store.list_transfers("acme", before=None, limit=1)
        assert (entry.kind, entry.cost, entry.run_id) == (kind, cost, run.run_id)
        assert await budget_of(store) == (10 * DOLLAR, 10 * DOLLAR - cost, 0, cost)
        assert answer.finding.resolved_at == world.now
        assert answer.finding.resolution is not None
        told = {name: answer.finding.resolution[name] for name in ("how", "operator", "reason")}
        assert told == {"how": how, "operator": "ops", "reason": "looked at"}
        assert await store.list_findings() == []
        assert await store.get_finding(finding.finding_id) == answer.finding
        assert (answer.frozen, await is_frozen(store)) == (False, False)
        (admitted,) = await submit(store, submission())
        assert isinstance(admitted, Created)

    async def test_asked_again_it_answers_the_same_and_in_another_way_it_is_refused(
        self, world: World
    ) -> None:
        store = world.store
        _, finding = await set_aside(store)
        first = await store.resolve_finding(resolving(finding.finding_id, Settle(HALF)))
        before = await books_of(store)

        assert isinstance(first, Resolved)
        again = await store.resolve_finding(resolving(finding.finding_id, Settle(HALF)))
        assert again == evolve(first, again=True)
        for other in (
            resolving(finding.finding_id, Settle(Micros(1))),
            resolving(finding.finding_id, Void()),
            resolving(finding.finding_id, Settle(HALF), reason="another"),
        ):
            assert isinstance(await store.resolve_finding(other), ResolvedAlready)
        assert await books_of(store) == before

    @pytest.mark.parametrize(
        ("remedy", "refusal"),
        [
            (Settle(Micros(DOLLAR + 1)), CostTooHigh(Micros(DOLLAR))),
            (Refold(), Unfit("the finding is not about a budget row or an allowance")),
            (
                Accept(),
                Unfit("the run is set aside and holds its reserve until it is settled or voided"),
            ),
        ],
    )
    async def test_what_does_not_mend_it_changes_nothing(
        self, world: World, remedy: Remedy, refusal: object
    ) -> None:
        store = world.store
        _, finding = await set_aside(store)
        before = await books_of(store)

        answer = await store.resolve_finding(resolving(finding.finding_id, remedy))

        assert answer == refusal
        assert await books_of(store) == before
        assert await store.list_findings() == [finding]
        assert await is_frozen(store)

    async def test_a_run_that_ended_stays_as_it_ended(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        await end_one(store, claimed)
        names = ("object_not_verified", str(claimed.fence.run_id), "acme")
        await store.open_finding(*names, {"why": "another hash"})
        (finding,) = await store.list_findings()
        before = await books_of(store)

        for remedy in (Settle(HALF), Void()):
            answer = await store.resolve_finding(resolving(finding.finding_id, remedy))
            assert answer == RunEnded(Status.COMPLETED, Micros(DOLLAR // 10))
        assert await books_of(store) == before
        accepted = await store.resolve_finding(resolving(finding.finding_id, Accept()))
        assert isinstance(accepted, Resolved)
        assert await books_of(store) == before

    async def test_a_run_at_work_is_ended_under_its_node(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        await store.open_finding("object_not_asked", str(claimed.fence.run_id), "acme", {})
        (finding,) = await store.list_findings()

        await store.resolve_finding(resolving(finding.finding_id, Void()))

        assert await end_one(store, claimed) == LeaseLost()
        assert await budget_of(store) == (10 * DOLLAR, 10 * DOLLAR, 0, 0)

    async def test_the_last_finding_thaws(self, world: World) -> None:
        store = world.store
        claimed, first = await set_aside(store)
        await store.open_finding("object_not_asked", str(claimed.fence.run_id), "acme", {})
        second = next(one for one in await store.list_findings() if one != first)

        answer = await store.resolve_finding(resolving(first.finding_id, Void()))
        assert isinstance(answer, Resolved)
        assert answer.frozen
        assert await is_frozen(store)
        answer = await store.resolve_finding(resolving(second.finding_id, Accept()))
        assert isinstance(answer, Resolved)
        assert not answer.frozen
        assert not await is_frozen(store)

    async def test_a_subject_may_be_found_again_once_it_is_resolved(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = await create(store)
        names = ("object_not_asked", str(one.run_id), "acme")
        await store.open_finding(*names, {})
        (finding,) = await store.list_findings()
        answer = await store.resolve_finding(resolving(finding.finding_id, Accept()))

        assert isinstance(answer, Resolved), answer
        assert await store.open_finding(*names, {}) is True
        assert len(await store.list_findings()) == 1

    async def test_a_finding_that_is_not_there(self, world: World) -> None:
        answer = await world.store.resolve_finding(resolving(uuid4(), Void()))

        assert answer == FindingUnknown()
        assert await world.store.get_finding(uuid4()) is None
