"""A line to Redis: one connection, for one question at a time, on the bridge's loop.

What must hold: an answer reaches only who asked for it. So no question is ever cancelled: one that
takes too long is left behind together with its connection, and whatever is strange (an error, a
reply of another shape) costs the connection too. Each wait has an end of its own, `WALL_S`.

redis-py's pool and client are passed over on purpose: they try again, check health and keep
connections that a question was cancelled on. What is used of it is the connection: TCP or TLS,
AUTH, SELECT and the parser.
"""

import asyncio
from collections.abc import Awaitable, Coroutine, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, TypeVar

from dpp.faults import HelperUnavailable, told

if TYPE_CHECKING:
    from redis.asyncio.connection import AbstractConnection

WALL_S = 0.25  # a Redis beside the node answers in a millisecond; a read waits for it no longer
PING_S = 1.0  # a line that is only listened on and says nothing is asked whether it is there
MESSAGES_MAX = 100  # that are taken at a time

Command: TypeAlias = tuple[str | bytes | int, ...]
T = TypeVar("T")


def make_connection(url: str) -> "AbstractConnection":
    """Return a connection that is not made yet. Its own limits end what was left behind."""
    from redis.asyncio.connection import ConnectionPool
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff

    pool = ConnectionPool.from_url(
        url,
        socket_connect_timeout=WALL_S,
        socket_timeout=WALL_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
        health_check_interval=0,
        driver_info=None,
    )
    made: AbstractConnection = pool.make_connection()  # type: ignore[no-untyped-call]
    return made


class Line:
    """Asks; connects at need, and anew after any trouble."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._connection: AbstractConnection | None = None
        self._left: set[asyncio.Task[None]] = set()  # what ends behind us

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """Send commands together and return their replies, in order.

        Raises `HelperUnavailable`: the answer of a command may be an error, or not come in time.
        """
        connection = self._connection
        if connection is None:
            connection = self._connection = make_connection(self._url)
        return await self.within(self._ask(connection, commands))

    async def within(self, question: Coroutine[Any, Any, T]) -> T:
        """Wait for a question, `WALL_S` at most; then leave it and its connection behind."""
        asking = asyncio.ensure_future(question)
        await asyncio.wait({asking}, timeout=WALL_S)
        if not asking.done():
            self.drop(asking)
            raise HelperUnavailable("no answer in time")
        try:
            return asking.result()
        except Exception as error:  # a driver that reads nonsense raises whatever comes of it
            self.drop()
            raise HelperUnavailable(told(error)) from error

    def drop(self, asking: Awaitable[Any] | None = None) -> None:
        """Let go of the connection, and of who still waits on it."""
        connection, self._connection = self._connection, None
        if connection is not None:
            task = asyncio.ensure_future(_bury(connection, asking))
            self._left.add(task)
            task.add_done_callback(self._left.discard)

    async def close(self) -> None:
        """Let go of everything, and see it end."""
        self.drop()
        if self._left:
            await asyncio.wait(self._left, timeout=2 * WALL_S)

    async def _ask(
        self, connection: "AbstractConnection", commands: Sequence[Command]
    ) -> list[Any]:
        await connection.connect()  # type: ignore[no-untyped-call]
        await connection.send_packed_command(connection.pack_commands(commands), check_health=False)
        replies = [await _reply(connection) for _ in commands]
        for reply in replies:
            if isinstance(reply, Exception):
                raise reply
        return replies


class Ear(Line):
    """Listens on one channel."""

    def __init__(self, url: str, channel: bytes) -> None:
        super().__init__(url)
        self._channel = channel
        self._reading: asyncio.Task[Any] | None = None
        self._pinged = False

    async def hear(self) -> list[bytes]:
        """Return what was said since, waiting `PING_S` at most; raises `HelperUnavailable`."""
        if self._connection is None:
            await self._subscribe()
        try:
            return await self._hear()
        except Exception as error:
            reading, self._reading = self._reading, None
            self.drop(reading)
            if isinstance(error, HelperUnavailable):
                raise
            raise HelperUnavailable(told(error)) from error

    async def close(self) -> None:
        """End it, and who reads."""
        reading, self._reading = self._reading, None
        self.drop(reading)
        await super().close()

    async def _subscribe(self) -> None:
        self._pinged = False
        [reply] = await self.ask([("SUBSCRIBE", self._channel)])
        connection = self._connection
        if reply != [b"subscribe", self._channel, 1] or connection is None:
            self.drop()
            raise HelperUnavailable(f"not subscribed: {str(reply)[:100]}")
        connection.socket_timeout = None  # from here on it is waited for

    async def _hear(self) -> list[bytes]:
        heard: list[bytes] = []
        wait_s = PING_S
        while len(heard) < MESSAGES_MAX:
            connection = self._connection
            if connection is None:
                raise HelperUnavailable("closed")
            reading = self._reading or asyncio.ensure_future(_reply(connection))
            self._reading = reading
            await asyncio.wait({reading}, timeout=wait_s)
            if not reading.done():
                break
            reply, self._reading = reading.result(), None
            self._pinged = False
            if message := self._message(reply):
                heard.append(message)
            wait_s = 0
        if not heard and wait_s:
            await self._ping()
        return heard

    async def _ping(self) -> None:
        """Ask whether the other side is there, unless it already owes that answer."""
        connection = self._connection
        if self._pinged or connection is None:
            raise HelperUnavailable("no answer in time")
        self._pinged = True
        await connection.send_packed_command(
            connection.pack_commands([("PING",)]), check_health=False
        )

    def _message(self, reply: object) -> bytes | None:
        """Return the message that a reply is; None = it is the answer to a ping."""
        match reply:
            case [b"message", self._channel, bytes(message)]:
                return message
            case [b"pong", _]:
                return None
        raise HelperUnavailable(f"not a message: {str(reply)[:100]}")


async def _reply(connection: "AbstractConnection") -> Any:  # noqa: ANN401 - whatever Redis says
    """Read one reply. An error that the server answers is returned: what follows is in step."""
    from redis.exceptions import ResponseError

    try:
        return await connection.read_response(disable_decoding=True)
    except ResponseError as refusal:
        return refusal


async def _bury(connection: "AbstractConnection", asking: Awaitable[Any] | None) -> None:
    """End a connection, and once more where a question made it after all."""
    await asyncio.gather(connection.disconnect(nowait=True), return_exceptions=True)
    if asking is not None:
        await asyncio.gather(asking, return_exceptions=True)
        await asyncio.gather(connection.disconnect(nowait=True), return_exceptions=True)
