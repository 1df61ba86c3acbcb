"""Results and receipts. The bytes of a result are verified against the digest that names them."""

from __future__ import annotations

import base64
import binascii
import hashlib
import itertools
import re

from attrs import evolve, frozen

from dpp.client import asking
from dpp.client.faults import BadAnswer, DigestMismatch, TransportError
from dpp.client.runs import path, run
from dpp.client.steps import Context, Forget, Keep, Reply, Shut, Steps, now, read
from dpp.client.values import Receipt, Result, Saved

DIGEST = re.compile(r"(?:^|[\s,])sha-256=:([A-Za-z0-9+/]{43}=):")  # of RFC 9530
MOVED = range(300, 400)
# A digest is that of the bytes as they are stored: ask for them uncompressed.
WHOLE = {"Accept": "*/*", "Accept-Encoding": "identity"}


@frozen
class _Found:
    """An open result: the answer whose bytes come, and the digest (hex) that they must have."""

    reply: Reply
    sha256: str

    @property
    def media_type(self) -> str:
        return self.reply.headers.get("content-type", "application/octet-stream")


def result(context: Context, run_id: str) -> Steps[Result]:
    """Return the result of a run, whatever its size; raises `RunNotFinished` before its end."""
    pieces: list[bytes] = []
    found, _ = yield from _fetched(context, run_id, pieces)
    return Result(content=b"".join(pieces), sha256=found.sha256, media_type=found.media_type)


def saved(context: Context, run_id: str) -> Steps[Saved]:
    """Write the result to the shell's file, piece by piece; a cut download begins again."""
    found, size = yield from _fetched(context, run_id, None)
    return Saved(size_bytes=size, sha256=found.sha256, media_type=found.media_type)


def receipt(context: Context, run_id: str) -> Steps[Receipt]:
    """Return the receipt of a run that is settled; raises `RunNotFinished` before."""
    return asking.fetch(context, asking.get(f"{path(run_id)}/receipt"), Receipt)


def _fetched(
    context: Context, run_id: str, pieces: list[bytes] | None
) -> Steps[tuple[_Found, int]]:
    """Read all of a result into `pieces`, or into the file where there are none."""
    until = (yield from now()) + context.retries.total_s
    for attempt in itertools.count(1):
        found = yield from _opened(context, run_id)
        try:
            size = yield from _read_all(found, pieces)
        except TransportError as failure:
            left_s = until - (yield from now())
            yield from asking.pause_after(
                context, failure, repeatable=True, attempt=attempt, left_s=left_s
            )
        else:
            return found, size
        if pieces is None:
            yield Forget()
        else:
            pieces.clear()
    raise AssertionError


def _opened(context: Context, run_id: str) -> Steps[_Found]:
    """Open the result where it lies: at the node, or at an object store that the node names."""
    request = evolve(asking.get(f"{path(run_id)}/result"), headers=WHOLE)
    reply = yield from asking.opened(context, request)
    digest = DIGEST.search(reply.headers.get("repr-digest", ""))
    if reply.status in MOVED:
        elsewhere = reply.headers.get("location", "")
        if not elsewhere:
            raise BadAnswer(reply.url, reply.status, "and does not say where")
        stored = evolve(asking.get(elsewhere), headers=WHOLE, signed=False)
        reply = yield from asking.opened(context, stored)
        digest = digest or DIGEST.search(reply.headers.get("repr-digest", ""))
    if reply.status not in asking.OK:
        raise BadAnswer(reply.url, reply.status, "which DPP never answers here")
    if digest is not None:
        return _Found(reply, _hex(digest.group(1)))
    named = yield from run(context, run_id)  # an object store may not name it
    return _Found(reply, named.result_sha256 or "")


def _read_all(found: _Found, pieces: list[bytes] | None) -> Steps[int]:
    digest, size = hashlib.sha256(), 0
    while piece := (yield from read()):
        digest.update(piece)
        size += len(piece)
        if pieces is None:
            yield Keep(piece)
        else:
            pieces.append(piece)
    yield Shut()
    if digest.hexdigest() != found.sha256:
        why = "with bytes that its digest does not name"
        raise DigestMismatch(found.reply.url, found.reply.status, why)
    return size


def _hex(digest: str) -> str:
    try:
        return base64.b64decode(digest, validate=True).hex()
    except binascii.Error:
        return ""
