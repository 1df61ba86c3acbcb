"""Cases: what is sent on one connection and how that ends, made from a seed and a number alone.

A case is the bytes, how many requests they were made from, and what the client does when they are
out. Whatever is made here may be broken in every way; what is not allowed is that the server is.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from enum import Enum, auto
from random import Random
from typing import Any, Final

from attrs import frozen

from tests.fuzz.corpus import RAW
from tests.http.api.test_bad_inputs import GOOD, KEYS, MALFORMED, UNKNOWN_MEMBERS
from tests.http.test_bad_http import REFUSED, TAKEN, TOO_LARGE
from tests.http.test_wire import BAD_MONEY

PIPELINED: Final = (2, 3, 5, 8, 40)
UNKNOWN_RUN: Final = "018f0000-0000-7000-8000-000000000000"


class Parting(Enum):
    """What the client does after its last byte."""

    HALF_CLOSE = auto()  # and reads to the end
    CLOSE = auto()  # at once: nothing is read
    RESET = auto()


@frozen
class Case:
    """One connection's worth."""

    kind: str
    data: bytes
    requests: int
    parting: Parting = Parting.HALF_CLOSE
    submits: bool = False  # it may have made runs whose answer nobody read


@frozen
class Keys:
    """What the cases may present: a tenant that spends, one whose own keys are played with."""

    spender: str
    juggler: str


# ── what is whole ────────────────────────────────────────────────────────────────────────────────

PATHS: Final = (
    *("/", "/health", "/readyz", "/openapi.json", "/v1/runs", "/v1/runs?limit=3", "/v1/budget"),
    *("/v1/transfers?limit=2", "/v1/packs", "/v1/usage", "/v1/keys", "/v1/none", "/none"),
    *(f"/v1/runs/{UNKNOWN_RUN}{rest}" for rest in ("", "/result", "/receipt", "?wait=0")),
    *("/v1/webhooks", "/v1/runs?status=COMPLETED&limit=1", "/v1/runs?limit=0&cursor=x"),
)
HEADERS: Final = (
    *(b"X-Request-Id: req-1", b"Origin: https://app.example.com", b"Accept: */*"),
    *(b"X-Forwarded-For: 10.0.0.1", b"X-Forwarded-Proto: https", b"Forwarded: for=1.2.3.4"),
    *(b"Prefer: respond-async", b"Accept: text/csv", b"If-None-Match: *", b"Cookie: a=b"),
    b"traceparent: 00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
    *(b"X-HTTP-Method-Override: DELETE", b"TE: trailers", b"Range: bytes=0-", b"Host2: x"),
)


def head(
    dice: Random, method: str, path: str, key: str | None, *lines: bytes, last: bool = False
) -> bytes:
    """Return a head that is good HTTP."""
    told = [f"{method} {path} HTTP/1.1".encode(), b"Host: dpp"]
    if key is not None:
        told.append(b"Authorization: Bearer " + key.encode())
    told += lines
    told += dice.sample(HEADERS, dice.choice((0, 0, 1, 3)))
    if last:
        told.append(b"Connection: close")
    return b"\r\n".join((*told, b"", b""))


def framed(dice: Random, body: bytes) -> tuple[bytes, bytes]:
    """Return a header that frames this body, and the body as it goes out."""
    if dice.random() < 0.7:
        return b"Content-Length: %d" % len(body), body
    chunks, at = bytearray(), 0
    while at < len(body):
        piece = body[at : at + dice.choice((1, 7, 64, 1000, 70_000))]
        if len(chunks) > 8000 + at:  # not too small ones: those are refused
            piece = body[at:]
        extension = dice.choice((b"", b"", b";a=b"))
        chunks += b"%x%b\r\n%b\r\n" % (len(piece), extension, piece)
        at += len(piece)
    return b"Transfer-Encoding: chunked", bytes(chunks) + b"0\r\n\r\n"


def submission(dice: Random) -> dict[str, Any]:
    """Return a submission that is admitted, and costs next to nothing."""
    inputs = dice.choice(({}, {"message": "hi"}, {"message": [1, {"a": None}]}))
    return {"pack_type": "echo", "inputs": inputs, "max_cost_usd": "0.01"}


def posting(
    dice: Random,
    path: str,
    body: bytes,
    key: str,
    *lines: bytes,
    media: bytes = b"application/json",
) -> bytes:
    """Return a POST of this body."""
    how, framing = framed(dice, body)
    return head(dice, "POST", path, key, b"Content-Type: " + media, how, *lines) + framing


