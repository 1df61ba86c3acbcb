"""What the resources of the admin API share: the store, the plans, bodies, answers.

A 503 tells operators' tools that nothing was done, so a write whose outcome an outage left unknown
is asked again here, under the same identity, until it is known or `INSIST_S` are over.
"""

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Concatenate, Final, ParamSpec, TypeAlias, TypeVar

import trio
from attrs import frozen
from quart import Response, request

from dpp.blobs import Blobs
from dpp.faults import StoreUnavailable
from dpp.http import cursors
from dpp.http.answers import NO_STORE, Answer
from dpp.http.decoder import NotJson, decode_object
from dpp.http.media import JSON, refuse_content
from dpp.http.pages import problem_answer, respond
from dpp.http.problems import Problem, invalid
from dpp.http.requests import Parameters, Values, Whole, Words, read_values
from dpp.http.views.encoding import encode
from dpp.http.wire import read
from dpp.live import Live
from dpp.logs import get_logger
from dpp.plans import Plans
from dpp.ports import Admin
from dpp.pricing import InputError

Asked = TypeVar("Asked")
Body = TypeVar("Body")
P = ParamSpec("P")

INSIST_S: Final = 10.0  # as long as a client of the public API waits at most
PAUSE_S: Final = 0.2
LIST_QUERY: Final[Parameters] = {
    "limit": Whole(1, 200, default=50),
    "cursor": Words(cursors.CHARS_MAX),
}
NO_TENANT: Final = Problem("not-found", "there is no such tenant")

Outcome: TypeAlias = Answer | Problem

log = get_logger(__name__)


@frozen
class Desk:
    """What the resources work with. `random_bytes` makes keys, `key_ended` hears of ended ones.

    `running`: the configuration in force, as tables without secrets.
    """

    store: Admin
    blobs: Blobs
    plans: Live[Plans]
    random_bytes: Callable[[int], bytes]
    key_ended: Callable[[str], object] = lambda _: None
    running: Callable[[], Mapping[str, Any]] = dict


async def insist(ask: Callable[[], Awaitable[Asked]]) -> Asked:
    """Ask until there is an answer; raises `StoreUnavailable` when the outage outlasts us."""
    give_up_at = trio.current_time() + INSIST_S
    while True:
        try:
            return await ask()
        except StoreUnavailable:
            if trio.current_time() + PAUSE_S > give_up_at:
                raise
        await trio.sleep(PAUSE_S)


async def read_body(kind: type[Body]) -> Body | Problem:
    """Return the body of the request as a `kind`."""
    body = await request.get_data()
    assert isinstance(body, bytes)
    headers = request.headers
    refused = refuse_content(
        [value.encode("latin-1") for value in headers.getlist("Content-Type")],
        [value.encode("latin-1") for value in headers.getlist("Content-Encoding")],
        (JSON,),
    )
    if refused is not None:
        return refused
    decoded = decode_object(body)
    if isinstance(decoded, NotJson):
        return Problem("malformed-json", decoded.detail)
    structured = read(decoded, kind)
    return invalid(structured) if isinstance(structured, list) else structured


def read_list_query() -> Values | Problem:
    """Return limit and cursor."""
    return read_values(request.query_string, LIST_QUERY)


def refuse_plan(desk: Desk, plan: str) -> Problem | None:
    """Say that there is no such plan; None = there is."""
    if plan in desk.plans.now:
        return None
    return invalid([InputError("/plan", f"must be one of {', '.join(sorted(desk.plans.now))}")])


def told(status: int, view: object) -> Answer:
    """Return an answer that no cache keeps."""
    return Answer(status, encode(view), (NO_STORE,))


def answers(
    handler: Callable[Concatenate[Desk, P], Awaitable[Outcome]], desk: Desk
) -> Callable[P, Awaitable[Response]]:
    """Return the Quart view of a handler."""

    @wraps(handler)
    async def view(*args: P.args, **kwargs: P.kwargs) -> Response:
        outcome = await handler(desk, *args, **kwargs)
        answer = problem_answer(outcome) if isinstance(outcome, Problem) else outcome
        return respond(answer)

    return view
