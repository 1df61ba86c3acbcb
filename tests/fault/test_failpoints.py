"""A real node that fails at its failpoints: killed, raising, cut off from PostgreSQL, frozen.

The load goes on across all of it; at the end every acknowledged run has ended once, at its price,
and both judges find the books in order. A pass takes a seeded slice of the places, so that it stays
short; `DPP_FAILPOINTS=all` takes every one. `DPP_TEST_SEED` repeats a slice; it is printed.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING
from uuid import uuid4

import httpx
import pytest
import trio
from attrs import define

from dpp.failpoints import KILLED, MOMENTS, POINTS
from tests.node.load import Load
from tests.node_client import connected, until

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books
    from tests.node_process import NodeProcess

BooksOf = Callable[["NodeProcess"], "Books"]
SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
ALL = os.environ.get("DPP_FAILPOINTS") == "all"
# Reached only by an unknown claim, a queue that outlives its runs, a row that the database refuses,
# books that do not agree: tests of the store have those.
ELSEWHERE = (
    "ask_claim.",
    "expire.",
    "quarantine.",
    "open_findings.",
    "resolve.",
    "mark_deliveries.",  # of webhooks: test_webhooks.py has those
    "courier.",
    "close_books.",  # of what is old: test_retention.py has those
    "prune.",
)
HERE = sorted(point for point in POINTS if not point.startswith(ELSEWHERE))
# A bug where a run is ended sets it aside, and one alone in the intake is answered 500, as they
# should: tests of the store and of the intake have those too.
ENDERS = ("settle.", "take_back.", "cancel.", "submit.")
AT_THE_END = ("end_lease.", "drain.")  # reached by SIGTERM
CONFIG = """
[lease]
lease_s = 6
heartbeat_interval_s = 2
[reaper]
interval_s = 1
[reconcile]
interval_s = 1
[runs]
attempts_max = 10
"""
LOAD_S = 1.5  # long enough for each place to be reached
REAPING = ("reap_lease.", "take_back.")  # but these: a node that starts is calm for one lease
CALM_S = 6.0
FROZEN_S = 8.0  # past the lease
LARGE = {"message": "x" * 100_000}


def slice_of(points: Sequence[str], count: int) -> list[str]:
    """Return what this pass takes of `points`."""
    print(f"DPP_TEST_SEED={SEED}")
    dice = Random(SEED)
    return dice.sample(points, len(points) if ALL else min(count, len(points)))


def armed(*specs: str) -> str:
    """Return a configuration with these failpoints."""
    listed = ", ".join(f'"{spec}"' for spec in specs)
    return f"{CONFIG}[testing]\nfailpoints = [{listed}]\n"


@define(eq=False)
class Trial:
    """A node, the load on it, and a tenant beside that does everything else."""

    node: NodeProcess
    load: Load
    side: str

    async def run(self, *specs: str) -> int:
        """Start with these places armed, work, and drain; returns the status."""
        self.node.config = armed(*specs)
        self.node.launch()
        if await trio.to_thread.run_sync(ready_or_ended, self.node):
            await self.work(LOAD_S + CALM_S * any(spec.startswith(REAPING) for spec in specs))
            if self.node.running:
                self.node.signal(signal.SIGTERM)
        return await trio.to_thread.run_sync(self.node.wait_ended)

    async def work(self, load_s: float = LOAD_S) -> None:
        """Let every kind of work come for a while, or until the node is gone."""
        stop = trio.Event()
        async with trio.open_nursery() as senders:
            for tenant in (*self.load.tenants, *self.load.tenants):
                senders.start_soon(self.load.send, self.node.url, tenant, stop)
            senders.start_soon(self.beside, stop)
            with trio.move_on_after(load_s):
                await trio.lowlevel.checkpoint()
                while self.node.running:  # noqa: ASYNC110
                    await trio.sleep(0.02)
            stop.set()

    async def beside(self, stop: trio.Event) -> None:
        """Submit large results, cancel, deposit: whatever is answered, until told to stop."""
        async with connected(self.node.url, self.side) as client:
            while not stop.is_set():
                with suppress(httpx.TransportError):
                    await client.submit(inputs=LARGE)
                    asked = await client.submit(inputs={"sleep_s": 3})
                    if asked.status_code == 201:
                        await client.cancel(asked.json()["run_id"])
                    await trio.to_thread.run_sync(deposit, self.node)
                with trio.move_on_after(0.05):
                    await stop.wait()

    async def judge(self, books: Books) -> None:
        """Start in order; everything that was asked for has ended once, at its price."""
        self.node.config = CONFIG
        await trio.to_thread.run_sync(self.node.start)
        unknown = await self.load.replay(self.node.url)
        await self.load.check(self.node.url)
        await until(partial(nothing_lives, books))
        await books.judge()
        print(f"{len(self.load.asked)} asked, {unknown} unknown")


def ready_or_ended(node: NodeProcess) -> bool:
    """Wait until the node is ready; False = it ended before."""
    try:
        node.wait_ready()
    except AssertionError:
        if node.running:
            raise
        return False
    return True


def deposit(node: NodeProcess) -> None:
    """Deposit a cent, whatever comes of it."""
    booking = {"amount_usd": "0.01", "reference": f"{uuid4()}"}
    with suppress(httpx.TransportError):
        node.ask_admin("POST", "/admin/v1/tenants/side/deposits", booking)


async def nothing_lives(books: Books) -> bool:
    """Say whether every run has ended."""
    return bool(await books.value("select count(*) from dpp.live_runs") == 0)


@pytest.fixture
async def trial(fresh_node: StartNode) -> Trial:
    """A node with tenants, stopped."""
    node = fresh_node()
    tenants = {f"acme-{n}": node.tenant(f"acme-{n}", "1000.00") for n in range(2)}
    side = node.tenant("side", "1000.00")
    node.terminate()
    return Trial(node, Load(tenants, Random(SEED)), side)


async def test_killed_at_any_place_nothing_leaks(trial: Trial, books_of: BooksOf) -> None:
    points = slice_of(HERE, 4)

    statuses = {point: await trial.run(f"{point}:exit") for point in points}

    await trial.judge(books_of(trial.node))
    assert statuses == dict.fromkeys(points, KILLED)


@pytest.mark.parametrize("action", ["raise", "drop"])
async def test_a_fault_at_any_place_ends_nobody_else(
    trial: Trial, books_of: BooksOf, action: str
) -> None:
    """A few at once: more than five crashes of one actor would drain the node, as they should."""
    cut = [point for point in HERE if point.rpartition(".")[2] in MOMENTS]  # they have a connection
    bugs = [point for point in HERE if not point.startswith(ENDERS)]
    some = slice_of(cut if action == "drop" else bugs, 4)
    for first in range(0, len(some), 4):
        group = some[first : first + 4]
        status = await trial.run(*(f"{point}:{action}" for point in group))
        assert status == 0, f"{group}\n{trial.node.tail()}"

    await trial.judge(books_of(trial.node))


async def test_frozen_past_its_lease_a_node_charges_nothing_twice(
    trial: Trial, books_of: BooksOf
) -> None:
    for point in slice_of([p for p in HERE if not p.startswith(AT_THE_END)], 1):
        trial.node.config = armed(f"{point}:stop")
        trial.node.launch()
        async with trio.open_nursery() as waking:
            waking.start_soon(wake, trial.node.process.pid)
            if await trio.to_thread.run_sync(ready_or_ended, trial.node):
                await trial.work()
                trial.node.signal(signal.SIGTERM)
            await trio.to_thread.run_sync(trial.node.wait_ended)

    await trial.judge(books_of(trial.node))


async def wake(pid: int) -> None:
    """Wait until the process is frozen, and wake it past its lease."""
    while not state(pid).startswith("T"):  # noqa: ASYNC110
        await trio.sleep(0.02)
    await trio.sleep(FROZEN_S)
    os.kill(pid, signal.SIGCONT)


def state(pid: int) -> str:
    """Return the state of a process, as the kernel writes it."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].strip()
