"""What is promised of limits under concurrency, on a real node and through real sockets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import partial
from math import ceil
from typing import TYPE_CHECKING, Any

import httpx
import trio

from tests.node_client import connected, name_of, problem, submission, together
from tests.node_process import NodeProcess, new_name

if TYPE_CHECKING:
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
WINDOW_S = 60


def by_status(answers: list[httpx.Response]) -> dict[int, list[httpx.Response]]:
    found: dict[int, list[httpx.Response]] = {}
    for answer in answers:
        found.setdefault(answer.status_code, []).append(answer)
    return found


async def test_exactly_ten_of_twenty_are_created_and_nothing_is_reserved_for_the_others(
    served_node: NodeProcess, books_of: BooksOf
) -> None:
    name = new_name()
    key = served_node.tenant(name, plan="ten")
    books = books_of(served_node)
    async with connected(served_node.url, key) as client:
        asked = [
            partial(client.submit, idempotency_key=f"k-{n}", max_cost_usd="0.10") for n in range(20)
        ]

        answers = by_status(await together(*asked))
        window_from = await books.value(
            "select window_from from dpp.budgets where tenant_id = $1", name
        )
        before = await books.value("select dpp.now()")
        late = await client.submit()
        after = await books.value("select dpp.now()")
        listed = await client.get("/v1/runs", limit=100)
        kinds = [t["kind"] for t in (await client.get("/v1/transfers", limit=100))["items"]]
        spent = (await client.get("/v1/budget"))["spent_usd"]

    assert Counter({status: len(some) for status, some in answers.items()}) == {201: 10, 429: 10}
    assert {problem(answer) for answer in answers[429]} == {"quota-exceeded"}
    assert {tuple(answer.json()["violated-policies"]) for answer in answers[429]} == {("submit",)}
    for answer in answers[429]:
        wait_s = answer.headers["retry-after"]
        assert answer.headers["ratelimit"] == f'"submit";r=0;t={wait_s}'
        assert answer.headers["ratelimit-policy"] == '"submit";q=10;w=60'
    # The database says when the window began: one more, judged between two looks at its clock,
    # is told the seconds that are left of it, not one more or less.
    left_s = [WINDOW_S - (at - window_from).total_seconds() for at in (after, before)]
    assert ceil(left_s[0]) <= int(late.headers["retry-after"]) <= ceil(left_s[1])
    created = {answer.json()["idempotency_key"] for answer in answers[201]}
    assert {run["idempotency_key"] for run in listed["items"]} == created
    assert (kinds.count("reserve"), spent) == (10, "0.00")
    await books.judge()


async def test_when_retry_after_has_passed_the_next_ten_are_admitted(
    served_node: NodeProcess, books_of: BooksOf
) -> None:
    name = new_name()
    key = served_node.tenant(name, plan="ten")
    books = books_of(served_node)
    move = "update dpp.budgets set window_from = window_from - make_interval(secs => $2) where tenant_id = $1 returning 1"  # noqa: E501
    async with connected(served_node.url, key) as client:
        first = [(await client.submit()).status_code for _ in range(10)]
        refused = await client.submit(idempotency_key="k")

        await books.rows(move, name, float(refused.headers["retry-after"]))
        again = [
            await client.submit(idempotency_key="k"),
            *[await client.submit() for _ in range(10)],
        ]

    assert first == [201] * 10
    assert [answer.status_code for answer in again] == [201] * 10 + [429]
    assert again[0].headers["ratelimit"] == '"submit";r=9;t=60'


async def test_items_of_a_batch_count_one_each_and_in_order(served_node: NodeProcess) -> None:
    async with connected(served_node.url, served_node.tenant(plan="ten")) as client:
        items = await client.batch([submission(idempotency_key=f"b-{n}") for n in range(12)])
        single = await client.submit()

    assert [item["status"] for item in items] == [201] * 10 + [429] * 2
    assert [name_of(item["problem"]) for item in items[10:]] == ["quota-exceeded"] * 2
    assert single.status_code == 429


async def test_exactly_one_of_64_reserves_of_9_fits_a_budget_of_10(
    served_node: NodeProcess, books_of: BooksOf
) -> None:
    books = books_of(served_node)
    async with connected(served_node.url, served_node.tenant()) as client:
        sleeping = partial(client.submit, max_cost_usd="9.00", inputs={"sleep_s": 600})

        answers = by_status(await together(*[sleeping] * 64))
        budget, transfers, runs = await client.books()
        run_id = answers[201][0].json()["run_id"]
        await client.cancel(run_id)
        await client.ended(run_id)
        later = await client.submit(max_cost_usd="9.00")

    assert {status: len(some) for status, some in answers.items()} == {201: 1, 402: 63}
    assert {problem(answer) for answer in answers[402]} == {"budget-exceeded"}
    for answer in answers[402]:
        assert answer.json()["available_usd"] == "1.00"
        assert answer.json()["required_usd"] == "9.00"
    assert (budget["available_usd"], budget["held_usd"]) == ("1.00", "9.00")
    assert ([transfer["kind"] for transfer in transfers], runs) == (["reserve", "deposit"], 1)
    assert later.status_code == 201
    await books.judge()


async def test_hundred_at_once_with_one_key_are_one_run(served_node: NodeProcess) -> None:
    async with connected(served_node.url, served_node.tenant()) as client:
        asked = partial(client.submit, idempotency_key="order-1", inputs={"message": 1})

        answers = await together(*[asked] * 100)
        other = await client.submit(idempotency_key="order-1", inputs={"message": 2})
        await client.ended(answers[0].json()["run_id"])
        _, transfers, runs = await client.books()

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    replayed = [answer for answer in answers if "idempotency-replayed" in answer.headers]
    assert len(replayed) == 99
    assert {answer.headers["idempotency-replayed"] for answer in replayed} == {"true"}
    assert (other.status_code, problem(other)) == (422, "idempotency-key-reused")
    assert [transfer["kind"] for transfer in transfers] == ["settle", "reserve", "deposit"]
    assert runs == 1


async def test_one_key_with_ten_bodies_at_once_is_one_of_them(served_node: NodeProcess) -> None:
    async with connected(served_node.url, served_node.tenant()) as client:
        asked = [
            partial(client.submit, idempotency_key="order-1", inputs={"message": n % 10})
            for n in range(50)
        ]

        answers = by_status(await together(*asked))
        _, _, runs = await client.books()

    assert (len(answers[201]), len(answers[422]), runs) == (5, 45, 1)
    assert {problem(answer) for answer in answers[422]} == {"idempotency-key-reused"}
    assert len({answer.json()["run_id"] for answer in answers[201]}) == 1


async def test_batches_and_single_submissions_share_their_keys(served_node: NodeProcess) -> None:
    async def item(key: str, message: int) -> Any:
        return (await client.batch([wanted(key, message)]))[0]

    async def single(key: str, message: int) -> httpx.Response:
        return await client.submit(idempotency_key=key, inputs={"message": message})

    def wanted(key: str, message: int) -> dict[str, Any]:
        return submission(idempotency_key=key, inputs={"message": message})

    async with connected(served_node.url, served_node.tenant()) as client:
        first = await single("a", 1)
        replay = await item("a", 1)
        reused = await item("a", 2)
        batched = await item("b", 1)
        alone = await single("b", 1)
        both = await client.batch([wanted("c", 1), wanted("c", 1), wanted("c", 2)])
        racing: list[Any] = []

        async def race(ask: Callable[[str, int], Any]) -> None:
            racing.append(await ask("d", 1))

        async with trio.open_nursery() as nursery:
            for _ in range(20):
                nursery.start_soon(race, item)
                nursery.start_soon(race, single)
        _, _, runs = await client.books()

    assert (replay["status"], replay["replayed"]) == (201, True)
    assert replay["run"]["run_id"] == first.json()["run_id"]
    assert name_of(reused["problem"]) == "idempotency-key-reused"
    assert alone.headers["idempotency-replayed"] == "true"
    assert alone.json()["run_id"] == batched["run"]["run_id"]
    assert [one["status"] for one in both] == [201, 201, 422]
    assert [one["replayed"] for one in both[:2]] == [False, True]
    raced = {
        one.json()["run_id"] if isinstance(one, httpx.Response) else one["run"]["run_id"]
        for one in racing
    }
    assert len(raced) == 1
    assert runs == 4


async def test_queued_runs_over_the_plans_limit_are_refused_and_come_later(
    served_node: NodeProcess,
) -> None:
    async with connected(served_node.url, served_node.tenant(plan="queue")) as client:
        running = await client.submitted(inputs={"sleep_s": 600})
        await client.until_status(running["run_id"], "PROCESSING")
        queued = [await client.submitted() for _ in range(2)]

        answers = await together(*[partial(client.submit, idempotency_key="late")] * 4)
        budget = await client.get("/v1/budget")
        await client.cancel(running["run_id"])
        for run in queued:
            await client.ended(run["run_id"])
        later = await client.submit(idempotency_key="late")

    assert {problem(answer) for answer in answers} == {"quota-exceeded"}
    assert {answer.status_code for answer in answers} == {429}
    assert {tuple(answer.json()["violated-policies"]) for answer in answers} == {("queued_runs",)}
    assert {int(answer.headers["retry-after"]) >= 1 for answer in answers} == {True}
    assert budget["held_usd"] == "0.03"
    assert later.status_code == 201


async def test_concurrent_runs_wait_at_the_claim_and_are_never_refused(
    served_node: NodeProcess, books_of: BooksOf
) -> None:
    name = new_name()
    books = books_of(served_node)
    async with connected(served_node.url, served_node.tenant(name, plan="capped")) as client:
        items = await client.batch(
            [submission(idempotency_key=f"c-{n}", inputs={"sleep_s": 0.02}) for n in range(10)]
        )
        for item in items:
            await client.ended(item["run"]["run_id"])

    assert [item["status"] for item in items] == [201] * 10
    together_now = await books.value(
        """
        select count(*) from dpp.endings a join dpp.endings b
            on a.tenant_id = b.tenant_id and a.run_id < b.run_id
           and a.started_at < b.finished_at and b.started_at < a.finished_at
         where a.tenant_id = $1
        """,
        name,
    )
    assert together_now == 0
