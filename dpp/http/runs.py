"""Runs: look at one, list them, cancel one.

`?wait=` waits on the watchboard: no waiter asks the database for itself while it waits.
"""

import re
from hashlib import sha256
from typing import Final, cast
from uuid import UUID

import trio

from dpp.cancels import CancelAsked, RunUnknown
from dpp.http import cursors
from dpp.http.answers import NO_STORE, Answer, Header, header
from dpp.http.problems import Problem, invalid
from dpp.http.requests import Parameters, Request, Values, Whole, Words, read_query
from dpp.http.services import Services
from dpp.http.views import RunList, RunView, encode, run_view, written
from dpp.http.wire import KEY_PATTERN
from dpp.logs import get_logger
from dpp.money import show
from dpp.pricing import InputError
from dpp.runs import TERMINAL, Run
from dpp.watches import Watch

SUBMIT_WAIT_S: Final = 8.0  # a lost COMMIT is mostly resolved by then, and no client hangs for 10 s
LIMIT: Final = Whole(1, 200, default=20)
LIST_QUERY: Final[Parameters] = {
    "limit": LIMIT,
    "cursor": Words(cursors.CHARS_MAX),
    "idempotency_key": Words(255, KEY_PATTERN),
}

_RUN_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
# The tenant may keep what it read; nobody else may, and it must ask whether it is still so.
_REVALIDATE: Final[Header] = (b"cache-control", b"private, no-cache")

log = get_logger(__name__)


async def get_run(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/runs/{run_id}."""
    query = read_query(request, {"wait": Whole(0, services.bounds.wait_max_s, default=0)})
    if isinstance(query, Problem):
        return query
    run_id = parse_run_id(request.params["run_id"])
    run = None if run_id is None else await services.reads.get_run(request.tenant_id, run_id)
    if run is None:
        return no_such_run()
    wait_s = query["wait"]
    if isinstance(wait_s, int) and wait_s and run.status not in TERMINAL:
        run = await _wait(services, run, wait_s)
    body = encode(run_view(run))
    etag = b'"%b"' % sha256(body).hexdigest()[:32].encode("ascii")
    headers = (_REVALIDATE, (b"etag", etag), *cost_headers(run))
    if _matches(request.headers.get(b"if-none-match", []), etag):
        return Answer(304, b"", headers)
    return Answer(200, body, headers)


async def list_runs(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/runs."""
    query = read_query(request, LIST_QUERY)
    if isinstance(query, Problem):
        return query
    before = _position(request.tenant_id, query)
    if isinstance(before, Problem):
        return before
    limit, key = query["limit"], query["idempotency_key"]
    assert isinstance(limit, int)
    runs = await services.reads.list_runs(
        request.tenant_id,
        before=before,
        limit=limit + 1,  # one more tells whether there is a next page
        idempotency_key=key if isinstance(key, str) else None,
    )
    page, more = runs[:limit], len(runs) > limit
    cursor = cursors.make("runs", request.tenant_id, str(page[-1].run_id)) if more else None
    # A page may have megabytes of results: they are written one by one, and then only copied.
    items = await services.bench.each(lambda run: written(run_view(run)), page)
    listed = RunList(cast("list[RunView]", items), cursor)
    body = await services.bench.once(lambda: encode(listed))
    return Answer(200, body, (NO_STORE,))


async def cancel_run(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/runs/{run_id}:cancel."""
    run_id = parse_run_id(request.params["run_id"])
    if run_id is None:
        return no_such_run()
    outcome = await services.cancels.cancel_run(request.tenant_id, run_id)
    if isinstance(outcome, RunUnknown):
        return no_such_run()
    services.watching.hint(
        run_id
    )  # its node, or whoever waits for it, need not find out by polling
    status = 202 if isinstance(outcome, CancelAsked) else 200
    log.debug("cancel", run_id=str(run_id), tenant_id=request.tenant_id, trace_id=request.trace_id)
    return Answer(status, encode(run_view(outcome.run)), (NO_STORE, *cost_headers(outcome.run)))


def parse_run_id(text: str) -> UUID | None:
    """Return the id; None = no run was ever named so."""
    return UUID(text) if _RUN_ID.fullmatch(text) else None


def no_such_run() -> Problem:
    """Return the answer for an unknown run and for another tenant's alike."""
    return Problem("not-found", "there is no such run")


def cost_headers(run: Run) -> tuple[Header, ...]:
    """Return what an answer with a run says of its cost."""
    headers = (
        header("x-dpp-cost-reserved", show(run.max_cost)),
        header("x-dpp-cost-minimum-fee", show(run.minimum_fee)),
    )
    if run.actual_cost is None:
        return headers
    return (*headers, header("x-dpp-cost-actual", show(run.actual_cost)))


async def _wait(services: Services, run: Run, wait_s: int) -> Run:
    """Return the run as soon as it has ended, else as it is when the wait is over."""
    with trio.move_on_after(wait_s):
        watch = Watch(run.tenant_id, run.run_id)
        ended = await services.watching.wait_terminal(watch, run.status)
        if ended is not None:
            return ended
    return await services.reads.get_run(run.tenant_id, run.run_id) or run


def _position(tenant_id: str, query: Values) -> UUID | Problem | None:
    cursor = query["cursor"]
    if not isinstance(cursor, str):
        return None
    position = cursors.read("runs", tenant_id, cursor)
    found = None if position is None else parse_run_id(position)
    return found or invalid([InputError("/query/cursor", "is not a cursor of this list")])


def _matches(lines: list[bytes], etag: bytes) -> bool:
    """Compare as RFC 9110, 13.1.2 says: any of the list, weak or not, or a star."""
    tags = [tag.strip() for line in lines for tag in line.split(b",")]
    return any(tag == b"*" or tag.removeprefix(b"W/") == etag for tag in tags)
