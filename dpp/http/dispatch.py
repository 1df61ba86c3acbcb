"""The one ASGI dispatcher: it serves every row of the table, and hands other paths to the pages.

Path and method are looked up here, `gate` checks head and key, the handler does the rest. Outages
become a 503 that is safe to retry, bugs a 500 that says nothing of the cause. Every answer,
whatever its status, is dressed the same.
"""

from collections.abc import Iterable
from contextlib import aclosing
from typing import Final, TypeAlias

import trio
from attrs import evolve

from dpp.faults import StoreUnavailable
from dpp.http.answers import SECURITY, Answer, Header, Streamed, request_id
from dpp.http.asgi import App, Message, Receive, Scope, Send
from dpp.http.cors import Cors
from dpp.http.events import EVENT_STREAM
from dpp.http.gate import admit
from dpp.http.heads import Head, Violation
from dpp.http.problems import Problem, method_not_allowed, render, unavailable
from dpp.http.requests import Headers, Request, gather
from dpp.http.routes import Route
from dpp.http.services import Services
from dpp.http.table import Match, Table
from dpp.http.tracing import trace_id
from dpp.logs import get_logger
from dpp.metrics import observe_request

REQUEST_ID: Final = b"x-request-id"
# Pages are the same under any name, and werkzeug has no answer to a host with a label too long.
NO_HOST: Final = (b"host", b"localhost")
OURS_TO_SAY: Final = frozenset({REQUEST_ID, b"host"})
POLICY: Final = b"content-security-policy"
UNKNOWN: Final = Problem("not-found", "there is no such path")
AWAY: Final = unavailable("the database is away; ask the same again")
OURS: Final = Problem("internal-error", "it is logged under this request_id")

Result: TypeAlias = Answer | Streamed | Problem

log = get_logger(__name__)


class Dispatcher:
    """An ASGI app over the table."""

    def __init__(self, routes: Iterable[Route], services: Services, pages: App, cors: Cors) -> None:
        self._table = Table(routes)
        self._services = services
        self._pages = pages
        self._cors = cors

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        assert scope["type"] == "http", scope["type"]
        started_at = trio.current_time()
        headers = gather(scope["headers"])
        named = request_id(headers.get(REQUEST_ID, ()))
        found = self._table.find(scope["raw_path"])
        dress = self._dress(named, headers)
        if found is None and not _is_api(scope["path"]):
            others = [pair for pair in scope["headers"] if pair[0] not in OURS_TO_SAY]
            ours = ((REQUEST_ID, named.encode("ascii")), NO_HOST)
            scope = {**scope, "headers": [*others, *ours]}
            await self._pages(scope, receive, _dressed(send, dress))
            return
        route: Route | None = None
        result: Result = UNKNOWN
        if found is not None:
            route, result = await self._serve(scope, receive, found, headers, named)
        answer = _answer(result, scope["raw_path"], named)
        await send(_start(answer, dress))
        if isinstance(answer, Streamed):
            await _stream(answer, send, bodiless=scope["method"] == "HEAD")
        else:
            await send({"type": "http.response.body", "body": answer.body})
        took_s = trio.current_time() - started_at
        held = route is not None and _is_held(route, scope["query_string"], headers)
        template = route.path if route else None
        observe_request(scope["method"], template, answer.status, took_s, held=held)

    def refuse(self, violation: Violation, head: Head | None) -> Answer:
        """Return the answer to what is no request, or came too late; the connection then closes."""
        headers = gather(head.headers if head else violation.headers)
        named = request_id(headers.get(REQUEST_ID, ()))
        problem = Problem(violation.problem, violation.detail)
        if violation.problem == "temporary-reduced-capacity":
            problem = unavailable(violation.detail)
        instance = (head.raw_path if head else b"").decode("latin-1")
        answer = render(problem, instance=instance, request_id=named)
        observe_request(head.method if head else "", None, answer.status, 0.0)
        dress = self._dress(named, headers)
        return Answer(answer.status, answer.body, (*answer.headers, *dress), answer.media_type)

    async def _serve(
        self, scope: Scope, receive: Receive, found: Match, headers: Headers, named: str
    ) -> tuple[Route | None, Result]:
        method = scope["method"]
        route = found.methods.get("GET" if method == "HEAD" else method)
        if route is None:
            if method == "OPTIONS":
                origin = _one(headers, b"origin")
                allow = (b"allow", found.allow)
                return None, Answer(204, b"", (allow, *self._cors.preflight(origin, found.allow)))
            return None, method_not_allowed(found.allow)
        try:
            return route, await self._checked(route, scope, receive, found, headers, named)
        except StoreUnavailable:
            return route, AWAY
        except Exception:
            log.exception("request failed", request_id=named, route=route.path)
            return route, OURS

    async def _checked(
        self,
        route: Route,
        scope: Scope,
        receive: Receive,
        found: Match,
        headers: Headers,
        named: str,
    ) -> Result:
        address = scope["client"][0] if scope["client"] else ""
        entry = await admit(self._services, route, headers, address)
        if isinstance(entry, Problem):
            return entry
        request = Request(
            method=scope["method"],
            path=scope["path"],
            params=found.params,
            query=scope["query_string"],
            headers=headers,
            principal=entry.principal,
            address=address,
            request_id=named,
            trace_id=trace_id(headers.get(b"traceparent", ())),
            receive=receive,
        )
        result = await route.handler(self._services, request)
        return _with(result, entry.headers) if entry.headers else result

    def _dress(self, named: str, headers: Headers) -> tuple[Header, ...]:
        """Return what every answer carries."""
        cors = self._cors.headers(_one(headers, b"origin"))
        return ((REQUEST_ID, named.encode("ascii")), *SECURITY, *cors)


