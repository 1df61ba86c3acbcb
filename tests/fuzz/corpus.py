"""Raw inputs that ended other servers, or might: each is sent as it stands, on its own connection.

Among them are those eight that end a stock hypercorn 0.18 (heads and frames of HTTP/2, upgrades to
it, WebSockets with a rest behind). Written by hand, so that no library tidies them up.
"""

from __future__ import annotations

import random
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS = range(5)
PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(5, 10)
END_STREAM, END_HEADERS, PADDED = 1, 4, 8
HOST = b"Host: dpp\r\n"
GET = b"GET / HTTP/1.1\r\n" + HOST
POST = b"POST /v1/runs HTTP/1.1\r\n" + HOST
WEBSOCKET = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
)
H2C = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Return one frame of HTTP/2."""
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def literal(name: bytes, value: bytes) -> bytes:
    """Return a header as HPACK writes it without any index."""
    return b"\0" + _text(name) + _text(value)


def _text(data: bytes) -> bytes:
    size = len(data)
    if size < 127:
        return bytes([size]) + data
    size -= 127
    out = bytearray([127])
    while size >= 128:
        out.append(size % 128 + 128)
        size //= 128
    return bytes([*out, size]) + data


def asked(stream: int = 1, *, flags: int = END_STREAM | END_HEADERS, **pseudo: bytes) -> bytes:
    """Return the frame of a request; an empty pseudo-header is left out."""
    told = {"method": b"GET", "scheme": b"http", "path": b"/", "authority": b"dpp", **pseudo}
    block = b"".join(literal(f":{name}".encode(), value) for name, value in told.items() if value)
    return frame(HEADERS, flags, stream, block)


def begun(*frames: bytes) -> bytes:
    """Return a connection of HTTP/2: its preface, settings, and these frames."""
    return PREFACE + frame(SETTINGS, 0, 0) + b"".join(frames)


OPEN = asked(method=b"POST", flags=END_HEADERS)

FRAMES: dict[str, bytes] = {
    "method that is not ASCII": begun(asked(method=b"G\xc3\x89T")),
    "method of one high byte": begun(asked(method=b"\xff")),
    "path that is not ASCII": begun(asked(path=b"/\xc3\xa9")),
    "authority that is not ASCII": begun(asked(authority=b"\xc3\xa9")),
    "scheme that is not ASCII": begun(asked(scheme=b"\xff")),
    "CONNECT without a path": begun(asked(method=b"CONNECT", path=b"", scheme=b"")),
    "extended CONNECT": begun(asked(method=b"CONNECT", protocol=b"websocket")),
    "no method": begun(asked(method=b"")),
    "no path": begun(asked(path=b"")),
    "no pseudo-headers": begun(frame(HEADERS, 5, 1, literal(b"x", b"y"))),
    "DATA after the answer": begun(asked(), frame(DATA, 0, 1, b"late"), frame(DATA, 1, 1, b"x")),
    "DATA after an early answer": begun(OPEN, *[frame(DATA, 0, 1, b"x" * 100)] * 50),
    "DATA for no stream": begun(frame(DATA, 0, 7, b"x")),
    "DATA on stream 0": begun(frame(DATA, 0, 0, b"x")),
    "many empty DATA": begun(OPEN, *[frame(DATA, 0, 1)] * 2000),
    "2,000 PRIORITY": begun(
        *(frame(PRIORITY, 0, 2 * n + 3, struct.pack(">IB", 0, 16)) for n in range(2000)), asked()
    ),
    "PRIORITY on itself": begun(frame(PRIORITY, 0, 3, struct.pack(">IB", 3, 1))),
    "2,000 resets": begun(
        *(asked(2 * n + 1) + frame(RST_STREAM, 0, 2 * n + 1, b"\0\0\0\x08") for n in range(2000))
    ),
    "reset of no stream": begun(frame(RST_STREAM, 0, 9, b"\0\0\0\x08")),
    "HPACK of nothing known": begun(frame(HEADERS, 5, 1, b"\xff" * 200)),
    "HPACK that grows": begun(frame(HEADERS, 5, 1, b"\x40\x01x\x7f\xff\xff\xff\x7f")),
    "head of 100 kB": begun(
        *(frame(HEADERS, 0, 1, b""), *[frame(CONTINUATION, 0, 1, literal(b"x", b"y" * 8000))] * 13)
    ),
    "endless CONTINUATION": begun(frame(HEADERS, 0, 1), *[frame(CONTINUATION, 0, 1)] * 1000),
    "CONTINUATION of nothing": begun(frame(CONTINUATION, 4, 1, b"")),
    "even stream": begun(asked(2)),
    "streams that go back": begun(asked(5), asked(3)),
    "PUSH_PROMISE of a client": begun(frame(PUSH_PROMISE, 4, 1, b"\0\0\0\x02")),
    "1,000 SETTINGS": begun(*[frame(SETTINGS, 0, 0, b"\0\x03\0\0\0\x64")] * 1000),
    "SETTINGS of a bad length": begun(frame(SETTINGS, 0, 0, b"xyz")),
    "window of 0 and of 2^31": begun(
        frame(SETTINGS, 0, 0, b"\0\x04\x80\0\0\0"), frame(WINDOW_UPDATE, 0, 0, b"\0\0\0\0")
    ),
    "windows over the top": begun(*[frame(WINDOW_UPDATE, 0, 0, b"\x7f\xff\xff\xff")] * 3),
    "1,000 PING": begun(*[frame(PING, 0, 0, b"12345678")] * 1000),
    "GOAWAY and on": begun(frame(GOAWAY, 0, 0, bytes(8)), asked()),
    "frame of 16 MB": PREFACE + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01" + b"x" * 5000,
    "unknown frames": begun(*[frame(kind, 255, 1, b"x") for kind in range(10, 60)]),
    "padding over its frame": begun(OPEN, frame(DATA, PADDED, 1, b"\xff")),
    "header with a line break": begun(
        frame(HEADERS, 5, 1, asked()[9:] + literal(b"x", b"a\r\nb: c"))
    ),
    "upper-case header": begun(frame(HEADERS, 5, 1, asked()[9:] + literal(b"X", b"a"))),
    "pseudo-header behind": begun(frame(HEADERS, 5, 1, literal(b"x", b"a") + asked()[9:])),
    "body of another length": begun(
        frame(HEADERS, 4, 1, OPEN[9:] + literal(b"content-length", b"3")),
        frame(DATA, 1, 1, b"four"),
    ),
    "preface cut short": PREFACE[:20],
    "preface alone": PREFACE,
    "preface and garbage": PREFACE + random.Random(7).randbytes(4000),
}

RAW: dict[str, bytes] = {
    **{f"h2 {name}": data for name, data in FRAMES.items()},
    "h2c": GET + H2C + b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n",
    "h2c with settings of a bad length": GET + H2C + b"HTTP2-Settings: AAA\r\n\r\n",
    "h2c with settings of no base64": GET + H2C + b"HTTP2-Settings: \xff\xfe!\r\n\r\n",
    "h2c without settings": GET + b"Connection: Upgrade\r\nUpgrade: h2c\r\n\r\n",
    "h2c with a rest": GET + H2C + b"HTTP2-Settings: AAMAAABk\r\n\r\n" + PREFACE,
    "h2c with a body": POST + H2C + b"HTTP2-Settings: \r\nContent-Length: 2\r\n\r\n{}",
    "h2c by a path that is not ASCII": b"GET /\xc3\xa9 HTTP/1.1\r\n" + HOST + H2C + b"\r\n",
    "WebSocket": GET + WEBSOCKET + b"\r\n",
    "WebSocket with a rest": GET + WEBSOCKET + b"\r\n\x81\x05hello",
    "WebSocket with garbage": GET + WEBSOCKET + b"\r\n" + bytes(range(256)),
    "WebSocket of an odd protocol": GET + WEBSOCKET + b"Sec-WebSocket-Protocol: \xc3\xa9\r\n\r\n",
    "WebSocket without a key": GET + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
    "WebSocket of version 1": GET + WEBSOCKET.replace(b"13", b"1") + b"\r\n",
    "WebSocket by POST": POST + WEBSOCKET + b"\r\n",
    "CONNECT": b"CONNECT dpp:443 HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT of a path": b"CONNECT / HTTP/1.1\r\n" + HOST + b"\r\n",
    "CONNECT and TLS": b"CONNECT dpp:443 HTTP/1.1\r\n" + HOST + b"\r\n\x16\x03\x01",
    "close and a request": GET + b"Connection: close\r\n\r\n" + GET + b"\r\n",
    "close and an empty line": GET + b"Connection: close\r\n\r\n\r\n",
    "1,000 pipelined": (GET + b"\r\n") * 1000,
    "pipelined behind a bad one": b"GET / HTTP/9.9\r\n" + HOST + b"\r\n" + GET + b"\r\n",
    "expects and sends no body": POST + b"Expect: 100-continue\r\nContent-Length: 5\r\n\r\n",
    "length and chunks": POST + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "chunk of 2^64": POST + b"Transfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nx",
    "chunk of minus one": POST + b"Transfer-Encoding: chunked\r\n\r\n-1\r\nx",
    "chunks of nothing": POST + b"Transfer-Encoding: chunked\r\n\r\n" + b"1\r\nx\r\n" * 3000,
    "trailers without end": POST + b"Transfer-Encoding: chunked\r\n\r\n0\r\n" + b"a: b\r\n" * 3000,
    "length of 400 digits": POST + b"Content-Length: " + b"9" * 400 + b"\r\n\r\n",
    "head without end": GET + b"x: y\r\n" * 5000,
    "line without end": b"GET /" + b"x" * 70_000,
    "only line ends": b"\r\n" * 5000,
    "only line feeds": b"\n" * 5000,
    "only zeros": bytes(5000),
    "every byte": bytes(range(256)) * 20,
    "noise": random.Random(11).randbytes(5000),
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\xaa" * 500,
    "SSH": b"SSH-2.0-OpenSSH_9.2\r\n",
    "SMTP": b"EHLO dpp\r\nMAIL FROM:<a@b>\r\n",
    "Redis": b"*1\r\n$4\r\nPING\r\n",
    "PostgreSQL": struct.pack(">II", 8, 80877103),
    "PROXY protocol": b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\r\n" + GET + b"\r\n",
}
