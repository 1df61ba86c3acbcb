"""PostgreSQL dies under a living node, and a frozen client holds one tenant's row."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from functools import partial
from random import Random
from statistics import quantiles
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio

from tests.node.load import Load
from tests.node_client import Client, connected, problem, until
from tests.node_process import NodeProcess

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
SEED = 20260214
HELD_S = 4.0  # under the 5 s after which the server ends a client that idles in a transaction
QUIET = 8  # tenants beside the held one: some share its lane, some do not
ROUNDS = 12  # submissions of each
REFUSED_S = 4.0  # an actor that took it for a bug would have given up in two
NO_LOGIN = "alter role dpp_app nologin"
CUT_ALL = "select pg_terminate_backend(pid, 5000) from pg_stat_activity where usename = 'dpp_app'"
LOCK = "select 1 from budgets where tenant_id = $1 for no key update"


def kill_postgres(node: NodeProcess, number: signal.Signals) -> None:
    """Send a signal to every postmaster that runs on the node's data directory."""
    for pid in node.postmasters():
        os.kill(pid, number)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGQUIT])
async def test_node_outlives_its_postgres_and_loses_nothing(
    fresh_node: StartNode, books_of: BooksOf, number: signal.Signals
) -> None:
    node = fresh_node()
    pid = node.pid
    books = books_of(node)
    load = Load({f"acme-{n}": node.tenant(f"acme-{n}", "100.00") for n in range(3)}, Random(SEED))
    stop = trio.Event()
    away: list[httpx.Response] = []
    async with trio.open_nursery() as senders, connected(node.url) as client:
        for tenant in (*load.tenants, *load.tenants):
            senders.start_soon(load.send, node.url, tenant, stop)
        await until(partial(acknowledged, load, 50))
        # Killed again whenever it comes back, until clients and probes have noticed.
        while not load.refused or not away:
            kill_postgres(node, number)
            assert (await client.ask("GET", "/health")).status_code == 200
            ready = await client.ask("GET", "/readyz")
            away += [ready] if ready.status_code == 503 else []
            await trio.sleep(0.05)
        count = len(load.asked)
        await until(partial(acknowledged, load, count + 20))  # it is back, by itself
        stop.set()
    await load.replay(node.url)
    await load.check(node.url)

    assert node.running
    assert node.pid == pid
    assert away[0].json()["status"] == "not_ready"
    assert away[0].json()["services"] == {"api": "up", "database": "down"}
    assert load.lost == 0, "a client was left without an answer"
    print(f"{len(load.asked)} asked, {load.refused} answered 503")  # noqa: T201
    assert len(node.postmasters()) == 1
    async with connected(node.url) as client:
        await until(partial(is_ready, client))
    await books.judge()
    assert await trio.to_thread.run_sync(node.terminate) == 0


async def acknowledged(load: Load, count: int) -> bool:
    """Say whether that many of the last asked runs were acknowledged."""
    await trio.lowlevel.checkpoint()
    return len(load.asked) >= count and sum(one.run_id is not None for one in load.asked) >= 50


async def is_ready(client: Client) -> bool:
    """Say whether the node is ready."""
    return (await client.ask("GET", "/readyz")).status_code == 200


