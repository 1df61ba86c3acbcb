"""Submissions: what to run, the most it may cost, and the key that makes buying it twice harmless.

A submission has one idempotency key, made once where none is given, over all its tries: a lost
answer is asked for again under the same key, and the server gives the run that there is.
"""

from __future__ import annotations

import itertools
import json
import math
import re
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeAlias, TypeGuard

from attrs import evolve, field, frozen

from dpp.client import asking
from dpp.client.faults import (
    SERVER_ERRORS,
    ApiProblem,
    BadAnswer,
    ClientError,
    Misconfigured,
    Problem,
    api_problem,
)
from dpp.client.runs import waited
from dpp.client.steps import Context, Request, Steps, now
from dpp.client.values import BatchItem, Malformed, Run

Money: TypeAlias = Decimal | str | int
Moment: TypeAlias = datetime | str

KEY = re.compile(r"[!#-+\--:<-\[\]-~]{1,255}")  # what api.md allows; it needs no quotes
PREFER_MAX_S = 60  # the longest that a submit may wait for the end of its run
BATCH_MAX = 1000  # submissions in one request
BATCH_BYTES_MAX = 8 << 20  # and bytes: half of what a node takes if nothing else is configured
UNAVAILABLE = 503


def usd(amount: Money) -> str:
    """Write an amount without an exponent; a float is refused, it is no exact amount of money."""
    if isinstance(amount, bool | float):
        message = f'{amount!r} is not money: give a Decimal or a string such as "1.00"'
        raise Misconfigured(message)
    return f"{amount:f}" if isinstance(amount, Decimal) else str(amount)


def _key(key: str | None) -> str:
    """Return the key, or make one."""
    if key is None:
        return str(uuid.uuid4())
    if KEY.fullmatch(key) is None:
        message = (
            'an idempotency key has 1 to 255 characters of ASCII, no blank and none of " \\ , ;'
        )
        raise Misconfigured(message)
    return key


@frozen(kw_only=True)
class Submission:
    """One of a batch. None = the server's default; a key that is None is made.

    `priority`: 0 goes first, 9 last. `run_at`: not before. `start_before`: expires if not started
    by then. Times are datetimes with a zone, or RFC 3339.
    """

    pack_type: str
    max_cost: Money
    inputs: Mapping[str, Any] = field(factory=dict)
    idempotency_key: str | None = None
    timebox_s: int | None = None
    priority: int | None = None
    run_at: Moment | None = None
    start_before: Moment | None = None
    metadata: Mapping[str, str] | None = None
    webhook_url: str | None = None

    def document(self) -> dict[str, Any]:
        """Return the body of a request, without the key."""
        members = {
            "pack_type": self.pack_type,
            "inputs": dict(self.inputs),
            "max_cost_usd": usd(self.max_cost),
            "timebox_s": self.timebox_s,
            "priority": self.priority,
            "run_at": asking.moment(self.run_at),
            "start_before": asking.moment(self.start_before),
            "metadata": None if self.metadata is None else dict(self.metadata),
            "webhook_url": self.webhook_url,
        }
        return {name: value for name, value in members.items() if value is not None}


def submit(  # noqa: PLR0913 - one parameter a member
    context: Context,
    pack_type: str,
    inputs: Mapping[str, Any],
    max_cost: Money,
    *,
    idempotency_key: str | None = None,
    wait: float | None = None,
    timebox_s: int | None = None,
    priority: int | None = None,
    run_at: Moment | None = None,
    start_before: Moment | None = None,
    metadata: Mapping[str, str] | None = None,
    webhook_url: str | None = None,
) -> Steps[Run]:
    """Buy a run, once however often it has to be asked; returns it, new or of before.

    `wait`: seconds to wait for its end; the run is returned as it ended, or as it is by then.
    Money that cannot be reserved raises `BudgetExceeded`.
    """
    submission = Submission(
        pack_type=pack_type,
        inputs=inputs,
        max_cost=max_cost,
        timebox_s=timebox_s,
        priority=priority,
        run_at=run_at,
        start_before=start_before,
        metadata=metadata,
        webhook_url=webhook_url,
    )
    until = (yield from now()) + (wait or 0)
    prefer_s = min(math.ceil(wait or 0), PREFER_MAX_S)
    headers = {"Idempotency-Key": _key(idempotency_key)}
    request = asking.send(
        "POST",
        "/v1/runs",
        submission.document(),
        repeatable=True,
        headers={**headers, "Prefer": f"wait={prefer_s}"} if prefer_s else headers,
        wait_s=prefer_s,
    )
    run = yield from asking.fetch(context, request, Run)
    return (yield from waited(context, run, until)) if wait else run


