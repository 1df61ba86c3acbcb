"""The public listener on hypercorn: what it is told, what is contained, HTTP/2 over TLS."""

from __future__ import annotations

import json
import ssl
import tracemalloc
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Any

import h2.config
import h2.connection
import h2.events
import h2.exceptions
import httpx
import pytest
import trio
from attrs import evolve
from h2.errors import ErrorCodes
from trio.testing import wait_all_tasks_blocked

from dpp import metrics, tls
from dpp.http import guarded, relay, untaken, worker
from tests.fuzz.corpus import FRAMES
from tests.http.certificates import Certificate, make_certificate
from tests.http.server import PATIENT, Server, answer, echo, get, listening, read_all, request
from tests.http.test_bad_http import REFUSED, TAKEN, TOO_LARGE
from tests.http.test_connection import drip

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dpp.http.asgi import App, Receive, Scope, Send
    from dpp.http.exchange import Patience

HASTY = evolve(
    PATIENT, idle_s=0.05, head_s=0.05, body_s=0.05, send_s=0.05, half_close_s=0.05, linger_s=0.05
)


@asynccontextmanager
async def plain(app: App = echo, patience: Patience = PATIENT) -> AsyncIterator[Server]:
    """Serve an app by hypercorn in the clear; nothing may go wrong that is not told of."""
    before = metrics.http_connection_faults_total._value.get()
    async with listening(app, patience=patience, make=worker.connections(None)) as server:
        yield server
    assert metrics.http_connection_faults_total._value.get() == before


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Give a certificate for 127.0.0.1."""
    return make_certificate(tmp_path_factory.mktemp("tls"))


@asynccontextmanager
async def secured(
    certificate: Certificate, app: App = echo, patience: Patience = PATIENT
) -> AsyncIterator[Server]:
    """Serve an app by hypercorn over TLS."""
    context = tls.server_context(certificate.chain, certificate.key)
    before = metrics.http_connection_faults_total._value.get()
    make = worker.connections(context)
    async with listening(app, patience=patience, make=make, secure=True) as server:
        yield server
    assert metrics.http_connection_faults_total._value.get() == before


# ── HTTP/1.1 ─────────────────────────────────────────────────────────────────────────────────────


async def test_what_is_no_http_is_refused_as_on_a_connection_of_our_own() -> None:
    async with plain() as server:
        for name, data in REFUSED.items():
            async with server.connect() as wire:
                reply = await wire.ask(data)
                assert (reply.status, reply.headers["connection"]) == (400, "close"), name
                assert reply.headers["content-type"] == "application/problem+json"
                assert await wire.ended()
        for name, (data, status) in TOO_LARGE.items():
            assert (await server.ask(data)).status == status, name


async def test_odd_but_legal_requests_reach_the_app() -> None:
    async with plain() as server:
        answers = {name: (await server.ask(data)).body for name, (data, _) in TAKEN.items()}

    assert answers == {name: body for name, (_, body) in TAKEN.items()}


async def test_requests_are_answered_in_order_and_the_connection_is_kept() -> None:
    asked = b"".join(request("POST", f"/{n}", body=b"x" * n) for n in range(1000))
    async with plain() as server, server.connect() as wire, trio.open_nursery() as nursery:
        nursery.start_soon(wire.send, asked)
        replies = [await wire.reply() for _ in range(1000)]

    assert [reply.body for reply in replies] == [
        f"POST /{n} ".encode() + b"x" * n for n in range(1000)
    ]
    assert {reply.headers["content-length"] for reply in replies[:2]} == {"8", "9"}
    assert "server" not in replies[0].headers
    assert "date" in replies[0].headers


async def test_head_old_http_and_bodiless_statuses_are_framed_right() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"].isdigit():
            await answer(send, b"not sent", int(scope["path"]))
        elif scope["path"] == "/stream":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            for piece in (b"one ", b"", b"two"):
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        elif scope["path"] in ("/204", "/304"):
            await answer(send, b"not sent", int(scope["path"][1:]))
        else:
            await echo(scope, receive, send)

    async with plain(app) as server, server.connect() as wire:
        head = await wire.ask(request("HEAD", "/x"), "HEAD")
        bodiless = [await wire.ask(get(path)) for path in ("/204", "/304")]
        stream = await wire.ask(get("/stream"))
        after = await wire.ask(get("/y"))
        async with server.connect() as another:
            old = await another.ask(get("/stream", version="1.0"))
            assert await another.ended()

    assert head.headers["content-length"] == "8"
    assert [(reply.status, reply.body) for reply in bodiless] == [(204, b""), (304, b"")]
    assert (stream.body, stream.headers["transfer-encoding"]) == (b"one two", "chunked")
    assert after.body == b"GET /y "
    assert (old.body, "transfer-encoding" in old.headers) == (b"one two", False)


async def test_unread_bodies_are_drained_or_end_the_connection() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"done")

    async with plain(app) as server, server.connect() as wire:
        small = await wire.ask(request("POST", "/", body=b"x" * 60_000))
        large = await wire.ask(request("POST", "/")[:-2] + b"Content-Length: 900000\r\n\r\n")
        assert await wire.ended()

    assert "connection" not in small.headers
    assert (large.body, large.headers["connection"]) == (b"done", "close")


async def test_expecting_client_is_told_to_go_on_only_when_the_body_is_wanted() -> None:
    head = b"POST /e HTTP/1.1\r\nHost: dpp\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"

    async with plain() as server, server.connect() as wire:
        await wire.send(head)
        told = await wire.until(b"\r\n\r\n")
        reply = await wire.ask(b"body")

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert reply.body == b"POST /e body"


async def test_slow_heads_and_bodies_are_answered_408() -> None:
    begun = (
        b"GET / HTTP/1.1\r\nHost: dpp\r\nX: ",
        b"POST / HTTP/1.1\r\nHost: dpp\r\nContent-Length: 90000\r\n\r\n",
    )
    async with plain(patience=evolve(PATIENT, head_s=0.1, body_s=0.1)) as server:
        for part in begun:
            async with server.connect() as wire, trio.open_nursery() as nursery:
                nursery.start_soon(drip, wire.stream, part + b"x" * 10_000)
                reply = await wire.reply()
                nursery.cancel_scope.cancel()
            assert (reply.status, reply.headers["connection"]) == (408, "close")
    async with plain(patience=HASTY) as server, server.connect() as wire:
        assert await wire.ended()  # one that says nothing hears nothing


async def test_client_that_reads_nothing_is_let_go() -> None:
    over = trio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            while True:
                await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        finally:
            over.set()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("dpp.http.guarded.SEND_S", 0.1)
        async with plain(app, HASTY) as server, server.connect() as wire:
            await wire.send(get())
            await over.wait()


async def test_peer_that_leaves_cancels_the_handler_and_one_that_half_closes_is_answered() -> None:
    started, cancelled = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/wait":
            await echo(scope, receive, send)
            return
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with plain(app, evolve(PATIENT, half_close_s=0.1)) as server:
        async with server.connect() as wire:
            await wire.send(get("/1") + get("/2"))
            await wire.stream.send_eof()
            assert [(await wire.reply()).body for _ in "12"] == [b"GET /1 ", b"GET /2 "]
            assert await wire.ended()
        async with server.connect() as wire:
            await wire.send(get("/wait"))
            await started.wait()
            await wire.stream.send_eof()
            assert await wire.ended()  # without a word
        await cancelled.wait()


async def test_drain_closes_what_is_idle_and_lets_work_end() -> None:
    started, go_on = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/work":
            started.set()
            await go_on.wait()
        await echo(scope, receive, send)

    async with (
        plain(app) as server,
        server.connect() as idle,
        server.connect() as busy,
        server.connect() as fresh,
    ):
        await idle.ask(get())
        await busy.send(get("/work"))
        await started.wait()
        server.draining.set()
        assert await idle.ended()
        assert await fresh.ended()
        go_on.set()
        reply = await busy.reply()
        assert (reply.body, reply.headers["connection"]) == (b"GET /work ", "close")
        assert await busy.ended()


async def test_connections_over_the_limit_are_turned_away_with_503() -> None:
    started, go_on = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        started.set()
        await go_on.wait()
        await echo(scope, receive, send)

    make = worker.connections(None)
    async with (
        listening(app, connections_max=1, make=make) as server,
        server.connect() as one,
    ):
        await one.send(get())
        await started.wait()
        async with server.connect() as two:
            assert ((await two.reply()).status, await two.ended()) == (503, True)
        go_on.set()
        assert (await one.reply()).status == 200


async def test_fault_of_an_app_is_answered_500_counted_and_ends_its_connection_alone() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bug":
            raise RuntimeError("planted")
        if scope["path"] == "/header":
            await answer(send, b"", x="a\r\nInjected: 1")
        if scope["path"] == "/half":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"half", "more_body": True})
            raise RuntimeError("planted")
        await echo(scope, receive, send)

    before = metrics.http_connection_faults_total._value.get()
    async with listening(app, make=worker.connections(None)) as server, server.connect() as other:
        assert (await other.ask(get())).status == 200
        for path in ("/bug", "/header"):
            async with server.connect() as wire:
                reply = await wire.ask(get(path))
                assert (reply.status, reply.headers["connection"]) == (500, "close")
                assert b"planted" not in reply.body
                assert "injected" not in reply.headers
                assert await wire.ended()
        async with server.connect() as wire:
            await wire.send(get("/half"))
            assert (await wire.rest()).endswith(b"\r\n\r\n4\r\nhalf\r\n")  # cut, not ended
        assert (await other.ask(get())).status == 200
    assert metrics.http_connection_faults_total._value.get() == before + 3


async def test_bug_of_hypercorn_is_counted_and_ends_its_connection_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    faults = metrics.http_connection_faults_total
    before = faults._value.get()

    async def bug(*_args: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("planted")

    async with listening(echo, make=worker.connections(None)) as server, server.connect() as other:
        await other.ask(get())
        monkeypatch.setattr("hypercorn.protocol.h11.H11Protocol.handle", bug)
        async with server.connect() as wire:
            await wire.send(get())
            assert await wire.ended()
        monkeypatch.undo()
        assert (await other.ask(get())).status == 200

    assert faults._value.get() == before + 1


def test_renamed_private_parts_of_hypercorn_are_noticed_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guarded.check_private_names()
    monkeypatch.delattr("hypercorn.protocol.h2.H2Protocol._close_stream")

    with pytest.raises(AssertionError, match="hypercorn changed: H2Protocol has no _close_stream"):
        worker.connections(None)


# ── TLS and HTTP/2 ───────────────────────────────────────────────────────────────────────────────


@asynccontextmanager
async def client(
    server: Server, certificate: Certificate, *, http2: bool
) -> AsyncIterator[httpx.AsyncClient]:
    """Open a client that trusts the certificate."""
    url = server.url.replace("http:", "https:")
    async with httpx.AsyncClient(
        base_url=url, verify=certificate.trusting(), http2=http2, trust_env=False, timeout=30
    ) as http:
        yield http


@pytest.mark.parametrize("http2", [False, True])
async def test_app_is_served_over_tls_and_hears_of_it(
    certificate: Certificate, *, http2: bool
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_all(receive)
        told = {
            **{name: scope[name] for name in ("method", "path", "scheme", "http_version")},
            "raw_path": scope["raw_path"].decode(),
            "query": scope["query_string"].decode(),
            "host": dict(scope["headers"])[b"host"].decode(),
            "size": len(body),
        }
        await answer(send, json.dumps(told).encode(), x_one="1")

    async with (
        secured(certificate, app) as server,
        client(server, certificate, http2=http2) as http,
    ):
        reply = await http.post("/a%20b?q=1", content=b"x" * 3_000_000)
        head = await http.head("/a")

    assert reply.http_version == ("HTTP/2" if http2 else "HTTP/1.1")
    assert reply.json() == {
        "method": "POST",
        "path": "/a b",
        "scheme": "https",
        "http_version": "2" if http2 else "1.1",
        "raw_path": "/a%20b",
        "query": "q=1",
        "host": server.url.removeprefix("http://"),
        "size": 3_000_000,
    }
    assert reply.headers["x-one"] == "1"
    assert "server" not in reply.headers
    assert ("connection" in reply.headers) is False
    assert (head.content, int(head.headers["content-length"]) > 0) == (b"", True)


async def test_streams_of_one_connection_are_answered_side_by_side(
    certificate: Certificate,
) -> None:
    together, all_here = 0, trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal together
        together += 1
        if together == 20:
            all_here.set()
        await all_here.wait()
        await echo(scope, receive, send)

    bodies: dict[int, bytes] = {}
    async with secured(certificate, app) as server, client(server, certificate, http2=True) as http:

        async def ask(n: int) -> None:
            bodies[n] = (await http.post(f"/{n}", content=b"x" * n)).content

        async with trio.open_nursery() as nursery:
            for n in range(20):
                nursery.start_soon(ask, n)

    assert bodies == {n: f"POST /{n} ".encode() + b"x" * n for n in range(20)}


async def test_answer_larger_than_the_windows_arrives_whole(certificate: Certificate) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(40):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with secured(certificate, app) as server, client(server, certificate, http2=True) as http:
        reply = await http.get("/")

    assert len(reply.content) == 40 * 65536


class Frames:
    """A client's end of HTTP/2 that may break every rule."""

    def __init__(self, stream: trio.SSLStream[trio.SocketStream]) -> None:
        self.stream = stream
        config = h2.config.H2Configuration(
            client_side=True,
            header_encoding=None,
            validate_outbound_headers=False,
            normalize_outbound_headers=False,
        )
        self.h2 = h2.connection.H2Connection(config)
        self.events: list[h2.events.Event] = []

    async def flush(self) -> None:
        await self.stream.send_all(self.h2.data_to_send())

    async def ask(self, *headers: tuple[bytes, bytes], end: bool = True, **pseudo: bytes) -> int:
        """Send a head; `pseudo` replaces or, empty, leaves out what is usual."""
        usual = {"method": b"GET", "path": b"/", "scheme": b"https", "authority": b"dpp"}
        told = {**usual, **pseudo}
        pairs = [(f":{name}".encode(), value) for name, value in told.items() if value]
        stream_id = self.h2.get_next_available_stream_id()
        self.h2.send_headers(stream_id, [*pairs, *headers], end_stream=end)
        await self.flush()
        return stream_id

    async def until(
        self, kind: type[h2.events.Event], stream_id: int | None = None
    ) -> h2.events.Event | None:
        """Wait for such an event; None = the connection ended first."""
        while True:
            for event in self.events:
                if isinstance(event, kind) and stream_id in (
                    None,
                    getattr(event, "stream_id", None),
                ):
                    return event
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                return None
            if not data:
                return None
            for event in self.h2.receive_data(data):
                self.events.append(event)
                if isinstance(event, h2.events.DataReceived):
                    self.h2.acknowledge_received_data(event.flow_controlled_length, event.stream_id)
            await self.flush()

    async def status(self, stream_id: int) -> int:
        """Return the status of an answer."""
        event = await self.until(h2.events.ResponseReceived, stream_id)
        assert isinstance(event, h2.events.ResponseReceived), self.events
        return int(dict(event.headers)[b":status"])


