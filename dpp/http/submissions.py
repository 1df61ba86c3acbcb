"""Submitting one run: `POST /v1/runs`.

A submit waits for the intake's answer, which comes after the commit, at most `SUBMIT_WAIT_S`. A
client that goes away cancels this handler, never the intake: the key tells later what became of it.
With `Prefer: wait=N` the answer may wait for the run's end, on the watchboard like any waiter.
"""

import logging
from typing import Final

import trio
from attrs import frozen

from dpp.admission import Admission, Created, Exists, Submission, Window
from dpp.faults import Unanswered
from dpp.http.answers import NO_STORE, Answer, header
from dpp.http.envelopes import read_key, receive
from dpp.http.limits import SUBMIT, window_headers
from dpp.http.preferences import Preferences, read_preferences
from dpp.http.problems import Problem, unavailable
from dpp.http.refusals import DROPPED, problem_of
from dpp.http.requests import Request, read_body
from dpp.http.runs import cost_headers, wait_for_end
from dpp.http.services import Services
from dpp.http.views.encoding import encode
from dpp.http.views.runs import run_view
from dpp.logs import are_written, get_logger
from dpp.runs import TERMINAL, Run, Status

SUBMIT_WAIT_S: Final = 8.0  # a lost COMMIT is mostly resolved by then, and no client hangs for 10 s
STOPPING: Final = unavailable("this node is being stopped; ask again")

log = get_logger(__name__)


@frozen
class Admitted:
    """A run that this submission names, and whether it did so before."""

    run: Run
    replayed: bool
    window: Window | None = None


async def submit_run(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/runs."""
    asked_at = trio.current_time()
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
    until = trio.current_time() + SUBMIT_WAIT_S
    try:
        admission = await services.intake.submit(submission)
    except Unanswered:
        return DROPPED
    admitted = await _admitted(services, submission, admission, until)
    if isinstance(admitted, Problem):
        return admitted
    _log(request, admitted)
    preferred = read_preferences(request.headers.get(b"prefer", []), services.bounds.wait_max_s)
    run = admitted.run
    may_wait = services.holding.refusal(request.tenant_id) is None  # else it is answered at once
    if preferred.wait_s and run.status not in TERMINAL and may_wait:
        left_s = asked_at + preferred.wait_s - trio.current_time()
        run = await wait_for_end(services, run, max(0, left_s))
    return _answer(run, admitted, preferred)


def created_run(submission: Submission, created: Created) -> Run:
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
        expires_at=created.expires_at,
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
        metadata=submission.metadata,
    )


async def _admitted(
    services: Services, submission: Submission, admission: Admission, until: float
) -> Admitted | Problem:
    """Return what became of it. A replay is answered as the first time, with the run as it is.

    That is asked for `until` then; nobody waits longer than for the admission alone.
    """
    if isinstance(admission, Created):
        run = created_run(submission, admission)
        return Admitted(run, replayed=False, window=admission.window)
    if not isinstance(admission, Exists):
        return problem_of(admission)
    there = None
    with trio.move_on_at(until):
        there = await services.reads.get_run(submission.tenant_id, admission.run_id)
    if there is None:
        return DROPPED
    return Admitted(there, replayed=there.run_id != submission.run_id)


def _answer(run: Run, admitted: Admitted, preferred: Preferences) -> Answer:
    view = run_view(run)
    headers = (
        NO_STORE,
        header("location", view.links["self"]),
        *(((b"idempotency-replayed", b"true"),) if admitted.replayed else ()),
        *preferred.applied(),
        *cost_headers(view.cost),
        *window_headers(SUBMIT, admitted.window),
    )
    return Answer(201, encode(view), headers)


def _log(request: Request, admitted: Admitted) -> None:
    if are_written(logging.DEBUG):  # asked first: what a line would say takes 20 us
        log.debug(
            "run submitted",
            run_id=str(admitted.run.run_id),
            tenant_id=admitted.run.tenant_id,
            trace_id=request.trace_id,
            replayed=admitted.replayed,
        )
