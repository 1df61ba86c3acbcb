"""A node whose threads stand still past its lease: it renews nothing meanwhile, and lets go.

The trio thread is blocked by a pack that forgets that it shares it, the bridge's by an operation
that does not come back. Another node has the runs by then, or they wait free; each is paid once.
"""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.actors.attempts import Attempts
from dpp.actors.tenure import LeaseLapsed, Standing, tenure
from dpp.runs import Status
from tests.node_books import Books
from tests.node_client import connected, until
from tests.node_process import NodeProcess, nodes_on
from tests.store.examples import new_lease
from tests.store.sessions import SOON_S
from tests.store.steps import begin, make_tenant, read

if TYPE_CHECKING:
    from uuid import UUID

    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session

LEASE_S = 3
BLOCKED_S = 2.5 * LEASE_S  # past the lease, a reaper's interval and the other node's work
CONFIG = f"""
[lease]
lease_s = {LEASE_S}
heartbeat_interval_s = 1
[reaper]
interval_s = 1
[node]
drain_s = 1
"""
# In its first attempt it blocks the thread that it runs on, as a computation without `in_thread`.
PACK = """
import time
from pathlib import Path

from attrs import frozen

from dpp.packs.pack import Pack
from dpp.pricing import Appraised


@frozen
class Inputs:
    flag: str
    blocks_s: float


async def execute(ctx, inputs):
    await ctx.charge(1000, "for trying")
    flag = Path(inputs.flag)
    if not flag.exists():
        flag.touch()
        time.sleep(inputs.blocks_s)
    return {"attempt": ctx.attempt}


BLOCKS = Pack(
    pack_type="blocks",
    version="1",
    inputs=Inputs,
    result=object,
    price="a tenth of a cent",
    quote=lambda _: Appraised(),
    execute=execute,
)
"""
LEASES = "select node_id, lease_id, lease_until from dpp.node_leases"
HOLDER = """
select l.* from dpp.live_runs r join dpp.node_leases l using (lease_id) where run_id = $1
"""
LEFT_S = "select extract(epoch from lease_until - clock_timestamp()) from dpp.node_leases"
ENDINGS = "select status, cost, attempts_spent, lease_epoch from dpp.endings"


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """Install the pack in a directory, as pip would."""
    (tmp_path / "blocking_pack.py").write_text(PACK)
    about = tmp_path / "blocking_pack-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: blocking-pack\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[dpp.packs]\nblocks = blocking_pack:BLOCKS\n")
    return tmp_path


async def test_a_pack_that_blocks_the_loop_past_the_lease_loses_its_attempt_and_no_money(
    bridge: Bridge, database: Database, installed: Path
) -> None:
    flag = installed / "begun"
    with nodes_on(database.host, database.name, CONFIG, CONFIG) as nodes:
        for node in nodes:
            node.env = {**node.env, "PYTHONPATH": str(installed)}
            await trio.to_thread.run_sync(node.start)
        books = Books(nodes[0], bridge)
        key = nodes[0].tenant("acme")
        async with trio.open_nursery() as asking:
            inputs = {"flag": str(flag), "blocks_s": BLOCKED_S}
            asking.start_soon(submit, nodes[0], key, inputs)
            await until(partial(begun, flag))
            run_id = await books.value("select run_id from dpp.submissions")
            (lease,) = await books.rows(HOLDER, run_id)
            seen = await until(partial(ended, books, lease))
        stalled, other = sorted(nodes, key=lambda node: node.node_id != lease["node_id"])
        async with connected(other.url, key) as client:
            run = await client.ended(str(run_id))
        await until(partial(holds_another, books, lease))
        async with connected(stalled.url, key) as client:  # it has woken up and works
            again = await client.ended((await client.submitted())["run_id"])
        (ending, _) = await books.rows(ENDINGS + " order by finished_at")
        lapsed = [line for line in stalled.lines() if line["event"] == "lease lapsed"]
        await books.judge()

    assert seen == {lease["lease_until"]}, "it was renewed while the loop stood still"
    assert (run["status"], run["attempt"], run["result"]) == ("COMPLETED", 2, {"attempt": 2})
    assert tuple(ending) == ("COMPLETED", 1000, 1, 2)
    assert [line["owed"] for line in lapsed] == [False]  # its own stall is no outage
    assert again["status"] == "COMPLETED"


async def submit(node: NodeProcess, key: str, inputs: dict[str, Any]) -> None:
    """Submit the run that blocks; the answer may be long in coming."""
    async with connected(node.url, key) as client:
        await client.submitted(pack_type="blocks", inputs=inputs)


async def begun(flag: Path) -> bool:
    """Say whether the first attempt is on its way."""
    return await trio.Path(flag).exists()


async def ended(books: Books, lease: Any) -> set[Any] | None:
    """Watch a lease row until it is gone; returns every end that it had."""
    seen = set()
    while rows := await books.rows(LEASES + " where lease_id = $1", lease["lease_id"]):
        seen.add(rows[0]["lease_until"])
        await trio.sleep(0.05)
    return seen or None


async def holds_another(books: Books, lease: Any) -> bool:
    """Say whether the node that held this lease has taken a new one."""
    return bool(await books.rows(LEASES + " where node_id = $1", lease["node_id"]))


async def test_while_the_bridge_stands_still_a_node_lets_go_before_its_lease_ends(
    judged: PostgresStore, bridge: Bridge, admin: Session
) -> None:
    await make_tenant(judged)
    standing = Standing("node-1", Attempts(lambda _: None))
    moments: dict[str, float] = {}
    run_ids: list[UUID] = []

    async def block() -> None:
        time.sleep(BLOCKED_S / 2)  # noqa: ASYNC251  # that is the fault

    async def lives(nursery: trio.Nursery) -> None:
        async with tenure(judged, standing, lease_s=LEASE_S, heartbeat_s=LEASE_S / 2) as here:
            run_ids.append((await begin(judged, here.lease)).fence.run_id)
            asked_at = trio.current_time()
            moments["ends"] = asked_at + float(await admin.fetchval(LEFT_S))
            nursery.start_soon(bridge.run, block)
            try:
                await trio.sleep_forever()
            finally:
                moments["lets go"] = trio.current_time()

    async with trio.open_nursery() as nursery:
        with trio.fail_after(SOON_S), pytest.raises(LeaseLapsed):
            await lives(nursery)

    await judged.take_lease(new_lease(), lease_s=LEASE_S, hand_back=tuple(standing.owed))
    run = await read(judged, run_ids[0])
    early_s = moments["ends"] - moments["lets go"]
    print(f"let go {early_s:.2f} s before the lease ended")
    assert early_s > 0, "it worked on past the end of its lease"
    # An outage, as far as anyone can tell: handed back free, at once or with the next lease.
    assert (run.status, run.attempt) == (Status.QUEUED, 1)
