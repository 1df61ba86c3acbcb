"""What a real node tells systemd, and takes from it; a socket of ours stands in for systemd's."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import trio
from attrs import define, field

from tests.node_client import until

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_process import NodeProcess

WATCHDOG_S = 2.0  # the node looks four times in it


@define(eq=False)
class Manager:
    """Systemd, as far as a node sees of it."""

    path: Path
    _sock: socket.socket
    heard: list[str] = field(factory=list)

    @property
    def env(self) -> dict[str, str]:
        usec = str(int(WATCHDOG_S * 1_000_000))
        return {"NOTIFY_SOCKET": str(self.path), "WATCHDOG_USEC": usec}

    def listen(self) -> list[str]:
        """Return all that was told so far."""
        while True:
            try:
                self.heard.append(self._sock.recv(4096).decode())
            except BlockingIOError:
                return self.heard

    def begins(self, word: str) -> list[str]:
        """Return the messages that begin so."""
        return [message for message in self.listen() if message.startswith(word)]

    async def until_told(self, word: str, *, times: int = 1) -> None:
        """Wait until so many messages in all begin so."""

        async def look() -> bool:
            await trio.lowlevel.checkpoint()
            return len(self.begins(word)) >= times

        await until(look)

    async def until_alive(self, *, more: int) -> None:
        """Wait until it says so many times more that it lives."""
        await self.until_told("WATCHDOG=1", times=len(self.begins("WATCHDOG=1")) + more)


@contextmanager
def manager(folder: Path) -> Iterator[Manager]:
    """Listen where a node tells how it is."""
    path = folder / "notify"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(path))
        sock.setblocking(False)  # noqa: FBT003 - the method takes no name
        yield Manager(path, sock)


def launch(node: NodeProcess, sockets: dict[str, socket.socket]) -> None:
    """Start the node as systemd does: the sockets are descriptors from 3 on, with names."""
    fds = [sock.fileno() for sock in sockets.values()]
    moves = " ".join(f"{n}<&{fd}" for n, fd in enumerate(fds, 3))
    serve = f"{sys.executable} -m dpp serve --data-dir {node.data_dir}"
    names = ":".join(sockets)
    script = (
        f"LISTEN_PID=$$ LISTEN_FDS={len(fds)} LISTEN_FDNAMES={names} DPP_NODE__DRAIN_S=1 "
        f"exec {serve} {moves}"
    )
    node.logs.append(node.home / f"log.{len(node.logs)}")
    with node.logs[-1].open("wb") as log:
        node._process = subprocess.Popen(["bash", "-c", script], stderr=log, pass_fds=fds)


async def get(url: str) -> httpx.Response:
    """Ask on a connection of its own."""
    async with httpx.AsyncClient(timeout=60, trust_env=False) as client:
        return await client.get(url)


def listener(stack: ExitStack) -> socket.socket:
    """Return a socket that listens, as systemd has opened it."""
    sock = stack.enter_context(socket.socket())
    sock.bind(("127.0.0.1", 0))
    sock.listen()
    return sock


def port(sock: socket.socket) -> int:
    number: int = sock.getsockname()[1]
    return number


async def test_it_tells_its_start_that_it_lives_a_reload_and_its_end(
    fresh_node: StartNode, tmp_path: Path
) -> None:
    with manager(tmp_path) as systemd:
        node = fresh_node(env=systemd.env)
        started = systemd.listen()[:]
        await systemd.until_alive(more=5)
        node.signal(signal.SIGHUP)
        await systemd.until_told("RELOADING=1")
        await systemd.until_alive(more=1)
        assert (await get(f"{node.url}/readyz")).status_code == 200

        status = node.terminate()

        ready = next(n for n, message in enumerate(started) if message.startswith("READY=1"))
        assert {message.partition("=")[0] for message in started[:ready]} == {"EXTEND_TIMEOUT_USEC"}
        assert started[ready] == f"READY=1\nSTATUS=serving {node.url}"
        reload = systemd.begins("RELOADING=1") + systemd.begins("READY=1")
        assert [message.partition("\n")[0] for message in reload] == [
            "RELOADING=1", "READY=1", "READY=1",
        ]  # fmt: skip
        stop = systemd.heard.index(*systemd.begins("STOPPING=1"))
        assert "EXTEND_TIMEOUT_USEC=" in systemd.heard[stop]
        assert status == 0


async def test_a_start_in_a_drain_is_over_though_the_node_rests(
    fresh_node: StartNode, tmp_path: Path
) -> None:
    with manager(tmp_path) as systemd:
        node = fresh_node(env=systemd.env)
        node.admin("POST", f"/admin/v1/nodes/{node.node_id}:drain", {"reason": "upgrade"})
        await until(lambda: said(node, "draining: an operator asked"))
        draining = await get(f"{node.url}/readyz")
        node.terminate()
        systemd.listen()
        systemd.heard.clear()

        node.launch()
        await systemd.until_told("READY=1\nSTATUS=rests")
        await systemd.until_alive(more=5)  # longer than systemd waits
        command = [sys.executable, "-m", "dpp", "node", "undrain", node.node_id]
        command += ["--data-dir", str(node.data_dir)]
        await trio.run_process(command, capture_stdout=True)
        node.wait_ready()

        assert (draining.status_code, draining.json()["draining"]) == (503, True)
        assert systemd.begins("READY=1")[1:] == [f"READY=1\nSTATUS=serving {node.url}"]


async def test_a_database_that_does_not_answer_lets_it_live(
    fresh_node: StartNode, tmp_path: Path
) -> None:
    with manager(tmp_path) as systemd:
        node = fresh_node(env=systemd.env)
        (postmaster,) = node.postmasters()
        server = [postmaster, *children(postmaster)]
        for pid in server:
            os.kill(pid, signal.SIGSTOP)

        await until(lambda: said(node, "store unavailable"))
        await systemd.until_alive(more=12)  # three times what systemd waits

        for pid in server:
            os.kill(pid, signal.SIGCONT)
        assert node.running
        assert systemd.begins("STOPPING=1") == []


async def test_what_it_starts_has_neither_the_sockets_nor_the_way_to_systemd(
    fresh_node: StartNode, tmp_path: Path
) -> None:
    with ExitStack() as stack:
        systemd = stack.enter_context(manager(tmp_path))
        node = fresh_node(env=systemd.env, start=False)
        public = listener(stack)
        stack.enter_context(environment(systemd.env))

        launch(node, {"http": public})
        node.wait_ready()

        (postmaster,) = node.postmasters()
        environ = environment_of(postmaster)
        inode = os.fstat(public.fileno()).st_ino
        assert port(public) == int(node.url.rpartition(":")[2])
        assert held(node.pid, inode)
        assert not held(postmaster, inode)
        assert "NOTIFY_SOCKET" not in environ
        assert "LISTEN_" not in environ


async def test_who_connects_while_no_node_runs_is_answered_by_the_next(
    fresh_node: StartNode,
) -> None:
    node = fresh_node()
    node.terminate()
    answers: list[httpx.Response] = []
    with ExitStack() as stack:
        sockets = {"http": listener(stack), "management": listener(stack)}
        url, inside = (f"http://127.0.0.1:{port(sock)}" for sock in sockets.values())

        async def ask(url: str) -> None:
            answers.append(await get(url))

        launch(node, sockets)
        node.wait_ready()
        for _ in range(2):  # before the end of one, and while there is none
            node.signal(signal.SIGTERM)
            async with trio.open_nursery() as asking:
                asking.start_soon(ask, f"{url}/health")
                await trio.to_thread.run_sync(node.wait_ended)
                for _ in range(20):
                    asking.start_soon(ask, f"{url}/health")
                    asking.start_soon(ask, f"{inside}/metrics")
                launch(node, sockets)

        assert {answer.status_code for answer in answers} <= {200, 503}
        assert len(answers) == 82


async def said(node: NodeProcess, event: str) -> bool:
    """Say whether the node has logged this since its start."""
    await trio.lowlevel.checkpoint()
    return any(line["event"] == event for line in node.lines())


def children(pid: int) -> list[int]:
    """Return the processes that this one started."""
    return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def held(pid: int, inode: int) -> bool:
    """Say whether a process has this socket open."""
    links = Path(f"/proc/{pid}/fd").iterdir()
    return any(str(link.readlink()) == f"socket:[{inode}]" for link in links)


def environment_of(pid: int) -> str:
    """Return the environment that a process was started with."""
    return Path(f"/proc/{pid}/environ").read_text()


@contextmanager
def environment(names: dict[str, str]) -> Iterator[None]:
    """Let these be set for what is started in the block."""
    before: dict[str, Any] = {name: os.environ.get(name) for name in names}
    os.environ.update(names)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value
