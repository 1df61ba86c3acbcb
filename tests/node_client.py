"""A client of a real node: httpx on real sockets, one tenant's key, and what tests ask for often."""  # noqa: E501

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from typing import Any, TypeVar

import httpx
import trio
from attrs import frozen

from tests import described
from tests.node_process import NO_TLS

T = TypeVar("T")

ANSWER_S = 90.0  # longer than any wait that may be asked for
SOON_S = 60.0  # nothing that tests wait for takes so long on a busy machine
LOOK_S = 0.02
TERMINAL = frozenset({"COMPLETED", "FAILED", "CANCELED", "EXPIRED"})

_keys = itertools.count(1)


class Whole(httpx.AsyncByteStream):
    """A body in one piece. httpx's own is a generator, left unfinished where a node dies."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.sent = False

    def __aiter__(self) -> Whole:
        self.sent = False
        return self

    async def __anext__(self) -> bytes:
        await trio.lowlevel.checkpoint()
        if self.sent:
            raise StopAsyncIteration
        self.sent = True
        return self.content


@frozen
class Client:
    """One tenant's way to a node. `key` None asks as nobody."""

    http: httpx.AsyncClient
    key: str | None = None
    name: str = ""

    def as_nobody(self) -> Client:
        """Return the same connections without a key."""
        return Client(self.http)

    async def ask(self, method: str, path: str, **more: Any) -> httpx.Response:
        """Ask for anything; `headers` may replace what is sent else."""
        headers = httpx.Headers({"Authorization": f"Bearer {self.key}"} if self.key else {})
        headers.update(more.pop("headers", None))
        request = self.http.build_request(method, path, headers=headers, **more)
        request.stream = Whole(request.content)
        answer = await self.http.send(request)
        described.check(answer)
        return answer

    async def get(self, path: str, **params: Any) -> Any:
        """Return the document at a path."""
        answer = await self.ask("GET", path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def submit(
        self, *, idempotency_key: str | None = None, headers: Any = None, **members: Any
    ) -> httpx.Response:
        """Submit a run, of `echo` and under a fresh key if nothing else is said."""
        named = httpx.Headers({"Idempotency-Key": idempotency_key or fresh_key()})
        named.update(headers)
        return await self.ask("POST", "/v1/runs", json=submission(**members), headers=named)

    async def submitted(self, **members: Any) -> dict[str, Any]:
        """Submit what must be admitted; returns the run."""
        answer = await self.submit(**members)
        assert answer.status_code == 201, answer.text
        run: dict[str, Any] = answer.json()
        return run

    async def batch(self, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """Submit a batch; returns its items."""
        answer = await self.ask("POST", "/v1/runs:batch", json={"runs": runs})
        assert answer.status_code == 200, answer.text
        items: list[dict[str, Any]] = answer.json()["items"]
        return items

    async def run(self, run_id: str) -> dict[str, Any]:
        """Return a run as it is."""
        found: dict[str, Any] = await self.get(f"/v1/runs/{run_id}")
        return found

    async def ended(self, run_id: str) -> dict[str, Any]:
        """Wait until a run has ended, by the API's own wait; returns it."""
        with trio.fail_after(SOON_S):
            while True:
                run: dict[str, Any] = await self.get(f"/v1/runs/{run_id}", wait=30)
                if run["status"] in TERMINAL:
                    return run

    async def cancel(self, run_id: str) -> httpx.Response:
        """Ask for a cancel."""
        return await self.ask("POST", f"/v1/runs/{run_id}:cancel")

    async def until_status(self, run_id: str, status: str) -> dict[str, Any]:
        """Wait until a run has this status."""

        async def look() -> dict[str, Any] | None:
            run = await self.run(run_id)
            return run if run["status"] == status else None

        return await until(look)

    async def books(self) -> tuple[Any, Any, int]:
        """Return budget, last transfers and how many of the last runs there are: all of a small tenant."""  # noqa: E501
        budget, transfers = await self.get("/v1/budget"), await self.get("/v1/transfers", limit=200)
        runs = await self.get("/v1/runs", limit=200)
        return budget, transfers["items"], len(runs["items"])


@asynccontextmanager
async def connected(url: str, key: str | None = None, name: str = "") -> AsyncIterator[Client]:
    """Open connections to a node, as many at once as are asked for."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=20)
    async with httpx.AsyncClient(
        base_url=url, timeout=ANSWER_S, trust_env=False, limits=limits, verify=NO_TLS
    ) as http:
        yield Client(http, key, name)


async def until(look: Callable[[], Awaitable[T]], *, soon_s: float = SOON_S) -> T:
    """Return what `look` finds, as soon as that is something."""
    with trio.fail_after(soon_s):
        while not (found := await look()):  # noqa: ASYNC110
            await trio.sleep(LOOK_S)
    return found


async def together(*asked: Callable[[], Awaitable[T]]) -> list[T]:
    """Ask all at once; returns the answers in order."""
    answers: dict[int, T] = {}

    async def ask(place: int, one: Callable[[], Awaitable[T]]) -> None:
        answers[place] = await one()

    async with trio.open_nursery() as nursery:
        for place, one in enumerate(asked):
            nursery.start_soon(ask, place, one)
    return [answers[place] for place in range(len(asked))]


async def send_raw(url: str, data: bytes, *, half_close: bool = False) -> bytes:
    """Send exactly these bytes on a connection of their own; returns all that comes back."""
    target = httpx.URL(url)
    answer = b""
    with trio.fail_after(SOON_S):
        async with await trio.open_tcp_stream(target.host, target.port) as stream:
            with suppress(trio.BrokenResourceError):  # refused and closed before all was sent
                await stream.send_all(data)
                if half_close:
                    await stream.send_eof()
                while piece := await stream.receive_some(65536):
                    answer += piece
    return answer


def submission(**members: Any) -> dict[str, Any]:
    """Return a submission of `echo`, changed as `members` say."""
    return {"pack_type": "echo", "inputs": {}, "max_cost_usd": "0.01", **members}


def fresh_key() -> str:
    """Return an idempotency key that no test has used."""
    return f"key-{next(_keys)}"


def problem(answer: httpx.Response) -> str:
    """Return the last word of a problem's type, after looking at its form."""
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == answer.status_code
    assert document["request_id"] == answer.headers["x-request-id"]
    assert {"type", "title", "detail", "instance"} <= set(document)
    return name_of(document)


def name_of(document: dict[str, Any]) -> str:
    """Return the last word of a problem's type."""
    return str(document["type"].rpartition("/")[2].rpartition("#")[2])
