"""Servers left over on a data directory: found by what /proc says, never by name, and ended.

A node killed by `kill -9` leaves its postmaster running; a postmaster killed so leaves backends
that are busy, and each start is refused until they are gone. Whoever holds the lock of the data
directory may end them all. They are stopped, not adopted: a process that is no child of ours cannot
be waited for, its output went with the node, and to stop it costs less than a second.

The pid file alone proves nothing (its number may be another process's by now, a zombie's, or
missing). A server is a live process that runs a program `postgres` and whose working directory *is*
the data directory, by device and inode. If there is none, the pid file is stale, whatever it says.
"""

from __future__ import annotations

import ctypes
import os
import signal
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

import trio
from attrs import frozen

from dpp.datadir import DataDirError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from structlog.typing import FilteringBoundLogger

    from dpp.accounts import Account

PROC = Path("/proc")
DEAD = frozenset("ZX")  # a zombie answers kill(pid, 0), which is all that PostgreSQL itself asks
POLL_S = 0.02
Steps: TypeAlias = "Sequence[tuple[signal.Signals, float]]"
# What to send, and how long to wait for the effect. A fast shutdown writes a checkpoint: up to all
# of shared_buffers, to a disk that may be slow.
STOP = ((signal.SIGINT, 30.0), (signal.SIGQUIT, 5.0), (signal.SIGKILL, 5.0))
# A backend without a postmaster has nothing to save: the next start recovers as from a crash.
END = ((signal.SIGQUIT, 1.0), (signal.SIGKILL, 5.0))


@frozen
class Server:
    """A live process of PostgreSQL on the data directory. Pid and start name it for good."""

    pid: int
    parent: int
    started: int  # clock ticks after boot


@frozen
class Leftovers:
    """What runs on a data directory whose node is gone."""

    postmaster: Server | None
    backends: tuple[Server, ...]


def sort_out(pid_file: str, servers: Sequence[Server]) -> Leftovers:
    """Tell the postmaster from its backends: the pid file names it, or else its children do."""
    named = _number(pid_file)
    parents = {server.parent for server in servers}
    postmasters = [s for s in servers if s.pid == named] or [s for s in servers if s.pid in parents]
    postmaster = postmasters[0] if postmasters else None
    return Leftovers(postmaster, tuple(s for s in servers if s is not postmaster))


async def end_leftovers(data: Path, child: Account, logger: FilteringBoundLogger) -> None:
    """Return when nothing runs on `data` and no pid file says that something does."""
    await trio.to_thread.run_sync(refuse_displaced, data, child)
    servers = await trio.to_thread.run_sync(find_servers, data, child)
    pid_file = _read(data / "postmaster.pid")
    _refuse_single_user(pid_file, servers, data)
    found = sort_out(pid_file, servers)
    if found.postmaster is not None:
        logger.warning("postgres of an earlier node found, stopping it", pid=found.postmaster.pid)
        await _end([found.postmaster], STOP, child, data)
    rest = await trio.to_thread.run_sync(find_servers, data, child)
    if rest:  # a postmaster that stops in order takes its own along
        logger.warning("backends without a postmaster found", pids=[s.pid for s in rest])
        await _end(rest, END, child, data)
    with suppress(FileNotFoundError):
        (data / "postmaster.pid").unlink()


def refuse_displaced(data: Path, child: Account) -> None:
    """Raise `DataDirError` where a server was started on this path and works in another directory.

    Its data was moved away under it. Most files it names from where it is, and goes on there; but
    `pg_control` it writes by the path of its start, so into whatever lies there now: a database
    that was restored to this path would be lost with its next checkpoint.
    """
    pids = find_displaced(data, child)
    if pids:
        raise DataDirError(
            f"PostgreSQL processes {pids} were started on {data}, whose files were moved away "
            "since: they would write into what is there now.",
            did="DPP touched nothing.",
            remedy=f"End them: kill -QUIT {' '.join(map(str, pids))}. What they had committed stays"
            " where it was moved to.",
        )


