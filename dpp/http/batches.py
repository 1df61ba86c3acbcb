"""Many runs in one request: `POST /v1/runs:batch`, as JSON or as NDJSON.

Each submission is answered for itself, in order, as if it had been sent alone: its problem stands
in its place. Only a body that is not JSON, or no batch, is refused as a whole; in NDJSON a bad line
is that item's problem. Work on the items gives way to other tasks after every `SLICE` of them.
"""

from collections.abc import Mapping, Sequence
from typing import Final, TypeAlias
from uuid import UUID

import trio

from dpp.admission import Admission, Created, Exists, RateLimited, Submission, Window
from dpp.http.answers import NO_STORE, Answer
from dpp.http.envelopes import KEY_INVALID, THREAD_FROM, build
from dpp.http.items import Item, read_array, read_lines
from dpp.http.limits import SUBMIT, window_headers
from dpp.http.media import NDJSON, media_type
from dpp.http.problems import Problem, document, invalid
from dpp.http.refusals import DROPPED, problem_of
from dpp.http.requests import Request, read_body
from dpp.http.services import Services
from dpp.http.submissions import STOPPING, SUBMIT_WAIT_S, created_run
from dpp.http.views import BatchAnswer, BatchRefusal, BatchRun, encode, run_view
from dpp.http.wire import is_key
from dpp.logs import get_logger
from dpp.ports import ItemBroken
from dpp.runs import Run

SLICE: Final = 50  # items worked on between two turns of the scheduler: about 1 ms

Prepared: TypeAlias = Submission | Problem

log = get_logger(__name__)


async def submit_batch(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/runs:batch."""
    body = await read_body(request, services.bounds.batch_body_max_bytes)
    if isinstance(body, Problem):
        return body
    if services.draining.is_set():
        return STOPPING
    items = await _decode(request, body)
    if isinstance(items, Problem):
        return items
    prepared: list[Prepared] = []
    for start in range(0, len(items), SLICE):
        prepared += [_prepare(services, request, item) for item in items[start : start + SLICE]]
        await trio.lowlevel.checkpoint()
    admissions = await _admit(services, [one for one in prepared if isinstance(one, Submission)])
    runs = await _replayed(services, request.tenant_id, admissions)
    answered = iter(admissions)
    answers: list[BatchRun | BatchRefusal] = []
    for start in range(0, len(prepared), SLICE):
        for one in prepared[start : start + SLICE]:
            outcome = (
                _outcome(services, one, next(answered), runs)
                if isinstance(one, Submission)
                else one
            )
            answers.append(_told(request, len(answers), outcome))
        await trio.lowlevel.checkpoint()
    _log(request, answers)
    headers = (NO_STORE, *window_headers(SUBMIT, _window(admissions)))
    return Answer(200, encode(BatchAnswer([*answers])), headers)


async def _decode(request: Request, body: bytes) -> list[Item] | Problem:
    """Return the items of a body; a large body is decoded in a thread."""
    kind = media_type(request.headers[b"content-type"][0])
    read = read_lines if kind == NDJSON else read_array
    if len(body) <= THREAD_FROM:
        return read(body)
    return await trio.to_thread.run_sync(read, body)


def _prepare(services: Services, request: Request, item: Item) -> Prepared:
    """Return the core's submission of an item, or the first thing that is wrong with it."""
    if isinstance(item, Problem):
        return item
    if "idempotency_key" not in item:
        return Problem("idempotency-key-missing", "the submission has no idempotency_key")
    sent = dict(item)
    key = sent.pop("idempotency_key")
    if not is_key(key):
        return KEY_INVALID
    built = build(services, request, key, sent)
    return invalid(built) if isinstance(built, list) else built


async def _admit(
    services: Services, submissions: Sequence[Submission]
) -> list[Admission | ItemBroken | None]:
    """Wait for all admissions; None = no answer, ask again."""
    if submissions:
        with trio.move_on_after(SUBMIT_WAIT_S):
            return await services.intake.submit_batch(submissions)
    return [None] * len(submissions)


async def _replayed(
    services: Services, tenant_id: str, admissions: Sequence[Admission | ItemBroken | None]
) -> Mapping[UUID, Run]:
    """Read the runs that keys of this batch name already, as they are now."""
    ids = [admission.run_id for admission in admissions if isinstance(admission, Exists)]
    if not ids:
        return {}
    runs = await services.reads.get_runs(tenant_id, sorted(set(ids)))
    return {run.run_id: run for run in runs}


def _outcome(
    services: Services,
    submission: Submission,
    admission: Admission | ItemBroken | None,
    replayed: Mapping[UUID, Run],
) -> BatchRun | Problem:
    if isinstance(admission, Created):
        return BatchRun(201, run_view(created_run(services, submission, admission)), replayed=False)
    if isinstance(admission, Exists):
        run = replayed.get(admission.run_id)
        return DROPPED if run is None else BatchRun(201, run_view(run), replayed=True)
    if isinstance(admission, ItemBroken):
        return Problem("internal-error", "it is logged; nothing was written for this item")
    return DROPPED if admission is None else problem_of(admission)


def _told(request: Request, index: int, answer: BatchRun | Problem) -> BatchRun | BatchRefusal:
    if isinstance(answer, BatchRun):
        return answer
    instance = f"{request.path}#{index}"
    told = document(answer, instance=instance, request_id=request.request_id)
    return BatchRefusal(told["status"], told)


def _window(admissions: Sequence[Admission | ItemBroken | None]) -> Window | None:
    """Return the rate window as the last item that was measured against it left it."""
    for admission in reversed(admissions):
        if isinstance(admission, Created | RateLimited):
            return admission.window
    return None


def _log(request: Request, items: Sequence[BatchRun | BatchRefusal]) -> None:
    created = sum(isinstance(item, BatchRun) and not item.replayed for item in items)
    log.debug(
        "batch submitted",
        tenant_id=request.tenant_id,
        trace_id=request.trace_id,
        items=len(items),
        created=created,
    )
