"""What comes back on a connection, read strictly: every answer is HTTP, every refusal a problem.

Independent of the product's own writer. Bytes in, answers out, or `Wrong` with the reason.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping

from attrs import frozen

# Problems that a client of the public API may meet, with their status: from the contract.
KNOWN: Mapping[str, int] = {
    "malformed-http": 400,
    "malformed-json": 400,
    "idempotency-key-missing": 400,
    "idempotency-key-invalid": 400,
    "unauthorized": 401,
    "budget-exceeded": 402,
    "spend-limit-exceeded": 402,
    "forbidden": 403,
    "pack-not-allowed": 403,
    "tenant-suspended": 403,
    "tenant-frozen": 403,
    "not-found": 404,
    "method-not-allowed": 405,
    "not-acceptable": 406,
    "request-timeout": 408,
    "run-not-finished": 409,
    "key-limit-reached": 409,
    "webhook-limit-reached": 409,
    "webhook-disabled": 409,
    "result-expired": 410,
    "run-expired": 410,
    "payload-too-large": 413,
    "uri-too-long": 414,
    "unsupported-media-type": 415,
    "range-not-satisfiable": 416,
    "expectation-failed": 417,
    "invalid-request": 422,
    "idempotency-key-reused": 422,
    "max-cost-too-low": 422,
    "max-cost-too-high": 422,
    "pack-unknown": 422,
    "quota-exceeded": 429,
    "headers-too-large": 431,
    "temporary-reduced-capacity": 503,
}
BASES = ("https://dpp.dev/problems/", "https://iana.org/assignments/http-problem-types#")
STATUS = re.compile(rb"HTTP/1\.1 ([1-5][0-9][0-9]) [\x20-\x7e]*")
HEADER = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+): ([\x20-\x7e\x80-\xff]*)")
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
LISTS = (b"vary",)  # may stand on several lines
NO_BODY = (204, 304)
MUST = (b"x-request-id", b"x-content-type-options", b"content-security-policy", b"date")


class Wrong(Exception):
    """What came back is not what a server of ours may say."""


@frozen
class Answer:
    """One answer; `problem` is the last word of its type."""

    status: int
    headers: Mapping[bytes, bytes]
    body: bytes
    problem: str = ""


def read(data: bytes, *, heads_possible: bool) -> list[Answer]:
    """Return all answers of a connection that is over; the last may be cut where it was reset."""
    answers: list[Answer] = []
    while data:
        if data.startswith(CONTINUE):
            data = data[len(CONTINUE) :]
            continue
        answer, data = _take(data, heads_possible=heads_possible)
        answers.append(answer)
    return answers


def _take(data: bytes, *, heads_possible: bool) -> tuple[Answer, bytes]:
    head, end, rest = data.partition(b"\r\n\r\n")
    if not end:
        raise Wrong("an answer without the end of its head")
    first, *lines = head.split(b"\r\n")
    status = STATUS.fullmatch(first)
    if status is None:
        raise Wrong(f"no status line: {first[:80]!r}")
    headers: dict[bytes, bytes] = {}
    for line in lines:
        pair = HEADER.fullmatch(line)
        if pair is None or (pair[1].lower() in headers and pair[1].lower() not in LISTS):
            raise Wrong(f"a header that is none, or twice: {line[:80]!r}")
        headers[pair[1].lower()] = pair[2]
    code = int(status[1])
    missing = [name for name in MUST if name not in headers]
    if missing:
        raise Wrong(f"{code} without {missing}")
    body, rest = _body(code, headers, rest, heads_possible=heads_possible)
    return _judged(Answer(code, headers, body), bodiless=not body), rest


def _body(
    code: int, headers: Mapping[bytes, bytes], rest: bytes, *, heads_possible: bool
) -> tuple[bytes, bytes]:
    if code in NO_BODY:
        return b"", rest
    if headers.get(b"transfer-encoding") == b"chunked":
        return _chunks(rest)
    length = headers.get(b"content-length", b"")
    if not length.isdigit():
        raise Wrong(f"{code} whose end nobody knows")
    if heads_possible and (not rest or rest.startswith(b"HTTP/1.1 ")):
        return b"", rest  # the answer to a HEAD
    size = int(length)
    if len(rest) < size:
        raise Wrong(f"a body of {len(rest)} bytes where {size} were announced")
    return rest[:size], rest[size:]


def _chunks(rest: bytes) -> tuple[bytes, bytes]:
    body = b""
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if not end or not re.fullmatch(rb"[0-9a-f]+", line):
            raise Wrong("a chunk without a size")
        size = int(line, 16)
        if rest[size : size + 2] != b"\r\n":
            raise Wrong("a chunk that does not end where it says")
        body, rest = body + rest[:size], rest[size + 2 :]
        if not size:
            return body, rest


def _judged(answer: Answer, *, bodiless: bool) -> Answer:
    """Return the answer with its problem, if all of that is as it must be."""
    if answer.status < 400:
        return answer
    if answer.headers.get(b"content-type") != b"application/problem+json":
        raise Wrong(f"{answer.status} that is no problem")
    if answer.status in (429, 503) and not answer.headers.get(b"retry-after", b"").isdigit():
        raise Wrong(f"{answer.status} without Retry-After")
    if bodiless:
        return answer
    document = json.loads(answer.body)
    base = next((base for base in BASES if str(document["type"]).startswith(base)), None)
    name = str(document["type"])[len(base or "") :]
    if base is None or KNOWN.get(name) != answer.status or document["status"] != answer.status:
        raise Wrong(f"{answer.status} of the unknown kind {document.get('type')}")
    if document["request_id"].encode() != answer.headers[b"x-request-id"]:
        raise Wrong("a problem under another request_id than its answer")
    if not document["detail"] or b"Traceback" in answer.body:
        raise Wrong(f"{name} with the detail {document['detail']!r}")
    return Answer(answer.status, answer.headers, answer.body, name)