def find_displaced(data: Path, child: Account) -> list[int]:
    """Return the postmasters that were told this directory and work in another one."""
    place = data.stat() if data.exists() else None
    told = f"\0-D\0{data}\0".encode()
    found = []
    with _seeing_as(child):
        for entry in PROC.iterdir():
            with suppress(OSError):  # gone meanwhile, or not ours to look at
                if not entry.name.isdigit() or told not in (entry / "cmdline").read_bytes():
                    continue
                program = (entry / "exe").readlink().name.removesuffix(" (deleted)")
                here = place is not None and os.path.samestat((entry / "cwd").stat(), place)
                if program == "postgres" and not here:
                    found.append(int(entry.name))
    return sorted(found)


def find_servers(data: Path, child: Account) -> list[Server]:
    """Return the servers on `data`, in order of pid."""
    if not data.exists():
        return []
    place = data.stat()
    pids = sorted(int(entry.name) for entry in PROC.iterdir() if entry.name.isdigit())
    with _seeing_as(child):
        found = [_inspect(pid, place) for pid in pids]
    return [server for server in found if server is not None]


async def _end(servers: Sequence[Server], steps: Steps, child: Account, data: Path) -> None:
    for number, limit_s in steps:
        for server in _still(servers, child, data):  # looked at again: a pid may be reused
            with suppress(ProcessLookupError):
                os.kill(server.pid, number)
        with trio.move_on_after(limit_s):
            await trio.lowlevel.checkpoint()
            # A stranger's end sends no event (a pidfd would, where kernel and sandbox have it).
            while _still(servers, child, data):  # noqa: ASYNC110
                await trio.sleep(POLL_S)
            return
    raise DataDirError(
        f"PostgreSQL processes {[s.pid for s in servers]} on {data} do not end, even by SIGKILL.",
        did="DPP started none beside them.",
        remedy="Look for a hanging disk (state D in `ps`); a restart of the machine ends them.",
    )


def _still(servers: Sequence[Server], child: Account, data: Path) -> list[Server]:
    place = data.stat()
    with _seeing_as(child):
        now = {server.pid: _inspect(server.pid, place) for server in servers}
    return [s for s in servers if (seen := now[s.pid]) is not None and seen.started == s.started]


def _inspect(pid: int, place: os.stat_result) -> Server | None:
    """Return that process, if it is a live server whose working directory is `place`."""
    process = PROC / str(pid)
    with suppress(OSError, ValueError):  # gone meanwhile, or not the child's: then it is not ours
        if os.path.samestat((process / "cwd").stat(), place):
            program = (process / "exe").readlink().name.removesuffix(" (deleted)")
            # "pid (name) state parent …": the name may hold spaces and parentheses.
            fields = (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()
            if program == "postgres" and fields[0] not in DEAD:
                return Server(pid, parent=int(fields[1]), started=int(fields[19]))
    return None


@contextmanager
def _seeing_as(account: Account) -> Iterator[None]:
    """Look at /proc with the eyes of `account`: this thread's file-system user, for a moment.

    In a container root usually lacks CAP_SYS_PTRACE and may not see where another user's process
    works; the same user may. NB: `os.seteuid` would change every thread of the process.
    """
    libc = ctypes.CDLL(None)
    mine = os.geteuid(), os.getegid()
    libc.setfsgid(account.gid)
    libc.setfsuid(account.uid)
    try:
        yield
    finally:
        libc.setfsuid(mine[0])
        libc.setfsgid(mine[1])


def _refuse_single_user(pid_file: str, servers: Sequence[Server], data: Path) -> None:
    """A negative number is a `postgres --single`: an operator at work, not a leftover."""
    single = -_number(pid_file)
    if any(server.pid == single for server in servers):
        raise DataDirError(
            f"A single-user PostgreSQL (pid {single}) works on {data}.",
            did="DPP left it alone.",
            remedy="End it first.",
        )


def _number(pid_file: str) -> int:
    first, _, _ = pid_file.partition("\n")
    try:
        return int(first)
    except ValueError:
        return 0  # empty or half written; no process has this number


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "replace")
    except FileNotFoundError:
        return ""