async def test_running_runs_live_through_an_outage_that_is_shorter_than_the_lease(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        runs = [
            await client.submitted(inputs={"sleep_s": 1.5, "cost_usd": "0.001"}) for _ in range(10)
        ]
        for run in runs:
            await client.until_status(run["run_id"], "PROCESSING")

        kill_postgres(node, signal.SIGKILL)
        ended = [await ended_at_last(client, run["run_id"]) for run in runs]

    assert {(run["status"], run["attempt"]) for run in ended} == {("COMPLETED", 1)}
    assert {run["cost"]["actual_usd"] for run in ended} == {"0.001"}
    await books.judge()


async def test_logins_that_are_refused_for_a_while_end_no_run_and_no_node(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    """A password that is rotated, or a failover: connections are cut, new ones are not let in."""
    node = fresh_node()
    pid, books = node.pid, books_of(node)
    answers: list[httpx.Response] = []
    async with connected(node.url, node.tenant("acme")) as client:
        run = await client.submitted(inputs={"sleep_s": 1, "cost_usd": "0.001"}, timebox_s=60)
        await client.until_status(run["run_id"], "PROCESSING")

        await books.execute(NO_LOGIN)
        await books.rows(CUT_ALL)
        back_at = trio.current_time() + REFUSED_S
        while trio.current_time() < back_at:
            answers.append(await client.submit())
            assert (await client.ask("GET", "/health")).status_code == 200
            await trio.sleep(0.1)
        await books.execute("alter role dpp_app login")

        ended = await ended_at_last(client, run["run_id"])
        await until(partial(is_ready, client))
        await client.submitted()

    assert {answer.status_code for answer in answers} == {503}
    assert {problem(answer) for answer in answers} == {"temporary-reduced-capacity"}
    assert (ended["status"], ended["attempt"]) == ("COMPLETED", 1)
    assert ended["cost"]["actual_usd"] == "0.001"
    assert node.pid == pid
    assert not any(line["event"] in {"actor crashed", "draining"} for line in node.lines())
    await books.judge()  # nothing was set aside, either
    assert await trio.to_thread.run_sync(node.terminate) == 0


async def ended_at_last(client: Client, run_id: str) -> dict[str, Any]:
    """Wait for the end of a run, asking again where the database is away."""

    async def look() -> dict[str, Any] | None:
        answer = await client.ask("GET", f"/v1/runs/{run_id}", params={"wait": 5})
        if answer.status_code == 503:
            assert problem(answer) == "temporary-reduced-capacity"
            assert int(answer.headers["retry-after"]) >= 1
            return None
        run: dict[str, Any] = answer.json()
        return run if run["finished_at"] else None

    return await until(look)


async def test_a_frozen_clients_row_delays_its_own_tenant_and_nobody_else(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    books = books_of(node)
    held = node.tenant("held")
    quiet = [node.tenant(f"quiet-{n}") for n in range(QUIET)]
    waited: list[tuple[httpx.Response, float]] = []
    async with connected(node.url) as client:
        tenants = [Client(client.http, key) for key in quiet]
        await submit_all(tenants)  # connections, statements and caches are there
        alone = await submit_all(tenants)

        frozen = await books.hold(LOCK, "held")
        began_at = trio.current_time()
        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(submit, Client(client.http, held), waited)
            beside = await submit_all(tenants)
            beside_s = trio.current_time() - began_at
            still_waiting = not waited
            await trio.sleep_until(began_at + HELD_S)
            await books.let_go(frozen)

    p95 = [quantiles(some, n=20)[-1] for some in (alone, beside)]
    print(  # noqa: T201
        f"p95 {p95[0] * 1000:.1f} ms alone, {p95[1] * 1000:.1f} ms beside: {p95[1] / p95[0]:.2f} ×"
    )
    assert still_waiting, "the row was not held"
    # Promised is a p95 of at most twice the one alone. No test fails because the machine was
    # busy: that they all went through while the row was held is what would not be so otherwise.
    assert beside_s < HELD_S, "the others waited for the held row"
    assert len(beside) == QUIET * ROUNDS
    assert [answer.status_code for answer, _ in waited] == [201] * 3
    await books.judge()


async def test_a_client_that_stays_frozen_is_ended_and_its_tenant_goes_on(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        frozen = await books.hold(LOCK, "acme")

        async def admitted() -> dict[str, Any] | None:
            answer = await client.submit(idempotency_key="k")
            assert answer.status_code in {201, 503}, answer.text
            run: dict[str, Any] = answer.json()
            return run if answer.status_code == 201 else None

        run = await until(admitted)
        ended = await client.ended(run["run_id"])
    assert ended["status"] == "COMPLETED"
    assert await books.closed(frozen)
    await books.judge()


async def submit_all(tenants: list[Client]) -> list[float]:
    """Let each tenant submit one run after another, all of them at once; returns the times."""
    took: list[tuple[httpx.Response, float]] = []

    async def rounds(client: Client) -> None:
        for _ in range(ROUNDS):
            await submit(client, took)

    async with trio.open_nursery() as nursery:
        for client in tenants:
            nursery.start_soon(rounds, client)
    assert {answer.status_code for answer, _ in took} == {201}
    return [took_s for _, took_s in took]


async def submit(client: Client, took: list[tuple[httpx.Response, float]]) -> None:
    """Submit a run and note how long that took."""
    began_at = trio.current_time()
    answer = await client.submit()
    took.append((answer, trio.current_time() - began_at))