def submit_batch(context: Context, submissions: Iterable[Submission]) -> Steps[list[BatchItem]]:
    """Buy many runs, 1,000 in a request; returns the answer to each, in order.

    Items that the server had no room for (503) are asked again under the same keys. What refuses
    the first request as a whole, as a wrong API key does, is raised: nothing was bought. Later it
    stands in the items that it concerns, so that no run is bought and then forgotten.
    """
    named = [evolve(one, idempotency_key=_key(one.idempotency_key)) for one in submissions]
    items: list[BatchItem] = []
    for chunk in _chunks(named):
        items += yield from _submit_chunk(context, chunk, first=not items)
        if items[-1].run is None and not isinstance(items[-1].error, ApiProblem):
            break  # nobody answers: what is left would wait as long again, request by request
    unasked = items[-1].error if items else None
    items += [
        BatchItem(idempotency_key=one.idempotency_key or "", error=unasked)
        for one in named[len(items) :]
    ]
    return items


@frozen
class _Written:
    key: str
    content: bytes


def _chunks(submissions: Iterable[Submission]) -> Iterator[list[_Written]]:
    """Yield as many at a time as fit into one request."""
    chunk: list[_Written] = []
    size = 0
    for one in submissions:
        key = one.idempotency_key
        assert key is not None
        document = {**one.document(), "idempotency_key": key}
        written = _Written(key, json.dumps(document, allow_nan=False).encode())
        if chunk and (len(chunk) == BATCH_MAX or size + len(written.content) > BATCH_BYTES_MAX):
            yield chunk
            chunk, size = [], 0
        chunk.append(written)
        size += len(written.content)
    if chunk:
        yield chunk


def _submit_chunk(
    context: Context, chunk: Sequence[_Written], *, first: bool
) -> Steps[list[BatchItem]]:
    """Ask once, and again for those items alone that the server had no room for."""
    until = (yield from now()) + context.retries.total_s
    items: dict[int, BatchItem] = {}
    waiting = list(range(len(chunk)))
    for attempt in itertools.count(1):
        try:
            answers = yield from _ask_chunk(context, [chunk[place] for place in waiting])
        except ClientError as failure:
            whole = isinstance(failure, ApiProblem) and failure.status < SERVER_ERRORS
            if first and whole and attempt == 1:
                raise
            for place in waiting:
                items[place] = BatchItem(idempotency_key=chunk[place].key, error=failure)
            break
        items.update(zip(waiting, answers, strict=True))
        refused = ((place, items[place].error) for place in waiting)
        again = {place: error for place, error in refused if _unavailable(error)}
        waiting = list(again)
        if not waiting:
            break
        left_s = until - (yield from now())
        reason = max(again.values(), key=lambda error: error.retry_after_s or 0)
        try:
            yield from asking.pause_after(
                context, reason, repeatable=True, attempt=attempt, left_s=left_s
            )
        except ClientError:
            break  # the items say it
    return [items[place] for place in range(len(chunk))]


def _unavailable(error: ClientError | None) -> TypeGuard[ApiProblem]:
    return isinstance(error, ApiProblem) and error.status == UNAVAILABLE


def _ask_chunk(context: Context, chunk: Sequence[_Written]) -> Steps[list[BatchItem]]:
    content = b'{"runs": [' + b", ".join(one.content for one in chunk) + b"]}"
    headers = {"Content-Type": asking.JSON}
    request = Request("POST", "/v1/runs:batch", (), headers, content, repeatable=True)
    reply = yield from asking.asked(context, request)
    answers = asking.document_of(reply).get("items")
    if not isinstance(answers, list) or len(answers) != len(chunk):
        raise BadAnswer(reply.url, reply.status, "without an item for each submission")
    try:
        return [_item(one.key, answer) for one, answer in zip(chunk, answers, strict=True)]
    except Malformed as error:
        raise BadAnswer(reply.url, reply.status, str(error)) from error


def _item(key: str, answer: object) -> BatchItem:
    match answer:
        case {"run": dict(run), **more}:
            replayed = bool(more.get("replayed"))
            return BatchItem(idempotency_key=key, run=Run.of(run), replayed=replayed)
        case {"status": int(status), "problem": dict(problem)}:
            after_s = problem.get("retry_after_s")  # it has no headers of its own
            told_s = float(after_s) if isinstance(after_s, int | float) else None
            error = api_problem(Problem.of(problem, status), retry_after_s=told_s)
            return BatchItem(idempotency_key=key, error=error)
    raise Malformed("with an item that is neither a run nor a problem")
