"""Sockets from systemd: which are taken, and that anything else is refused by name."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import suppress

import pytest

from dpp.store.refusal import StartRefused
from dpp.systemd import sockets

PID = 4711


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch) -> Iterator[int]:
    """Give the number of a descriptor that counts as the first which systemd hands over."""
    with socket.socket() as free:
        number = os.dup(free.fileno())
    monkeypatch.setattr(sockets, "FIRST", number)
    yield number
    with suppress(OSError):  # a socket that was refused is closed
        os.close(number)


def put(place: int, sock: socket.socket) -> None:
    """Let a socket be what was handed over, as a program that was executed finds it."""
    os.dup2(sock.fileno(), place)
    os.set_inheritable(place, True)  # noqa: FBT003 - the function takes no name


def said(names: str = "http", count: str = "1", pid: int = PID) -> dict[str, str]:
    return {"LISTEN_PID": str(pid), "LISTEN_FDS": count, "LISTEN_FDNAMES": names, "PATH": "/bin"}


@pytest.mark.parametrize("name", ["http", "management"])
def test_a_listener_is_taken_by_its_name_and_goes_to_no_child(place: int, name: str) -> None:
    environ = said(name)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        put(place, listener)

        given = sockets.inherited(environ, PID)

        (sock,) = given.pop(name)
        assert given == {}
        assert sock.getsockname() == listener.getsockname()
        assert not sock.get_inheritable()
        assert environ == {"PATH": "/bin"}
        sock.detach()


def test_what_is_for_another_process_is_left_alone_and_forgotten() -> None:
    environ = said(pid=1)

    assert sockets.inherited(environ, PID) == {}
    assert environ == {"PATH": "/bin"}


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        (said("web"), "of the name 'web'"),
        (said("http", "2"), "LISTEN_FDS is '2'"),
        (said("http", "many"), "LISTEN_FDS is 'many'"),
        (said(), "no TCP listener"),
    ],
)
def test_what_is_none_is_refused(place: int, environ: dict[str, str], words: str) -> None:
    with socket.socket() as silent:  # it does not listen
        put(place, silent)

        with pytest.raises(StartRefused, match=words):
            sockets.inherited(environ, PID)


def test_a_file_is_no_socket(place: int) -> None:
    with open(os.devnull) as file:  # noqa: PTH123 - any descriptor
        os.dup2(file.fileno(), place)

    with pytest.raises(StartRefused, match="no socket"):
        sockets.inherited(said(), PID)


def test_a_listener_of_files_is_no_tcp_listener(place: int) -> None:
    with socket.socket(socket.AF_UNIX) as unix:
        unix.bind("\0dpp-test-inherited")
        unix.listen()
        put(place, unix)

        with pytest.raises(StartRefused, match="no TCP listener"):
            sockets.inherited(said(), PID)
