"""Many runs in one request: `POST /v1/runs:batch`, as JSON or as NDJSON.

Each submission is answered for itself, in order, as if it had been sent alone: its problem stands
in its place. Only a body that is not JSON, or no batch, is refused as a whole; in NDJSON a bad line
is that item's problem. All work on the items is done on the bench, item by item, and what one batch
may be told is bounded: past the bounds errors are cut, and a run is to be asked for alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final, TypeAlias
from uuid import UUID

import msgspec
import trio
from attrs import define, evolve

from dpp.admission import Admission, Created, Exists, RateLimited, Submission, Window
from dpp.http.answers import NO_STORE, Answer
from dpp.http.decoder import TOO_MANY, NotJson, Object, decode_object
from dpp.http.envelopes import KEY_INVALID, build
from dpp.http.items import Item, cut_array, cut_lines
from dpp.http.limits import SUBMIT, window_headers
from dpp.http.media import NDJSON, media_type
from dpp.http.problems import Problem, document, invalid, unavailable
from dpp.http.refusals import DROPPED, problem_of
from dpp.http.requests import Request, read_body, too_large
from dpp.http.services import Services
from dpp.http.submissions import STOPPING, SUBMIT_WAIT_S, created_run
from dpp.http.views.batches import BatchAnswer, BatchRefusal, BatchRun
from dpp.http.views.encoding import encode, written
from dpp.http.views.runs import run_view
from dpp.http.wire import is_key
from dpp.logs import get_logger
from dpp.packs.members import MORE
from dpp.ports import ItemBroken
from dpp.pricing import InputError, InputsInvalid
from dpp.runs import Run

ERRORS_MAX: Final = 1000  # in one answer; each item has its first whatever the others have
RESULTS_MAX: Final = 16 << 20  # bytes in one answer: as many as a batch itself may have

REPLAYS_STEP: Final = 200  # runs that are read at a time: as many as in a page of the list
TOO_LARGE: Final = unavailable(
    "the results in this answer are too large; send this submission again with fewer others"
)

Prepared: TypeAlias = Submission | Problem

log = get_logger(__name__)


async def submit_batch(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/runs:batch."""
    body = await read_body(request, services.bounds.batch_body_max_bytes)
    if isinstance(body, Problem):
        return body
    if services.draining.is_set():
        return STOPPING
    prepared = await _prepared(services, request, body)
    if isinstance(prepared, Problem):
        return prepared
    admissions = await _admit(services, [one for one in prepared if isinstance(one, Submission)])
    runs = await _replayed(services, request.tenant_id, admissions)
    answering = Answering(services, request, iter(admissions), runs)
    answers = await services.bench.each(answering.answer, prepared)
    _log(request, len(answers), admissions)
    headers = (NO_STORE, *window_headers(SUBMIT, _window(admissions)))
    whole = await services.bench.once(lambda: encode(BatchAnswer([*answers])))
    return Answer(200, whole, headers)


async def _prepared(services: Services, request: Request, body: bytes) -> list[Prepared] | Problem:
    """Return what is to be admitted, and what is wrong already; or why it is no batch."""
    is_lines = media_type(request.headers[b"content-type"][0]) == NDJSON
    items = await (cut_lines if is_lines else cut_array)(services.bench, body)
    if isinstance(items, Problem):
        return items
    read = await services.bench.each(Preparing(services, request, body, is_lines).prepare, items)
    prepared = [one for one in read if not isinstance(one, NotJson)]
    if len(prepared) == len(read):
        return prepared
    index, spoils = next((i, one) for i, one in enumerate(read) if isinstance(one, NotJson))
    return Problem("malformed-json", f"{spoils.detail}, in submission {index}")


