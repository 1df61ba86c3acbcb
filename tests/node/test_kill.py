"""`kill -9` of the node at any moment, and its next start on the same data directory.

`DPP_TEST_SEED` repeats a failing run; the seed is printed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from datetime import datetime
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio

from tests.node.load import Load
from tests.node_client import connected, until
from tests.node_process import NodeProcess

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
SEED = int(os.environ.get("DPP_TEST_SEED", "20260214"))
ROUNDS = 4
CLAIMABLE_S = 6.0  # promised, after the start of the process
SPENT = "select count(*) from dpp.live_runs where attempts_spent > 0"
# While a row stands in `held`, no lease row can be deleted: 55P03, what a busy claim answers too.
HOLD = """
create table dpp.held (since timestamptz not null);
grant select on dpp.held to dpp_app;
create function dpp.refuse_while_held() returns trigger language plpgsql as $$
begin
  if exists (select from dpp.held) then
    raise exception 'held by a test' using errcode = 'lock_not_available';
  end if;
  return old;
end $$;
create trigger held before delete on dpp.node_leases
  for each row execute function dpp.refuse_while_held();
insert into dpp.held values (now())
"""


def begun_at(node: NodeProcess) -> datetime:
    """Return when the process said its first word."""
    return datetime.fromisoformat(node.lines()[0]["timestamp"])


async def start(node: NodeProcess) -> None:
    """Start the node; the loop goes on meanwhile."""
    node.launch()
    await trio.to_thread.run_sync(node.wait_ready)
    assert len(node.postmasters()) == 1


async def test_killed_at_any_moment_every_acknowledged_run_ends_once(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    print(f"DPP_TEST_SEED={SEED}")  # noqa: T201
    dice = Random(SEED)
    node = fresh_node()
    books = books_of(node)
    tenants = {f"acme-{n}": node.tenant(f"acme-{n}", "100.00") for n in range(3)}
    load = Load(tenants, Random(SEED))
    for round_ in range(ROUNDS):
        after_s = dice.uniform(0.1, 1.2)
        stop = trio.Event()
        async with trio.open_nursery() as senders:
            for tenant in (*tenants, *tenants):
                senders.start_soon(load.send, node.url, tenant, stop)
            await trio.sleep(after_s)
            node.kill9()
            stop.set()
        await start(node)
        unknown = await load.replay(node.url)
        await load.check(node.url)
        await books.judge()
        print(  # noqa: T201
            f"round {round_}: killed after {after_s:.2f} s, {len(load.asked)} asked, {unknown} unknown"  # noqa: E501
        )
    ended = await books.value("select count(*) from dpp.endings")
    spent = await books.value("select sum(spent) from dpp.budgets")
    cost = await books.value("select sum(cost) from dpp.endings")

    assert ended == len(load.asked)
    assert spent == cost
    assert load.lost > 0, "no kill hit a request"
    assert node.terminate() == 0


async def test_runs_of_a_killed_node_are_claimable_within_6_s_of_its_start(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        runs = [
            await client.submitted(inputs={"sleep_s": 600, "cost_usd": "0.001"}) for _ in range(5)
        ]
        for run in runs:
            await client.until_status(run["run_id"], "PROCESSING")
    lease = await books.value("select distinct lease_id from dpp.live_runs")

    node.kill9()
    await start(node)

    async def all_again() -> Any:
        rows = await books.rows("select * from dpp.live_runs where lease_id <> $1", lease)
        return rows if len(rows) == len(runs) else None

    rows = await until(all_again)
    # Requeued, as the database stamped it: the lease that the dead node held had 30 s to go.
    waited_s = max((row["available_at"] - begun_at(node)).total_seconds() for row in rows)
    print(f"claimable after {waited_s:.2f} s, ready after {node.ready_s:.2f} s")  # noqa: T201
    assert waited_s < CLAIMABLE_S
    assert {(row["attempts_spent"], row["lease_epoch"]) for row in rows} == {(1, 2)}
    key = node.new_key("acme")
    async with connected(node.url, key) as client:
        for run in runs:
            await client.cancel(run["run_id"])
        ended = [await client.ended(run["run_id"]) for run in runs]
    # What the lost attempts charged is the platform's loss: one charge each, the last one's.
    assert {(run["status"], run["attempt"]) for run in ended} == {("CANCELED", 2)}
    assert {run["cost"]["actual_usd"] for run in ended} == {"0.001"}
    await books.judge()


async def test_ready_does_not_wait_for_the_leases_of_the_dead(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        old = await client.submitted(inputs={"sleep_s": 0.5, "message": "old"})
        await client.until_status(old["run_id"], "PROCESSING")
        lease = await books.value("select lease_id from dpp.node_leases")
        await books.execute(HOLD)
        node.kill9()

    await start(node)
    leases = [row["lease_id"] for row in await books.rows("select lease_id from dpp.node_leases")]
    async with connected(node.url, node.new_key("acme")) as client:
        new = await client.ended((await client.submitted())["run_id"])
        still = await client.run(old["run_id"])
        await books.execute("delete from dpp.held")
        ended = await client.ended(old["run_id"])

    assert lease in leases
    assert new["status"] == "COMPLETED"
    assert (still["status"], still["attempt"]) == ("PROCESSING", 1)
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)
    assert ended["result"] == {"message": "old"}


async def test_runs_whose_budget_row_was_held_for_a_moment_do_not_wait_for_the_next_scan(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node("[reaper]\ninterval_s = 600\n")
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        run = await client.submitted(inputs={"sleep_s": 0.5})
        await client.until_status(run["run_id"], "PROCESSING")
        await books.execute(HOLD)
        node.kill9()
    await start(node)

    row = "select 1 from budgets where tenant_id = $1 for no key update"
    held = await books.hold(row, "acme")
    await books.execute("delete from dpp.held")
    await until(lambda: said(node, "earlier leases ended"))
    await until(lambda: said(node, "reaper scan"))  # it passed over what is held
    await books.let_go(held)

    async with connected(node.url, node.new_key("acme")) as client:
        with trio.fail_after(30):
            ended = await client.ended(run["run_id"])
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 2)


async def test_a_run_whose_node_always_dies_ends_free_after_its_attempts(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node("[runs]\nattempts_max = 2\n")
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        inputs = {"sleep_s": 600, "cost_usd": "0.05"}
        run_id = (await client.submitted(max_cost_usd="1.00", inputs=inputs))["run_id"]
        await client.until_status(run_id, "PROCESSING")
    node.kill9()
    await start(node)
    key = node.new_key("acme")
    async with connected(node.url, key) as client:

        async def second() -> bool:
            run = await client.run(run_id)
            return (run["status"], run["attempt"]) == ("PROCESSING", 2)

        await until(second)
    node.kill9()
    await start(node)

    async with connected(node.url, key) as client:
        run = await client.ended(run_id)
        budget = await client.get("/v1/budget")

    assert (run["status"], run["attempt"]) == ("FAILED", 2)
    assert run["error"]["code"] == "lost_lease"
    assert run["error"]["payer"] == "platform"
    assert run["cost"]["actual_usd"] == "0.00"
    assert budget["available_usd"] == "10.00"
    await books.judge()


async def test_cancel_that_was_asked_before_the_kill_is_not_forgotten(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        inputs = {"sleep_s": 600, "cost_usd": "0.005"}
        run_id = (await client.submitted(inputs=inputs))["run_id"]
        await client.until_status(run_id, "PROCESSING")
        node.signal(signal.SIGSTOP)  # it hears nothing of what is asked of the database
        await books.execute("update dpp.live_runs set cancel_asked = true")
        node.kill9()

    await start(node)

    async with connected(node.url, node.new_key("acme")) as client:
        run = await client.ended(run_id)
    assert (run["status"], run["cost"]["actual_usd"]) == ("CANCELED", "0.00")
    await books.judge()


@pytest.mark.parametrize("round_", range(3))
async def test_killed_during_its_first_start_the_next_one_is_ready(
    fresh_node: StartNode, books_of: BooksOf, round_: int
) -> None:
    after_s = Random(SEED + round_).uniform(0.2, 1.2)
    print(f"DPP_TEST_SEED={SEED}, killed after {after_s:.2f} s")  # noqa: T201
    node = fresh_node(start=False)
    node.launch()
    await trio.sleep(after_s)
    node.kill9()

    await start(node)

    async with connected(node.url, node.tenant("acme")) as client:
        run = await client.ended((await client.submitted())["run_id"])
    assert run["status"] == "COMPLETED"
    await books_of(node).judge()
    assert node.terminate() == 0
    assert node.postmasters() == []


async def test_killed_twice_in_a_row_during_recovery_nothing_is_lost(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    books = books_of(node)
    load = Load({"acme": node.tenant("acme", "100.00")}, Random(SEED))
    stop = trio.Event()
    async with trio.open_nursery() as senders:
        senders.start_soon(load.send, node.url, "acme", stop)
        await until(lambda: enough(load))
        node.kill9()
        stop.set()

    for event in ("postgres of an earlier node found, stopping it", "postgres ready"):
        node.launch()
        await until(lambda event=event: said(node, event))  # type: ignore[misc]
        node.kill9()
    await start(node)

    await load.replay(node.url)
    await load.check(node.url)
    await books.judge()


async def enough(load: Load) -> bool:
    """Say whether there is something to lose."""
    await trio.lowlevel.checkpoint()
    return sum(asked.run_id is not None for asked in load.asked) > 50


async def said(node: NodeProcess, event: str) -> bool:
    """Say whether the node has logged this since its start."""
    await trio.lowlevel.checkpoint()
    return any(line["event"] == event for line in node.lines())
