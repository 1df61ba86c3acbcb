"""An HTTP server on a real socket that does what a script says: what ill servers and proxies do."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from attrs import field, frozen

from tests.ports import free_port

JSON = "application/json"


@frozen
class Says:
    """One answer; without a status the connection is closed once the request was read.

    `cut`: the connection ends before all that was announced has come. `streamed`: nothing is
    announced, the body ends with the connection.
    """

    status: int | None
    body: str | bytes = "{}"
    headers: dict[str, str] = field(factory=dict)
    cut: bool = False
    streamed: bool = False


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


def closed_url() -> str:
    """Return a URL where nothing listens."""
    return f"http://127.0.0.1:{free_port()}"


@contextmanager
def peer(
    answers: Sequence[Says | Callable[[Asked], Says]], tls: ssl.SSLContext | None = None
) -> Iterator[Peer]:
    """Serve these answers; one may be made from the request."""
    asked: list[Asked] = []

    class Handler(BaseHTTPRequestHandler):
        def _answer(self) -> None:
            length = int(self.headers.get("Content-Length", 0))
            body = self.rfile.read(length)
            asked.append(Asked(self.command, self.path, dict(self.headers), body))
            scripted = answers[min(len(asked), len(answers)) - 1]
            says = scripted if isinstance(scripted, Says) else scripted(asked[-1])
            if says.status is None:
                self.close_connection = True
                return
            self.send_response_only(says.status)  # with no Date of its own
            for name, text in {"Content-Type": JSON, **says.headers}.items():
                self.send_header(name, text)
            content = says.body.encode() if isinstance(says.body, str) else says.body
            if says.streamed:
                self.close_connection = True
            else:
                self.send_header("Content-Length", str(len(content) + says.cut))
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = self.close_connection or says.cut

        do_GET = do_POST = do_DELETE = do_PATCH = do_PUT = _answer  # noqa: N815 - the library's names

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    scheme = "http" if tls is None else "https"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield Peer(f"{scheme}://127.0.0.1:{server.server_port}", asked)
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
