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
from contextlib import asynccontextmanager, contextmanager, suppress
from math import inf
from typing import Any, Literal

import asyncpg
from attrs import define, frozen

from dpp.faults import StoreUnavailable, told
from dpp.logs import get_logger
from dpp.store.poolers import Pooler
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
WARM_UP = (
    "select pg_is_in_recovery() as standby,"
    " current_setting('default_transaction_read_only') = 'on' as read_only, "
    + ", ".join(f"${n}::{name}[]" for n, name in enumerate(ARRAYS, start=1))
)
# On one server process: while the driver looks types up it changes a setting, and back. There is
# nothing to commit.
WARM_UP_BEGIN, WARM_UP_END = "begin", "rollback"


class Connection(asyncpg.Connection):
    """A connection that remembers whether the server warned, and which primary it was made to.

    And whether it may keep plans, since when it does, and when it last had a small batch, by the
    loop's clock.
    """

    warned = False
    failovers = 0
    keeps_plans = True
    planned_at = -inf
    small_at = -inf


@frozen
class Address:
    """How to connect, and what stands between: behind some poolers no statement may be kept."""

    keywords: Mapping[str, Any]
    pooler: Pooler = Pooler.NONE
    server: Literal["read-write", "primary"] = "read-write"  # an auditor's role cannot write


@define(eq=False)
class Primary:
    """How often it was found that the primary is none any more; the pools of a database share it.

    Whatever was connected before leads to the old one, which may still answer, and must not be
    believed.
    """

    failovers: int = 0


async def connect(address: Address) -> Connection:
    """Open a connection: to a primary only, log listener set, array types looked up once."""
    is_direct = address.pooler is Pooler.NONE
    connection: Connection = await asyncpg.connect(  # type: ignore[call-overload]  # keywords
        **address.keywords,
        connection_class=Connection,
        statement_cache_size=0 if address.pooler is Pooler.TRANSACTION else 200,
        # The driver believes what the login said; a pooler says what it heard at some login before.
        target_session_attrs=address.server if is_direct else "any",
        timeout=CONNECT_S,
    )
    connection.add_log_listener(note_warning)
    connection.keeps_plans = address.pooler is not Pooler.TRANSACTION  # there is nothing to keep
    # A server may take the login and then say nothing: the driver's limit is over by then.
    alarm = asyncio.get_running_loop().call_later(CONNECT_S, connection.terminate)
    try:
        with cut_is_a_loss(connection):
            await warm_up(connection, address)
    except BaseException:
        connection.terminate()  # nobody else knows of it
        raise
    finally:
        alarm.cancel()
    return connection


async def warm_up(connection: Connection, address: Address) -> None:
    """Look array types up, and whether this is a primary, in one question; raises if it is none."""
    is_shared = address.pooler is Pooler.TRANSACTION
    if is_shared:
        await connection.execute(WARM_UP_BEGIN)
    (said,) = await connection.fetch(WARM_UP, *([[]] * len(ARRAYS)))
    if is_shared:
        await connection.execute(WARM_UP_END)
    if said["standby"] or (address.server == "read-write" and said["read_only"]):
        message = f"the server is not {address.server}"
        raise asyncpg.TargetServerAttributeNotMatched(message)


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
    """At most `size` connections, opened when first needed; `kept` of them stay when idle."""

    def __init__(
        self,
        address: Address,
        size: int,
        *,
        kept: int | None = None,
        primary: Primary | None = None,
    ) -> None:
        self.size = size
        self.in_use = 0  # connections lent out, and places where one is being made
        self._kept = size if kept is None else kept
        self._address = address
        self._places = asyncio.Semaphore(size)
        self._idle: list[Connection] = []
        self._closed = False
        self._primary = primary or Primary()

    @asynccontextmanager
    async def connection(self, wall_s: float) -> AsyncIterator[Connection]:
        """Lend a connection; past `wall_s` it is cut, and whoever uses it sees it lost."""
        async with self._places:
            with self._counted():
                connection = await self._take()
                alarm = asyncio.get_running_loop().call_later(wall_s, connection.terminate)
                try:
                    with cut_is_a_loss(connection):
                        yield connection
                finally:
                    self._give_back(connection)
                    await self._shed()
                    alarm.cancel()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        self.in_use += 1
        try:
            yield
        finally:
            self.in_use -= 1

    async def _take(self) -> Connection:
        while self._idle:
            connection = self._idle.pop()
            if not connection.is_closed() and self._leads_to_primary(connection):
                return connection
            connection.terminate()
        failovers = self._primary.failovers
        try:
            connection = await connect(self._address)
        except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:  # no item's fault
            ours = isinstance(error, ValueError)  # what we told the driver, not the server
            if ours or classify(error) not in {Fault.BUG, Fault.BROKEN, Fault.TORN}:
                raise
            log.critical("no connection", detail=told(error))
            raise StoreUnavailable(f"no connection: {error}") from error
        connection.failovers = failovers
        return connection

    def _leads_to_primary(self, connection: Connection) -> bool:
        return connection.failovers == self._primary.failovers

    def _give_back(self, connection: Connection) -> None:
        if self._closed or connection.is_closed() or connection.is_in_transaction():
            connection.terminate()
        else:
            self._idle.append(connection)

    async def _shed(self) -> None:
        """Close what is one too many, in order; its alarm cuts it where that takes long."""
        if len(self._idle) > self._kept:
            with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
                await self._idle.pop().close()

    def close(self) -> None:
        """Throw away what is idle, and what comes back later."""
        self._closed = True
        self.drop_idle()

    def drop_idle(self) -> None:
        """Throw away what is idle: after one connection was lost, the others are suspect."""
        while self._idle:
            self._idle.pop().terminate()

    def fail_over(self) -> None:
        """Throw away every connection of every pool, those in use when they come back."""
        self._primary.failovers += 1
        self.drop_idle()
