"""Nobody waits for another's queue: order of starts, as the database stamped them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tests.node_client import connected, submission, until
from tests.node_process import NodeProcess, new_name

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
CROWD = 2000
PLACES = 4  # of the node: what is over waits in the queue
CONFIG = f"[runs]\nconcurrency = {PLACES}\n"
STARTED = "select count(*) from dpp.runs where tenant_id = $1 and started_at is not null"
BEFORE = """
select count(*) from dpp.runs as crowd, dpp.runs as one
 where crowd.tenant_id = $1 and one.tenant_id = $2
   and crowd.started_at between one.created_at and one.started_at
"""
ORDER = """
select idempotency_key from dpp.runs where tenant_id = $1 and started_at is not null
 order by started_at, lease_epoch
"""


async def test_a_tenant_with_2000_queued_runs_does_not_delay_one_with_one(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node(CONFIG)
    books = books_of(node)
    crowd, quiet = new_name(), new_name()
    keys = node.tenant(crowd, "1000.00"), node.tenant(quiet)
    async with connected(node.url, keys[0]) as many, connected(node.url, keys[1]) as one:
        for first in range(0, CROWD, 500):
            await many.batch(
                [
                    submission(idempotency_key=f"c-{n}", inputs={"sleep_s": 0.02})
                    for n in range(first, first + 500)
                ]
            )

        async def under_way() -> bool:
            return bool(await books.value(STARTED, crowd) > PLACES)

        await until(under_way)
        for n in range(5):
            run = await one.submitted(idempotency_key=f"q-{n}")
            await one.ended(run["run_id"])
        queued = await books.value(
            "select count(*) from dpp.live_runs where tenant_id = $1 and lease_id is null", crowd
        )
        before = await books.value(BEFORE, crowd, quiet)

    # Each of the five waited for places that were taken and for what a claim or two had taken:
    # the crowd is asked first, asked for all places once, and the places come free.
    assert queued > CROWD / 2, "the crowd was served before the quiet tenant came"
    print(f"{before} runs of the crowd started while 5 runs of the quiet tenant waited")  # noqa: T201
    assert before <= 5 * 3 * PLACES
    await books.judge()


async def test_all_of_many_tenants_are_served_while_one_has_a_crowd(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node(CONFIG)
    books = books_of(node)
    crowd = new_name()
    key = node.tenant(crowd, "1000.00")
    others = [(name, node.tenant(name)) for name in (new_name() for _ in range(30))]
    async with connected(node.url, key) as many:
        await many.batch(
            [submission(idempotency_key=f"c-{n}", inputs={"sleep_s": 0.02}) for n in range(1000)]
        )
        for _, other in others:
            async with connected(node.url, other) as one:
                await one.submitted()

        async def served() -> bool:
            ended = "select count(*) from dpp.endings where tenant_id <> $1"
            return bool(await books.value(ended, crowd) == len(others))

        await until(served)
        left = await books.value(
            "select count(*) from dpp.live_runs where tenant_id = $1 and lease_id is null", crowd
        )

    assert left > 0, "the crowd was served first"


async def test_high_priority_comes_first_and_low_comes_too(
    served_node: NodeProcess, books_of: BooksOf
) -> None:
    name = new_name()
    books = books_of(served_node)
    async with connected(served_node.url, served_node.tenant(name, plan="capped")) as client:
        first = await client.submitted(inputs={"sleep_s": 600}, idempotency_key="first")
        await client.until_status(first["run_id"], "PROCESSING")
        queued = [
            await client.submitted(priority=priority, idempotency_key=f"{priority}-{n}")
            for priority in (9, 5, 0)
            for n in range(3)
        ]

        await client.cancel(first["run_id"])
        for run in queued:
            await client.ended(run["run_id"])

    order = [row["idempotency_key"] for row in await books.rows(ORDER, name)]
    assert [key[0] for key in order[1:]] == ["0"] * 3 + ["5"] * 3 + ["9"] * 3


async def test_low_priority_that_is_alone_runs(served_node: NodeProcess) -> None:
    async with connected(served_node.url, served_node.tenant()) as client:
        items = await client.batch(
            [submission(idempotency_key=f"l-{n}", priority=9) for n in range(20)]
            + [submission(idempotency_key=f"h-{n}", priority=0) for n in range(20)]
        )
        ended = [(await client.ended(item["run"]["run_id"]))["status"] for item in items]

    assert ended == ["COMPLETED"] * 40