def _is_api(path: str) -> bool:
    return path == "/v1" or path.startswith("/v1/")


def _is_held(route: Route, query: bytes, headers: Headers) -> bool:
    """Say whether the client asked to wait: its answer takes as long as a run does."""
    prefers = any(b"wait" in line for line in headers.get(b"prefer", ()))
    return prefers or b"wait=" in query or EVENT_STREAM in route.offers


def _one(headers: Headers, name: bytes) -> bytes | None:
    lines = headers.get(name)
    return lines[0] if lines else None


def _with(result: Result, headers: tuple[Header, ...]) -> Result:
    """Return the result with these headers too."""
    if isinstance(result, Problem):
        return Problem(result.name, result.detail, result.members, (*result.headers, *headers))
    return evolve(result, headers=(*result.headers, *headers))


def _answer(result: Result, raw_path: bytes, named: str) -> Answer | Streamed:
    """Write the result out; where that fails, the answer is that we failed."""
    instance = raw_path.decode("latin-1")
    try:
        return _rendered(result, instance, named)
    except Exception:
        log.exception("an answer could not be written", request_id=named)
        return _rendered(OURS, instance, named)


def _rendered(result: Result, instance: str, named: str) -> Answer | Streamed:
    if isinstance(result, Problem):
        return render(result, instance=instance, request_id=named)
    return result


async def _stream(answer: Streamed, send: Send, *, bodiless: bool) -> None:
    """Send piece after piece; each waits until the peer has taken the one before."""
    async with aclosing(answer.pieces) as pieces:
        if not bodiless:
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


def _start(answer: Answer | Streamed, dress: tuple[Header, ...]) -> Message:
    has_body = isinstance(answer, Streamed) or answer.body
    described = ((b"content-type", answer.media_type),) if has_body else ()
    return {
        "type": "http.response.start",
        "status": answer.status,
        "headers": [*described, *answer.headers, *dress],
    }


def _dressed(send: Send, dress: tuple[Header, ...]) -> Send:
    """Return `send` for an app behind this one, whose answers are dressed too.

    A page has a policy of its own, for it needs its styles; all else is as we say.
    """

    async def dressing(message: Message) -> None:
        if message["type"] == "http.response.start":
            theirs = message.get("headers", ())
            has_policy = any(name.lower() == POLICY for name, _ in theirs)
            ours = [pair for pair in dress if not (has_policy and pair[0] == POLICY)]
            names = {name for name, _ in ours}
            kept = [pair for pair in theirs if pair[0].lower() not in names]
            message = {**message, "headers": [*kept, *ours]}
        await send(message)

    return dressing
