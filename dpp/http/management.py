"""hypercorn's trio worker for the management listener, with a guard around each connection.

What hypercorn 0.18 leaves open is closed here: a fault of one connection would end the whole
server, cleartext HTTP/2 and WebSockets are always on, heads may take for ever, sends wait under a
shield, nothing limits connections. So it is given whole requests, checked as on the public listener
(`arrivals`), and one a connection: who comes here comes seldom. Nobody keeps the operator out by
being slow: where no place is free, the one that waits for its peer for the longest gives way, with
no whole request yet or with nothing more to do than to be read. `/metrics`, the one large answer
that needs no token, is given to a few at a time, and who does not read it gives way to the next.

What this listener shares with the public one on hypercorn is in `guarded`.
"""

import socket
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final, cast

import trio
from attrs import evolve
from hypercorn.app_wrappers import ASGIWrapper
from hypercorn.events import Closed, Event, RawData
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.task_group import TaskGroup
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from hypercorn.utils import parse_socket_addr

from dpp.http.admin.app import BODY_MAX, METRICS
from dpp.http.answers import SECURITY, request_id
from dpp.http.arrivals import Arrival, arrive
from dpp.http.asgi import Address, App
from dpp.http.connection import Dates
from dpp.http.guarded import SEND_S, Guarded, check_private_names, configuration
from dpp.http.heads import Violation
from dpp.http.inbox import Inbox, Peer
from dpp.http.listener import listen
from dpp.http.places import Yielding
from dpp.http.problems import Problem, render, unavailable
from dpp.http.replies import last_words
from dpp.logs import get_logger
from dpp.metrics import http_connection_faults_total

CONNECTIONS_MAX: Final = 64  # scrapers, operators, a console; nobody else comes here
HALF_CLOSE_S: Final = 1.0  # to answer a peer that only stopped sending
LINGER_S: Final = 1.0  # for the peer to read a refusal before the kernel resets the connection
GRACE_S: Final = 3.0
SCRAPES_MAX: Final = 8  # answers to /metrics at a time: two scrapers of each of four systems
UNREAD_S: Final = 0.25  # an answer that goes on for so long, while others wait, is not being read
MANY_SCRAPES: Final = unavailable("too many read the metrics; try again in a moment")

log = get_logger(__name__)


class Http1Server(Guarded):
    """One connection and its one request. The task group is hypercorn's."""

    async def serve(self, waiting: Yielding, scrapes: Yielding) -> None:
        """Serve the connection to its end; these may end it before."""
        inbox, self._answered = Inbox(self.stream, _say_nothing), trio.Event()
        try:
            async with TaskGroup() as task_group:
                task_group.spawn(inbox.fill)
                arrived = None
                with waiting.one():
                    arrived = await arrive(inbox, self.send_bounded, body_max=BODY_MAX)
                refusal = await self._attend(arrived, inbox, task_group, scrapes)
                if refusal is not None:
                    with waiting.one():
                        await self._refuse(refusal, inbox)
                await self._close()  # which ends `fill`
        finally:
            with trio.move_on_after(SEND_S, shield=True):
                await self._close()

    async def protocol_send(self, event: Event) -> None:
        """Send as hypercorn does, but not for ever. Its timers are not needed.

        Nor may it close: it would do so in the app's task, which is cancelled by then.
        """
        if isinstance(event, Closed):
            self._answered.set()
        elif isinstance(event, RawData):
            async with self.send_lock:
                sent = await self.send_bounded(event.data)
            if not sent:
                await self._let_go()

    async def _attend(
        self,
        arrived: Arrival | Violation | None,
        inbox: Inbox,
        task_group: TaskGroup,
        scrapes: Yielding,
    ) -> Problem | None:
        """Answer what arrived; return what it is told instead."""
        if arrived is None:
            return None
        if isinstance(arrived, Violation):
            return Problem(arrived.problem, arrived.detail)
        if arrived.head.path != METRICS:
            await self._answer(arrived, inbox, task_group)
        elif scrapes.make_room(SCRAPES_MAX):
            with scrapes.one():
                await self._answer(arrived, inbox, task_group)
        else:
            return MANY_SCRAPES
        return None

    async def _answer(self, arrival: Arrival, inbox: Inbox, task_group: TaskGroup) -> None:
        """Let hypercorn serve the request, to its end or that of the peer."""
        sock = self.stream.socket
        self.protocol: Any = H11Protocol(
            self.app,
            self.config,
            self.context,
            task_group,
            ConnectionState(self.state),
            ssl=False,
            client=parse_socket_addr(sock.family, sock.getpeername()),
            server=parse_socket_addr(sock.family, sock.getsockname()),
            send=self.protocol_send,
        )
        await self.protocol.handle(RawData(arrival.written()))
        task_group.spawn(self._watch, inbox)
        await self._answered.wait()

    async def _watch(self, inbox: Inbox) -> None:
        """Let the request go when its peer leaves."""
        await _ignore(inbox)
        if inbox.peer is Peer.ENDED:  # it may still read
            with trio.move_on_after(HALF_CLOSE_S):
                await self._answered.wait()
        await self._let_go()

    async def _let_go(self) -> None:
        await self.protocol.handle(Closed())
        self._answered.set()

    async def _refuse(self, problem: Problem, inbox: Inbox) -> None:
        """Say what is wrong, and let the peer read it."""
        named = request_id(())
        answer = render(problem, instance="", request_id=named)
        dress = ((b"x-request-id", named.encode("ascii")), *SECURITY)
        dressed = evolve(answer, headers=(*answer.headers, *dress))
        await self.send_bounded(last_words(dressed, "", Dates().now()))
        with trio.move_on_after(LINGER_S):
            await self.stream.send_eof()
            await _ignore(inbox)


