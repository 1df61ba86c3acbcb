"""The embedded PostgreSQL: made if need be, started, kept running, stopped last.

`embedded` runs in the node's nursery and holds one postmaster at a time on the data directory that
the node has locked. Ready means that a connection was answered. A crash under a living node is an
outage of the store: restarted with back-off, for ever. Only before the first "ready" does trouble
end the node, as a `DataDirError`. Being cancelled is the order to stop; until the server is gone
the task does not return, so cancel it after all that uses it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
from typing import TYPE_CHECKING
from urllib.parse import quote

import trio
from attrs import Factory, define, frozen

from dpp.accounts import identity
from dpp.datadir import DataDirError
from dpp.metrics import embedded_postgres_up
from dpp.store import cluster as files
from dpp.store.postmaster import end_leftovers
from dpp.store.programs import ENVIRONMENT
from dpp.store.serverlog import ServerLog

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from structlog.typing import FilteringBoundLogger

    from dpp.datadir import DataDir
    from dpp.store.cluster import Cluster

REFUSED_S_MAX = 60.0  # a re-parented zombie and a busy backend blocked starts for 18 and 53 s
PAUSE_S_MIN, PAUSE_S_MAX = 0.1, 2.0  # the first submit is to succeed 2 s after the server is back
KNOCK_S_MIN, KNOCK_S_MAX = 0.01, 0.25
ANSWER_S_MAX = 5.0  # a connection that was taken but is not answered: knock again
STILL_S = 10.0  # recovery of a large WAL takes minutes: say that it goes on
LAST_WORDS_S = 1.0  # after its end, for what it wrote to be read
# Fast: roll back, write a checkpoint. Then without one. Then by the kernel.
# The postmaster itself kills what does not heed SIGQUIT for 5 s.
STOP = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 8.0), (signal.SIGKILL, 5.0))
STOP_S_MAX = sum(limit_s for _, limit_s in STOP)
WELL_S = 10.0  # after which a crash is a new trouble
FREE_BYTES_MIN = 48 << 20  # three WAL segments: less is a PANIC at the first checkpoint


@frozen
class Endpoint:
    """Where the embedded server listens. There is no password: the kernel says who we are."""

    host: str  # the directory of the socket

    def dsn(self, user: str, database: str) -> str:
        """Return what a driver needs to connect as `user`."""
        return f"postgresql://{user}@/{database}?host={quote(self.host, safe='/')}"


@define
class Starts:
    """How the starts of one server have gone so far."""

    endpoint: Endpoint
    task_status: trio.TaskStatus[Endpoint]
    began_at: float = Factory(trio.current_time)
    ever_ready: bool = False
    ready_at: float | None = None  # of the postmaster that runs now
    pause_s: float = PAUSE_S_MIN

    def answered(self) -> None:
        """A query was answered."""
        self.ready_at = trio.current_time()
        embedded_postgres_up.set(1)
        if not self.ever_ready:
            self.ever_ready = True
            self.task_status.started(self.endpoint)

    def ended(self) -> float:
        """The postmaster has ended by itself: return how long to wait before the next start."""
        embedded_postgres_up.set(0)
        now = trio.current_time()
        well = self.ready_at is not None and now - self.ready_at > WELL_S
        self.ready_at = None
        pause_s = PAUSE_S_MIN if well else self.pause_s
        self.pause_s = min(2 * pause_s, PAUSE_S_MAX)
        return pause_s * random.uniform(0.5, 1.0)  # noqa: S311 - jitter

    def hopeless(self) -> bool:
        """Tell whether the first start has been refused for so long that it is a failure."""
        return not self.ever_ready and trio.current_time() - self.began_at > REFUSED_S_MAX


async def embedded(
    held: DataDir,
    *,
    ping: Callable[[str], Awaitable[None]],
    max_connections: int,
    logger: FilteringBoundLogger,
    fresh: bool = False,
    task_status: trio.TaskStatus[Endpoint] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serve the cluster of `held` until cancelled; `started` gets its endpoint once it is ready.

    `ping` connects by the DSN it is given and asks one query; it raises while there is no answer.
    `fresh` deletes what an earlier demo left, once nothing runs on it any more.
    """
    cluster = await trio.to_thread.run_sync(files.lay_out, held, os.environ)
    await end_leftovers(cluster.data, cluster.child, logger)
    if fresh:
        await trio.to_thread.run_sync(held.clear)
    await trio.to_thread.run_sync(files.prepare, cluster, logger)
    command = files.postgres_command(cluster, max_connections=max_connections)
    log = ServerLog(logger)
    embedded_postgres_up.set(0)
    starts = Starts(Endpoint(str(cluster.sockets)), task_status)
    while True:
        if _enough_space(cluster, logger):
            await end_leftovers(cluster.data, cluster.child, logger)
            await _serve(command, cluster, ping, starts, log)
        if starts.hopeless():
            raise _does_not_start(cluster, log)
        await trio.sleep(starts.ended())


