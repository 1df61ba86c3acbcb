"""Request heads: the bytes of one head become a checked `Head`, or a `Violation` with its problem.

h11 parses; what it is lenient about is refused here, because a proxy in front may read it another
way: bare line feeds, folded lines, a length beside a transfer coding, other versions than HTTP/1.0
and 1.1. Sizes are bounded before anything is parsed. Pure: bytes in, values out.

h11 in Python takes 60 us of the 450 that a submit costs. So a head as nearly all are, `_PLAIN`, is
taken apart here: every byte of it is of a narrower grammar than h11's, and whatever is not so, or
has anything about its length or its host that needs a second look, is h11's to judge.
"""

import re
from collections.abc import Sequence
from typing import Final
from urllib.parse import unquote_to_bytes

import h11
from attrs import evolve, field, frozen

HEAD_MAX: Final = (
    16 * 1024
)  # what nginx and h11 allow by default; a bearer key and a trace take 1 KiB
TARGET_MAX: Final = 8 * 1024  # RFC 9110, 4.1 asks for at least 8,000 octets
HEADERS_MAX: Final = 100  # browsers behind proxies send about 40

_END: Final = b"\r\n\r\n"
_VERSIONS: Final = (b"1.0", b"1.1")
_FOLDED: Final = re.compile(rb"\r\n[ \t]")
_BARE_LF: Final = re.compile(rb"(?<!\r)\n")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
_PLAIN: Final = re.compile(
    rb"([A-Z]+) ([!-~]+) HTTP/(1\.1)\r\n((?:[A-Za-z0-9-]+: ?(?:[!-~]+(?: [!-~]+)*)?\r\n)+)\r\n"
)
_LENGTH: Final = re.compile(rb"[0-9]{1,15}")
_ABSOLUTE: Final = re.compile(rb"https?://[^/?#]*", re.IGNORECASE)


@frozen
class Violation:
    """The peer broke HTTP or a limit: the problem to answer before the connection is closed.

    `headers` are those of the request where they could be read: who asked, and from which origin.
    """

    problem: str
    detail: str
    headers: Sequence[tuple[bytes, bytes]] = field(default=(), eq=False, repr=False)


@frozen
class Head:
    """A request head that is what it must be. `length` is None where the body comes in chunks."""

    method: str
    raw_path: bytes
    path: str
    query: bytes
    headers: list[tuple[bytes, bytes]]
    version: str
    length: int | None
    keep_alive: bool
    expects_continue: bool

    def header(self, name: bytes) -> bytes | None:
        """Return the first value of a header; `name` in lower case."""
        return next((value for found, value in self.headers if found == name), None)


def find_end(held: bytearray, searched: int) -> int | Violation | None:
    """Return where the head ends; None = not here yet. `searched` bytes were looked at before."""
    end = held.find(_END, max(searched - len(_END) + 1, 0))
    size = len(held) if end < 0 else end + len(_END)
    if size > TARGET_MAX:
        line_end = held.find(b"\r\n", 0, TARGET_MAX)
        if line_end < 0:
            return Violation("uri-too-long", f"the request line is longer than {TARGET_MAX} bytes")
    if size > HEAD_MAX:
        return Violation("headers-too-large", f"the head is larger than {HEAD_MAX} bytes")
    if end >= 0:
        return size
    if _BARE_LF.search(held, max(searched - 1, 0)):
        return _malformed("a line does not end with CRLF")
    return None


def parse(data: bytes) -> Head | Violation:
    """Return the head that these bytes are, from the request line to the empty line."""
    lines = data.count(b"\r\n")
    if data.count(b"\n") != lines or data.count(b"\r") != lines:
        return _malformed("a line does not end with CRLF")
    if _FOLDED.search(data):
        return _malformed("a header is folded over several lines")
    if lines > HEADERS_MAX + 2:  # the request line and the empty one
        return Violation("headers-too-large", f"there are more than {HEADERS_MAX} headers")
    request = _plain(data) or _by_h11(data)
    if isinstance(request, Violation):
        return request
    checked = _checked(request)
    if isinstance(checked, Violation):
        return evolve(checked, headers=request.headers)
    return checked


