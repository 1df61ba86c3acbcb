"""Connections to PostgreSQL, in three small pools: for the lease, for work, for reads.

Why not the driver's own pool: giving a connection back there waits without limit for a cancel that
is pending, costs a round trip for a reset that means nothing behind a pooler, and drops the log
listener that COMMIT needs. Here a connection that is closed, or still in a transaction, is thrown
away. No driver time-outs are used, since each of them sends a CancelRequest: a wall clock around
each use ends a silent connection by `terminate()`, everything else is bounded by the server. Only
the bridge's thread touches any of this.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from typing import Any, Literal

import asyncpg
from attrs import frozen

from dpp.faults import StoreUnavailable, told
from dpp.logs import get_logger
from dpp.store.sqlstates import Fault, classify

log = get_logger(__name__)

CONNECT_S = 5.0  # one try to connect; the actors above try again
ARRAYS = [
    "uuid",
    "bigint",
    "int",
    "smallint",
    "text",
    "bytea",
    "timestamptz",
    "date",
    "boolean",
    "float8",
]
WARM_UP = "select " + ", ".join(f"${n}::{name}[]" for n, name in enumerate(ARRAYS, start=1))


class Connection(asyncpg.Connection):
    """A connection that remembers whether the server warned."""

    warned = False


@frozen
class Address:
    """How to connect; `prepared`: statements may be kept, which some poolers break."""

    keywords: Mapping[str, Any]
    prepared: bool = True
    server: Literal["read-write", "primary"] = "read-write"  # an auditor's role cannot write


async def connect(address: Address) -> Connection:
    """Open a connection: to a primary only, log listener set, array types looked up once."""
    connection: Connection = await asyncpg.connect(  # type: ignore[call-overload]  # keywords
        **address.keywords,
        connection_class=Connection,
        statement_cache_size=200 if address.prepared else 0,
        target_session_attrs=address.server,
        timeout=CONNECT_S,
    )
    connection.add_log_listener(note_warning)
    # A server may take the login and then say nothing: the driver's limit is over by then.
    alarm = asyncio.get_running_loop().call_later(CONNECT_S, connection.terminate)
    try:
        with cut_is_a_loss(connection):
            await connection.fetch(WARM_UP, *([[]] * len(ARRAYS)))
    except BaseException:
        connection.terminate()  # nobody else knows of it
        raise
    finally:
        alarm.cancel()
    return connection


def note_warning(connection: Any, message: Any) -> None:  # noqa: ANN401  # the driver's callback types
    """Remember 01000 and its like: at COMMIT it means that the standby was not waited for."""
    if message.sqlstate.startswith("01"):
        connection.warned = True


@contextmanager
def cut_is_a_loss(connection: Connection) -> Iterator[None]:
    """Let a statement whose connection an alarm cut be told as one on a lost connection.

    Between preparing a statement and executing it the driver does not look whether it is still
    there, and trips over what it has taken away itself. COMMIT has no such step.
    """
    try:
        yield
    except AttributeError as error:
        if error.obj is not None or not connection.is_closed():
            raise
        message = "the connection was closed under a statement"
        raise asyncpg.InterfaceError(message) from error


class Pool:
    """At most `size` connections, opened when first needed."""

    def __init__(self, address: Address, size: int) -> None:
        self.size = size
        self._address = address
        self._places = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._closed = False

    @asynccontextmanager
    async def connection(self, wall_s: float) -> AsyncIterator[Connection]:
        """Lend a connection; past `wall_s` it is cut, and whoever uses it sees it lost."""
        async with self._places:
            connection = await self._take()
            alarm = asyncio.get_running_loop().call_later(wall_s, connection.terminate)
            try:
                with cut_is_a_loss(connection):
                    yield connection
            finally:
                alarm.cancel()
                self._give_back(connection)

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed():
                return connection
        try:
            return await connect(self._address)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # no item's fault
            ours = isinstance(error, ValueError)  # what we told the driver, not the server
            if ours or classify(error) not in {Fault.BUG, Fault.BROKEN, Fault.TORN}:
                raise
            log.critical("no connection", detail=told(error))
            raise StoreUnavailable(f"no connection: {error}") from error

    def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)

    def close(self) -> None:
        """Throw away what is idle, and what comes back later."""
        self._closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Throw away what is idle: after one connection was lost, the others are suspect."""
        while self._idle:
            self._idle.pop().terminate()
