"""A run's result, byte for byte as it was stored: `GET /v1/runs/{run_id}/result`.

A small one lies in its ending. A large one lies in the store of results and is read in pieces, so
that a request holds no more than one. The object is verified before the first byte of any answer,
also of one with a range: its length and digest, and that its ending means it. A whole is hashed
once more on its way out, and its last piece is kept back until the digest is right; so a body that
ends was right to its last byte, and a client that wants more than a range's word reads the whole.

A store with links of its own is looked at and not read: the answer is a 307 to a link that holds
for some minutes, and the client compares the digest, which stands in the 307 and in the run.
"""

import hashlib
from base64 import b64encode
from collections.abc import AsyncGenerator
from typing import Final

import trio
from attrs import frozen

from dpp.blobs import (
    Archived,
    Attempt,
    BlobKey,
    CouldNotAsk,
    Found,
    Linked,
    Linking,
    Metadata,
    Pointer,
    astray,
)
from dpp.http.answers import NO_STORE, Answer, Header, Streamed, header
from dpp.http.etags import REVALIDATE, matches
from dpp.http.pasts import gone
from dpp.http.problems import Problem, unavailable
from dpp.http.ranges import BYTES, Asked, Span, Unsatisfiable, Whole, asked
from dpp.http.requests import Request, read_query
from dpp.http.runs import no_such_run, parse_run_id
from dpp.http.services import Services
from dpp.logs import get_logger
from dpp.runs import TERMINAL, Run, Status

PIECE: Final = 256 * 1024  # bytes: all that a download holds; a millisecond of hashing
CHECK_WAIT_S: Final = 30.0  # an object of 64 MiB is hashed in a second; a disk may hang for ever
PIECE_WAIT_S: Final = 30.0
AWAY: Final = unavailable("the store of results is away; ask the same again")
ARCHIVED: Final = Problem(
    "result-expired",
    "the result lies in an archive; an operator can restore it",
    {"archived": True},
)
ASTRAY: Final = Problem("internal-error", "it is logged under this request_id")

log = get_logger(__name__)


async def get_result(services: Services, request: Request) -> Answer | Streamed | Problem:
    """GET /v1/runs/{run_id}/result."""
    query = read_query(request, {})
    if isinstance(query, Problem):
        return query
    run_id = parse_run_id(request.params["run_id"])
    if run_id is None:
        return no_such_run()
    run = await services.reads.get_run(request.tenant_id, run_id)
    if run is None:
        return await gone(services, request.tenant_id, run_id)
    none = why_none(run)
    if none is not None:
        return none
    assert run.result_sha256 is not None
    tag = b'"%b"' % run.result_sha256.hex().encode("ascii")
    headers = described(run, run.result_sha256, tag)
    if matches(request.headers.get(b"if-none-match", []), tag):
        return Answer(304, b"", headers)
    if run.result is not None:
        wanted = asked(request.method, request.headers, len(run.result), tag)
        return inline(run.result, wanted, headers)
    return await _large(services, request, run, tag, headers)


def why_none(run: Run) -> Problem | None:
    """Say why a run has no result to serve; None = it has one."""
    if run.status not in TERMINAL:
        detail = f"the run is {run.status}; its result is here once it is COMPLETED"
        return Problem("run-not-finished", detail, {"run_status": run.status.value})
    if run.status is not Status.COMPLETED:
        return Problem("not-found", f"the run ended {run.status}: it has no result")
    if run.result is None and run.result_key is None:
        detail = "the result was served until the run's result_expires_at"
        return Problem("result-expired", detail, {"archived": False})
    return None


def described(run: Run, sha256: bytes, tag: bytes) -> tuple[Header, ...]:
    """Return what every answer with this result, or a part of it, says of it."""
    return (
        REVALIDATE,
        (b"etag", tag),
        (b"repr-digest", b"sha-256=:%b:" % b64encode(sha256)),
        (b"content-disposition", b'attachment; filename="%b.json"' % str(run.run_id).encode()),
        BYTES,
    )


def inline(result: bytes, wanted: Asked, headers: tuple[Header, ...]) -> Answer | Problem:
    """Return a result, or a part of it, that is here already."""
    match wanted:
        case Whole():
            return Answer(200, result, headers)
        case Span(start, stop):
            return Answer(206, result[start:stop], (*headers, wanted.header))
        case Unsatisfiable():
            return unsatisfiable(wanted)


def unsatisfiable(wanted: Unsatisfiable) -> Problem:
    """Return the problem of a range that begins behind the end."""
    detail = f"the result has {wanted.length} bytes"
    return Problem("range-not-satisfiable", detail, headers=(wanted.header, BYTES))