@asynccontextmanager
async def speaking(server: Server, certificate: Certificate) -> AsyncIterator[Frames]:
    """Open a connection that speaks HTTP/2."""
    stream = await trio.open_ssl_over_tcp_stream(
        *server.address, ssl_context=certificate.trusting("h2")
    )
    try:
        await stream.do_handshake()
        frames = Frames(stream)
        frames.h2.initiate_connection()
        await frames.flush()
        yield frames
    finally:
        await trio.aclose_forcefully(stream)


REFUSED_HEADS: dict[str, tuple[dict[str, bytes], list[tuple[bytes, bytes]], int]] = {
    "relative path": ({"path": b"a"}, [], 400),
    "asterisk": ({"path": b"*"}, [], 400),
    "fragment": ({"path": b"/a#b"}, [], 400),
    "path that is not UTF-8": ({"path": b"/%ff"}, [], 400),
    "bad authority": ({"authority": b"a b"}, [], 400),
    "long path": ({"path": b"/" + b"x" * 8192}, [], 414),
    "101 headers": ({}, [(b"x-%d" % n, b"y") for n in range(101)], 431),
    "unknown expectation": ({}, [(b"expect", b"200-maybe")], 417),
}
BROKEN_HEADS: dict[str, tuple[dict[str, bytes], list[tuple[bytes, bytes]]]] = {
    "method that is not ASCII": ({"method": b"G\xc3\x89T"}, []),
    "path that is not ASCII": ({"path": b"/\xc3\xa9"}, []),
    "blank in the path": ({"path": b"/a b"}, []),
    "CONNECT without a path": ({"method": b"CONNECT", "path": b"", "scheme": b""}, []),
    "NUL in a header": ({}, [(b"x", b"a\0b")]),
    "line break in a header": ({}, [(b"x", b"a\r\nb: c")]),
    "upper-case name": ({}, [(b"X", b"a")]),
    "connection": ({}, [(b"connection", b"close")]),
    "no method": ({"method": b""}, []),
    "length that is none": ({}, [(b"content-length", b"x")]),
}


