"""Requests and their answers: one question asked until it is answered, and the answer read.

Everything is here that all operations do alike: JSON, problems, `Retry-After`, retries, pages.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, TypeAlias, TypeVar

from dpp.client.faults import (
    ApiProblem,
    BadAnswer,
    ClientError,
    Misconfigured,
    Problem,
    TransportError,
    api_problem,
)
from dpp.client.retries import Retries
from dpp.client.steps import Ask, Context, Item, Items, Open, Pause, Reply, Request, Steps, now
from dpp.client.values import Answer, Malformed

Document: TypeAlias = dict[str, Any]
A = TypeVar("A", bound=Answer)

JSON = "application/json"
PAGE = 200  # the most that a list gives at once
OK, ERRORS = range(200, 300), range(400, 600)


def params(**members: object) -> tuple[tuple[str, str], ...]:
    """Return the query of a request, without what was not given."""
    return tuple((name, str(value)) for name, value in members.items() if value is not None)


def get(url: str, query: tuple[tuple[str, str], ...] = (), *, wait_s: float = 0) -> Request:
    """Return a request that reads."""
    return Request("GET", url, query, repeatable=True, wait_s=wait_s)


def send(
    method: str,
    url: str,
    members: Mapping[str, Any] | None = None,
    *,
    repeatable: bool,
    headers: Mapping[str, str] | None = None,
    wait_s: float = 0,
) -> Request:
    """Return a request that changes something; members that are None are left out."""
    content = None
    if members is not None:
        given = {name: value for name, value in members.items() if value is not None}
        content = json.dumps(given, allow_nan=False).encode()
    return Request(
        method,
        url,
        headers={"Content-Type": JSON, **(headers or {})} if content else headers or {},
        content=content,
        repeatable=repeatable,
        wait_s=wait_s,
    )


def asked(context: Context, request: Request, retries: Retries | None = None) -> Steps[Reply]:
    """Return the answer, a good one, after as many retries as are worth it; raises the last."""
    return (yield from _until_answered(context, Ask(request), retries or context.retries))


def opened(context: Context, request: Request) -> Steps[Reply]:
    """Open a stream in the same way; what is open is read on with `read`."""
    return (yield from _until_answered(context, Open(request), context.retries))


def _until_answered(context: Context, step: Ask | Open, retries: Retries) -> Steps[Reply]:
    until = (yield from now()) + retries.total_s
    for attempt in itertools.count(1):
        failure: ClientError
        try:
            reply: Reply = yield step
            context.reached = True
            if reply.status not in ERRORS:
                return reply
            failure = refusal(reply)
        except TransportError as error:
            failure = error
        yield from pause_after(
            context,
            failure,
            repeatable=step.request.repeatable,
            attempt=attempt,
            left_s=until - (yield from now()),
            retries=retries,
        )
    raise AssertionError


def pause_after(
    context: Context,
    failure: ClientError,
    *,
    repeatable: bool,
    attempt: int,
    left_s: float,
    retries: Retries | None = None,
) -> Steps[None]:
    """Wait as long as this failure asks for; raises it where asking again is not worth it."""
    rules = retries or context.retries
    pause_s = rules.pause(
        failure, repeatable=repeatable, attempt=attempt, left_s=left_s, dice=context.dice()
    )
    if pause_s is None or not (context.reached or rules.at_first):
        raise failure
    if context.on_retry is not None:
        context.on_retry(failure, pause_s)
    yield Pause(pause_s)


def refusal(reply: Reply) -> ApiProblem | BadAnswer:
    """Return what an answer of 400 and more means."""
    document, after_s = _object(reply), retry_after_s(reply.headers)
    if document is None:
        why = "which is not a JSON object"
        return BadAnswer(reply.url, reply.status, why, retry_after_s=after_s)
    return api_problem(Problem.of(document, reply.status), retry_after_s=after_s)


def document_of(reply: Reply) -> Document:
    """Return the JSON object of an answer; one without content is empty."""
    if reply.status not in OK:
        raise BadAnswer(reply.url, reply.status, "which DPP never answers here")
    document = _object(reply) if reply.content else {}
    if document is None:
        raise BadAnswer(reply.url, reply.status, "which is not a JSON object")
    return document


def value_of(reply: Reply, kind: type[A]) -> A:
    """Return the answer as a value."""
    return _value(reply, kind, document_of(reply))


def fetch(context: Context, request: Request, kind: type[A]) -> Steps[A]:
    """Ask, and return the answer as a value."""
    return value_of((yield from asked(context, request)), kind)


def page(
    context: Context, url: str, kind: type[A], **query: object
) -> Steps[tuple[list[A], str | None]]:
    """Return one page of a list, and the cursor of the next."""
    reply = yield from asked(context, get(url, params(**query)))
    document = document_of(reply)
    items = document.get("items")
    if not isinstance(items, list):
        raise BadAnswer(reply.url, reply.status, "which is no list")
    return [_value(reply, kind, item) for item in items], document.get("next_cursor")


def pages(context: Context, url: str, kind: type[A], **query: object) -> Items[A]:
    """Give the items of a list, page after page."""
    cursor: str | None = None
    while True:
        items, cursor = yield from page(
            context, url, kind, **{"limit": PAGE, "cursor": cursor, **query}
        )
        yield from map(Item, items)
        if cursor is None:
            return


def deleted(context: Context, url: str) -> Steps[None]:
    """Delete what is there; deleting twice is deleting once."""
    yield from asked(context, send("DELETE", url, repeatable=True))


def moment(time: datetime | str | None) -> str | None:
    """Write a time as RFC 3339 in UTC; a string is the server's to judge."""
    if not isinstance(time, datetime):
        return time
    if time.tzinfo is None:
        message = f"{time!r} has no time zone"
        raise Misconfigured(message)
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`: seconds, or a date, which is counted from the answer's own `Date`."""
    text = headers.get("retry-after", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        pause = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("date", ""))
    except (ValueError, TypeError):
        return None
    return max(pause.total_seconds(), 0.0)


def _object(reply: Reply) -> Document | None:
    try:
        document = json.loads(reply.content)
    except ValueError:
        return None
    return document if isinstance(document, dict) else None


def _value(reply: Reply, kind: type[A], document: Any) -> A:  # noqa: ANN401 - JSON
    try:
        return kind.of(document)
    except Malformed as error:
        raise BadAnswer(reply.url, reply.status, str(error)) from error