async def serve(
    app: App,
    sockets: Sequence[socket.socket],
    handlers: trio.Nursery,
    stopping: trio.Event,
    *,
    task_status: trio.TaskStatus[list[Address]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Accept until `stopping` is set. Connections live in `handlers` and end soon after it."""
    check_private_names()
    context = WorkerContext(None)
    wrapped = ASGIWrapper(cast("Any", app))  # hypercorn spells out every kind of message
    make = partial(Http1Server, wrapped, configuration(), context, ConnectionState({}))
    reception = Reception(make)
    listeners = listen(sockets)
    with trio.CancelScope() as accepting:
        handlers.start_soon(_stop, stopping, accepting, context, reception)
        task_status.started([sock.getsockname()[:2] for sock in sockets])
        await trio.serve_listeners(reception.guard, listeners, handler_nursery=handlers)


class Reception:
    """Lets connections in, up to the limit."""

    def __init__(self, make: Callable[[trio.SocketStream], Http1Server]) -> None:
        self._make = make
        self._places = trio.CapacityLimiter(CONNECTIONS_MAX)
        self._waiting = Yielding()
        self._scrapes = Yielding(UNREAD_S)

    def drain(self) -> None:
        """Let go of whoever waits for its peer, now and from now on."""
        self._waiting.drain()

    async def guard(self, stream: trio.SocketStream) -> None:
        """Serve a connection if there is a place; whatever goes wrong with it ends here.

        Its end closes the stream.
        """
        try:
            self._places.acquire_on_behalf_of_nowait(stream)
        except trio.WouldBlock:
            if not self._waiting.let_one_go():
                return
            await self._places.acquire_on_behalf_of(stream)
        try:
            await self._make(stream).serve(self._waiting, self._scrapes)
        except* (OSError, trio.BrokenResourceError, trio.ClosedResourceError):
            pass  # the peer's doing
        except* Exception:
            http_connection_faults_total.inc()
            log.exception("management connection failed")
        finally:
            self._places.release_on_behalf_of(stream)


async def _ignore(inbox: Inbox) -> None:
    """Take in what nobody asked for, until the peer sends no more."""
    inbox.clear()
    while await inbox.more():
        inbox.clear()


def _say_nothing(_peer: Peer) -> None:
    """Whoever waits in the inbox hears it there."""


async def _stop(
    stopping: trio.Event,
    accepting: trio.CancelScope,
    context: WorkerContext,
    reception: Reception,
) -> None:
    await stopping.wait()
    accepting.cancel(reason="drain")
    reception.drain()
    await context.terminated.set()
