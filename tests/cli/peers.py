"""An HTTP server on a real socket that does what a script says: what ill servers and proxies do."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from attrs import field, frozen

JSON = "application/json"


@frozen
class Says:
    """One answer; without a status the connection is closed once the request was read."""

    status: int | None
    body: str = "{}"
    headers: dict[str, str] = field(factory=dict)


@frozen
class Asked:
    """One request as it arrived."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@frozen
class Peer:
    """A server that gives its answers in order, the last one for ever after."""

    url: str
    asked: list[Asked]


@contextmanager
def peer(answers: Sequence[Says]) -> Iterator[Peer]:
    """Serve these answers."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            asked.append(Asked(self.command, self.path, dict(self.headers), body))
            says = answers[min(len(asked), len(answers)) - 1]
            if says.status is None:
                self.close_connection = True
                return
            self.send_response_only(says.status)  # with no Date of its own
            for name, text in {"Content-Type": JSON, **says.headers}.items():
                self.send_header(name, text)
            content = says.body.encode()
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Peer(f"http://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
