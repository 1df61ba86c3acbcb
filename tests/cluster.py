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
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field, frozen

from dpp import accounts
from dpp.accounts import identity
from dpp.store import cluster as files
from dpp.store.programs import ENVIRONMENT, usable_programs, wheel_programs

if TYPE_CHECKING:
    from collections.abc import Callable

PR_SET_PDEATHSIG = 1
START_S = 60
DIRECTORY_MAX = files.SOCKET_PATH_MAX - len("/dpp-test-01234567/run")  # bytes
_prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork there may be no loading


@frozen
class Cluster:
    """A running server: `host` is the directory of its socket."""

    host: str
    user: str
    stop: Callable[[], None]
    crash: Callable[[signal.Signals], None]  # SIGQUIT or SIGKILL, and start again on the same data


def start_cluster(
    directory: Path | None = None, *, max_connections: int = 100, syncs: bool = False
) -> Cluster:
    """Return a running cluster; it ends with `stop()`, and at the latest with this process.

    `syncs`: to disk, as one does that is measured.

    It lies in `directory` if the child user can search that and a socket fits below it; pytest's
    own are closed to another user, and their names are long where several processes test.
    """
    node = accounts.by_uid(os.geteuid())
    child = accounts.choose_child(os.geteuid(), None)
    assert node is not None
    assert child is not None
    if directory is not None and not (
        accounts.can_search(directory, child) and len(os.fsencode(directory)) <= DIRECTORY_MAX
    ):
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
    let_in(here.config / "pg_ident.conf", child.name)
    files.make_sockets(here)
    server = Server(here, base, max_connections, syncs)
    server.start()
    atexit.register(server.stop)
    return Cluster(str(here.sockets), "postgres", server.stop, server.crash)


def let_in(file: Path, name: str) -> None:
    """Let a pooler of a test's in, too: it runs as the child's user, and connects as any role."""
    with file.open("a") as users:
        users.writelines(f'dpp "{name}" {role}\n' for role in files.ROLES)


@define(eq=False)
class Server:
    """The server process, through its deaths."""

    here: files.Cluster
    base: Path
    max_connections: int
    syncs: bool
    _process: subprocess.Popen[bytes] = field(init=False)
    # What the kernel tells a child of its parent's death, it tells of the *thread* that forked.
    _starter: ThreadPoolExecutor = field(factory=partial(ThreadPoolExecutor, max_workers=1))

    def start(self) -> None:
        """Start and wait until it is ready."""
        self._starter.submit(self._start).result()

    def _start(self) -> None:
        command = files.postgres_command(self.here, max_connections=self.max_connections)
        with (self.base / "log").open("ab") as log:
            self._process = subprocess.Popen(
                command if self.syncs else [*command, "--fsync=off"],
                cwd="/",
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                # One system call, whose function was looked up before.
                preexec_fn=partial(_prctl, PR_SET_PDEATHSIG, signal.SIGQUIT),  # noqa: PLW1509
                **identity(self.here.child),
            )
        _wait_until_ready(self._process, self.here.data / "postmaster.pid", self.base / "log")

    def crash(self, number: signal.Signals) -> None:
        """End it without a checkpoint, and start it again: it recovers from its log."""
        self._process.send_signal(number)
        self._process.wait(START_S)
        for _ in range(START_S * 10):  # backends may outlive a killed postmaster for a moment
            try:
                self.start()
            except AssertionError:
                time.sleep(0.1)  # noqa: TID251 - no loop runs here
            else:
                return
        raise AssertionError((self.base / "log").read_text(errors="replace")[-2000:])

    def stop(self) -> None:
        """End it, and delete everything."""
        if self._process.poll() is None:
            self._process.send_signal(signal.SIGQUIT)  # nothing on disk is worth a checkpoint
            self._process.wait(START_S)
        shutil.rmtree(self.base, ignore_errors=True)


def _wait_until_ready(server: subprocess.Popen[bytes], pid_file: Path, log: Path) -> None:
    """Wait until the server itself says `ready`, in the last line of its pid file.

    One that was killed leaves its own behind, which says so, too.
    """
    for _ in range(START_S * 100):
        try:
            lines = pid_file.read_text().splitlines()
            if lines[7].strip() == "ready" and int(lines[0]) == server.pid:
                return
        except (FileNotFoundError, IndexError):
            pass
        with suppress(subprocess.TimeoutExpired):
            server.wait(0.01)
            break
    raise AssertionError(log.read_text(errors="replace"))
