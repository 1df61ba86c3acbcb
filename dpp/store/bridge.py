"""The bridge: one thread with a uvloop event loop, the only place where asyncio runs.

asyncpg, redis and aioboto3 live on that loop, unmodified; trio tasks hand over whole operations
and wait for replies. What must hold: an operation that was handed over runs to its end. Cancelling
the trio side abandons the wait and never becomes a cancellation of the driver (drivers have hung
there, or answered the wrong caller). A bridge that dies ends the node. What crosses is a request
and a reply, never an object in use on both sides.
"""

import asyncio
import sys
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from typing import Any, Generic, TypeVar

import outcome
import trio
import uvloop

from dpp.faults import HelperUnavailable, StoreUnavailable
from dpp.logs import get_logger

T = TypeVar("T")

# operations handed over and not answered: what hurts memory. The store bounds its own well below
IN_FLIGHT_MAX = 4096
# the loop has nothing to do any more when it is stopped; past this the thread is left behind
STOP_S = 5.0
LAST_S = 0.5  # for operations that are about to end when the bridge is closed
LOOK_S = 0.01
OUTAGES = (StoreUnavailable, HelperUnavailable)  # no news once nobody waits

log = get_logger(__name__)


class BridgeDied(Exception):  # an event of the process, not an error of a caller
    """The bridge's thread ended: nothing can be asked any more, the node must end."""


class Call(Generic[T]):
    """One operation on its way: known to both threads, touched by one at a time."""

    def __init__(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> None:
        self.operation = operation
        self.waiter: trio.lowlevel.Task | None = trio.lowlevel.current_task()
        self.task: asyncio.Task[T] | None = None  # held here: the loop keeps only weak references


class Bridge:
    """Runs asyncio operations for trio tasks. Make it with `open_bridge`."""

    def __init__(self) -> None:
        self.died = trio.Event()
        self._token = trio.lowlevel.current_trio_token()
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._run_loop, name="dpp-bridge", daemon=True)
        self._in_flight = 0
        self._closing = False

    async def run(self, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run `operation()` on the loop and return its result or raise its exception.

        Raises `StoreUnavailable` at once when too much is in flight or the bridge is closed:
        nothing was started.
        """
        if self._in_flight >= IN_FLIGHT_MAX or self._closing or self.died.is_set():
            message = "the bridge is full or closed; nothing was started"
            raise StoreUnavailable(message)
        call = Call(operation)
        self._in_flight += 1
        self._loop.call_soon_threadsafe(self._start, call)

        def abandon(_: object) -> trio.lowlevel.Abort:
            call.waiter = None
            return trio.lowlevel.Abort.SUCCEEDED

        reply: T = await trio.lowlevel.wait_task_rescheduled(abandon)
        return reply

    async def knock(self) -> None:
        """Return once the loop's thread came round: for who asks whether it lives.

        Never refused: many operations in flight, as in an outage, are no reason to call it dead.
        """
        answered = trio.Event()

        def answer() -> None:  # in the loop's thread
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(answered.set)

        self._loop.call_soon_threadsafe(answer)
        await answered.wait()

    def _start(self, call: Call[Any]) -> None:  # in the loop's thread
        call.task = self._loop.create_task(call.operation())
        call.task.add_done_callback(lambda task: self._reply(call, task))

    def _reply(self, call: Call[Any], task: asyncio.Task[Any]) -> None:  # in the loop's thread
        error = task.exception()
        reply: outcome.Outcome[Any] = (
            outcome.Value(task.result()) if error is None else outcome.Error(error)
        )
        with suppress(trio.RunFinishedError):
            self._token.run_sync_soon(self._deliver, call, reply)

    def _deliver(self, call: Call[Any], reply: outcome.Outcome[Any]) -> None:  # in the trio thread
        self._in_flight -= 1
        if call.waiter is not None:
            trio.lowlevel.reschedule(call.waiter, reply)
        elif isinstance(reply, outcome.Error) and not isinstance(reply.error, OUTAGES):
            log.error("an operation failed after its waiter had gone", exc_info=reply.error)

    def _run_loop(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_forever()
        finally:
            with suppress(trio.RunFinishedError):
                self._token.run_sync_soon(self.died.set)

    async def watch(self) -> None:
        """Wait for ever; raise `BridgeDied` if the thread ends while it should run."""
        await self.died.wait()
        if not self._closing:
            message = (
                "the thread that runs the database drivers ended; the node ends, its leases lapse"
            )
            raise BridgeDied(message)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    async def close(self) -> None:
        """Stop the loop. Operations that go on are left: the server's limits end them.

        What is about to end, such as a connection that is just made, may do so: left, it would keep
        the loop from closing.
        """
        self._closing = True
        with trio.move_on_after(LAST_S):
            await trio.lowlevel.checkpoint()
            while self._in_flight and self._thread.is_alive():  # noqa: ASYNC110 - it ends soon
                await trio.sleep(LOOK_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        await trio.to_thread.run_sync(self._thread.join, STOP_S)
        if not self._thread.is_alive():
            # What is in flight was left on purpose: that its task is gone is no news.
            self._loop.set_exception_handler(lambda _loop, _context: None)
            with suppress(OSError):  # a handle is left in it: the process ends with it
                self._loop.close()


@asynccontextmanager
async def open_bridge(switch_interval_s: float | None = None) -> AsyncIterator[Bridge]:
    """Run a bridge for the length of the block.

    `switch_interval_s`: see sys.setswitchinterval; None leaves it.
    """
    if switch_interval_s is not None:
        sys.setswitchinterval(switch_interval_s)
    bridge = Bridge()
    bridge.start()
    try:
        yield bridge
    finally:
        with trio.CancelScope(shield=True):
            await bridge.close()
