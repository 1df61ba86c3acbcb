"""What operators ask of nodes, on both stores: modes, drains, and what a node says of itself."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest

from dpp.admission import Created, Exists, NoSubmits, TenantSuspended
from dpp.membership import NodeState, Report
from dpp.modes import RETRY_S, Mode, ModeChange, NewMode, Orders
from tests.store.examples import LEASE_S, submission
from tests.store.steps import begin, claim, create, make_tenant, submit, take_lease

if TYPE_CHECKING:
    from dpp.membership import Member
    from dpp.ports import Store
    from tests.store.worlds import World


def new_mode(mode: Mode, *, for_s: int | None = None, change_id: UUID | None = None) -> NewMode:
    return NewMode(
        change_id=change_id or uuid4(),
        mode=mode,
        reason=f"to {mode}",
        operator="ops",
        expires_in_s=for_s,
    )


def report() -> Report:
    """Return what a node may say."""
    return Report(
        node_id="node-1",
        host="one",
        version="1.0",
        runs=3,
        concurrency=9,
        loops={"reaper": 1.5, "x": None},
    )


async def member(store: Store, node_id: str = "node-1") -> Member:
    (found,) = await store.list_members(node_id)
    return found


class OrderContract:
    async def test_before_anybody_asked_everything_is_normal(self, world: World) -> None:
        assert await world.store.read_orders("node-1") == Orders(Mode.NORMAL, drain=False)
        assert await world.store.list_modes(10) == []
        assert await world.store.list_members() == []

    async def test_the_last_mode_is_in_force_and_the_trail_stays(self, world: World) -> None:
        store = world.store
        first = await store.set_mode(new_mode(Mode.DRAIN))
        await world.advance(1)
        second = await store.set_mode(new_mode(Mode.NO_SUBMIT, for_s=60))

        assert second == ModeChange(
            mode=Mode.NO_SUBMIT,
            reason="to no-submit",
            operator="ops",
            set_at=world.now,
            expires_at=world.now + timedelta(seconds=60),
        )
        assert (await store.mode(), await store.list_modes(10)) == (
            Mode.NO_SUBMIT,
            [second, first],
        )
        assert await store.list_modes(1) == [second]

    async def test_a_change_asked_twice_is_one(self, world: World) -> None:
        store, change_id = world.store, uuid4()
        first = await store.set_mode(new_mode(Mode.DRAIN, change_id=change_id))
        await store.set_mode(new_mode(Mode.NORMAL))

        again = await store.set_mode(new_mode(Mode.DRAIN, change_id=change_id))

        assert again == first
        assert await store.mode() is Mode.NORMAL

    async def test_past_its_end_a_mode_is_normal_whatever_was_before(self, world: World) -> None:
        store = world.store
        await store.set_mode(new_mode(Mode.DRAIN))
        await store.set_mode(new_mode(Mode.NO_SUBMIT, for_s=60))

        await world.advance(59)
        assert await store.mode() is Mode.NO_SUBMIT
        await world.advance(1)

        assert await store.mode() is Mode.NORMAL

    async def test_no_submit_refuses_what_is_new_and_answers_what_is_known(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        await store.set_suspended("other", suspended=True, operator="ops")
        known = await create(store)
        await store.set_mode(new_mode(Mode.NO_SUBMIT))

        answers = await submit(store, known, submission(), submission("other"))

        assert answers == [Exists(known.run_id), NoSubmits(RETRY_S), TenantSuspended()]
        assert len(await claim(store, await take_lease(store))) == 1

    async def test_where_the_end_is_known_a_client_is_told(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await store.set_mode(new_mode(Mode.NO_SUBMIT, for_s=90))
        await world.advance(20.5)

        assert await submit(store, submission()) == [NoSubmits(70)]
        await world.advance(70)
        (created,) = await submit(store, submission())
        assert isinstance(created, Created)

    async def test_while_all_drain_nothing_is_claimed_and_submits_wait(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease = await take_lease(store)
        await store.set_mode(new_mode(Mode.DRAIN))
        one = await create(store)

        assert await claim(store, lease) == []
        await store.set_mode(new_mode(Mode.NORMAL))

        assert [run.fence.run_id for run in await claim(store, lease)] == [one.run_id]

    async def test_a_node_that_drains_claims_nothing_and_another_does(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease, other = await take_lease(store), await take_lease(store, "node-2")
        await create(store)

        assert await store.ask_drain("node-1", operator="ops", reason="upgrade")

        assert await store.read_orders("node-1") == Orders(Mode.NORMAL, drain=True)
        assert await store.read_orders("node-2") == Orders(Mode.NORMAL, drain=False)
        assert await claim(store, lease) == []
        assert len(await claim(store, other)) == 1

    async def test_the_first_who_asks_for_a_drain_stands_until_it_ends(self, world: World) -> None:
        store = world.store
        await take_lease(store)
        await store.ask_drain("node-1", operator="ops", reason="upgrade")
        await world.advance(5)
        await store.ask_drain("node-1", operator="night", reason="no idea")

        drain = (await member(store)).drain
        assert drain is not None
        assert (drain.operator, drain.reason) == ("ops", "upgrade")
        assert drain.asked_at == world.now - timedelta(seconds=5)
        assert await store.end_drain("node-1")
        assert (await member(store)).drain is None

    @pytest.mark.parametrize("verb", ["ask_drain", "end_drain"])
    async def test_an_unknown_node_is_told_apart(self, world: World, verb: str) -> None:
        values = {"operator": "ops", "reason": "why"} if verb == "ask_drain" else {}
        assert not await getattr(world.store, verb)("nobody", **values)

    async def test_how_a_node_stands_is_what_its_rows_say(self, world: World) -> None:
        store = world.store
        lease = await take_lease(store)
        states = [(await member(store)).state]
        await store.ask_drain("node-1", operator="ops", reason="upgrade")
        states.append((await member(store)).state)
        await store.end_lease(lease, hand_back=True)
        states.append((await member(store)).state)
        await store.end_drain("node-1")
        states.append((await member(store)).state)
        await take_lease(store)
        states.append((await member(store)).state)
        await world.advance(LEASE_S)
        states.append((await member(store)).state)

        assert states == [
            NodeState.WORKING,
            NodeState.DRAINING,
            NodeState.DRAINED,
            NodeState.LEFT,
            NodeState.WORKING,
            NodeState.DEAD,
        ]

    async def test_a_node_that_was_killed_while_it_drained_rests_once_it_is_started_again(
        self, world: World
    ) -> None:
        store = world.store
        await take_lease(store)
        await store.ask_drain("node-1", operator="ops", reason="upgrade")
        await store.report_node(report())
        states = []
        for s, again in ((LEASE_S, False), (1, True), (20, False), (10, False)):
            await world.advance(s)
            if again:
                await store.report_node(report())
            states.append((await member(store)).state)

        assert states == [NodeState.DEAD, NodeState.DRAINED, NodeState.DRAINED, NodeState.DEAD]

    async def test_a_report_is_shown_and_replaced(self, world: World) -> None:
        store = world.store
        one = report()
        await store.report_node(one)
        await world.advance(1)
        two = Report(node_id="node-1", host="two", version="1.1", runs=0, concurrency=9, loops={})
        found = (await member(store)).report
        await store.report_node(two)

        assert found == one
        after = await member(store)
        assert (after.report, after.reported_at) == (two, world.now)

    async def test_a_drain_hands_back_free(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        lease, other = await take_lease(store), await take_lease(store, "node-2")
        mine = await begin(store, lease)
        await store.ask_drain("node-1", operator="ops", reason="upgrade")

        await store.end_lease(lease, hand_back=True)

        (theirs,) = await claim(store, other)
        assert (theirs.fence.run_id, theirs.attempt) == (mine.fence.run_id, 1)
