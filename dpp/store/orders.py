"""Modes, the nodes' rows, and what operators ask of one node. No money is near any of it."""

import json
from typing import Any

from dpp.membership import Drain, Member, Report
from dpp.modes import Mode, ModeChange, NewMode, Orders
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import transaction


async def read_orders(connection: Connection, node_id: str) -> Orders:
    """Return what this node is told."""
    row = await queries.read_orders.fetch_one(connection, node_id=node_id)
    assert row is not None
    return Orders(Mode(row["mode"] or Mode.NORMAL), row["drain"])


async def report_node(connection: Connection, report: Report) -> None:
    """Write down what a node says of itself."""
    async with transaction(connection):
        await queries.report_node.fetch(
            connection,
            node_id=report.node_id,
            host=report.host,
            version=report.version,
            runs=report.runs,
            concurrency=report.concurrency,
            loops=json.dumps(dict(report.loops)),
        )


async def set_mode(connection: Connection, new: NewMode) -> ModeChange:
    """Add a line to the trail, once per change id."""
    row = None
    async with transaction(connection):
        while row is None:  # at most once more: the same change committed while we waited for it
            row = await queries.write_mode.fetch_one(
                connection,
                change_id=new.change_id,
                mode=new.mode.value,
                reason=new.reason,
                operator=new.operator,
                expires_in_s=new.expires_in_s,
            )
    return change(row)


async def mode(connection: Connection) -> Mode:
    """Return the mode in force."""
    return (await read_orders(connection, "")).mode


async def list_modes(connection: Connection, limit: int) -> list[ModeChange]:
    """Return the trail, newest first."""
    return [change(row) for row in await queries.list_modes.fetch(connection, limit=limit)]


async def list_members(connection: Connection, node_id: str | None) -> list[Member]:
    """Return every node that has a row, or this one."""
    rows = await queries.list_members.fetch(connection, node_id=node_id)
    return [member(row) for row in rows]


async def ask_drain(connection: Connection, node_id: str, *, operator: str, reason: str) -> bool:
    """Ask a node to drain; False = there is no such node."""
    async with transaction(connection):
        rows = await queries.ask_drain.fetch(
            connection, node_id=node_id, operator=operator, reason=reason
        )
    return bool(rows)


async def end_drain(connection: Connection, node_id: str) -> bool:
    """Let a node work again; False = there is no such node."""
    async with transaction(connection):
        return bool(await queries.end_drain.fetch(connection, node_id=node_id))


def change(row: Row) -> ModeChange:
    """Read one line of the trail."""
    return ModeChange(
        mode=Mode(row["mode"]),
        reason=row["reason"],
        operator=row["operator"],
        set_at=row["set_at"],
        expires_at=row["expires_at"],
    )


def member(row: Row) -> Member:
    """Read a node's row."""
    asked_at = row["drain_asked_at"]
    return Member(
        node_id=row["node_id"],
        now=row["now"],
        last_heartbeat=row["last_heartbeat"],
        lease_until=row["lease_until"],
        left_at=row["drained_at"],
        drain=None
        if asked_at is None
        else Drain(asked_at=asked_at, operator=row["drain_operator"], reason=row["drain_reason"]),
        report=report(row),
        reported_at=row["reported_at"],
    )


def report(row: Row) -> Report | None:
    """Read what the node said of itself; None = nothing yet."""
    if row["reported_at"] is None:
        return None
    loops: dict[str, Any] = json.loads(row["loops"])
    return Report(
        node_id=row["node_id"],
        host=row["host"],
        version=row["version"],
        runs=row["runs"],
        concurrency=row["concurrency"],
        loops=loops,
    )