@frozen
class Request:
    """The parts of a head, names of headers in lower case: one Host, one length or coding."""

    method: bytes
    target: bytes
    version: bytes
    headers: list[tuple[bytes, bytes]]


def _plain(data: bytes) -> Request | None:
    """Take a plain head apart; None = h11 must look at it."""
    matched = _PLAIN.fullmatch(data)
    if matched is None:
        return None
    method, target, version, lines = matched.groups()
    headers = []
    for line in lines[:-2].split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers.append((name.lower(), value.lstrip()))
    found = dict(headers)
    once = len(found) == len(headers)
    length = found.get(b"content-length", b"0")
    if not once or b"host" not in found or b"transfer-encoding" in found:
        return None
    return Request(method, target, version, headers) if _LENGTH.fullmatch(length) else None


def _by_h11(data: bytes) -> Request | Violation:
    """Let h11 read the head."""
    parser = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_MAX)
    parser.receive_data(data)
    try:
        request = parser.next_event()
    except h11.RemoteProtocolError as error:
        # Without the bytes that h11 quotes after a colon: maybe a secret.
        return _malformed(str(error).partition(":")[0])
    assert isinstance(request, h11.Request), request
    headers = [(name.lower(), value) for name, value in request.headers.raw_items()]
    return Request(request.method, request.target, request.http_version, headers)


def _checked(request: Request) -> Head | Violation:
    version, headers = request.version, request.headers
    found = dict(headers)  # h11 has seen to it that a repeated length or coding is refused
    coding, length = b"transfer-encoding" in found, found.get(b"content-length")
    if version not in _VERSIONS:
        return _malformed("only HTTP/1.0 and HTTP/1.1 are served here")
    if coding and (length is not None or version == b"1.0"):
        return _malformed("the length of the body is ambiguous")
    if not is_host(found.get(b"host", b"")):
        return _malformed("the Host header is not a host")
    expected = _words(headers, found, b"expect") if version == b"1.1" else set()
    if expected - {b"100-continue", b""}:
        return Violation("expectation-failed", "only 100-continue may be expected here")
    method = request.method.decode("ascii")
    target = split(request.target, method)
    if isinstance(target, Violation):
        return target
    raw_path, path, query = target
    return Head(
        method=method,
        raw_path=raw_path,
        path=path,
        query=query,
        headers=headers,
        version=version.decode("ascii"),
        length=None if coding else int(length or 0),
        keep_alive=version == b"1.1" and b"close" not in _words(headers, found, b"connection"),
        expects_continue=b"100-continue" in expected,
    )


def is_host(value: bytes) -> bool:
    """Say whether a Host header may be one; nothing is routed by it."""
    return _HOST.fullmatch(value) is not None


def split(target: bytes, method: str) -> tuple[bytes, str, bytes] | Violation:
    """Return raw path, path and query of a request target in origin, absolute or asterisk form."""
    if target == b"*" and method != "OPTIONS":
        return _malformed("the request target is not a path")
    if len(target) > TARGET_MAX:
        return Violation("uri-too-long", f"the request target is longer than {TARGET_MAX} bytes")
    if not target.startswith(b"/") and target != b"*":
        authority = _ABSOLUTE.match(target)
        if authority is None:
            return _malformed("the request target is not a path")
        target = target[authority.end() :]
        if not target.startswith(b"/"):
            target = b"/" + target
    if b"#" in target:
        return _malformed("the request target has a fragment")
    raw_path, _, query = target.partition(b"?")
    if b"%" not in raw_path:
        return raw_path, raw_path.decode("ascii"), query
    try:
        return raw_path, unquote_to_bytes(raw_path).decode("utf-8"), query
    except UnicodeDecodeError:
        return _malformed("the path is not UTF-8")


def _words(
    headers: list[tuple[bytes, bytes]], found: dict[bytes, bytes], name: bytes
) -> set[bytes]:
    """Return the words of a header that is a list of them, over however many lines."""
    if name not in found:
        return set()
    lines = b",".join(value for line, value in headers if line == name)
    return {word.strip() for word in lines.lower().split(b",")}


def _malformed(detail: str) -> Violation:
    return Violation("malformed-http", detail)
