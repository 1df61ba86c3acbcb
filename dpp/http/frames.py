"""Heads of HTTP/2: the header list of one request becomes the same checked `Head` as over HTTP/1.1.

h2 has checked names, the order of pseudo-headers and what may stand once; here is what a proxy or
the app would read another way, and the limits. Pure: pairs in, values out.
"""

import re
from collections.abc import Iterable
from typing import Final

from attrs import evolve

from dpp.http import heads
from dpp.http.answers import Header
from dpp.http.heads import HEAD_MAX, HEADERS_MAX, Head, Violation

_METHOD: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,64}")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_PRINTABLE: Final = re.compile(rb"[\x21-\x7e]+")
_UNFIT: Final = re.compile(rb"[\0\r\n]")
_OVERHEAD: Final = 4  # of a line over HTTP/1.1: a colon, a blank, its end
_NOTHING: Final = Head(
    method="",
    raw_path=b"",
    path="",
    query=b"",
    headers=[],
    version="2",
    length=None,
    keep_alive=True,
    expects_continue=False,
)


def read(pairs: Iterable[Header]) -> tuple[Head, Violation | None] | None:
    """Return the head, and why it is refused; None = it is so broken that it gets no answer."""
    told = [(bytes(name), bytes(value)) for name, value in pairs]
    pseudo = {name: value for name, value in told if name.startswith(b":")}
    method, target = pseudo.get(b":method", b""), pseudo.get(b":path", b"")
    if _METHOD.fullmatch(method) is None or _PRINTABLE.fullmatch(target) is None:
        return None
    headers = [pair for pair in told if not pair[0].startswith(b":")]
    if any(_UNFIT.search(value) for _, value in headers):
        return None
    if b":authority" in pseudo:
        others = [pair for pair in headers if pair[0] != b"host"]
        headers = [(b"host", pseudo[b":authority"]), *others]
    head = evolve(_NOTHING, method=method.decode("ascii"), raw_path=target, headers=headers)
    return _checked(head)


def _checked(head: Head) -> tuple[Head, Violation | None]:
    if sum(len(name) + len(value) + _OVERHEAD for name, value in head.headers) > HEAD_MAX:
        return head, Violation("headers-too-large", f"the head is larger than {HEAD_MAX} bytes")
    if len(head.headers) > HEADERS_MAX:
        detail = f"there are more than {HEADERS_MAX} headers"
        return head, Violation("headers-too-large", detail)
    if any(name == b"expect" and value.lower() != b"100-continue" for name, value in head.headers):
        return head, Violation("expectation-failed", "only 100-continue may be expected here")
    if not heads.is_host(head.header(b"host") or b""):
        return head, Violation("malformed-http", "the authority is not a host")
    lengths = {value for name, value in head.headers if name == b"content-length"}
    if len(lengths) > 1 or not all(_LENGTH.fullmatch(value) for value in lengths):
        return head, Violation("malformed-http", "the length of the body is ambiguous")
    split = heads.split(head.raw_path, head.method)
    if isinstance(split, Violation):
        return head, split
    raw_path, path, query = split
    return evolve(head, raw_path=raw_path, path=path, query=query), None
