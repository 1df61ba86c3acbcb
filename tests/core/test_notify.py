"""What is told to systemd, message by message, and the variables that say to whom."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from dpp.systemd import notify
from dpp.systemd.notify import Manager

PID = 4711


@frozen
class Stand:
    """A socket that stands in for systemd's."""

    path: str
    sock: socket.socket

    def told(self) -> list[str]:
        """Return the messages that came since the last look."""
        messages = []
        while True:
            try:
                messages.append(self.sock.recv(4096).decode())
            except BlockingIOError:
                return messages


@pytest.fixture
def stand(tmp_path: Path) -> Iterator[Stand]:
    path = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
        sock.setblocking(False)  # noqa: FBT003 - the method takes no name
        yield Stand(path, sock)


def test_a_start_is_extended_until_ready_and_then_fed(stand: Stand) -> None:
    manager = Manager(stand.path)

    manager.alive(30)
    manager.ready("serving\nhere")
    manager.alive(30)

    assert stand.told() == [
        "EXTEND_TIMEOUT_USEC=30000000",
        "READY=1\nSTATUS=serving here",
        "WATCHDOG=1",
    ]


def test_a_reload_says_when_it_began_and_ends_as_ready(stand: Stand) -> None:
    manager = Manager(stand.path)
    manager.ready("serving")
    stand.told()
    before_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000

    manager.reloading()
    manager.reloaded()

    first, second = stand.told()
    lines = first.split("\n")
    assert lines[0] == "RELOADING=1"
    assert lines[1].startswith("MONOTONIC_USEC=")
    assert before_us <= int(lines[1].partition("=")[2]) < before_us + 60_000_000
    assert second == "READY=1\nSTATUS=serving"


def test_a_stop_says_how_long_it_may_take(stand: Stand) -> None:
    Manager(stand.path).stopping(73.5)

    assert stand.told() == ["STOPPING=1\nEXTEND_TIMEOUT_USEC=73500000\nSTATUS=draining"]


def test_a_name_without_a_file_is_reached_too() -> None:
    name = f"@dpp-test-{time.perf_counter_ns()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind("\0" + name[1:])

        Manager(notify.address_of(name)).ready("serving")

        assert sock.recv(4096) == b"READY=1\nSTATUS=serving"


@pytest.mark.parametrize("gone", [True, False])
def test_a_manager_that_cannot_be_told_ends_nothing(tmp_path: Path, *, gone: bool) -> None:
    path = tmp_path / "notify"
    if not gone:  # there, and nobody reads
        path.touch()

    Manager(str(path)).ready("serving")
    Manager(None).ready("serving")


def test_what_systemd_left_in_the_environment_is_taken_out() -> None:
    environ = {
        "NOTIFY_SOCKET": "/run/systemd/notify",
        "WATCHDOG_USEC": "30000000",
        "WATCHDOG_PID": str(PID),
        "PATH": "/bin",
    }

    manager = Manager.of(environ, PID)

    assert (manager.address, manager.watchdog_s) == ("/run/systemd/notify", 30.0)
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "1"},  # a parent's
        {"WATCHDOG_USEC": "0"},
        {"WATCHDOG_USEC": "soon"},
        {"NOTIFY_SOCKET": "vsock:2:1234"},  # of another machine: not ours to reach
    ],
)
def test_what_is_not_for_this_process_asks_nothing_of_it(given: dict[str, str]) -> None:
    manager = Manager.of(given, PID)

    assert (manager.listens, manager.watchdog_s) == (False, None)