@define
class Preparing:
    """From items to submissions of the core, one by one."""

    services: Services
    request: Request
    body: bytes
    is_lines: bool
    errors_left: int = ERRORS_MAX

    def prepare(self, item: Item) -> Prepared | NotJson:
        """Return an item's submission, or the first thing that is wrong with it.

        `NotJson`: then the whole body is not.
        """
        if isinstance(item, Problem):
            return item
        begin, end = item
        most = self.services.bounds.body_max_bytes
        if end - begin > most:
            return too_large(most)
        sent = decode_object(self.body[begin:end])
        if isinstance(sent, dict):
            return self._built(sent)
        if self.is_lines or sent is TOO_MANY:
            return Problem("malformed-json", sent.detail)
        return sent

    def _built(self, sent: Object) -> Prepared:
        if "idempotency_key" not in sent:
            return Problem("idempotency-key-missing", "the submission has no idempotency_key")
        key = sent.pop("idempotency_key")
        if not is_key(key):
            return KEY_INVALID
        built = build(self.services, self.request, key, sent)
        if isinstance(built, list):
            return invalid(self._told(built))
        if isinstance(built.appraisal, InputsInvalid):
            told = self._told(built.appraisal.errors)
            return evolve(built, appraisal=InputsInvalid(tuple(told)))
        return built

    def _told(self, errors: Sequence[InputError]) -> Sequence[InputError]:
        """Return as many of an item's errors as its batch may still be told."""
        told = errors[: max(self.errors_left, 1)]
        self.errors_left -= len(told)
        return told if len(told) == len(errors) else [*told, InputError("", MORE)]


@define
class Answering:
    """From what became of the items to their answers, one by one, in order."""

    services: Services
    request: Request
    admissions: Iterator[Admission | ItemBroken | None]
    replayed: Mapping[UUID, Run]
    index: int = 0
    results_left: int = RESULTS_MAX

    def answer(self, one: Prepared) -> msgspec.Raw:
        """Return the answer to the next item, as it is written."""
        outcome = self._outcome(one, next(self.admissions)) if isinstance(one, Submission) else one
        index, self.index = self.index, self.index + 1
        if isinstance(outcome, BatchRun):
            return written(outcome)
        instance = f"{self.request.path}#{index}"
        told = document(outcome, instance=instance, request_id=self.request.request_id)
        return written(BatchRefusal(told["status"], told))

    def _outcome(
        self, submission: Submission, admission: Admission | ItemBroken | None
    ) -> BatchRun | Problem:
        if isinstance(admission, Created):
            run = created_run(submission, admission)
            return BatchRun(201, run_view(run), replayed=False)
        if isinstance(admission, Exists):
            return self._replay(submission, self.replayed.get(admission.run_id))
        if isinstance(admission, ItemBroken):
            return Problem("internal-error", "it is logged; nothing was written for this item")
        return DROPPED if admission is None else problem_of(admission)

    def _replay(self, submission: Submission, run: Run | None) -> BatchRun | Problem:
        size = 0 if run is None else result_size(run)
        if run is None or size > self.results_left:
            return TOO_LARGE
        self.results_left -= size
        return BatchRun(201, run_view(run), replayed=run.run_id != submission.run_id)


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
    """Read the runs that keys of this batch name already, as they are now, while they fit in."""
    exist = (admission.run_id for admission in admissions if isinstance(admission, Exists))
    ids = list(dict.fromkeys(exist))
    runs: dict[UUID, Run] = {}
    left = RESULTS_MAX
    for start in range(0, len(ids), REPLAYS_STEP):
        if left < 0:
            break
        read = await services.reads.get_runs(tenant_id, sorted(ids[start : start + REPLAYS_STEP]))
        runs.update((run.run_id, run) for run in read)
        left -= sum(map(result_size, read))
    return runs


def result_size(run: Run) -> int:
    """Return the bytes of what a run answered."""
    return len(run.result or b"")


def _window(admissions: Sequence[Admission | ItemBroken | None]) -> Window | None:
    """Return the rate window as the last item that was measured against it left it."""
    for admission in reversed(admissions):
        if isinstance(admission, Created | RateLimited):
            return admission.window
    return None


def _log(request: Request, items: int, admissions: Sequence[Admission | ItemBroken | None]) -> None:
    log.debug(
        "batch submitted",
        tenant_id=request.tenant_id,
        trace_id=request.trace_id,
        items=items,
        created=sum(isinstance(admission, Created) for admission in admissions),
    )
