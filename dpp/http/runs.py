"""Runs: look at one, list them, cancel one.

`?wait=` waits on the watchboard: no waiter asks the database for itself while it waits.
"""

import re
from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256
from typing import Final, cast
from uuid import UUID

import trio

from dpp.cancels import CancelAsked, RunUnknown
from dpp.http import cursors
from dpp.http.answers import NO_STORE, Answer, Header, header
from dpp.http.etags import REVALIDATE, matches
from dpp.http.problems import Problem, invalid
from dpp.http.requests import (
    Moment,
    Parameters,
    Request,
    Values,
    Whole,
    Words,
    read_query,
)
from dpp.http.services import Services
from dpp.http.views.encoding import encode, written
from dpp.http.views.runs import CostView, RunList, RunView, run_view
from dpp.http.wire import KEY_PATTERN
from dpp.listings import RunFilter
from dpp.logs import get_logger
from dpp.pricing import InputError
from dpp.runs import TERMINAL, Run, Status
from dpp.watches import Watch

SUBMIT_WAIT_S: Final = 8.0  # a lost COMMIT is mostly resolved by then, and no client hangs for 10 s
LIMIT: Final = Whole(1, 200, default=20)
PAGE_BYTES_MAX: Final = 1024 * 1024  # of results on a page, as few lists have; then it is short
LIST_QUERY: Final[Parameters] = {
    "limit": LIMIT,
    "cursor": Words(cursors.CHARS_MAX),
    "status": Words(16, f"^({'|'.join(Status)})$"),
    "pack_type": Words(64),
    "created_after": Moment(),
    "created_before": Moment(),
    "idempotency_key": Words(255, KEY_PATTERN),
}

_RUN_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

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
        refused = services.holding.refusal(request.tenant_id)
        if refused is not None:
            return refused
        run = await wait_for_end(services, run, wait_s)
    view = run_view(run)
    body = encode(view)
    etag = b'"%b"' % sha256(body).hexdigest()[:32].encode("ascii")
    headers = (REVALIDATE, (b"etag", etag), *cost_headers(view.cost))
    if matches(request.headers.get(b"if-none-match", []), etag):
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
    limit = query["limit"]
    assert isinstance(limit, int)
    page = await services.reads.list_runs(
        request.tenant_id, before=before, limit=limit, matching=_filter(query)
    )
    runs = within(page.runs)
    following = runs[-1].run_id if len(runs) < len(page.runs) else page.next_before
    cursor = None if following is None else cursors.make("runs", request.tenant_id, str(following))
    # A page may have a megabyte of results: they are written one by one, and then only copied.
    items = await services.bench.each(lambda run: written(run_view(run)), runs)
    listed = RunList(cast("list[RunView]", items), cursor)
    body = await services.bench.once(lambda: encode(listed))
    return Answer(200, body, (NO_STORE,))


def within(runs: Sequence[Run]) -> Sequence[Run]:
    """Return the first of these runs, as many as a page has bytes for, and one at least.

    An answer is held as long as its reader is slow, and one tenant may have many readers.
    """
    size = 0
    for place, run in enumerate(runs):
        size += len(run.result or b"")
        if size > PAGE_BYTES_MAX and place:
            return runs[:place]
    return runs


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
    view = run_view(outcome.run)
    return Answer(status, encode(view), (NO_STORE, *cost_headers(view.cost)))


def parse_run_id(text: str) -> UUID | None:
    """Return the id; None = no run was ever named so."""
    return UUID(text) if _RUN_ID.fullmatch(text) else None


def no_such_run() -> Problem:
    """Return the answer for an unknown run and for another tenant's alike."""
    return Problem("not-found", "there is no such run")


def cost_headers(cost: CostView) -> tuple[Header, ...]:
    """Return what an answer with a run says of its cost."""
    headers = (
        header("x-dpp-cost-reserved", cost.max_usd),
        header("x-dpp-cost-minimum-fee", cost.minimum_fee_usd),
    )
    if cost.actual_usd is None:
        return headers
    return (*headers, header("x-dpp-cost-actual", cost.actual_usd))


async def wait_for_end(services: Services, run: Run, wait_s: float) -> Run:
    """Return the run as soon as it has ended, else as it is when the wait is over."""
    with services.holding.place(run.tenant_id), trio.move_on_after(wait_s):
        watch = Watch(run.tenant_id, run.run_id)
        ended = await services.watching.wait_terminal(watch, run.status)
        if ended is not None:
            return ended
    return await services.reads.get_run(run.tenant_id, run.run_id) or run


def _filter(query: Values) -> RunFilter:
    """Return what the list is asked for."""
    status = query["status"]
    return RunFilter(
        status=None if status is None else Status(str(status)),
        pack_type=cast("str | None", query["pack_type"]),
        created_after=cast("datetime | None", query["created_after"]),
        created_before=cast("datetime | None", query["created_before"]),
        idempotency_key=cast("str | None", query["idempotency_key"]),
    )


def _position(tenant_id: str, query: Values) -> UUID | Problem | None:
    cursor = query["cursor"]
    if not isinstance(cursor, str):
        return None
    position = cursors.read("runs", tenant_id, cursor)
    found = None if position is None else parse_run_id(position)
    return found or invalid([InputError("/query/cursor", "is not a cursor of this list")])
