"""Wall clocks that are an hour off, or step while runs are at work: a node's, and PostgreSQL's.

libfaketime lies to one process; where it is missing these tests are skipped, and say so.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.store import roles
from dpp.store.programs import ENVIRONMENT
from tests.cluster import Cluster, start_cluster
from tests.fault.clock import HOUR_S, Clock, library
from tests.fault.fleet import migrate
from tests.node_client import Client, connected, submission, until
from tests.node_process import NodeProcess, node_process

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import StartNode
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
pytestmark = pytest.mark.skipif(library() is None, reason="libfaketime is not installed")

LEASE_S = 10  # beside other tests a node may stand still for some seconds
CONFIG = f"""
[lease]
lease_s = {LEASE_S}
heartbeat_interval_s = 1
[reaper]
interval_s = 1
[runs]
attempts_max = 10
"""
RUNS = 10
SLEEP_S = 2.5  # longer than two renewals: a lease that goes by the wrong clock is lost meanwhile
INPUTS = {"sleep_s": SLEEP_S, "cost_usd": "0.001"}
AWRY_S = 60.0  # a clock that is not an hour off would be right to this
STEPPED_S = 15.0  # the same, for half a minute
LEFT = "select count(*) from dpp.live_runs where lease_id is null"
ENDINGS = "select count(*), count(distinct run_id), sum(cost) from dpp.endings"


@pytest.fixture
def clock() -> Iterator[Clock]:
    """Give a clock that goes right, so far, and that PostgreSQL's user can read."""
    with TemporaryDirectory(prefix="dpp-clock-") as name:
        Path(name).chmod(0o755)
        one = Clock(Path(name) / "offset")
        one.step(0)
        yield one


async def begun(client: Client) -> list[str]:
    """Submit runs and wait until all of them are at work."""
    body = [{**submission(inputs=INPUTS), "idempotency_key": f"{n}"} for n in range(RUNS)]
    ids = [item["run"]["run_id"] for item in await client.batch(body)]
    for run_id in ids:
        await client.until_status(run_id, "PROCESSING")
    return ids


def off_by(node: NodeProcess) -> float:
    """Return how far the clock was off by which the node stamped its last line, in seconds."""
    return datetime.fromisoformat(node.lines()[-1]["timestamp"]).timestamp() - time.time()


async def test_a_nodes_wall_clock_changes_no_lease_and_no_run(
    fresh_node: StartNode, books_of: BooksOf, clock: Clock
) -> None:
    clock.step(HOUR_S)
    node = fresh_node(CONFIG, clock.environment)
    books = books_of(node)
    assert abs(off_by(node) - HOUR_S) < AWRY_S, "the node's clock is right"
    lease = await books.value("select lease_id from dpp.node_leases")
    async with connected(node.url, node.tenant("acme")) as client:
        ids = await begun(client)
        clock.step(-HOUR_S)
        ends = [await client.ended(run_id) for run_id in ids]
    skew = await books.value("select extract(epoch from max(finished_at)) from dpp.endings")

    await until(partial(is_off_by, node, -HOUR_S))
    assert {(run["status"], run["attempt"]) for run in ends} == {("COMPLETED", 1)}
    assert {run["cost"]["actual_usd"] for run in ends} == {"0.001"}
    assert await books.value("select lease_id from dpp.node_leases") == lease
    assert abs(float(skew) - time.time()) < AWRY_S  # what is stored has PostgreSQL's time
    await books.judge()


async def is_off_by(node: NodeProcess, seconds: int) -> bool:
    """Say whether the node stamps its lines by a clock that is so far off."""
    await trio.lowlevel.checkpoint()
    return abs(off_by(node) - seconds) < AWRY_S


@pytest.fixture
def wrong(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> Iterator[Cluster]:
    """Run a PostgreSQL that goes by the clock."""
    monkeypatch.setattr("tests.cluster.ENVIRONMENT", {**ENVIRONMENT, **clock.environment})
    cluster = start_cluster(max_connections=50)
    yield cluster
    cluster.stop()


async def test_steps_of_postgres_clock_settle_nothing_twice_and_lose_nothing(
    wrong: Cluster, clock: Clock, bridge: Bridge, books_of: BooksOf
) -> None:
    await bridge.run(partial(roles.make_database, wrong.host))
    url = f'"postgresql://dpp_app@/dpp?host={wrong.host}"'
    owner = f'"postgresql://{roles.OWNER}@/dpp?host={wrong.host}"'
    config = f"{CONFIG}[database]\nurl = {url}\nmigrations_url = {owner}\n"
    with ExitStack() as stack:
        nodes = [stack.enter_context(node_process(config)) for _ in range(2)]
        for node in nodes:
            node.host = wrong.host
        migrate(nodes[0])
        nodes[0].start()
        (nodes[1].results).mkdir(parents=True)
        store_id = (nodes[0].results / "store_id").read_text()
        (nodes[1].results / "store_id").write_text(store_id)
        nodes[1].start()
        books, key = books_of(nodes[0]), nodes[0].tenant("acme")
        attempts: list[Counter[int]] = []
        ends: list[dict[str, Any]] = []
        for step in (-30, HOUR_S):
            async with connected(nodes[0].url, key) as client:
                body = [
                    {**submission(inputs=INPUTS), "idempotency_key": f"{step}_{n}"}
                    for n in range(RUNS)
                ]
                items = await client.batch(body)
                await until(partial(all_claimed, books))
                clock.step(step)
                await until(partial(has_stepped, books, step))
                some = [await ended(client, item["run"]["run_id"]) for item in items]
            attempts.append(Counter(run["attempt"] for run in some))
            ends += some

        print(f"attempts after a step of -30 s: {attempts[0]}, of an hour: {attempts[1]}")
        assert {(run["status"], run["cost"]["actual_usd"]) for run in ends} == {
            ("COMPLETED", "0.001")
        }
        assert attempts[0] == {1: RUNS}, "a clock set back took leases away"
        rows = await books.rows(ENDINGS)
        assert tuple(rows[0]) == (2 * RUNS, 2 * RUNS, 2 * RUNS * 1000)
        assert all(node.running for node in nodes)
        assert not any(line["event"] == "actor crashed" for node in nodes for line in node.lines())
        await books.judge()


async def has_stepped(books: Books, seconds: int) -> bool:
    """Say whether PostgreSQL's clock is so far off."""
    now = await books.value("select extract(epoch from dpp.now())")
    return abs(float(now) - time.time() - seconds) < STEPPED_S


async def all_claimed(books: Books) -> bool:
    """Say whether nothing waits."""
    return bool(await books.value(LEFT) == 0)


async def ended(client: Client, run_id: str) -> dict[str, Any]:
    """Wait for the end of a run, asking again where the database is away."""

    async def look() -> dict[str, Any] | None:
        answer = await client.ask("GET", f"/v1/runs/{run_id}", params={"wait": 5})
        run: dict[str, Any] = answer.json()
        return run if answer.status_code == 200 and run["finished_at"] else None

    return await until(look)