async def test_bad_heads_are_refused_and_the_connection_goes_on(certificate: Certificate) -> None:
    async with secured(certificate) as server, speaking(server, certificate) as frames:
        for name, (pseudo, headers, status) in REFUSED_HEADS.items():
            assert await frames.status(await frames.ask(*headers, **pseudo)) == status, name
        assert await frames.status(await frames.ask()) == 200


@pytest.mark.parametrize("name", BROKEN_HEADS)
async def test_broken_head_is_reset_or_ends_its_connection_alone(
    certificate: Certificate, name: str
) -> None:
    pseudo, headers = BROKEN_HEADS[name]
    async with secured(certificate) as server, speaking(server, certificate) as other:
        assert await other.status(await other.ask()) == 200
        async with speaking(server, certificate) as frames:
            stream_id = await frames.ask(*headers, **pseudo)
            either = (h2.events.StreamReset, h2.events.ConnectionTerminated)
            assert await frames.until(either) is not None, stream_id  # type: ignore[arg-type]
        assert await other.status(await other.ask()) == 200


async def data_after_the_answer(frames: Frames) -> None:
    stream_id = await frames.ask(method=b"POST", path=b"/early", end=False)
    assert await frames.status(stream_id) == 200
    for _ in range(5):
        frames.h2.send_data(stream_id, b"x" * 100)
        await frames.flush()
    assert await frames.status(await frames.ask()) == 200


