"""The client in its three shells: threads, trio and asyncio. What one does the others do too."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any, Protocol

import anyio
import pytest

from dpp.client import AsyncClient, AsyncStream, Client, Retries, Stream
from tests.cli import peers
from tests.cli.peers import Says

QUICK = Retries(pause_first_s=0.0)
SOON_S = 60
KEY = "dpp_live_key"
RUN: dict[str, Any] = {
    "run_id": "r1",
    "status": "COMPLETED",
    "pack_type": "echo",
    "idempotency_key": "k",
    "attempt": 1,
    "created_at": "2026-01-01T00:00:00Z",
    "cost": {"max_usd": "0.10", "held_usd": "0.00", "actual_usd": "0.05"},
    "a_later_server_adds": ["this"],
}


class Ask(Protocol):
    """Open a client at `url`, use it, close it; many values come as a list."""

    def __call__(self, url: str, use: Callable[[Any], Any], **options: Any) -> Any: ...


def in_threads(url: str, use: Callable[[Any], Any], **options: Any) -> Any:
    with Client(url, **{"api_key": KEY, "retries": QUICK, **options}) as client:
        got = use(client)
        return list(got) if isinstance(got, Stream) else got


def on(backend: str) -> Ask:
    def on_loop(url: str, use: Callable[[Any], Any], **options: Any) -> Any:
        async def main() -> Any:
            given = {"api_key": KEY, "retries": QUICK, **options}
            with anyio.fail_after(SOON_S):
                async with AsyncClient(url, **given) as client:
                    got = use(client)
                    if isinstance(got, AsyncStream):
                        return [item async for item in got]
                    return await got if inspect.isawaitable(got) else got

        return anyio.run(main, backend=backend)

    return on_loop


SHELLS: dict[str, Ask] = {"threads": in_threads, "trio": on("trio"), "asyncio": on("asyncio")}


@pytest.fixture(params=SHELLS)
def ask(request: pytest.FixtureRequest) -> Ask:
    return SHELLS[request.param]


@pytest.fixture
def closed_url() -> str:
    """Return a URL where nothing listens."""
    return peers.closed_url()


def run(**members: Any) -> Says:
    return Says(201, json.dumps({**RUN, **members}))


def problem(status: int, retry_after: str | None = None, **members: Any) -> Says:
    """Answer with a problem: "budget-exceeded" if nothing else is named."""
    name = members.pop("name", "budget-exceeded")
    document = {"type": f"https://dpp.dev/problems/{name}", "title": "no", "status": status}
    headers = {"Content-Type": "application/problem+json"}
    headers |= {"Retry-After": retry_after} if retry_after is not None else {}
    return Says(status, json.dumps({**document, **members}), headers)
