"""Submitting one run: `POST /v1/runs`.

A submit waits for the intake's answer, which comes after the commit, at most `SUBMIT_WAIT_S`. A
client that goes away cancels this handler, never the intake: the key tells later what became of it.
"""

from datetime import timedelta
from typing import Final

import trio

from dpp.admission import Admission, Created, Exists, Submission
from dpp.http.answers import NO_STORE, Answer, header
from dpp.http.envelopes import read_key, receive
from dpp.http.limits import SUBMIT, window_headers
from dpp.http.problems import Problem, unavailable
from dpp.http.refusals import DROPPED, problem_of
from dpp.http.requests import Request, read_body
from dpp.http.runs import cost_headers
from dpp.http.services import Services
from dpp.http.views import encode, run_view
from dpp.logs import get_logger
from dpp.runs import Run, Status

SUBMIT_WAIT_S: Final = 8.0  # a lost COMMIT is mostly resolved by then, and no client hangs for 10 s
STOPPING: Final = unavailable("this node is being stopped; ask again")

log = get_logger(__name__)


async def submit_run(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/runs."""
    key = read_key(request)
    if isinstance(key, Problem):
        return key
    body = await read_body(request, services.bounds.body_max_bytes)
    if isinstance(body, Problem):
        return body
    if services.draining.is_set():
        return STOPPING
    submission = await receive(services, request, key, body)
    if isinstance(submission, Problem):
        return submission
    with trio.move_on_after(SUBMIT_WAIT_S):
        admission = await services.intake.submit(submission)
        return await _answer(services, request, submission, admission)
    return DROPPED


def created_run(services: Services, submission: Submission, created: Created) -> Run:
    """Return the run as it is right after its commit, without asking for it."""
    return Run(
        run_id=created.run_id,
        tenant_id=submission.tenant_id,
        status=Status.QUEUED,
        pack_type=submission.pack_type,
        idempotency_key=submission.idempotency_key,
        attempt=1,
        lease_epoch=0,
        created_at=created.created_at,
        started_at=None,
        finished_at=None,
        expires_at=created.created_at + timedelta(seconds=services.bounds.queue_ttl_s),
        max_cost=submission.max_cost,
        minimum_fee=created.minimum_fee,
        actual_cost=None,
        policy=created.policy,
        priority=submission.priority,
        timebox_s=submission.timebox_s,
        cancel_asked=False,
        trace_id=submission.trace_id,
        progress=None,
        result=None,
        result_key=None,
        result_sha256=None,
        failure=None,
    )


async def _answer(
    services: Services, request: Request, submission: Submission, admission: Admission
) -> Answer | Problem:
    """Say what became of it. A replay answers as the first time, with the run as it is."""
    window = None
    if isinstance(admission, Created):
        run: Run | None = created_run(services, submission, admission)
        window = admission.window
    elif isinstance(admission, Exists):
        run = await services.reads.get_run(submission.tenant_id, admission.run_id)
    else:
        return problem_of(admission)
    if run is None:
        return DROPPED
    replayed = isinstance(admission, Exists)
    log.debug(
        "run submitted",
        run_id=str(run.run_id),
        tenant_id=run.tenant_id,
        trace_id=request.trace_id,
        replayed=replayed,
    )
    headers = (
        NO_STORE,
        header("location", f"/v1/runs/{run.run_id}"),
        *(((b"idempotency-replayed", b"true"),) if replayed else ()),
        *cost_headers(run),
        *window_headers(SUBMIT, window),
    )
    return Answer(201, encode(run_view(run)), headers)
