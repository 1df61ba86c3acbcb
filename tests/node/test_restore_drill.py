"""The disk of a node is gone: what was received of it comes back, as of a moment and as of its end.

What it cost is printed: RPO, the age of the oldest answer that is lost; RTO, from the first command
to the first answer of the new node. `make bench-restore` shows both.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from attrs import field, frozen

from dpp.cli.exits import Exit
from tests.node.load import Load
from tests.node_client import connected, until
from tests.node_process import NodeProcess, node_process

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from tests.conftest import StartNode
    from tests.node_books import Books

SEED = 64
RUNS = int(os.environ.get("RUNS", "40"))  # before, and after, the moment to go back to
RPO_S = 5.0  # a second of a machine that is busy with other tests, and more
LARGE = {"message": "x" * 100_000}
SENDERS = 3

pytestmark = pytest.mark.timeout(300)  # a dozen commands and three nodes


@frozen(eq=False)
class Receiving:
    """A receiver: the process, and what it says."""

    process: subprocess.Popen[bytes]
    log: Path

    def says(self) -> list[dict[str, Any]]:
        """Return the lines that are whole."""
        whole, _, _ = self.log.read_bytes().rpartition(b"\n")
        return [json.loads(line) for line in whole.splitlines()]

    async def said(self, event: str) -> dict[str, Any]:
        """Wait for a line."""
        found: list[dict[str, Any]] = []

        async def there() -> bool:
            await trio.lowlevel.checkpoint()
            assert self.process.poll() is None, self.says()
            found[:] = [line for line in self.says() if line["event"] == event]
            return bool(found)

        await until(there)
        return found[-1]

    def end(self) -> int:
        """Tell it to stop, as systemd does."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(30)


@contextmanager
def receiving(node: NodeProcess, into: Path) -> Iterator[Receiving]:
    """Receive from a node; the receiver has ended after the block."""
    log = node.home / f"receiver.{len(list(node.home.glob('receiver.*')))}"
    command = (sys.executable, "-m", "dpp", "receive-wal", str(into))
    with log.open("wb") as file:
        process = subprocess.Popen([*command, "--data-dir", str(node.data_dir)], stderr=file)
    try:
        yield Receiving(process, log)
    finally:
        process.terminate()
        process.wait(30)


@frozen(eq=False)
class Known:
    """When the runs of a load were answered, as the clients saw it."""

    load: Load
    at: dict[str, float] = field(factory=dict)

    async def more(self, number: int) -> None:
        """Wait until so many more runs were answered."""
        goal = len(self.note()) + number

        async def enough() -> bool:
            await trio.lowlevel.checkpoint()
            return len(self.note()) >= goal

        await until(enough)

    def note(self) -> dict[str, float]:
        """Note the moment of each that is answered by now."""
        for one in self.load.asked:
            if one.run_id is not None:
                self.at.setdefault(str(one.run_id), trio.current_time())
        return self.at


def dpp(*words: str, data_dir: Path) -> tuple[int, dict[str, Any]]:
    command = [sys.executable, "-m", "dpp", *words, "--json", "--data-dir", str(data_dir)]
    ended = subprocess.run(command, capture_output=True, check=False)
    return ended.returncode, json.loads(ended.stdout)


async def asked(*words: str, data_dir: Path) -> tuple[int, dict[str, Any]]:
    return await trio.to_thread.run_sync(partial(dpp, *words, data_dir=data_dir))


def destroy(node: NodeProcess) -> None:
    """Kill the node and its PostgreSQL at once, and delete all that is on its disk."""
    (postmaster,) = node.postmasters()
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    for pid in (*map(int, children), postmaster):
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    node.kill9()
    shutil.rmtree(node.data_dir)


async def runs_in(books: Books) -> set[str]:
    rows = await books.rows("select run_id::text from dpp.submissions")
    return {row["run_id"] for row in rows}


async def judged(books: Books) -> None:
    """Wait until nothing is in work, and let both judges look."""

    async def nothing_lives() -> bool:
        return bool(await books.value("select count(*) from dpp.live_runs") == 0)

    await until(nothing_lives)
    await books.judge()


@frozen
class Loss:
    """What was known when the disk was lost: `before` the moment to go back to, and at the end."""

    before: set[str]
    moment: datetime
    newcomer: str  # the key of a tenant that was made after it
    large: str  # a run with a result that the backup does not have
    status: tuple[int, dict[str, Any]]
    at: float