async def priorities(frames: Frames) -> None:
    for n in range(2000):
        frames.h2.prioritize(2 * n + 5, weight=1 + n % 256)
    await frames.flush()
    frames.h2.highest_outbound_stream_id = 4001
    assert await frames.status(await frames.ask()) == 200


async def resets(frames: Frames) -> None:
    with suppress(trio.BrokenResourceError):  # cut off while it goes on
        for _ in range(400):
            frames.h2.reset_stream(await frames.ask(path=b"/wait"), ErrorCodes.CANCEL)
    ended = await frames.until(h2.events.ConnectionTerminated)
    assert ended is None or getattr(ended, "error_code", 0) == ErrorCodes.ENHANCE_YOUR_CALM


async def garbage(frames: Frames) -> None:
    await frames.stream.send_all(b"\x00\x10\x00\x01\x05\x00\x00\x00\x01" + b"\xff" * 4096)
    assert await frames.until(h2.events.ConnectionTerminated) is not None


async def large_head(frames: Frames) -> None:
    stream_id = await frames.ask(*((b"x-%d" % n, b"y" * 1000) for n in range(30)))
    assert await frames.status(stream_id) == 431
    stream_id = await frames.ask(*((b"x-%d" % n, b"y" * 1000) for n in range(80)))
    assert await frames.until(h2.events.ConnectionTerminated) is not None, stream_id


