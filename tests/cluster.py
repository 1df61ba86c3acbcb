"""One throw-away PostgreSQL for a whole test run, started synchronously.

It is made by the product's own code and differs only in not syncing to disk. It dies with the
process that started it, even by `kill -9`: the kernel sends it SIGQUIT.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import shutil
import signal
import subprocess
import tempfile
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from dpp import accounts
from dpp.accounts import identity
from dpp.store import cluster as files
from dpp.store.programs import ENVIRONMENT, usable_programs, wheel_programs

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1
START_S = 60
_prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork there may be no loading


@frozen
class Cluster:
    """A running server: `host` is the directory of its socket."""

    host: str
    user: str
    stop: Callable[[], None]


def start_cluster(directory: Path | None = None, *, max_connections: int = 100) -> Cluster:
    """Return a running cluster; it ends with `stop()`, and at the latest with this process.

    It lies in `directory` if the child user can search that; pytest's own are closed to it.
    """
    node = accounts.by_uid(os.geteuid())
    child = accounts.choose_child(os.geteuid(), None)
    assert node is not None
    assert child is not None
    if directory is not None and not accounts.can_search(directory, child):
        directory = None
    base = Path(tempfile.mkdtemp(prefix="dpp-test-", dir=directory))
    base.chmod(0o711)
    here = files.Cluster(
        programs=usable_programs(wheel_programs(), base / "bin", child),
        data=base / "data",
        config=base / "conf",
        sockets=base / "run",
        node=node,
        child=child,
    )
    files.init(here, "--no-sync")
    files.write_config(here)
    files.make_sockets(here)
    with (base / "log").open("wb") as log:
        server = subprocess.Popen(
            [*files.postgres_command(here, max_connections=max_connections), "--fsync=off"],
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
            # One system call, whose function was looked up before.
            preexec_fn=partial(_prctl, PR_SET_PDEATHSIG, signal.SIGQUIT),  # noqa: PLW1509
            **identity(child),
        )
    stop = partial(_stop, server, base)
    atexit.register(stop)
    _wait_until_ready(server, here.data / "postmaster.pid", base / "log")
    return Cluster(str(here.sockets), "postgres", stop)


def _wait_until_ready(server: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    """Wait until the server itself says `ready`, in the last line of its pid file."""
    for _ in range(START_S * 100):
        try:
            if pid_file.read_text().splitlines()[7].strip() == "ready":
                return
        except (FileNotFoundError, IndexError):
            pass
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.01)
            break
    raise AssertionError(log.read_text(errors="replace"))


def _stop(server: subprocess.Popen[bytes], base: Path) -> None:
    if server.poll() is None:
        server.send_signal(signal.SIGQUIT)  # nothing on disk is worth a checkpoint
        server.wait(START_S)
    shutil.rmtree(base, ignore_errors=True)
