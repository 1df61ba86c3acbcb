"""The gauges: they fill the metrics that need a question, so that no reader of `/metrics` waits.

Whether the database answers is looked at all the time, since a node that nobody asks for `/readyz`
must be seen to have lost it. What is read of the database is read at an interval; while it is away
the last figures stand, heartbeats among them, which thereby age. How late the node's two threads
are is measured by timers of their own.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence

import trio
from attrs import define, field, frozen

from dpp import metrics
from dpp.faults import HelperUnavailable, StoreUnavailable
from dpp.gauges import Gauges, Health
from dpp.logs import get_logger
from dpp.money import Micros
from dpp.ports import Gauging
from dpp.turns import turned

LOOK_S = 2.0  # at the database: half of a scrape's usual interval, and a question of 0.1 ms
# Between two readings, and no longer than nodes take between two heartbeats: some 5 ms each, and
# 12 of a million queued runs.
READ_S = 10.0
XIDS = 1 << 32  # ids of transactions; after the last comes the first
LAG_EVERY_S = 0.5  # 120 samples a minute, of which one a minute makes a p99

log = get_logger(__name__)


@define
class Hold:
    """Since when the oldest transaction that something needs is the same one.

    How long a session has been in its transaction is told to its own role alone; its xmin to all.
    """

    xmin: int = -1
    since: float = 0.0

    def lasts_s(self, health: Health, now: float) -> float:
        """Return for how long, as of `now`; 0 = no transaction came since."""
        xmin = (health.transactions - health.oldest_xmin_age) % XIDS
        if xmin != self.xmin:
            self.xmin, self.since = xmin, now
        return now - self.since if health.oldest_xmin_age else 0.0


@frozen(kw_only=True)
class Asked:
    """What is asked for the metrics. `redis_memory`: None = this node has no Redis."""

    store: Gauging
    database_up: Callable[[], Awaitable[bool]]
    bridge_trip: Callable[[], Awaitable[None]]
    redis_memory: Callable[[], Awaitable[int]] | None
    packs: tuple[str, ...]
    tenants: Sequence[str]
    interval_s: float
    hold: Hold = field(factory=Hold)

    async def run(self) -> None:
        """Ask until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._watch_database)
            nursery.start_soon(self._watch_lag)
            while True:
                await self._read()
                await trio.sleep(self.interval_s)

    async def _watch_database(self) -> None:
        while True:
            metrics.database_status.set(await self.database_up())
            await trio.sleep(min(LOOK_S, self.interval_s))

    async def _watch_lag(self) -> None:
        trio_lag, bridge_lag = (metrics.loop_lag_seconds.labels(name) for name in metrics.THREADS)
        while True:
            due_at = trio.current_time() + LAG_EVERY_S
            await trio.sleep_until(due_at)
            woken_at = trio.current_time()
            trio_lag.observe(woken_at - due_at)
            try:
                await self.bridge_trip()
            except StoreUnavailable:  # it is full, which its own counter tells
                continue
            bridge_lag.observe(trio.current_time() - woken_at)

    async def _read(self) -> None:  # noqa: ASYNC910  # it asks the store
        """Read what the database and Redis tell; an outage leaves what was read before."""
        try:
            gauges = await self.store.read_gauges(self.tenants)
            show(gauges, self.packs)
            held_s = self.hold.lasts_s(gauges.health, trio.current_time())
            metrics.postgres_xmin_held_seconds.set(held_s)
        except StoreUnavailable as outage:
            turned("gauges")
            log.warning("store unavailable", actor="gauges", detail=str(outage))
        else:
            metrics.succeeded("gauges")
        if self.redis_memory is not None:
            try:
                metrics.redis_memory_bytes.set(await self.redis_memory())
            except HelperUnavailable:  # who counts and tells says so
                metrics.redis_memory_bytes.set(0)


def show(gauges: Gauges, packs: Sequence[str]) -> None:
    """Let the metrics show what was read. Sync: no scrape sees half of it."""
    metrics.note_runs(gauges.runs, packs)
    metrics.queue_age_seconds.set(gauges.queue_age_s)
    metrics.note_all(metrics.worker_last_heartbeat_timestamp, gauges.heartbeats)
    metrics.note_all(metrics.budget_balance_usd, dollars(gauges.balances))
    health = gauges.health
    metrics.note_all(metrics.postgres_dead_rows, health.dead_rows)
    metrics.postgres_oldest_xmin_age.set(health.oldest_xmin_age)
    metrics.postgres_frozen_xid_age.set(health.frozen_xid_age)
    metrics.postgres_waits_for_standby.set(health.waits_for_standby)


def dollars(balances: Mapping[str, Micros]) -> dict[str, float]:
    """Return amounts to look at; none of them is ever read back."""
    return {tenant_id: micros / metrics.MICROS for tenant_id, micros in balances.items()}