@frozen
class Large:
    """A large result that was verified: where it lies, and what it says of itself."""

    key: BlobKey
    there: Metadata


async def _large(
    services: Services, request: Request, run: Run, tag: bytes, headers: tuple[Header, ...]
) -> Answer | Streamed | Problem:
    try:
        with trio.fail_after(CHECK_WAIT_S):
            linked = await services.results.link(pointer_of(run).key, request.method)
            if linked is not None:
                return await _elsewhere(services, request, run, linked)
            large = await verified(services, run)
        if isinstance(large, str):
            return await _astray(services, request, run, large)
        wanted = asked(request.method, request.headers, large.there.length, tag)
        if isinstance(wanted, Unsatisfiable):
            return unsatisfiable(wanted)
        span = Span(0, large.there.length, large.there.length)
        span = span if isinstance(wanted, Whole) else wanted
        first = await _piece(services, large, span, span.start)  # else a 503 would come too late
    except (CouldNotAsk, trio.TooSlowError) as unasked:
        log.warning("result could not be read", **_names(request, run), detail=str(unasked))
        return AWAY
    status, ranged = (200, ()) if isinstance(wanted, Whole) else (206, (wanted.header,))
    length = (b"content-length", b"%d" % span.size)
    body = pieces(services, large, span, first)
    return Streamed(status, body, (*headers, *ranged, length))


async def _elsewhere(
    services: Services, request: Request, run: Run, linked: Linking
) -> Answer | Problem:
    """Send the client to the object itself, if that is what the run's ending means."""
    looked = Found(linked.metadata) if isinstance(linked, Linked | Archived) else linked
    wrong = astray(pointer_of(run), looked)
    if wrong is not None:
        return await _astray(services, request, run, wrong)
    if not isinstance(linked, Linked):
        return ARCHIVED
    assert run.result_sha256 is not None
    digest = (b"repr-digest", b"sha-256=:%b:" % b64encode(run.result_sha256))
    return Answer(307, b"", (NO_STORE, header("location", linked.url), digest))


def pointer_of(run: Run) -> Pointer:
    """Return what the run's ending says of its object."""
    assert run.result_key is not None
    assert run.result_sha256 is not None
    key = BlobKey.of(run.tenant_id, run.created_at, Attempt(run.run_id, run.lease_epoch))
    return Pointer(key=key, name=run.result_key, sha256=run.result_sha256)


async def verified(services: Services, run: Run) -> Large | str:
    """Return the run's object as its ending means it, or what is wrong with it."""
    pointer = pointer_of(run)
    looked = await services.results.check(pointer.key)
    wrong = astray(pointer, looked)
    if wrong is not None:
        return wrong
    assert isinstance(looked, Found)
    return Large(pointer.key, looked.metadata)


async def pieces(
    services: Services, large: Large, span: Span, first: bytes
) -> AsyncGenerator[bytes, None]:
    """Yield the bytes of a span; raises, which cuts the connection, when one cannot be had."""
    digest = hashlib.sha256()
    for start in range(span.start, span.stop, PIECE):
        piece = first if start == span.start else await _piece(services, large, span, start)
        digest.update(piece)
        is_last = start + len(piece) == span.stop
        if is_last and span.is_whole and digest.digest() != large.there.sha256:
            raise CouldNotAsk(f"what was read of {large.key.name} is not what was verified")
        yield piece


async def _piece(services: Services, large: Large, span: Span, start: int) -> bytes:
    with trio.move_on_after(PIECE_WAIT_S):
        size = min(PIECE, span.stop - start)
        return await services.results.piece(large.key, large.there, start, size)
    raise CouldNotAsk(f"no answer within {PIECE_WAIT_S:g} s")


async def _astray(services: Services, request: Request, run: Run, why: str) -> Problem:
    """Open a finding, once, and say no more than that it is our fault."""
    told = {
        "run_id": str(run.run_id),
        "tenant_id": run.tenant_id,
        "lease_epoch": run.lease_epoch,
        "why": why,
    }
    log.error("result astray", **_names(request, run), detail=why)
    kind = "object_astray"
    if await services.findings.open_finding(kind, str(run.run_id), run.tenant_id, told):
        log.critical("AUDIT_REQUIRED", reconcile_type=kind, invariant=kind, **told)
    return ASTRAY


def _names(request: Request, run: Run) -> dict[str, str]:
    return {
        "request_id": request.request_id,
        "run_id": str(run.run_id),
        "tenant_id": run.tenant_id,
    }