def submit(dice: Random, keys: Keys, body: bytes | None = None) -> bytes:
    """Return a submission, with a body of its own perhaps."""
    named = b"Idempotency-Key: f-%d" % dice.randrange(1 << 40)
    body = json.dumps(submission(dice)).encode() if body is None else body
    return posting(dice, "/v1/runs", body, keys.spender, named)


def batch(dice: Random, keys: Keys) -> bytes:
    """Return a batch, as one document or as lines."""
    runs = [
        {**submission(dice), "idempotency_key": f"b-{dice.randrange(1 << 40)}"}
        for _ in range(dice.choice((1, 2, 5)))
    ]
    if dice.random() < 0.5:
        return posting(dice, "/v1/runs:batch", json.dumps({"runs": runs}).encode(), keys.spender)
    lines = "\n".join(json.dumps(run) for run in runs).encode()
    media = b"application/x-ndjson"
    return posting(dice, "/v1/runs:batch", lines, keys.spender, media=media)


def ask(dice: Random, keys: Keys) -> bytes:
    """Return a request without a body."""
    method = dice.choice(("GET", "GET", "GET", "HEAD", "OPTIONS", "DELETE", "PUT", "TRACE"))
    key = dice.choice((keys.spender, keys.spender, None, "dpp_live_nobody"))
    return head(dice, method, dice.choice(PATHS), key)


def other_post(dice: Random, keys: Keys) -> bytes:
    """Return a POST that is no submission."""
    path, body, key = dice.choice(
        (
            (f"/v1/runs/{UNKNOWN_RUN}:cancel", b"", keys.spender),
            ("/v1/quotes", json.dumps(submission(dice)).encode(), keys.spender),
            (
                "/v1/webhooks",
                b'{"url":"https://127.0.0.1/","events":["run.completed"]}',
                keys.spender,
            ),
            ("/v1/keys", b'{"scopes":["runs:read"]}', keys.juggler),
            ("/v1/keys/abcdefghijkl:rotate", b'{"overlap_s":1}', keys.juggler),
        )
    )
    return posting(dice, path, body, key)


def whole(dice: Random, keys: Keys) -> bytes:
    """Return any one good request."""
    make = dice.choices((ask, submit, batch, other_post), (6, 2, 1, 2))[0]
    return make(dice, keys)


# ── what is broken ───────────────────────────────────────────────────────────────────────────────

TOKENS: Final = (
    *(b"\r\n", b"\n", b"\r", b"\0", b" ", b"\t", b"\r\n\r\n", b":", b",", b";", b'"', b"\\"),
    *(b"Transfer-Encoding: chunked\r\n", b"Content-Length: 5\r\n", b"Content-Length: -1\r\n"),
    *(b"Expect: 100-continue\r\n", b"Connection: close\r\n", b"Connection: keep-alive\r\n"),
    *(b"Upgrade: h2c\r\n", b"Host: other\r\n", b"HTTP/1.0", b"HTTP/2.0", b"GET ", b"POST "),
    *(
        b"0\r\n\r\n",
        b"ffffffffffffffff\r\n",
        b"%00",
        b"%2e%2e%2f",
        b"../",
        b"\xff\xfe",
        b"\xc3\xa9",
    ),
    *(b"\\ud800", b"\\u0000", b"NaN", b"1e999", b"-", b"null", b"{", b"}", b"[", b"]", b"//", b"*"),
    *(b"9" * 400, b"9007199254740993", b"0x10", b"-0", b"1e3", b"A" * 300, b"[" * 100),
)
VALUES: Final = (
    *("null", "true", "-1", "0", "1e3", "1e999", "NaN", "-Infinity", "9007199254740993", '""'),
    *('"-1"', '"1e3"', '"0.0000001"', '" 1"', '"\\ud800"', '"\\u0000"', '"\\udc00\\ud800"', "[]"),
    *("{}", "[" * 33 + "]" * 33, "[" * 5000, "9" * 4301, '{"a":1,"a":1}', '"' + "x" * 5000 + '"'),
    *('"__proto__"', '"../../etc/passwd"', '"\'; drop table runs --"', '"{{7*7}}"', '"$(id)"'),
    *(
        '"é"',
        '"💸"',
        '"\\u202e"',
        "0.1",
        "-0.0",
        "01",
        "+1",
        ".5",
        "0x1",
        "undefined",
        "1" + "0" * 17,
    ),
    "[" + ",".join("0" * 3000) + "]",
    "[" + ",".join("0" * 11_000) + "]",
)


