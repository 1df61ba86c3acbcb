"""The contract of chronicles: what attempts tell is kept and read in order, whoever implements the store."""  # noqa: E501

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from dpp.chronicles import START, Position, State, parse
from dpp.money import Micros
from dpp.runs import Status
from dpp.watches import PAGE_MAX, RunEvent, Watch
from tests.store.examples import run_id
from tests.store.steps import begin, claim, create, end_one, make_tenant, read, take_lease

if TYPE_CHECKING:
    from uuid import UUID

    from dpp.chronicles import Backlog, Told
    from dpp.leases import Fence
    from dpp.ports import Store
    from tests.store.worlds import World


def progress(fence: Fence, n: int) -> RunEvent:
    return RunEvent(
        fence=fence, tenant_id="acme", n=n, kind="progress", fraction=n / 1000, note=f"step {n}"
    )


def charge(fence: Fence, n: int, amount: int) -> RunEvent:
    return RunEvent(
        fence=fence, tenant_id="acme", n=n, kind="charge", note="work", amount=Micros(amount)
    )


def at(text: str) -> Position:
    position = parse(text)
    assert position is not None
    return position


def ids(told: tuple[Told, ...]) -> list[str]:
    return [str(one.position) for one in told]


async def backlog(store: Store, run: UUID, after: Position = START, limit: int = 500) -> Backlog:
    found = await store.read_chronicle("acme", run, after=after, limit=limit)
    assert found is not None
    return found


class ChronicleContract:
    async def test_a_chronicle_is_its_tenants_alone(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "thief")
        one = await create(store)

        assert await store.read_chronicle("thief", one.run_id, after=START, limit=9) is None
        assert await store.read_chronicle("acme", run_id(), after=START, limit=9) is None
        found = await backlog(store, one.run_id)
        assert found.state == State.of(await read(store, one.run_id))
        assert (found.told, found.cut, found.charged) == ((), False, 0)
        assert found.now == world.now

    async def test_what_was_told_is_read_in_order_behind_any_position(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        first = (await begin(store, lease)).fence
        await store.follow([], [], [progress(first, 2), charge(first, 1, 30), charge(first, 7, 4)])
        await store.hand_back_runs([first])
        second = (await claim(store, lease))[0].fence
        await store.follow([], [], [charge(second, 1, 5)])
        run = first.run_id

        whole = await backlog(store, run)
        cases = {
            "1.0": (["1.1", "1.2", "1.7", "2.1"], 0),
            "1.1": (["1.2", "1.7", "2.1"], 30),
            "1.7": (["2.1"], 34),
            "1.queued": (["2.1"], 34),
            "2.0": (["2.1"], 0),
            "2.1": ([], 5),
        }

        assert ids(whole.told) == ["1.1", "1.2", "1.7", "2.1"]
        assert [one.amount for one in whole.told] == [30, None, 4, 5]
        assert [one.note for one in whole.told] == ["work", "step 2", "work", "work"]
        for text, (rest, charged) in cases.items():
            found = await backlog(store, run, at(text))
            assert (ids(found.told), found.charged) == (rest, charged), text

    async def test_a_backlog_is_read_in_pages(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        fence = (await begin(store, await take_lease(store))).fence
        await store.follow([], [], [progress(fence, n) for n in range(1, 6)])

        pages = [
            await backlog(store, fence.run_id, limit=2),
            await backlog(store, fence.run_id, at("1.2"), limit=2),
            await backlog(store, fence.run_id, at("1.4"), limit=2),
            await backlog(store, fence.run_id, limit=5),
        ]

        assert [(len(page.told), page.cut) for page in pages] == [
            (2, True),
            (2, True),
            (1, False),
            (5, False),
        ]

    async def test_what_an_attempt_told_last_is_kept_after_its_end(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        claimed = await begin(store, await take_lease(store))
        fence = claimed.fence
        await store.follow([], [], [charge(fence, 1, 5)])
        await end_one(store, claimed)

        for _ in range(2):  # asking again doubles nothing
            await store.follow([], [], [charge(fence, 1, 5), charge(fence, 2, 6)])

        found = await backlog(store, fence.run_id)
        assert found.state.status is Status.COMPLETED
        assert [(one.n, one.amount) for one in found.told] == [(1, 5), (2, 6)]

    async def test_of_an_ended_run_other_epochs_tell_nothing(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        lost = (await begin(store, lease)).fence
        await store.hand_back_runs([lost])
        await store.follow([], [], [progress(lost, 1)])
        (claimed,) = await claim(store, lease)
        fence = claimed.fence
        await end_one(store, claimed)

        others = [
            progress(lost, 2),
            progress(evolve(fence, lease_epoch=3), 3),
            progress(evolve(fence, run_id=run_id()), 4),
        ]
        await store.follow([], [], others)

        assert (await backlog(store, fence.run_id)).told == ()

    async def test_a_question_brings_what_was_told_of_streamed_runs(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        one, other, waited = [(await begin(store, lease)).fence for _ in range(3)]
        tell = [progress(fence, n) for fence in (one, other, waited) for n in (1, 2, 3)]

        changes = await store.follow(
            [],
            [
                Watch("acme", one.run_id, at("1.0")),
                Watch("acme", other.run_id, at("1.2")),
                Watch("acme", waited.run_id),
            ],
            tell,
        )

        told = [(row.run_id, row.n) for row in changes.told]
        assert told == [(one.run_id, 1), (one.run_id, 2), (one.run_id, 3), (other.run_id, 3)]
        assert changes.cut == frozenset()
        assert changes.now == world.now
        assert {run.run_id for run in changes.runs} == {
            fence.run_id for fence in (one, other, waited)
        }

    async def test_a_question_brings_one_page_of_a_run(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        chatty, quiet = [(await begin(store, lease)).fence for _ in range(2)]
        tell = [progress(chatty, n) for n in range(1, PAGE_MAX + 5)]
        watching = [Watch("acme", fence.run_id, START) for fence in (chatty, quiet)]

        changes = await store.follow([], watching, [*tell, progress(quiet, 1)])

        told = [row.n for row in changes.told if row.run_id == chatty.run_id]
        assert told == list(range(1, PAGE_MAX + 1))
        assert changes.cut == {chatty.run_id}
        assert [row.n for row in changes.told if row.run_id == quiet.run_id] == [1]

    @pytest.mark.parametrize("runs", [1, 3])
    async def test_an_end_is_seen_with_what_the_same_question_stored(
        self, world: World, runs: int
    ) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        attempts = [await begin(store, lease) for _ in range(runs)]
        fences = [claimed.fence for claimed in attempts]
        for claimed in attempts:
            await end_one(store, claimed)

        changes = await store.follow(
            [],
            [Watch("acme", fence.run_id, START) for fence in fences],
            [progress(fence, 1) for fence in fences],
        )

        assert {run.status for run in changes.runs} == {Status.COMPLETED}
        assert [row.run_id for row in changes.told] == sorted(fence.run_id for fence in fences)
