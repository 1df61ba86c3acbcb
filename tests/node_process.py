"""A real node for tests and benchmarks: the command `dpp serve` as a process of its own.

All of it lies in a fresh directory that PostgreSQL's user can search, which pytest's own are not.
Ports are chosen by the system. The log of each start is kept and read as JSON; it is shown when a
node does not get ready. Whatever was killed here is cleaned up when the node is closed.
"""

from __future__ import annotations

import atexit
import itertools
import json
import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
from attrs import define, field

READY_S = 60  # a machine that is busy with other tests
ENDED_S = 60
ADMIN_S = 200.0  # an audit reads everything
STEP_S = 0.01  # between two looks
TAIL = 60  # lines of the log that are shown
# For plain http. Else each of httpx's clients reads every root certificate first, 40 ms.
NO_TLS = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

_names = itertools.count(1)


@define(eq=False)
class NodeProcess:
    """A node on a data directory; it may be killed and started again, on other ports each time."""

    home: Path
    data_dir: Path
    config: str = ""
    env: Mapping[str, str] = field(factory=dict)
    program: Sequence[str] = (sys.executable, "-m", "dpp")  # of the next start
    keys: list[str] = field(factory=list)  # every API key that was made here
    logs: list[Path] = field(factory=list)
    ready_s: float = 0.0  # from the start to the first "ready" that was seen
    url: str = ""
    management_url: str = ""
    host: str = ""  # of a PostgreSQL that is not the node's own
    database: str = "dpp"
    _process: subprocess.Popen[bytes] | None = None
    _began_at: float = 0.0
    _lines: list[dict[str, Any]] = field(factory=list)  # of the last log, as far as it was read
    _read: int = 0

    # ── the process ──────────────────────────────────────────────────────────────────────────────

    def launch(self) -> None:
        """Start the process and return at once. NB: `wait_ready` tells where it listens."""
        assert self._process is None
        command = [*self.program, "serve", "--data-dir", str(self.data_dir)]
        command += ["--listen", "127.0.0.1:0", "--management", "127.0.0.1:0"]
        if self.config:
            file = self.home / "dpp.toml"
            file.write_text(self.config)
            command += ["--config", str(file)]
        self.logs.append(self.home / f"log.{len(self.logs)}")
        self._lines, self._read = [], 0
        self._began_at = time.perf_counter()
        with self.logs[-1].open("wb") as log:
            self._process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                env={**_bare_environment(), **self.env},
            )

    def wait_ready(self) -> None:
        """Wait until the node says that requests should come; show its log if it does not."""
        for _ in range(int(READY_S / STEP_S)):
            assert self.process.poll() is None, f"ended: {self.process.poll()}\n{self.tail()}"
            with suppress(FileNotFoundError, json.JSONDecodeError, httpx.TransportError):
                found = json.loads((self.data_dir / "node.json").read_text())
                if found["pid"] == self.pid and found["url"] and _is_ready(found["url"]):
                    self.url, self.management_url = found["url"], found["management_url"]
                    self.ready_s = time.perf_counter() - self._began_at
                    return
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(STEP_S)
        raise AssertionError(f"not ready after {READY_S} s\n{self.tail()}")

    def start(self) -> NodeProcess:
        """Start the process and wait until it is ready."""
        self.launch()
        self.wait_ready()
        return self

    def kill9(self) -> None:
        """End the node as a power cut would; its PostgreSQL lives on for a while."""
        self.process.kill()
        self._reap()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the node."""
        self.process.send_signal(number)

    def wait_ended(self) -> int:
        """Wait for the end of the process; returns its status."""
        try:
            return self._reap()
        except subprocess.TimeoutExpired:
            raise AssertionError(f"not ended after {ENDED_S} s\n{self.tail()}") from None

    def terminate(self) -> int:
        """Let the node drain; returns its status."""
        self.signal(signal.SIGTERM)
        return self.wait_ended()

    def close(self) -> None:
        """End whatever runs, and delete everything. What the log held of trouble is printed."""
        try:
            if self._process is not None:
                self.signal(signal.SIGCONT)  # one that a test has frozen would not hear the other
                self.terminate()
        finally:
            if self._process is not None:
                self.kill9()
            for pid in self.postmasters():
                _end_server(pid)
            print("".join(f"{line}\n" for line in self.troubles()))  # noqa: T201 - pytest shows it
            shutil.rmtree(self.home)

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Return the process that runs."""
        assert self._process is not None
        return self._process

    @property
    def running(self) -> bool:
        """Say whether the process lives."""
        return self._process is not None and self._process.poll() is None

    @property
    def frozen(self) -> bool:
        """Say whether the process stands still, as SIGSTOP leaves it."""
        return _words(Path("/proc") / str(self.pid))[0] == "T"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def node_id(self) -> str:
        """Return the id that its lease rows carry."""
        return (self.data_dir / "node_id").read_text().split()[0]

    @property
    def results(self) -> Path:
        """Return where large results lie."""
        return self.data_dir / "blobs"

    def _reap(self) -> int:
        status = self.process.wait(ENDED_S)
        self._process = None
        return status

    # ── its PostgreSQL ───────────────────────────────────────────────────────────────────────────

    @property
    def socket_dir(self) -> Path:
        """Return where PostgreSQL listens."""
        return Path(self.host) if self.host else self.data_dir / "postgres-run"

    def postmasters(self) -> list[int]:
        """Return every postmaster on this data directory, found by its command line."""
        mark = f"\0-D\0{self.data_dir / 'postgres'}\0".encode()
        found = {}
        for entry in Path("/proc").iterdir():
            with suppress(OSError):  # gone meanwhile
                if entry.name.isdigit() and mark in (entry / "cmdline").read_bytes():
                    found[int(entry.name)] = _parent(entry)
        return [pid for pid, parent in found.items() if parent not in found]  # a fork looks alike

    # ── its log ──────────────────────────────────────────────────────────────────────────────────

    def lines(self) -> list[dict[str, Any]]:
        """Return what the last start has logged so far; a line that is being written is left out."""  # noqa: E501
        with self.logs[-1].open("rb") as log:
            log.seek(self._read)
            whole, newline, _ = log.read().rpartition(b"\n")
        self._read += len(whole + newline)
        self._lines += map(json.loads, whole.splitlines())
        return [*self._lines]

    def text(self) -> str:
        """Return all that was ever logged."""
        return "".join(log.read_text() for log in self.logs)

    def tail(self) -> str:
        """Return the last lines as they are."""
        return "\n".join(self.logs[-1].read_text().splitlines()[-TAIL:])

    def troubles(self) -> list[str]:
        """Return the last lines of every start that were no routine."""
        routine = ('"level":"debug"', '"level":"info"')
        lines = self.text().splitlines()
        return [line for line in lines if not any(word in line for word in routine)][-TAIL:]

    # ── its operator ─────────────────────────────────────────────────────────────────────────────

    @property
    def admin_token(self) -> str:
        return (self.data_dir / "admin.token").read_text().strip()

    def ask_admin(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Ask the admin API with the operator's token."""
        return httpx.request(
            method,
            self.management_url + path,
            json=body,
            headers={"Authorization": f"Bearer {self.admin_token}"},
            timeout=ADMIN_S,
            trust_env=False,
            verify=NO_TLS,
        )

    def admin(self, method: str, path: str, body: object = None) -> dict[str, Any]:
        """Ask the admin API for what it must grant; returns the document."""
        answer = self.ask_admin(method, path, body)
        assert answer.is_success, answer.text
        document: dict[str, Any] = answer.json()
        return document

    def counted(self, series: str) -> float:
        """Return the value of a series of /metrics, named as it stands there: `name{label="x"}`."""
        lines = self.ask_admin("GET", "/metrics").text.splitlines()
        return next(float(line.split(" ")[1]) for line in lines if line.startswith(f"{series} "))

    def tenant(
        self, name: str | None = None, deposit_usd: str = "10.00", *, plan: str = "unlimited"
    ) -> str:
        """Make a tenant; returns its key."""
        body = {"tenant_id": name or new_name(), "plan": plan, "deposit_usd": deposit_usd}
        return self._remember(self.admin("POST", "/admin/v1/tenants", body))

    def new_key(self, tenant_id: str, **members: Any) -> str:
        """Make another key for a tenant: `scopes`, `expires_in_s`, `spend_limit_usd`."""
        path = f"/admin/v1/tenants/{tenant_id}/keys"
        return self._remember(self.admin("POST", path, members))

    def _remember(self, made: dict[str, Any]) -> str:
        self.keys.append(made["api_key"])
        return self.keys[-1]


def new_name() -> str:
    """Return a name that no tenant has yet."""
    return f"tenant-{next(_names)}"


@contextmanager
def node_process(
    config: str = "", env: Mapping[str, str] | None = None, data_dir: Path | None = None
) -> Iterator[NodeProcess]:
    """Give a node that is not started yet; it is ended and its directory deleted after the block.

    A `data_dir` of the caller's stays.
    """
    home = Path(tempfile.mkdtemp(prefix="dpp-node-"))
    home.chmod(0o755)  # PostgreSQL's user must be able to search it
    node = NodeProcess(home, data_dir or home / "data", config, env or {})
    atexit.register(node.close)
    try:
        yield node
    finally:
        atexit.unregister(node.close)
        node.close()


@contextmanager
def nodes_on(host: str, database: str, *configs: str) -> Iterator[list[NodeProcess]]:
    """Give nodes, none of them started, that work on one migrated database.

    Each has a store of results with the same id, as if all had mounted one volume.
    """
    env = {"DPP_DATABASE__URL": f"postgresql://dpp_app@/{database}?host={host}"}
    store_id = f"{uuid4()}\n"
    with ExitStack() as stack:
        nodes = [stack.enter_context(node_process(config, env)) for config in configs]
        for node in nodes:
            node.host, node.database = host, database
            node.results.mkdir(parents=True, mode=0o700)
            (node.results / "store_id").write_text(store_id)
        yield nodes


def copy_data(stopped: NodeProcess, node: NodeProcess) -> None:
    """Give a node what another has on disk, with the same owners: its node id, database, token."""
    subprocess.run(["cp", "--archive", stopped.data_dir, node.data_dir], check=True)


def _bare_environment() -> dict[str, str]:
    """Return the environment without settings of somebody's own node."""
    return {name: value for name, value in os.environ.items() if not name.startswith("DPP_")}


def _is_ready(url: str) -> bool:
    return (
        httpx.get(f"{url}/readyz", timeout=5, trust_env=False, verify=NO_TLS).status_code
        == httpx.codes.OK
    )


def _parent(process: Path) -> int:
    return int(_words(process)[1])


def _words(process: Path) -> list[str]:
    """Return what the kernel writes of a process, from its state on."""
    # "pid (name) state parent …": the name may hold spaces and parentheses.
    return (process / "stat").read_text("utf-8", "replace").rpartition(")")[2].split()


def _end_server(pid: int) -> None:
    """End a postmaster whose node is gone: nothing in its files is wanted any more."""
    with suppress(OSError):  # gone
        os.kill(pid, signal.SIGQUIT)
        for _ in range(int(ENDED_S / STEP_S)):
            if not (Path("/proc") / str(pid) / "cmdline").read_bytes():
                return  # a zombie
            time.sleep(STEP_S)  # noqa: TID251 - no loop runs here, and it is no child of ours
