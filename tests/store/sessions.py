"""Connections of a test's own, driven from trio, that stop where they are told to.

A race needs no luck: let one transaction stop before a statement, start the other, watch the
server until it waits for a lock (`Sessions.until_blocked`), let the first one go, look.
"""

from __future__ import annotations

import asyncio  # noqa: TID251
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import asyncpg
import outcome
import trio

from dpp.store.connections import WARM_UP, Connection, note_warning

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dpp.store.bridge import Bridge
    from tests.conftest import Database

T = TypeVar("T")

SOON_S = 20.0  # nothing here takes that long; what does has hung
LOOK_S = 0.005
BLOCKED = """
select count(*) from pg_stat_activity
 where datname = current_database() and wait_event_type = 'Lock' and state = 'active'
"""


class StoppableConnection(Connection):
    """Stops before the first statement that is or has a line `stop_before`, until it is let go."""

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.stop_before: str | None = None
        self.stopped = asyncio.Event()
        self.let_go = asyncio.Event()

    async def _pause(self, query: str) -> None:
        if self.stop_before in query.splitlines():
            self.stop_before = None
            self.stopped.set()
            await self.let_go.wait()

    async def execute(self, query: str, *args: Any, timeout: float | None = None) -> str:  # noqa: ASYNC109
        await self._pause(query)
        return await super().execute(query, *args, timeout=timeout)

    async def fetch(self, query: str, *args: Any, **keywords: Any) -> list[Any]:
        await self._pause(query)
        return await super().fetch(query, *args, **keywords)


class Running(Generic[T]):
    """Something that was started and not waited for."""

    def __init__(self) -> None:
        self._done = trio.Event()
        self._outcome: outcome.Outcome[T] | None = None

    async def work(self, task: Callable[[], Awaitable[T]]) -> None:
        self._outcome = await outcome.acapture(task)
        self._done.set()

    @property
    def over(self) -> bool:
        """Say whether it has ended, one way or the other."""
        return self._done.is_set()

    async def result(self) -> T:
        """Wait for the result, or raise what it raised."""
        with trio.fail_after(SOON_S):
            await self._done.wait()
        assert self._outcome is not None
        return self._outcome.unwrap()


def start(nursery: trio.Nursery, task: Callable[[], Awaitable[T]]) -> Running[T]:
    """Start `task` and return at once."""
    running: Running[T] = Running()
    nursery.start_soon(running.work, task)
    return running


class Session:
    """One connection; its statements run in the bridge's thread."""

    def __init__(self, bridge: Bridge, connection: StoppableConnection) -> None:
        self._bridge = bridge
        self.connection = connection

    async def execute(self, query: str) -> str:
        return await self.run(lambda connection: connection.execute(query))

    async def fetch(self, query: str, *args: object) -> list[Any]:
        return await self.run(lambda connection: connection.fetch(query, *args))

    async def fetchval(self, query: str, *args: object) -> Any:
        return (await self.fetch(query, *args))[0][0]

    async def run(self, verb: Callable[[Connection], Awaitable[T]]) -> T:
        """Run one of the store's own transactions, or anything, on this connection."""

        async def operation() -> T:
            return await verb(self.connection)

        return await self._bridge.run(operation)

    async def start_and_stop(
        self,
        nursery: trio.Nursery,
        verb: Callable[[Connection], Awaitable[T]],
        *,
        before: str = "commit",
    ) -> Running[T]:
        """Start a transaction and return when it stands before `before`, with all its locks."""
        self.connection.stop_before = before
        running = start(nursery, lambda: self.run(verb))

        async def stopped() -> None:
            await self.connection.stopped.wait()

        with trio.fail_after(SOON_S):
            await self._bridge.run(stopped)
        return running

    async def go_on(self) -> None:
        """Let a stopped transaction go on."""

        async def let_go() -> None:
            self.connection.let_go.set()

        await self._bridge.run(let_go)

    async def close(self) -> None:
        async def close() -> None:
            self.connection.terminate()

        await self._bridge.run(close)


class Sessions:
    """Opens sessions on one database, and sees which backends wait."""

    def __init__(self, bridge: Bridge, database: Database) -> None:
        self.bridge = bridge
        self.database = database
        self._open: list[Session] = []

    async def open(self, user: str = "dpp_app") -> Session:
        """Open a connection as one of the roles, made as the store makes its own."""

        async def connect() -> StoppableConnection:
            connection: StoppableConnection = await asyncpg.connect(
                host=self.database.host,
                user=user,
                database=self.database.name,
                connection_class=StoppableConnection,
            )
            connection.add_log_listener(note_warning)
            await connection.fetch(WARM_UP, *([[]] * WARM_UP.count("$")))
            return connection

        session = Session(self.bridge, await self.bridge.run(connect))
        self._open.append(session)
        return session

    async def until_blocked(self, count: int = 1) -> int:
        """Return when that many backends of the database wait for a lock; say how many do."""
        watcher = await self.open("postgres")
        with trio.fail_after(SOON_S):
            while (blocked := await watcher.fetchval(BLOCKED)) < count:  # noqa: ASYNC110
                await trio.sleep(LOOK_S)
        await watcher.close()
        return int(blocked)

    async def until_it_is_past(self, moment: object) -> None:
        """Return when the server's clock is past `moment`."""
        watcher = await self.open("postgres")
        with trio.fail_after(SOON_S):
            while not await watcher.fetchval("select clock_timestamp() > $1", moment):  # noqa: ASYNC110
                await trio.sleep(LOOK_S)
        await watcher.close()

    async def close(self) -> None:
        for session in self._open:
            await session.close()


@asynccontextmanager
async def open_sessions(bridge: Bridge, database: Database) -> AsyncIterator[Sessions]:
    """Give sessions for the length of the block."""
    sessions = Sessions(bridge, database)
    try:
        yield sessions
    finally:
        with trio.CancelScope(shield=True):
            await sessions.close()


@asynccontextmanager
async def holding(sessions: Sessions, query: str, *args: object) -> AsyncIterator[Session]:
    """Hold the rows of a locking query until `commit` or the end of the block."""
    session = await sessions.open()
    await session.execute("begin")
    await session.fetch(query, *args)
    yield session
    await session.execute("commit")