def mutated(dice: Random, data: bytes) -> bytes:
    """Return the bytes with one to eight places changed."""
    changed = bytearray(data)
    for _ in range(dice.choice((1, 1, 1, 2, 3, 8))):
        at = dice.randrange(len(changed) + 1)
        how = dice.randrange(8)
        if how == 0 and changed:
            changed[at % len(changed)] ^= 1 << dice.randrange(8)
        elif how == 1 and changed:
            changed[at % len(changed)] = dice.randrange(256)
        elif how == 2:
            changed[at:at] = dice.randbytes(dice.choice((1, 2, 9)))
        elif how in (3, 4):
            changed[at:at] = dice.choice(TOKENS)
        elif how == 5:
            del changed[at : at + dice.choice((1, 2, 20))]
        elif how == 6:
            changed[at:at] = changed[at : at + dice.choice((1, 10, 100))]
        elif dice.random() < 0.3:
            del changed[at:]
    return bytes(changed)


def odd_document(dice: Random) -> bytes:
    """Return a submission whose members are odd, or whose text is broken."""
    members = {name: json.dumps(value) for name, value in submission(dice).items()}
    for _ in range(dice.choice((1, 1, 2))):
        name = dice.choice(
            (*members, "timebox_s", "priority", "metadata", "run_at", "tenant_id", "é")
        )
        members[name] = dice.choice(VALUES)
    if dice.random() < 0.3:
        members["inputs"] = '{"message":%s}' % dice.choice(VALUES)  # noqa: UP031 - braces
    pairs = [f"{json.dumps(name)}:{value}" for name, value in members.items()]
    if dice.random() < 0.1:
        pairs.append(dice.choice(pairs))
    text = ("{" + ",".join(pairs) + "}").encode("utf-8", "surrogatepass")
    return mutated(dice, text) if dice.random() < 0.3 else text


def _tabled() -> Mapping[str, bytes]:
    """Return the tables of bad requests that other tests judge one by one."""
    bare = {**REFUSED, **{name: one[0] for name, one in {**TAKEN, **TOO_LARGE}.items()}}
    return {name: data for name, data in bare.items() if len(data) < 30_000}


BARE: Final = list(_tabled().values())
BODIES: Final = [
    *(body for body in MALFORMED.values() if len(body) < 20_000),
    *(body for body, _ in UNKNOWN_MEMBERS.values()),
    *(
        json.dumps({"pack_type": "echo", "inputs": {}, "max_cost_usd": amount}).encode()
        for amount in BAD_MONEY
        if len(str(amount)) < 5000
    ),
]
NAMES: Final = [lines for lines, _ in KEYS.values()]


def bare(dice: Random, _keys: Keys) -> bytes:
    return dice.choice(BARE)


def bad_body(dice: Random, keys: Keys) -> bytes:
    return submit(dice, keys, dice.choice(BODIES))


def bad_name(dice: Random, keys: Keys) -> bytes:
    named = [b"Idempotency-Key: " + line for line in dice.choice(NAMES)]
    return posting(dice, "/v1/runs", GOOD, keys.spender, *named)


def odd_body(dice: Random, keys: Keys) -> bytes:
    return submit(dice, keys, odd_document(dice))


def broken(dice: Random, keys: Keys) -> bytes:
    return mutated(dice, whole(dice, keys))


Maker = Callable[[Random, Keys], bytes]
SINGLE: Final[Sequence[tuple[str, Maker, int]]] = (
    ("whole", whole, 12),
    ("bytes", broken, 34),
    ("json", odd_body, 14),
    ("http of 6.5", bare, 8),
    ("body of 6.5", bad_body, 8),
    ("key of 6.5", bad_name, 3),
)
RAW_LIST: Final = list(RAW.values())


def case(seed: int, number: int, keys: Keys) -> Case:
    """Return one case; the same seed, number and keys make the same."""
    dice = Random(f"{seed}/{number}")
    choice = dice.random()
    if choice < 0.04:
        data = dice.choice(RAW_LIST)
        return Case("raw", mutated(dice, data) if dice.random() < 0.5 else data, 1)
    kinds = dice.choices([kind[:2] for kind in SINGLE], [kind[2] for kind in SINGLE], k=40)
    if choice < 0.16:
        many = dice.choice(PIPELINED)
        data = b"".join(make(dice, keys) for _, make in kinds[:many])
        return Case("pipelined", data, many)
    kind, make = kinds[0]
    data = make(dice, keys)
    if choice < 0.20:
        cut = data[: dice.randrange(len(data) + 1)]
        parting = dice.choice((Parting.CLOSE, Parting.RESET, Parting.HALF_CLOSE))
        return Case("cut", cut, 1, parting)
    if choice < 0.24:
        return Case("left", data, 1, dice.choice((Parting.CLOSE, Parting.RESET)))
    return Case(kind, data, 1)
