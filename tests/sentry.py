"""A Sentry that only listens: what arrives at its envelope endpoint is kept."""

from __future__ import annotations

import gzip
import json
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

from attrs import define, field

if TYPE_CHECKING:
    from collections.abc import Iterator

WAIT_S = 30.0


@define(eq=False)
class Sentry:
    """What was reported, and where to report to."""

    dsn: str
    bodies: list[str] = field(factory=list)
    _arrived: threading.Condition = field(factory=threading.Condition)

    def take(self, body: bytes) -> None:
        with self._arrived:
            self.bodies.append(body.decode())
            self._arrived.notify_all()

    @property
    def events(self) -> list[dict[str, Any]]:
        """Return the events in what arrived: an envelope is a header, then a header and an item."""
        return [json.loads(body.splitlines()[2]) for body in self.bodies]

    def wait(self, count: int) -> list[dict[str, Any]]:
        """Return the events once there are so many."""
        with self._arrived:
            assert self._arrived.wait_for(lambda: len(self.bodies) >= count, WAIT_S)
        return self.events


@contextmanager
def sentry() -> Iterator[Sentry]:
    """Run it on a port of its own."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"]))
            packed = self.headers.get("content-encoding") == "gzip"
            here.take(gzip.decompress(body) if packed else body)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    here = Sentry(f"http://public@127.0.0.1:{server.server_port}/1")
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield here
    finally:
        server.shutdown()
        server.server_close()
