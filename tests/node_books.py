"""A real node's database, looked at past the node: rows, stamps, and the two judges of its books."""  # noqa: E501

from __future__ import annotations

import asyncio  # noqa: TID251 - what a session's fixture asks when no loop runs
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import trio
from attrs import field, frozen

from tests.oracle.money import Memory, violations

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpp.store.bridge import Bridge
    from tests.node_process import NodeProcess


@frozen
class Books:
    """Each question takes a connection of its own: the server may have been killed since the last."""  # noqa: E501

    node: NodeProcess
    bridge: Bridge
    memory: Memory = field(factory=Memory)

    async def rows(self, query: str, *args: Any) -> Sequence[Any]:
        """Ask as superuser."""
        return await self.bridge.run(partial(_rows, self.node, query, args))

    async def value(self, query: str, *args: Any) -> Any:
        """Ask for the first value of the first row."""
        return (await self.rows(query, *args))[0][0]

    async def execute(self, script: str) -> None:
        """Run statements as superuser."""
        await self.bridge.run(partial(_execute, self.node, script))

    async def judge(self) -> None:
        """Let the product's audit and the tests' own look at the books."""
        audit = await trio.to_thread.run_sync(audit_of, self.node)
        found = await self.bridge.run(partial(_violations, self.node, self.memory))
        assert not audit, audit
        assert not found, found

    async def hold(self, statement: str, *args: Any) -> asyncpg.Connection[Any]:
        """Open a transaction as the node's own role and leave it so, as a frozen client would."""
        return await self.bridge.run(partial(_hold, self.node, statement, args))

    async def let_go(self, held: asyncpg.Connection[Any]) -> None:
        """End what `hold` left open."""
        await self.bridge.run(partial(_let_go, held))

    async def closed(self, held: asyncpg.Connection[Any]) -> bool:
        """Say whether the server ended what `hold` left open."""
        return await self.bridge.run(partial(_closed, held))


def audit_of(node: NodeProcess) -> list[Any]:
    """Return the offenders that the node's own audit finds."""
    audit = node.admin("GET", "/admin/v1/audit")
    found = [one for one in audit["invariants"] if one["offenders"]]
    return [*found, *audit["findings"]]


def judge_now(node: NodeProcess) -> None:
    """Do what `Books.judge` does where no loop runs."""
    audit, found = audit_of(node), asyncio.run(_violations(node, None))
    assert not audit, audit
    assert not found, found


async def _connect(node: NodeProcess, user: str = "postgres") -> asyncpg.Connection[Any]:
    return await asyncpg.connect(host=str(node.socket_dir), user=user, database=node.database)


async def _rows(node: NodeProcess, query: str, args: Sequence[Any]) -> Sequence[Any]:
    connection = await _connect(node)
    try:
        return await connection.fetch(query, *args)
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


async def _execute(node: NodeProcess, script: str) -> None:
    connection = await _connect(node)
    try:
        await connection.execute(script)
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


async def _violations(node: NodeProcess, memory: Memory | None) -> list[Any]:
    connection = await _connect(node)
    try:
        return await violations(connection, memory)
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


async def _hold(node: NodeProcess, statement: str, args: Sequence[Any]) -> asyncpg.Connection[Any]:
    connection = await _connect(node, "dpp_app")
    await connection.execute("begin")
    assert await connection.fetch(statement, *args), statement
    return connection


async def _let_go(connection: asyncpg.Connection[Any]) -> None:
    await connection.execute("rollback")
    await connection.close()


async def _closed(connection: asyncpg.Connection[Any]) -> bool:
    ended = connection.is_closed()
    await connection.close()
    return ended
