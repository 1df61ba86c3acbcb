"""Transactions that know what became of their COMMIT: yes, no, or unknown.

asyncpg's own transaction block does not look at the tag that COMMIT is answered with, so it
reports success for an aborted transaction (the tag says ROLLBACK), and it cannot say whether a
lost connection lost the COMMIT with it. Here BEGIN and COMMIT are sent by hand: the tag must be
exactly COMMIT, a transaction must be open before it, a warning during it (01000: the wait for a
standby was cut short) counts as unknown, and every exception inside rolls back. Nothing in here
needs state of the session, so it works behind a transaction-mode pooler.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial

import asyncpg

from dpp import failpoints
from dpp.store.connections import Connection
from dpp.store.sqlstates import Fault, classify_commit

# One flight. Custom plans: a plan made while a table was small would be kept while it grows a
# thousandfold.
BEGIN = "begin isolation level read committed; set local plan_cache_mode = force_custom_plan"
# To plan a small batch costs as much as to run it: 1.5 of 5.6 ms for 31 submits. So a connection
# that has many keeps their plans, but for a second: one made while a table was empty reads all of
# it once it is full.
BEGIN_KEPT = "begin isolation level read committed; set local plan_cache_mode = force_generic_plan"
BEGIN_AFRESH = f"{BEGIN_KEPT}; discard plans"
# What comes in a second is read whole in some ms; to plan once a second costs a 400th of it.
KEEP_S = 1.0
# Items. A kept plan is one for any number of them, and expects ten. The books of 500 tenants, each
# with all that there can be to read, take it 14 ms, and a plan of their own 6; of 64, 1.2 and 1.9.
KEPT_MAX = 64
BEGIN_SNAPSHOT = "begin isolation level repeatable read read only"


class CommitUnknown(Exception):  # neither an error nor a success: unknown
    """COMMIT was handed over and not answered."""


class NotCommitted(Exception):  # a definite no
    """COMMIT was never sent, or the server refused it for a reason that may pass."""


class NoPrimary(Exception):  # a definite no
    """The server only reads: it is no primary any more, and nothing that it says may be used."""


class CommitRefused(Exception):  # the server's word, not ours
    """COMMIT was answered by ROLLBACK, or there was nothing to commit: a bug of ours.

    Nothing was committed.
    """


@asynccontextmanager
async def transaction(
    connection: Connection, name: str = "", begin: str = BEGIN
) -> AsyncIterator[None]:
    """Commit what the block did, or nothing. Raises `CommitUnknown` where it cannot be told.

    `name`: of its failpoints, where money or leases hang on it.
    """
    at = partial(reach, connection, name) if name else nowhere
    at("begin")
    await connection.execute(begin)
    if begin == BEGIN_AFRESH:  # said once it is so: no older plan may pass for one of now
        connection.planned_at = asyncio.get_running_loop().time()
    try:
        yield
        at("before_commit")
    except BaseException:
        await roll_back(connection)
        raise
    await commit(connection)
    at("after_commit")


def begin_for(connection: Connection, items: int) -> str:
    """Return how a transaction for so many items begins on this connection, now.

    One that comes alone plans for itself, which costs less than to plan all anew.
    """
    if items > KEPT_MAX or not connection.keeps_plans:
        return BEGIN
    now = asyncio.get_running_loop().time()
    is_busy, connection.small_at = now < connection.small_at + KEEP_S, now
    if now < connection.planned_at + KEEP_S:
        return BEGIN_KEPT
    return BEGIN_AFRESH if is_busy else BEGIN


def reach(connection: Connection, name: str, moment: str) -> None:
    """Be at one of a transaction's failpoints."""
    failpoints.hit(f"{name}.{moment}", connection.terminate)


def nowhere(_: str) -> None:
    """Be at no failpoint."""


async def commit(connection: Connection) -> None:
    """Send COMMIT and believe nothing but its tag."""
    if connection.is_closed():
        message = "the connection was lost before COMMIT was sent"
        raise NotCommitted(message)
    if not connection.is_in_transaction():
        message = "no transaction is open at COMMIT"
        raise CommitRefused(message)
    connection.warned = False
    try:
        tag = await connection.execute("commit")
    except (
        asyncpg.PostgresError,
        asyncpg.InterfaceError,
        asyncpg.InternalClientError,
        OSError,
    ) as error:
        match classify_commit(error):
            case Fault.UNKNOWN:
                raise CommitUnknown(str(error)) from error
            case Fault.BUG | Fault.BROKEN | Fault.TORN:
                raise
            case _:
                raise NotCommitted(str(error)) from error
    if tag != "COMMIT":
        message = f"COMMIT was answered by {tag}"
        raise CommitRefused(message)
    if connection.warned:
        message = "the server warned during COMMIT: it may not be on the standby"
        raise CommitUnknown(message)


async def roll_back(connection: Connection) -> None:
    """End an open transaction; a connection that cannot even do that is given up."""
    if connection.is_closed() or not connection.is_in_transaction():
        return
    try:
        await connection.execute("rollback")
    except Exception:  # noqa: BLE001  # whatever it is, this connection is not used again
        connection.terminate()