async def empty_frames(frames: Frames) -> None:
    stream_id = await frames.ask(method=b"POST", end=False)
    for _ in range(5000):
        frames.h2.send_data(stream_id, b"")
    frames.h2.send_data(stream_id, b"body", end_stream=True)
    await frames.flush()
    assert await frames.status(stream_id) == 200


async def pings(frames: Frames) -> None:
    await chatter(frames, lambda: frames.h2.ping(b"12345678"))


async def settings(frames: Frames) -> None:
    await chatter(frames, lambda: frames.h2.update_settings({}))


async def chatter(frames: Frames, say: Callable[[], object]) -> None:
    """Say something that asks for nothing, until one is sent away."""
    with suppress(trio.BrokenResourceError):
        for _ in range(200):
            for _ in range(200):
                say()
            await frames.flush()
    gone = await frames.until(h2.events.ConnectionTerminated)
    assert gone is None or gone.error_code == ErrorCodes.ENHANCE_YOUR_CALM  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    "hostile",
    [data_after_the_answer, priorities, resets, garbage, large_head, empty_frames, pings, settings],
    ids=lambda hostile: hostile.__name__,
)
async def test_hostile_frames_harm_nobody_else(
    certificate: Certificate, hostile: Callable[[Frames], Awaitable[None]]
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/wait":
            await trio.sleep_forever()
        if scope["path"] == "/early":
            await answer(send)
            return
        await echo(scope, receive, send)

    async with secured(certificate, app) as server, speaking(server, certificate) as other:
        assert await other.status(await other.ask()) == 200
        async with speaking(server, certificate) as frames:
            await hostile(frames)
        assert await other.status(await other.ask()) == 200


async def test_no_frames_end_the_server_or_its_neighbours(certificate: Certificate) -> None:
    async with secured(certificate) as server, speaking(server, certificate) as neighbour:
        for name, data in FRAMES.items():
            stream = await trio.open_ssl_over_tcp_stream(
                *server.address, ssl_context=certificate.trusting("h2")
            )
            with trio.move_on_after(0.2), suppress(trio.BrokenResourceError):
                await stream.send_all(data)
                while await stream.receive_some(65536):
                    pass
            await trio.aclose_forcefully(stream)
            assert await neighbour.status(await neighbour.ask()) == 200, name


async def test_body_is_taken_no_faster_than_the_app_reads_it(certificate: Certificate) -> None:
    go_on = trio.Event()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        await answer(send, str(len(await read_all(receive))).encode())

    async with secured(certificate, app) as server, speaking(server, certificate) as frames:
        stream_id = await frames.ask(method=b"POST", end=False)
        sent = 0
        while (room := min(frames.h2.local_flow_control_window(stream_id), 16_384)) > 0:
            frames.h2.send_data(stream_id, b"x" * room)
            sent += room
            await frames.flush()
            with trio.move_on_after(0.05):
                await frames.until(h2.events.ResponseReceived, stream_id)
        go_on.set()
        await frames.until(h2.events.WindowUpdated, stream_id)
        frames.h2.send_data(stream_id, b"x", end_stream=True)
        await frames.flush()
        assert await frames.status(stream_id) == 200
        data = await frames.until(h2.events.DataReceived, stream_id)

    assert sent == 65_535
    assert isinstance(data, h2.events.DataReceived)
    assert data.data == b"65536"


async def test_slow_body_over_http2_is_answered_408(certificate: Certificate) -> None:
    patience = evolve(PATIENT, body_s=0.1)
    async with (
        secured(certificate, patience=patience) as server,
        speaking(server, certificate) as frames,
    ):
        assert await frames.status(await frames.ask(method=b"POST", end=False)) == 408
        assert await frames.status(await frames.ask()) == 200


async def test_stream_whose_peer_reads_nothing_is_let_go_alone(certificate: Certificate) -> None:
    over = trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/large":
            await echo(scope, receive, send)
            return
        try:
            await answer(send, b"x" * 1_000_000)
        finally:
            over.set()

    async with (
        secured(certificate, app, evolve(PATIENT, send_s=0.1)) as server,
        speaking(server, certificate) as frames,
    ):
        frames.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 10})
        stream_id = await frames.ask(path=b"/large")
        await over.wait()
        assert await frames.until(h2.events.StreamReset, stream_id) is not None
        assert await frames.status(await frames.ask()) == 200


