"""A Redis of a test's own: on a free port, nothing on disk, as badly off as the test wants it."""

from __future__ import annotations

import shutil
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest
from attrs import define, field

from tests.ports import free_port

PROGRAM = shutil.which("redis-server")
READY_S = 10.0
needs_redis = pytest.mark.skipif(
    PROGRAM is None, reason="no redis-server (Debian: apt-get install redis-server)"
)


@define(eq=False)
class RedisServer:
    """It may be killed and started again, empty, on the same port."""

    port: int = field(factory=free_port)
    directory: str = field(factory=lambda: tempfile.mkdtemp(prefix="dpp-redis-"))
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self, *options: str) -> RedisServer:
        """Start it, and wait until it answers. NB: it ends with `close`, at the latest."""
        assert PROGRAM is not None
        command = [
            PROGRAM,
            "--port",
            str(self.port),
            "--bind",
            "127.0.0.1",
            "--dir",
            self.directory,
        ]
        command += ["--save", "", "--appendonly", "no", *options]
        log = Path(self.directory) / "log"
        with log.open("wb") as out:
            self._process = subprocess.Popen(command, stdout=out, stderr=out)
        for _ in range(int(READY_S / 0.02)):
            if b"Ready to accept connections" in log.read_bytes():
                return self
            assert self._process.poll() is None, log.read_text()
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.02)
        raise AssertionError(log.read_text())

    def kill(self) -> None:
        """End it at once; what it held is gone."""
        assert self._process is not None
        self._process.kill()
        self._process.wait(READY_S)
        self._process = None

    def freeze(self) -> None:
        """Let it stand still: its connections stay, nothing is answered."""
        self._signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._signal(signal.SIGCONT)

    def _signal(self, number: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(number)

    def ask(self, *words: str) -> bytes:
        """Send one command, and return what comes back first, as it is."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=READY_S) as line:
            line.sendall(command_of(*words))
            return line.recv(65536)

    def close(self) -> None:
        """End it, however it stands."""
        if self._process is not None:
            self.kill()
        shutil.rmtree(self.directory, ignore_errors=True)


def command_of(*words: str) -> bytes:
    """Return a command as it goes over the wire."""
    parts = b"".join(b"$%d\r\n%b\r\n" % (len(word), word) for word in map(str.encode, words))
    return b"*%d\r\n" % len(words) + parts


@contextmanager
def redis_server(*options: str) -> Iterator[RedisServer]:
    """Run a Redis for the length of the block."""
    server = RedisServer()
    try:
        yield server.start(*options)
    finally:
        server.close()