async def sold_and_lost(node: NodeProcess, known: Known, books: Books, into: Path) -> Loss:
    """Sell, take a backup, sell on, note a moment, sell on, and lose the disk."""
    stop, (key,) = trio.Event(), known.load.tenants.values()
    async with trio.open_nursery() as senders:
        for _ in range(SENDERS):
            senders.start_soon(known.load.send, node.url, "acme", stop)
        await known.more(RUNS)
        assert (await asked("backup", "--verify", str(into), data_dir=node.data_dir))[0] == 0
        async with connected(node.url, key) as client:
            large = await client.submitted(inputs=LARGE)
            await client.ended(large["run_id"])
        await known.more(RUNS)
        before = set(known.note())
        moment = await books.value("select clock_timestamp()")
        newcomer = node.tenant("newcomer", "77.00")
        await known.more(RUNS)
        status = await asked("receive-wal", str(into), "--status", data_dir=node.data_dir)
        known.note()
        lost_at = trio.current_time()
        await trio.to_thread.run_sync(destroy, node)
        stop.set()
    return Loss(before, moment, newcomer, large["run_id"], status, lost_at)


async def test_a_lost_disk_costs_seconds_and_any_moment_before_can_be_had(
    fresh_node: StartNode, books_of: Callable[[NodeProcess], Books], tmp_path: Path
) -> None:
    node, into = fresh_node(), tmp_path / "backups"
    key = node.tenant("acme", "1000.00")
    known = Known(Load({"acme": key}, Random(SEED)))
    with receiving(node, into) as receiver, node_process() as then, node_process() as again:
        await receiver.said("receiving wal")
        loss = await sold_and_lost(node, known, books_of(node), into)
        assert await trio.to_thread.run_sync(receiver.end) == 0

        [backup] = [path for path in into.iterdir() if path.name.endswith("Z")]
        verified = await asked("verify", str(backup), data_dir=again.data_dir)
        to = ("--to", loss.moment.isoformat())
        first = await asked("restore", str(into), *to, data_dir=then.data_dir)
        begun_at = trio.current_time()
        last = await asked("restore", str(into), data_dir=again.data_dir)
        replayed_s = trio.current_time() - begun_at
        await trio.to_thread.run_sync(again.start)
        back_s = trio.current_time() - begun_at
        await trio.to_thread.run_sync(then.start)

        found_then, found = await runs_in(books_of(then)), await runs_in(books_of(again))
        async with connected(again.url, key) as client:
            result = await client.ask("GET", f"/v1/runs/{loss.large}/result")
        async with connected(then.url, loss.newcomer) as client:
            stranger = await client.ask("GET", "/v1/budget")
        await judged(books_of(then))
        await judged(books_of(again))

    lost = [at for run, at in known.at.items() if run not in found]
    rpo_s = max((loss.at - at for at in lost), default=0.0)
    print(  # noqa: T201 - the figures of the drill
        f"RPO {rpo_s:.3f} s ({len(lost)} of {len(known.at)} answers lost), "
        f"RTO {back_s:.2f} s (restore {replayed_s:.2f}, node {again.ready_s:.2f})"
    )
    assert (loss.status[0], loss.status[1]["slot"]) == (0, "reserved")
    assert (verified[0], verified[1]["wal"]["missing"]) == (0, None)
    assert (first[0], last[0]) == (0, 0), (first, last)
    assert first[1]["timeline"] == last[1]["timeline"] == 2
    assert loss.before <= found_then
    assert len(found_then) < len(found)
    assert stranger.status_code == httpx.codes.UNAUTHORIZED
    assert result.json() == LARGE
    assert rpo_s < RPO_S


