"""The demo's node: a child process on a directory of its own, started, waited for, ended in order.

It leads a session of its own, so that Ctrl-C in the terminal reaches the demo alone, which then
ends it; and it is told to drain by the kernel if the demo itself is killed.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

import httpx
from attrs import define, field

import dpp
from dpp import datadir, environment
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.datadir import RunningNode
from dpp.program import command

if TYPE_CHECKING:
    from dpp.urls import Address

LOOK_S = 0.05
LOOKS_MAX = 2400  # two minutes: initdb takes one second here, and a loaded machine is slow
CONNECT_S = 1.0
REFUSALS_MAX = 8  # of a node that listens: between half a second and ten where nothing answers
STOP_S = 60  # longer than the drain and PostgreSQL's shutdown together
TAIL_LINES = 25
# Its own database, whatever a configuration says, and a log for people: they see its last lines.
FORCED = {"DPP_DATABASE__URL": "embedded", "DPP_LOG__FORMAT": "console"}
PR_SET_PDEATHSIG = 1  # prctl(2)
_prctl = ctypes.CDLL(None).prctl  # looked up here: after the fork nothing may be loaded


def free_listen(address: Address) -> str:
    """Return the address if it is free, else its host with port 0: the system's choice."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as a listener does
        try:
            probe.bind((address.host, address.port))
        except OSError:
            return f"{str(address).rpartition(':')[0]}:0"
    return str(address)


@define(eq=False)
class Child:
    """A running node; `log` is where its stderr goes."""

    path: Path
    process: subprocess.Popen[bytes]
    log: IO[bytes]
    node: RunningNode = field(factory=lambda: RunningNode(0))

    @property
    def alive(self) -> bool:
        """Say whether it runs."""
        return self.process.poll() is None

    def wait_ready(self) -> None:
        """Return once it answers /readyz; raise `Stop` if it ends before, or never does."""
        refusals = 0
        for _ in range(LOOKS_MAX):
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(LOOK_S)
            if not self.alive:
                raise self.ended()
            try:
                if self._is_ready():
                    return
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                refusals += 1
                if refusals == REFUSALS_MAX:
                    raise self._cut_off(str(error)) from error
        raise self._stop(Exit.NEGATIVE, "The demo's node is not ready after two minutes.")

    def _is_ready(self) -> bool:
        """Ask /readyz, once this node says where it listens; another node there is not ours."""
        try:
            found = datadir.running(self.path)
        except PermissionError:  # another user's: our node will say so
            return False
        if found is None or found.pid != self.process.pid or not found.url:
            return False
        self.node = found
        timeout = httpx.Timeout(5, connect=CONNECT_S)
        try:
            return httpx.get(f"{found.url}/readyz", timeout=timeout, trust_env=False).is_success
        except (httpx.ConnectError, httpx.ConnectTimeout):
            raise  # it listens: that nobody gets there does not pass by itself
        except httpx.TransportError:
            return False

    def token(self) -> str:
        """Return its admin token."""
        return datadir.admin_token(self.path) or ""

    def postmaster(self) -> int | None:
        """Return the pid of its PostgreSQL, if it runs one."""
        try:
            text = (self.path / datadir.POSTGRES / "postmaster.pid").read_text("utf-8")
            return int(text.split("\n", 1)[0])
        except (OSError, ValueError):
            return None

    def stop(self) -> int | None:
        """Ask it to drain, wait, and return its exit status; None if it had to be killed."""
        if self.alive:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            return None

    def stop_postgres(self) -> None:
        """End the PostgreSQL that our killed node left behind: else it runs until the next demo.

        Not that of any other node: whoever takes the directory first takes our name away.
        """
        pid = self.postmaster()
        if pid is None:
            return
        with suppress(OSError):  # gone by itself
            process = os.pidfd_open(pid)
            try:
                if self._left(pid):  # asked last: what runs on our data then is what is held here
                    signal.pidfd_send_signal(process, signal.SIGINT)  # a fast shutdown
                    select.select([process], [], [], STOP_S)  # readable once it has ended
            finally:
                os.close(process)

    def _left(self, pid: int) -> bool:
        """Say whether the process works on the data of our node, which nobody has taken since."""
        data = (self.path / datadir.POSTGRES).resolve()
        works = Path(f"/proc/{pid}/cwd").readlink() == data
        last = datadir.last_node(self.path)
        return works and last is not None and last.pid == self.process.pid

    def ended(self) -> Stop:
        """Return the trouble of a node that ended by itself, with the last lines of its log."""
        status = self.process.wait()
        known = Exit.CONFIGURATION if status == Exit.CONFIGURATION else Exit.NEGATIVE
        return self._stop(known, f"The demo's node ended with status {status}.")

    def _cut_off(self, why: str) -> Stop:
        """Return the trouble of a node that runs where nobody gets."""
        what = f"The demo's node runs, but {self.node.url}/readyz cannot be reached: {why}."
        todo = "Let this machine reach itself: `ip link set lo up` brings up its loopback."
        return self._stop(Exit.NEGATIVE, what, todo)

    def _stop(self, status: Exit, what: str, todo: str = "") -> Stop:
        lines = "\n".join(self.tail())
        did = f"The last lines of its log:\n{lines}" if lines else "It logged nothing."
        return Stop(status, Trouble("demo-node", what, did, todo))

    def tail(self) -> list[str]:
        """Return the last lines of its log."""
        self.log.flush()
        self.log.seek(0)
        return self.log.read().decode(errors="replace").splitlines()[-TAIL_LINES:]


@contextmanager
def started(path: Path, *, listen: str, management: str, config: Path) -> Iterator[Child]:
    """Start a node on `path`; whatever happens, it has ended when this is left."""
    arguments = ["serve", "--demo", "--data-dir", str(path), "--config", str(config)]
    arguments += ["--listen", listen, "--management", management]
    with tempfile.TemporaryFile(prefix="dpp-demo-") as log:
        process = subprocess.Popen(
            [*command(), *arguments],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=_environ(),
            start_new_session=True,
            preexec_fn=_end_with_parent,  # noqa: PLW1509 - this process has one thread here
        )
        child = Child(path, process, log)
        try:
            yield child
        finally:
            child.stop()
            child.stop_postgres()


def lives(pid: int) -> bool:
    """Say whether the process runs; a zombie does not."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text("ascii", "replace")
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in ("Z", "X")


def _is_setting(name: str) -> bool:
    alone = (environment.REDIS_PASSWORD, environment.THRESHOLD)
    return name.startswith(environment.PREFIX) or name in environment.EARLIER or name in alone


def _environ() -> dict[str, str]:
    """Return the child's environment: without the settings of a real node, which are none of its.

    It finds this very package, installed or not.
    """
    package = str(Path(dpp.__file__).resolve().parent.parent)
    kept = {name: text for name, text in os.environ.items() if not _is_setting(name)}
    path = os.pathsep.join(filter(None, [package, kept.get("PYTHONPATH")]))
    return {**kept, **FORCED, "PYTHONPATH": path}


def _end_with_parent() -> None:
    """In the child, before it becomes the node: let the kernel end it with this process."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
