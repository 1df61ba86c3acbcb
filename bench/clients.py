"""HTTP clients that cost little: keep-alive connections on raw sockets, one request at a time each.

The same bytes go to DPP and to what it is measured beside. It runs in a process of its own, since
it shares two cores with server and database, and must not share an interpreter with either.
"""

import multiprocessing
import selectors
import socket
import time
from collections.abc import Callable
from multiprocessing.connection import Connection as Pipe
from typing import cast
from urllib.parse import urlsplit

from attrs import frozen

Request = Callable[[int], bytes]  # the n-th request, head and body


@frozen
class Load:
    """What came of it: answers by status, how long each took, and the whole."""

    statuses: dict[int, int]
    took_s: list[float]
    seconds: float

    @property
    def rate(self) -> float:
        """Return answers of 201 a second."""
        return self.statuses.get(201, 0) / self.seconds


def put(url: str, requests: int, connections: int, request: Request) -> Load:
    """Send so many requests over so many connections; returns when all are answered."""
    context = multiprocessing.get_context("fork")  # `request` need not be pickled
    ours, theirs = context.Pipe()
    child = context.Process(target=_run, args=(theirs, url, requests, connections, request))
    child.start()
    theirs.close()
    load: Load = ours.recv()
    child.join()
    return load


def _run(pipe: Pipe, url: str, requests: int, connections: int, request: Request) -> None:
    target = urlsplit(url)
    selector = selectors.DefaultSelector()
    statuses: dict[int, int] = {}
    took_s: list[float] = []
    sent = 0
    began = time.perf_counter()
    for _ in range(connections):
        sock = socket.create_connection((target.hostname, target.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        selector.register(sock, selectors.EVENT_READ, [bytearray(), time.perf_counter()])
        sock.sendall(request(sent))
        sent += 1
    while len(took_s) < requests:
        for key, _ in selector.select():
            peer, state = cast("socket.socket", key.fileobj), key.data
            data = peer.recv(65536)
            assert data, "the server closed a connection"
            state[0] += data
            status = _complete(state[0])
            if status is None:
                continue
            now = time.perf_counter()
            took_s.append(now - state[1])
            statuses[status] = statuses.get(status, 0) + 1
            state[0].clear()
            if sent < requests:
                state[1] = now
                peer.sendall(request(sent))
                sent += 1
    pipe.send(Load(statuses, took_s, time.perf_counter() - began))


def _complete(held: bytearray) -> int | None:
    """Return the status of an answer that is all here; both servers tell its length."""
    end = held.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(held[:end]).lower()
    at = head.find(b"content-length:")
    assert at >= 0, head
    length = int(head[at + 15 :].split(b"\r\n", 1)[0])
    return int(held[9:12]) if len(held) >= end + 4 + length else None
