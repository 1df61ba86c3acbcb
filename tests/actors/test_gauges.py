"""The gauges: what is read is shown, an outage leaves what was read, and the looks go on."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from attrs import define, field

from dpp import metrics
from dpp.actors.gauges import LOOK_S, Asked, Hold
from dpp.actors.supervisor import supervise
from dpp.faults import HelperUnavailable, StoreUnavailable
from dpp.gauges import Health
from tests.core.test_metrics import series
from tests.fake_store import FakeStore
from tests.store.examples import DOLLAR, STORE_PLANS
from tests.store.steps import create, make_tenant, take_lease

if TYPE_CHECKING:
    from trio.testing import MockClock

EVERY_S = 10.0


@define(eq=False)
class Scene:
    """A fake store, and whether this and that answers."""

    store: FakeStore = field(factory=lambda: FakeStore(STORE_PLANS))
    up: bool = True
    redis_up: bool = True
    bridge_takes_s: float = 0.0

    def asked(self, *, redis: bool = True) -> Asked:
        return Asked(
            store=self.store,
            database_up=self._database_up,
            bridge_trip=self._bridge_trip,
            redis_memory=self._memory if redis else None,
            packs=("echo",),
            tenants=("acme",),
            interval_s=EVERY_S,
        )

    async def _database_up(self) -> bool:
        await trio.lowlevel.checkpoint()
        return self.up

    async def _bridge_trip(self) -> None:
        await trio.sleep(self.bridge_takes_s)

    async def _memory(self) -> int:
        await trio.lowlevel.checkpoint()
        if not self.redis_up:
            raise HelperUnavailable
        return 4096


def shown(name: str, **labels: str) -> float | None:
    return series().get((name, tuple(sorted(labels.items()))))


async def test_what_is_read_is_shown_and_what_is_gone_is_not(autojump_clock: MockClock) -> None:
    scene = Scene()
    await make_tenant(scene.store, deposit=3 * DOLLAR)
    await create(scene.store)
    await create(scene.store, pack_type="of another node")
    lease = await take_lease(scene.store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "gauges", scene.asked().run)
        await trio.sleep(EVERY_S + 1)

        assert shown("dpp_runs", status="QUEUED", pack="echo") == 1
        assert shown("dpp_runs", status="QUEUED", pack="other") == 1
        assert shown("dpp_runs", status="PROCESSING", pack="echo") == 0
        assert shown("dpp_queue_age_seconds") == EVERY_S
        assert shown("dpp_budget_balance_usd", tenant_id="acme") == 1.0
        assert shown("dpp_redis_memory_bytes") == 4096
        assert shown("dpp_worker_last_heartbeat_timestamp", worker_id="node-1") is not None

        await scene.store.end_lease(lease, hand_back=True)
        scene.redis_up = False
        await trio.sleep(EVERY_S)

        assert shown("dpp_worker_last_heartbeat_timestamp", worker_id="node-1") is None
        assert shown("dpp_redis_memory_bytes") == 0
        nursery.cancel_scope.cancel()


async def test_an_outage_is_seen_and_leaves_what_was_read(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene = Scene()
    await make_tenant(scene.store)
    await create(scene.store)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "gauges", scene.asked(redis=False).run)
        await trio.sleep(1)
        assert shown("dpp_readyz_database_status") == 1

        scene.up = False

        async def away(_: object) -> object:
            await trio.lowlevel.checkpoint()
            raise StoreUnavailable

        monkeypatch.setattr(scene.store, "read_gauges", away)
        await create(scene.store)
        await trio.sleep(LOOK_S)
        assert shown("dpp_readyz_database_status") == 0
        await trio.sleep(EVERY_S)
        assert shown("dpp_runs", status="QUEUED", pack="echo") == 1

        scene.up = True
        monkeypatch.undo()
        await trio.sleep(EVERY_S)
        assert shown("dpp_readyz_database_status") == 1
        assert shown("dpp_runs", status="QUEUED", pack="echo") == 2
        nursery.cancel_scope.cancel()


def test_how_long_the_oldest_row_is_held_counts_from_when_it_stood_still() -> None:
    """Of an idle server it is the transaction to come: nothing is held there."""
    hold = Hold()
    seen = [(10, 0), (14, 0), (14, 0), (15, 1), (20, 6), (90, 76), (91, 1), (91, 0)]

    held = [hold.lasts_s(health(count, age), now=100.0 * n) for n, (count, age) in enumerate(seen)]

    assert held == [0, 0, 0, 200, 300, 400, 0, 0]


def health(transactions: int, age: int) -> Health:
    return Health(
        dead_rows={},
        oldest_xmin_age=age,
        transactions=transactions,
        frozen_xid_age=0,
        waits_for_standby=False,
    )


async def test_a_late_bridge_is_measured(autojump_clock: MockClock) -> None:
    scene = Scene(bridge_takes_s=0.3)
    metrics.declare_outcomes()
    before = shown("dpp_loop_lag_seconds_bucket", thread="bridge", le="0.25") or 0
    count = "dpp_loop_lag_seconds_count"
    all_before = shown(count, thread="bridge") or 0
    async with trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "gauges", scene.asked().run)
        await trio.sleep(5)
        nursery.cancel_scope.cancel()

    assert shown("dpp_loop_lag_seconds_bucket", thread="bridge", le="0.25") == before
    assert (shown(count, thread="bridge") or 0) > all_before
