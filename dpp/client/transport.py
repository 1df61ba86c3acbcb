"""One HTTP connection pool to one base URL, and the retries of everything that goes through it.

A request that may be repeated (it reads, or an idempotency key or a reference names it) is asked
again after a lost answer. Any request is asked again after 429 and 503, since nothing was done, and
after a connection that was never made. What the server says in `Retry-After` is what is waited.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeAlias

import httpx
import stamina
from attrs import define, field, frozen

from dpp.client.faults import BadAnswer, NotAUrl, Problem, Refused, Unreachable
from dpp.version import VERSION

Document: TypeAlias = dict[str, Any]

NOTHING_DONE = frozenset({429, 503})
GATEWAY = frozenset({502, 504})  # a proxy lost the node: carried out or not, nobody knows
CONNECT_S = 5.0
ANSWER_S = 30.0  # the server's own limits are all shorter; waits add to it
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


@frozen
class Retries:
    """How often and how long. `at_first` off: a server that never answered is not waited for."""

    attempts: int = 8
    total_s: float = 90.0  # longer than any Retry-After of a rate, which is at most its window
    pause_max_s: float = 5.0
    at_first: bool = True


@define(eq=False)
class Transport:
    """The connections; `auth` is whatever httpx takes, here a bearer of some kind."""

    url: str
    auth: httpx.Auth
    retries: Retries = field(factory=Retries)
    reached: bool = field(default=False, init=False)
    _http: httpx.Client = field(init=False)

    def __attrs_post_init__(self) -> None:
        # A proxy of the environment is for other hosts than this one.
        local = _parsed(self.url).host in LOOPBACK
        self._http = httpx.Client(
            auth=self.auth,
            timeout=httpx.Timeout(ANSWER_S, connect=CONNECT_S),
            trust_env=not local,
            headers={"User-Agent": f"dpp/{VERSION}", "Accept": "application/json"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def get(
        self,
        path: str,
        params: Mapping[str, str | int] | None = None,
        *,
        wait_s: float = 0,
    ) -> Document:
        """Return the document at `path`; `wait_s` is how long the server was asked to wait."""
        return self._ask("GET", path, params=params, repeatable=True, wait_s=wait_s)

    def post(
        self,
        path: str,
        body: Mapping[str, Any] | None = None,
        *,
        repeatable: bool,
        headers: Mapping[str, str] | None = None,
    ) -> Document:
        """Return the answer to `body`; `repeatable`: asking twice does the same as once."""
        return self._ask("POST", path, body=body or {}, headers=headers, repeatable=repeatable)

    def delete(self, path: str) -> Document:
        """Delete what is at `path`; deleting twice is deleting once."""
        return self._ask("DELETE", path, repeatable=True)

    def _ask(
        self,
        method: str,
        path: str,
        *,
        repeatable: bool,
        body: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Document:
        content = None if body is None else json.dumps(body, allow_nan=False).encode()

        def pause(error: Exception) -> bool | float:
            return self._pause(error, repeatable=repeatable)

        rules = self.retries
        for attempt in stamina.retry_context(
            pause, attempts=rules.attempts, timeout=rules.total_s, wait_max=rules.pause_max_s
        ):
            with attempt:
                return self._once(method, path, content, **more)
        raise AssertionError

    def _once(
        self,
        method: str,
        path: str,
        content: bytes | None,
        *,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
        wait_s: float = 0,
    ) -> Document:
        url = self.url.rstrip("/") + path
        heads = dict(headers or {})
        if content is not None:
            heads["Content-Type"] = "application/json"
        timeout = httpx.Timeout(ANSWER_S + wait_s, connect=CONNECT_S)
        try:
            answer = self._http.request(
                method, url, content=content, params=params, headers=heads, timeout=timeout
            )
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            raise Unreachable(self.url, _why(error), sent=False) from error
        except httpx.TransportError as error:
            raise Unreachable(self.url, _why(error), sent=True) from error
        except httpx.InvalidURL as error:
            raise Unreachable(self.url, str(error), sent=False) from error
        self.reached = True
        return _read(answer, url)

    def _pause(self, error: Exception, *, repeatable: bool) -> bool | float:
        """Say whether to ask again, and after how many seconds where the server said so."""
        match error:
            case Unreachable(sent=sent):
                return (repeatable or not sent) and (self.reached or self.retries.at_first)
            case BadAnswer(status=status):
                return repeatable and status in GATEWAY
            case Refused(retry_after_s=after_s, problem=problem):
                if problem.status not in NOTHING_DONE:
                    return repeatable and problem.status in GATEWAY
                if after_s is None:
                    return True
                return after_s if after_s <= self.retries.total_s else False
            case _:
                return False


def _parsed(url: str) -> httpx.URL:
    """Return the URL of a node; raises `NotAUrl`."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise NotAUrl(url) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise NotAUrl(url)
    return parsed


def _read(answer: httpx.Response, url: str) -> Document:
    """Return the answer's document, or raise what it says."""
    if answer.status_code == httpx.codes.NO_CONTENT:
        return {}
    try:
        document = answer.json()
    except ValueError:
        document = None
    if not isinstance(document, dict):
        raise BadAnswer(url, answer.status_code, "which is not a JSON object")
    if answer.is_success:
        return document
    if not answer.is_error:
        raise BadAnswer(url, answer.status_code, "which DPP never answers here")
    problem = Problem.of(document, answer.status_code)
    raise Refused(problem, retry_after_s=_retry_after_s(answer.headers))


def _retry_after_s(headers: Mapping[str, str]) -> float | None:
    """Read `Retry-After`: seconds, or a date, which is counted from the answer's own `Date`."""
    text = headers.get("Retry-After", "")
    if text.isascii() and text.isdigit():
        return float(text)
    try:
        pause = parsedate_to_datetime(text) - parsedate_to_datetime(headers.get("Date", ""))
    except (ValueError, TypeError):
        return None
    return max(pause.total_seconds(), 0.0)


def _why(error: httpx.TransportError) -> str:
    """Say it in the operating system's words where there are any."""
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    return str(error) or type(error).__name__


@define(eq=False)
class Connected:
    """The base of the clients: a context manager around one transport."""

    _transport: Transport = field(init=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()
