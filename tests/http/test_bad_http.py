"""Requests that are no HTTP, or more of it than is taken: a 4xx, a closed connection, no harm."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest
import trio

from dpp import metrics
from tests.http.server import Server, echo, get, listening, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

HOST = b"Host: dpp\r\n"
POST = b"POST / HTTP/1.1\r\n" + HOST
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"
LAST = b"0\r\n\r\n"

REFUSED = {
    "length and coding": POST + b"Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "coding and length": POST + b"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
    "chunked, identity": POST + b"Transfer-Encoding: chunked, identity\r\n\r\n",
    "gzip, chunked": POST + b"Transfer-Encoding: gzip, chunked\r\n\r\n",
    "xchunked": POST + b"Transfer-Encoding: xchunked\r\n\r\n",
    "vertical tab before chunked": POST + b"Transfer-Encoding: \x0bchunked\r\n\r\n",
    "coding twice": POST + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
    "coding for 1.0": b"POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "negative length": POST + b"Content-Length: -1\r\n\r\n",
    "plus length": POST + b"Content-Length: +5\r\n\r\n",
    "hexadecimal length": POST + b"Content-Length: 0x5\r\n\r\n",
    "huge length": POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
    "two lengths": POST + b"Content-Length: 4\r\nContent-Length: 5\r\n\r\n",
    "two lengths in a list": POST + b"Content-Length: 4, 5\r\n\r\n",
    "empty length": POST + b"Content-Length:\r\n\r\n",
    "blank before the colon": POST + b"Content-Length : 4\r\n\r\n",
    "bare line feeds": b"GET / HTTP/1.1\nHost: dpp\n\n",
    "one bare line feed": b"GET / HTTP/1.1\r\nHost: dpp\nX: y\r\n\r\n",
    "bare carriage return": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n",
    "folded header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "NUL in a header": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "no colon": b"GET / HTTP/1.1\r\n" + HOST + b"nonsense\r\n\r\n",
    "empty header name": b"GET / HTTP/1.1\r\n" + HOST + b": x\r\n\r\n",
    "non-ASCII header name": b"GET / HTTP/1.1\r\n" + HOST + b"\xc3\xa9: x\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "bad host": b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
    "host with a path": b"GET / HTTP/1.1\r\nHost: a/b\r\n\r\n",
    "no path": b"GET HTTP/1.1\r\n" + HOST + b"\r\n",
    "relative path": b"GET v1/runs HTTP/1.1\r\n" + HOST + b"\r\n",
    "blank in the path": b"GET /a b HTTP/1.1\r\n" + HOST + b"\r\n",
    "fragment": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "raw UTF-8 in the path": b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + b"\r\n",
    "path that is not UTF-8": b"GET /%ff%fe HTTP/1.1\r\n" + HOST + b"\r\n",
    "other scheme": b"GET ftp://dpp/ HTTP/1.1\r\n" + HOST + b"\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "HTTP/2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "lower-case protocol": b"GET / http/1.1\r\n" + HOST + b"\r\n",
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 300 + b"\n\n",
    "bad chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\nxyz\r\n",
    "negative chunk size": POST + b"Transfer-Encoding: chunked\r\n\r\n-4\r\nabcd\r\n",
    "chunk size overflow": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"f" * 40 + b"\r\n",
    "long chunk extension": CHUNKED + b"1;" + b"x" * 20_000,
    "long chunk extension that ends": CHUNKED + b"1;" + b"x" * 300 + b"\r\na\r\n" + LAST,
    "bare carriage return in a chunk extension": CHUNKED + b"1;a\rb\r\na\r\n" + LAST,
    "bare line feed in a chunk extension": CHUNKED + b"1;a\nb\r\na\r\n" + LAST,
    "NUL in a chunk extension": CHUNKED + b"1;a\0\r\na\r\n" + LAST,
    "chunks of bare line feeds": CHUNKED + b"1\na\n0\n\n",
    "blank after a chunk size": CHUNKED + b"1 \r\na\r\n" + LAST,
    "chunk size with a plus": CHUNKED + b"+1\r\na\r\n" + LAST,
    "chunk size with 0x": CHUNKED + b"0x1\r\na\r\n" + LAST,
    "chunk size with an underscore": CHUNKED + b"1_0\r\n",
    "empty chunk size": CHUNKED + b"\r\n",
    "bad chunk end": CHUNKED + b"1\r\nabXX0\r\n\r\n",
    "carriage return and no line feed after a chunk": CHUNKED + b"1\r\na\rb",
    "chunks of one byte": CHUNKED + b"1\r\na\r\n" * 5000 + LAST,
    "bad trailer": CHUNKED + b"0\r\nno colon\r\n\r\n",
    "bare line feed after a trailer": CHUNKED + b"0\r\nX: y\n\n",
    "bare carriage return in a trailer": CHUNKED + b"0\r\nX: y\rZ: a\r\n\r\n",
    "folded trailer": CHUNKED + b"0\r\nX: y\r\n z\r\n\r\n",
    "large trailer": CHUNKED + b"0\r\nX: " + b"y" * 20_000 + b"\r\n\r\n",
    "many trailers": CHUNKED + b"0\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
    "only empty lines": b"\r\n" * 5000,
    "asterisk for another method": b"GET * HTTP/1.1\r\n" + HOST + b"\r\n",
}
TOO_LARGE = {
    "path of 64 kB": (get("/" + "x" * 65_536), 414),
    "path just over": (get("/" + "x" * 8192), 414),
    "endless path": (b"GET /" + b"x" * 20_000, 414),
    "long query": (get("/?" + "x" * 9000), 414),
    "header of 17 kB": (get("/", "X: " + "x" * 17_000), 431),
    "endless header": (get("/")[:-2] + b"X: " + b"x" * 20_000, 431),
    "1,000 headers": (get("/", *(f"X-{n}: y" for n in range(1000))), 431),
    "unknown expectation": (get("/", "Expect: 200-maybe"), 417),
    "unknown expectation beside a known one": (get("/", "Expect: 100-continue, x"), 417),
    "101 headers": (get("/", *(f"X-{n}: y" for n in range(100))), 431),
}
TAKEN = {
    "100 headers": (get("/", *(f"X-{n}: y" for n in range(99))), b"GET / "),
    "absolute form": (get("http://other.example:80/a?b"), b"GET /a "),
    "absolute form without path": (get("http://other.example"), b"GET / "),
    "dots are only text": (get("/v1/runs/../admin"), b"GET /v1/runs/../admin "),
    "double slash": (get("//host/x"), b"GET //host/x "),
    "encoded dots and NUL": (get("/%2e%2e/%00;a=b"), b"GET /../\0;a=b "),
    "double encoding": (get("/%252e"), b"GET /%2e "),
    "asterisk": (request("OPTIONS", "*"), b"OPTIONS * "),
    "unknown verb": (request("BREW", "/pot"), b"BREW /pot "),
    "TRACE is no echo": (request("TRACE", "/", "Secret: x"), b"TRACE / "),
    "same length twice": (
        POST + b"Content-Length: 2\r\nContent-Length: 2\r\n\r\nok",
        b"POST / ok",
    ),
    "upgrade is ignored": (
        get("/", "Connection: Upgrade", "Upgrade: h2c", "HTTP2-Settings: AAA"),
        b"GET / ",
    ),
    "WebSocket is ignored": (
        get("/", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Key: x"),
        b"GET / ",
    ),
    "chunk extension": (CHUNKED + b'1 ;a="b;c"\r\nx\r\n' + LAST, b"POST / x"),
    "chunk size in capitals and zeros": (
        CHUNKED + b"0A\r\n0123456789\r\n" + LAST,
        b"POST / 0123456789",
    ),
    "trailers": (CHUNKED + b"0\r\nX: y\r\nContent-Length: 3\r\n\r\n", b"POST / "),
    "some chunks of one byte": (CHUNKED + b"1\r\na\r\n" * 3000 + LAST, b"POST / " + b"a" * 3000),
    "expectation of an older HTTP": (b"GET / HTTP/1.0\r\nExpect: 200-maybe\r\n\r\n", b"GET / "),
    "latin-1 in a header value": (get("/", "X: \xe9"), b"GET / "),
}


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """An echo that must have seen no fault when the test is over."""
    before = metrics.http_connection_faults_total._value.get()
    async with listening(echo) as one:
        yield one
        assert (await one.ask(get("/alive"))).body == b"GET /alive "
    assert metrics.http_connection_faults_total._value.get() == before


@pytest.mark.parametrize("name", REFUSED)
async def test_malformed_request_is_answered_400_and_closed(server: Server, name: str) -> None:
    async with server.connect() as wire:
        reply = await wire.ask(REFUSED[name])

        assert (reply.status, reply.headers["connection"]) == (400, "close")
        assert reply.headers["content-type"] == "application/problem+json"
        assert await wire.ended()


@pytest.mark.parametrize("name", TOO_LARGE)
async def test_head_over_a_limit_is_refused_and_closed(server: Server, name: str) -> None:
    data, status = TOO_LARGE[name]

    async with server.connect() as wire:
        reply = await wire.ask(data)

        assert (reply.status, reply.headers["connection"]) == (status, "close")


@pytest.mark.parametrize("name", TAKEN)
async def test_odd_but_legal_request_reaches_the_app(server: Server, name: str) -> None:
    data, body = TAKEN[name]

    assert (await server.ask(data)).body == body


async def test_more_body_than_announced_is_the_next_request(server: Server) -> None:
    async with server.connect() as wire:
        first = await wire.ask(request("POST", "/", body=b"ok") + b"trailing\r\n\r\n")
        second = await wire.reply()

    assert (first.body, second.status) == (b"POST / ok", 400)


async def test_secret_in_a_malformed_header_is_not_repeated(server: Server) -> None:
    reply = await server.ask(
        b"GET / HTTP/1.1\r\n" + HOST + b"Authorization : Bearer canary\r\n\r\n"
    )

    assert reply.status == 400
    assert b"canary" not in reply.body


async def test_peer_that_comes_and_goes_is_no_fault(server: Server) -> None:
    for data in (b"", b"\r\n", b"GET / HT", POST + b"Content-Length: 9\r\n\r\nabc"):
        async with server.connect() as wire:
            await wire.send(data)


@pytest.mark.parametrize("seed", range(20))
async def test_mutated_requests_leave_the_server_well(server: Server, seed: int) -> None:
    dice = random.Random(seed)
    whole = request("POST", "/x", "Transfer-Encoding: chunked") + b"3\r\nabc\r\n0\r\n\r\n"
    whole += request("POST", "/y", "Expect: 100-continue", body=b"body")

    for _ in range(25):
        data = bytearray(whole)
        for _ in range(dice.randint(1, 8)):
            at = dice.randrange(len(data))
            data[at : at + dice.randint(0, 3)] = dice.randbytes(dice.randint(0, 4))
        async with server.connect() as wire:
            with trio.move_on_after(10) as limit:
                await wire.send(bytes(data))
                await wire.stream.send_eof()
                answers = await wire.rest()
            assert not limit.cancelled_caught, bytes(data)
            assert b"HTTP/1.1 5" not in answers, bytes(data)