async def test_refusal_that_its_peer_does_not_take_is_let_go(certificate: Certificate) -> None:
    async with (
        secured(certificate, patience=evolve(PATIENT, send_s=0.1)) as server,
        speaking(server, certificate) as frames,
    ):
        frames.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        stream_id = await frames.ask(path=b"/a#b")
        assert await frames.status(stream_id) == 400
        assert await frames.until(h2.events.StreamReset, stream_id) is not None


async def test_stream_whose_peer_takes_a_little_each_time_is_let_go_alone(
    certificate: Certificate,
) -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/large":
            await echo(scope, receive, send)
            return
        await answer(send, b"x" * (1000 * relay.PIECE))

    patience = evolve(PATIENT, send_s=1.0, send_rate=1e9)
    async with (
        secured(certificate, app, patience) as server,
        speaking(server, certificate) as frames,
    ):
        frames.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        stream_id = await frames.ask(path=b"/large")
        assert await frames.status(stream_id) == 200
        reset = None
        for _ in range(1000):
            await trio.sleep(0.05)  # of the second that it may take over each piece
            frames.h2.increment_flow_control_window(relay.PIECE, stream_id)
            await frames.flush()
            frames.events.clear()
            either = (h2.events.DataReceived, h2.events.StreamReset)
            heard = await frames.until(either, stream_id)  # type: ignore[arg-type]
            if isinstance(heard, h2.events.StreamReset):
                reset = heard
                break
        assert reset is not None
        frames.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 65_535})
        assert await frames.status(await frames.ask()) == 200


