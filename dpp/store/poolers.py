"""What stands between DPP and PostgreSQL, found by asking: nothing, a session, or a transaction.

A pooler in transaction mode gives each transaction the server process that is free just then. So
two connections that see one process, or one that sees two, prove it; a server itself, and a pooler
in session mode, never show that. Without other clients one round decides. Beside busy ones a round
may miss it, one time in two at the worst (a pool of two), so there are many; and both ask in each,
since one of them may find the same process free each time while somebody holds the other's. What a
pooler is not told apart by is its name: whatever works like one of these, is one.
"""

import asyncio
from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import asyncpg

from dpp.store.refusal import StartRefused

FIND_S = 10.0  # for all of it; a pool that is full makes even one round wait
ROUNDS = 20  # behind a pooler: all of them miss a transaction mode one time in a million
ROUNDS_DIRECT = 3  # of a server that says so; a pooler that passes on its process is found by these
PID = "select pg_backend_pid()"


class Pooler(StrEnum):
    """How a connection leads to the server; the words of `database.pooler`."""

    NONE = "direct"
    SESSION = "session"
    TRANSACTION = "transaction"


async def find_pooler(keywords: Mapping[str, Any]) -> Pooler:
    """Return what stands between; raises as connecting does. `keywords`: of `asyncpg.connect`."""
    one = await asyncpg.connect(**keywords, statement_cache_size=0, timeout=FIND_S)
    try:
        other = await asyncpg.connect(**keywords, statement_cache_size=0, timeout=FIND_S)
    except BaseException:
        one.terminate()
        raise
    loop = asyncio.get_running_loop()
    # No driver time-out: that would send a CancelRequest, which may meet somebody else's query.
    alarms = [loop.call_later(FIND_S, connection.terminate) for connection in (one, other)]
    try:
        return await _compare(one, other)
    finally:
        for alarm in alarms:
            alarm.cancel()
        one.terminate()
        other.terminate()


async def _compare(one: Any, other: Any) -> Pooler:  # noqa: ANN401 - the driver's connections
    """Ask both in turn which process works for them, as often as it takes."""
    process = await one.fetchval(PID)
    is_direct = process == one.get_server_pid()
    ones, others = {process}, set[int]()
    for _ in range(ROUNDS_DIRECT if is_direct else ROUNDS):
        for connection, seen in ((other, others), (one, ones)):
            await _begin(connection)
            seen.add(await connection.fetchval(PID))
            await connection.execute("rollback")
        if ones & others or len(ones) > 1 or len(others) > 1:
            return Pooler.TRANSACTION
    return Pooler.NONE if is_direct else Pooler.SESSION


async def _begin(connection: Any) -> None:  # noqa: ANN401 - the driver's connection
    """Begin a transaction; refuse a pooler that knows none."""
    try:
        await connection.execute("begin")
    except asyncpg.PostgresError as error:
        if "statement pooling" in str(error):
            raise StartRefused(
                f"The pooler that the URL leads to carries no transactions: {error}.",
                "Set its pool_mode to transaction, or to session where migrations come through it.",
            ) from error
        raise