async def _serve(
    command: list[str],
    cluster: Cluster,
    ping: Callable[[str], Awaitable[None]],
    starts: Starts,
    log: ServerLog,
) -> None:
    """Run one postmaster until it ends. Cancelled, it is stopped in order before this returns."""
    try:
        process = await trio.lowlevel.open_process(
            command,
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # a Ctrl-C in the terminal is the node's, not the database's
            **identity(cluster.child),
        )
    except OSError:  # no memory, no process: as good as a start that was refused
        log.logger.exception("postgres cannot be started")
        return
    assert process.stdout is not None
    reading = trio.CancelScope(shield=True)  # a stop writes too, and would block on a full pipe
    async with trio.open_nursery() as nursery:
        nursery.start_soon(log.follow, process.stdout, reading)
        nursery.start_soon(_knock, ping, starts, log.logger)
        try:
            status = await process.wait()  # at once, so that it never is a zombie
            log.logger.error("postgres ended", status=status, ready=starts.ready_at is not None)
        finally:
            with trio.move_on_after(STOP_S_MAX, shield=True):
                await _stop(process, log.logger)
            # Not to the end of the pipe: a backend that outlived its postmaster holds it open.
            reading.deadline = trio.current_time() + LAST_WORDS_S
        nursery.cancel_scope.cancel(reason="postgres ended")


async def _knock(
    ping: Callable[[str], Awaitable[None]], starts: Starts, logger: FilteringBoundLogger
) -> None:
    """Ask until there is an answer. Recovery may take minutes; the process's end ends this."""
    dsn = starts.endpoint.dsn("postgres", "postgres")
    said_at, pause_s = trio.current_time(), KNOCK_S_MIN
    while (refusal := await _refusal(ping, dsn)) is not None:
        if trio.current_time() - said_at > STILL_S:
            logger.info("postgres is not ready yet", reason=refusal)
            said_at = trio.current_time()
        await trio.sleep(pause_s)
        pause_s = min(2 * pause_s, KNOCK_S_MAX)
    logger.info("postgres ready", host=starts.endpoint.host)
    starts.answered()


async def _refusal(ping: Callable[[str], Awaitable[None]], dsn: str) -> str | None:
    """Ask once. Return why there was no answer, or None: there was one."""
    try:
        with trio.fail_after(ANSWER_S_MAX):
            await ping(dsn)
    except Exception as error:  # noqa: BLE001 - whatever a driver raises, it means "not yet"
        return repr(error)
    return None


async def _stop(process: trio.Process, logger: FilteringBoundLogger) -> None:
    for number, limit_s in STOP:
        if process.poll() is not None:
            return
        if number is not signal.SIGINT:
            logger.warning("postgres does not stop", signal=number.name)
        process.send_signal(number)
        with trio.move_on_after(limit_s):
            await process.wait()


def _enough_space(cluster: Cluster, logger: FilteringBoundLogger) -> bool:
    """Look before a start: one that dies of a full disk takes its recovery with it."""
    # Operators may give WAL a disk of its own.
    places = (cluster.data, cluster.data / "pg_wal")
    free = min(shutil.disk_usage(place).free for place in places if place.exists())
    if free < FREE_BYTES_MIN:
        logger.error(
            "disk full: postgres not started",
            directory=str(cluster.data), free_bytes=free, needed_bytes=FREE_BYTES_MIN,
        )  # fmt: skip
    return free >= FREE_BYTES_MIN


def _does_not_start(cluster: Cluster, log: ServerLog) -> DataDirError:
    free = shutil.disk_usage(cluster.data).free
    words = "\n".join(log.last) or "it wrote nothing"
    return DataDirError(
        f"PostgreSQL does not start on {cluster.data} ({free >> 20} MiB free). It said:\n{words}\n",
        did=f"DPP tried for {REFUSED_S_MAX:.0f} s.",
        remedy="Mend the cause that it names, and start again.",
    )
