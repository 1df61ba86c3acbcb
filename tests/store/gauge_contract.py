"""What nodes read to show it, on both stores."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpp.money import Micros
from tests.store.examples import DOLLAR, LEASE_S
from tests.store.steps import begin, create, make_tenant, take_lease

if TYPE_CHECKING:
    from tests.store.worlds import World

DAY_S = 86_400


class GaugeContract:
    async def test_of_an_empty_database_there_is_nothing_to_show(self, world: World) -> None:
        gauges = await world.store.read_gauges(["acme"])

        assert (gauges.runs, gauges.queue_age_s) == ({}, 0)
        assert (gauges.heartbeats, gauges.balances) == ({}, {})

    async def test_live_runs_are_counted_by_status_and_pack(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await begin(store, await take_lease(store))
        for pack_type in ("echo", "echo", "decision"):
            await create(store, pack_type=pack_type)

        gauges = await store.read_gauges([])

        assert gauges.runs == {
            ("PROCESSING", "echo"): 1,
            ("QUEUED", "echo"): 2,
            ("QUEUED", "decision"): 1,
        }

    async def test_the_queue_is_as_old_as_the_first_run_that_nobody_started(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await begin(store, await take_lease(store))
        await world.advance(5)
        await create(store)
        await world.advance(3)
        await create(store)
        await world.advance(4)

        assert (await store.read_gauges([])).queue_age_s == 7

    async def test_a_node_that_is_silent_is_shown_for_a_day_and_one_that_left_is_not(
        self, world: World
    ) -> None:
        store = world.store
        dead = await take_lease(store, "dead", lease_s=10)
        left = await take_lease(store, "left")
        heard_at = world.now.timestamp()
        await store.end_lease(left, hand_back=True)
        await world.advance(60)

        assert await store.reap_lease() == dead
        assert (await store.read_gauges([])).heartbeats == {"dead": heard_at}
        await world.advance(DAY_S - 61)
        assert (await store.read_gauges([])).heartbeats == {"dead": heard_at}
        await world.advance(2)
        assert (await store.read_gauges([])).heartbeats == {}

    async def test_each_renewal_is_a_heartbeat(self, world: World) -> None:
        store = world.store
        lease = await take_lease(store)
        await world.advance(LEASE_S / 2)

        assert (await store.renew_lease(lease, lease_s=60)).held
        assert (await store.read_gauges([])).heartbeats == {"node-1": world.now.timestamp()}

    async def test_balances_are_those_that_were_asked_for(self, world: World) -> None:
        store = world.store
        await make_tenant(store, deposit=3 * DOLLAR)
        await make_tenant(store, "other", deposit=5 * DOLLAR)
        await create(store, max_cost=Micros(DOLLAR))

        assert (await store.read_gauges(["acme", "nobody"])).balances == {"acme": 2 * DOLLAR}