async def test_streams_whose_peer_takes_nothing_hold_no_copies_of_their_answers(
    certificate: Certificate,
) -> None:
    body, streams = b"x" * 1_000_000, 50

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, body, more=True)
        await send({"type": "http.response.body", "body": b""})

    async with secured(certificate, app) as server, speaking(server, certificate) as frames:
        frames.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        tracemalloc.start()
        try:
            asked = [await frames.ask() for _ in range(streams)]
            for stream_id in asked:
                assert await frames.status(stream_id) == 200
            for _ in range(20):  # each may go on by a byte: no reason to hold more
                for stream_id in asked:
                    frames.h2.increment_flow_control_window(1, stream_id)
                await frames.flush()
                await wait_all_tasks_blocked(0.01)
            held = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert held < streams * 4 * relay.PIECE


async def test_connection_that_takes_none_of_its_answers_is_given_no_more_large_ones(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = 100_000
    monkeypatch.setattr(untaken, "UNTAKEN_MAX", 3 * size)

    async def app(scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"x" * (size if scope["path"] == "/large" else untaken.SMALL))

    async with secured(certificate, app) as server, speaking(server, certificate) as frames:
        frames.h2.update_settings({h2.settings.SettingCodes.INITIAL_WINDOW_SIZE: 0})
        large = [await frames.status(await frames.ask(path=b"/large")) for _ in range(5)]
        small = await frames.status(await frames.ask())
        async with speaking(server, certificate) as other:
            elsewhere = await other.status(await other.ask(path=b"/large"))
        held = await frames.ask(path=b"/large")
        for stream_id in range(1, held, 2):
            with suppress(h2.exceptions.StreamClosedError):
                frames.h2.increment_flow_control_window(2 * size, stream_id)
        frames.h2.increment_flow_control_window(20 * size)
        await frames.flush()
        for stream_id in range(1, held, 2):
            await frames.until(h2.events.StreamEnded, stream_id)
        again = await frames.status(await frames.ask(path=b"/large"))

    assert (large, small, elsewhere) == ([200, 200, 200, 503, 503], 200, 200)
    assert again == 200


async def test_one_answer_may_be_as_large_as_it_is(
    certificate: Certificate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(untaken, "UNTAKEN_MAX", 1)

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"x" * 1_000_000)

    async with secured(certificate, app) as server, client(server, certificate, http2=True) as http:
        replies = [await http.get("/") for _ in range(2)]

    assert [len(reply.content) for reply in replies] == [1_000_000] * 2


async def test_idle_tls_connections_and_slow_handshakes_are_let_go(
    certificate: Certificate,
) -> None:
    async with secured(certificate, patience=evolve(PATIENT, idle_s=0.1, head_s=0.3)) as server:
        async with server.connect() as wire:
            assert await wire.ended()
        async with server.connect() as wire:
            assert b"HTTP" not in await wire_answer(wire.stream, b"GET / HTTP/1.1\r\n\r\n")
        async with speaking(server, certificate) as frames:
            assert await frames.until(h2.events.ConnectionTerminated) is not None


async def test_an_http2_connection_whose_last_stream_was_reset_idles(
    certificate: Certificate,
) -> None:
    async with (
        secured(certificate, patience=evolve(PATIENT, idle_s=0.1)) as server,
        speaking(server, certificate) as frames,
    ):
        assert await frames.status(await frames.ask()) == 200
        frames.h2.reset_stream(await frames.ask(path=b"/wait"), ErrorCodes.CANCEL)
        await frames.flush()

        assert await frames.until(h2.events.ConnectionTerminated) is not None


async def wire_answer(stream: trio.SocketStream, data: bytes) -> bytes:
    """Send, and return all that comes back."""
    await stream.send_all(data)
    answer = b""
    try:
        while piece := await stream.receive_some(65536):
            answer += piece
    except trio.BrokenResourceError:
        pass
    return answer


async def test_drain_over_http2_answers_what_is_in_flight(certificate: Certificate) -> None:
    started, go_on = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/work":
            started.set()
            await go_on.wait()
        await echo(scope, receive, send)

    async with (
        secured(certificate, app) as server,
        speaking(server, certificate) as idle,
        speaking(server, certificate) as busy,
    ):
        assert await idle.status(await idle.ask()) == 200
        stream_id = await busy.ask(path=b"/work")
        await started.wait()
        server.draining.set()
        assert await idle.until(h2.events.ConnectionTerminated) is not None
        late = await busy.ask()
        assert await busy.until(h2.events.StreamReset, late) is not None
        go_on.set()
        assert await busy.status(stream_id) == 200
        assert await busy.until(h2.events.StreamEnded, stream_id) is not None
        assert await busy.until(h2.events.ConnectionTerminated) is not None


async def test_peer_that_resets_a_stream_cancels_its_handler_alone(
    certificate: Certificate,
) -> None:
    started, cancelled = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] != "/wait":
            await echo(scope, receive, send)
            return
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with secured(certificate, app) as server, speaking(server, certificate) as frames:
        stream_id = await frames.ask(path=b"/wait")
        await started.wait()
        frames.h2.reset_stream(stream_id, ErrorCodes.CANCEL)
        await frames.flush()
        await cancelled.wait()
        assert await frames.status(await frames.ask()) == 200


def test_old_tls_is_refused(certificate: Certificate) -> None:
    context = tls.server_context(certificate.chain, certificate.key)

    assert context.minimum_version is ssl.TLSVersion.TLSv1_2
    assert context.options & ssl.OP_NO_COMPRESSION
