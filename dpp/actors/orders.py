"""The orders: once a second this node asks what it is told, and now and then says how it is.

What it is told it passes on as events: a tenure begins only while the node may work, and ends in
order when it may not. No claim waits for this: intake and claim read the same rows in their own
transactions. While the store is away the last orders hold.
"""

import random
from collections.abc import Callable

import trio
from attrs import define, field

from dpp.faults import StoreUnavailable
from dpp.logs import get_logger
from dpp.membership import Report
from dpp.metrics import note_mode, succeeded
from dpp.modes import Orders
from dpp.ports import Ordering
from dpp.turns import turned

ASK_S = 1.0  # a mode is felt by all nodes in 2 s; balancers soon leave a draining one alone
REPORT_S = 10.0  # as a heartbeat: operators look at it, nothing else

log = get_logger(__name__)


@define(eq=False)
class Heard:
    """The orders as last heard; what they change is told by events."""

    orders: Orders = field(factory=Orders)
    once: trio.Event = field(factory=trio.Event)
    _resting: trio.Event = field(factory=trio.Event, init=False)
    _working: trio.Event = field(factory=trio.Event, init=False)

    def __attrs_post_init__(self) -> None:
        self._working.set()

    def hear(self, orders: Orders) -> None:
        """Take in what was told, and say once what is new."""
        if orders.drain and not self.orders.drain:
            self._working = trio.Event()
            self._resting.set()
        elif self.orders.drain and not orders.drain:
            self._resting = trio.Event()
            self._working.set()
        if orders != self.orders:
            log.info("orders", mode=orders.mode.value, drain=orders.drain)
        self.orders = orders
        self.once.set()

    async def may_work(self) -> None:
        """Return once the orders are known, and while they are not to drain."""
        await self.once.wait()
        await self._working.wait()

    async def must_rest(self) -> None:
        """Return once the node is asked to drain."""
        await self._resting.wait()


async def ask_orders(
    store: Ordering, heard: Heard, node_id: str, report: Callable[[], Report]
) -> None:
    """Ask and report for ever."""
    report_at = trio.current_time()
    while True:
        try:
            heard.hear(await store.read_orders(node_id))
            note_mode(heard.orders.mode)
            if trio.current_time() >= report_at:
                await store.report_node(report())
                report_at = trio.current_time() + REPORT_S
            succeeded("orders")
        except StoreUnavailable as outage:
            log.warning("store unavailable", actor="orders", detail=str(outage))
            turned("orders")
        await trio.sleep(ASK_S * random.uniform(0.8, 1.0))