async def test_wal_that_nobody_took_is_dropped_and_said_and_the_next_backup_mends_it(
    fresh_node: StartNode, books_of: Callable[[NodeProcess], Books], tmp_path: Path
) -> None:
    node, into = fresh_node(), tmp_path / "backups"
    books, here = books_of(node), partial(asked, data_dir=node.data_dir)
    node.tenant("acme", "10.00")
    await books.execute("alter system set max_slot_wal_keep_size = '32MB'")
    await books.execute("select pg_reload_conf()")
    away, _ = await here("receive-wal", str(into), "--status")
    with receiving(node, into) as receiver:
        await receiver.said("receiving wal")
        old = (await here("backup", str(into)))[1]["path"]
        second = await here("receive-wal", str(into))
    for _ in range(8):  # 128 MiB of WAL
        await books.execute("select pg_logical_emit_message(false, 'test', 'x')")
        await books.execute("select pg_switch_wal()")
    await books.execute("checkpoint")
    with receiving(node, into) as receiver:
        lost = await receiver.said("wal is lost")
        await receiver.said("receiving wal")
        too_late = await books.value("select clock_timestamp() + interval '1 hour'")
        node.tenant("later", "1.00")
        new = (await here("backup", "--verify", str(into)))[1]["path"]
        on = await here("receive-wal", str(into), "--status")
    forgotten = await here("receive-wal", str(into), "--forget")
    broken, fine = await here("verify", old), await here("verify", new)
    to_gap = await asked("restore", old, data_dir=node.home / "a")
    beyond = await asked(
        "restore", str(into), "--to", too_late.isoformat(), data_dir=node.home / "b"
    )
    soon = (too_late - timedelta(days=1)).isoformat()
    too_soon = await asked("restore", str(into), "--to", soon, data_dir=node.home / "c")
    await here("backup", "--keep", "1", str(into))

    assert (away, second[0], on[0]) == (Exit.NEGATIVE, Exit.NEGATIVE, Exit.GOOD)
    assert lost["bound"] == "32MB"
    assert forgotten == (0, {"forgotten": True})
    assert (broken[0], fine[0]) == (Exit.NEGATIVE, Exit.GOOD)
    assert to_gap[0] == 0
    assert to_gap[1]["missing"] == broken[1]["wal"]["missing"] is not None
    assert (beyond[0], too_soon[0]) == (Exit.NEGATIVE, Exit.NEGATIVE)
    assert "its last transaction is of" in beyond[1]["error"]["what"]
    assert "before the end of the first backup" in too_soon[1]["error"]["what"]
    assert not any((node.home / name / "postgres").exists() for name in "bc")
    [system] = (into / "received").iterdir()
    assert [path.name for path in system.glob("*.1")] == []  # nobody needs it any more


async def all_received(books: Books) -> None:
    """Wait until the receiver has synced all that is committed: a moment later than the client."""
    at = await books.value("select pg_current_wal_flush_lsn()")
    synced = "select coalesce(max(flush_lsn - '0/0') >= $1, false) from pg_stat_replication"

    async def there() -> bool:
        return bool(await books.value(synced, at))

    await until(there)


async def test_a_restored_node_is_received_as_a_new_timeline_and_both_can_be_had(
    fresh_node: StartNode, books_of: Callable[[NodeProcess], Books], tmp_path: Path
) -> None:
    node, into = fresh_node(), tmp_path / "backups"
    node.tenant("first", "1.00")
    with receiving(node, into) as receiver:
        await receiver.said("receiving wal")
        backup = (await asked("backup", str(into), data_dir=node.data_dir))[1]["path"]
        moment = await books_of(node).value("select clock_timestamp()")
        node.tenant("second", "1.00")
        await all_received(books_of(node))
        await trio.to_thread.run_sync(destroy, node)
    with node_process() as other:
        to = ("--to", moment.isoformat())
        assert (await asked("restore", backup, *to, data_dir=other.data_dir))[0] == 0
        await trio.to_thread.run_sync(other.start)
        with receiving(other, into) as receiver:
            told = await receiver.said("receiving wal")
            other.tenant("third", "1.00")
            await all_received(books_of(other))
            await trio.to_thread.run_sync(destroy, other)

    async def tenants(*words: str) -> tuple[int, set[str]]:
        with node_process() as made:
            restored = await asked("restore", backup, *words, data_dir=made.data_dir)
            await trio.to_thread.run_sync(made.start)
            rows = await books_of(made).rows("select tenant_id from dpp.tenants")
        return restored[1]["timeline"], {row["tenant_id"] for row in rows}

    assert told["timeline"] == 2
    assert await tenants() == (3, {"first", "third"})
    assert await tenants("--timeline", "1") == (3, {"first", "second"})
    refused = await asked("restore", backup, "--timeline", "9", data_dir=node.home / "c")
    assert refused[0] == Exit.NEGATIVE
