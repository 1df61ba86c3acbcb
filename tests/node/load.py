"""Load on a real node that remembers what was asked and what was answered, across its deaths.

Each sender submits one run after another, of several kinds, for one tenant. A request without an
answer, or with a 503, is *unknown*: the replay of it later must be answered, and by one run. All of
it, and what senders read in between, is written down for `tests.oracle.history`.
"""

from __future__ import annotations

import itertools
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any

import httpx
import trio
from attrs import define, field

from tests.node_client import Client, connected, submission, until
from tests.oracle.history import Balance, History, Look, Submit

LOOK_SHARE = 0.2  # of the submissions are followed by a look at the budget and at an earlier run
PAUSE_S = 0.05  # after a refused connection: the node is away
# What a run does and what that must cost, whichever attempt is the one that settles.
KINDS: Sequence[tuple[dict[str, Any], str, str]] = (
    ({}, "COMPLETED", "0.00"),
    ({"cost_usd": "0.001", "message": "paid"}, "COMPLETED", "0.001"),
    ({"cost_usd": "0.002", "sleep_s": 0.05}, "COMPLETED", "0.002"),
    ({"cost_usd": "0.003", "sleep_s": 0.5}, "COMPLETED", "0.003"),
    ({"fail": True}, "FAILED", "0.005"),
    ({"fail": True, "cost_usd": "0.006", "sleep_s": 0.2}, "FAILED", "0.006"),
)


@define(eq=False)
class Asked:
    """One submission: what was sent, what must come of it, and the run that was answered."""

    tenant: str
    key: str
    body: dict[str, Any]
    status: str
    cost: str
    run_id: str | None = None  # acknowledged

    def named(self, run_id: str) -> None:
        """Hear which run the key names: always the same one."""
        assert self.run_id in (None, run_id), f"{self.key} named {self.run_id}, now {run_id}"
        self.run_id = run_id


@define(eq=False)
class Load:
    """All that was ever asked of the node. `tenants`: name → API key."""

    tenants: dict[str, str]
    dice: Random
    asked: list[Asked] = field(factory=list)
    refused: int = 0  # 503, each with its Retry-After
    lost: int = 0  # no answer at all
    history: History = field(factory=History)
    _numbers: itertools.count[int] = field(factory=itertools.count)

    def new(self, tenant: str) -> Asked:
        """Make up a submission."""
        inputs, status, cost = self.dice.choice(KINDS)
        body = submission(inputs=inputs, priority=self.dice.randrange(10))
        asked = Asked(tenant, f"load-{next(self._numbers)}", body, status, cost)
        self.asked.append(asked)
        return asked

    async def send(self, url: str, tenant: str, stop: trio.Event) -> None:
        """Submit one run after another until told to stop."""
        async with connected(url, self.tenants[tenant]) as client:
            while not stop.is_set():
                if await self.ask(client, self.new(tenant)):
                    if self.dice.random() < LOOK_SHARE:
                        await self.look(client, tenant)
                else:
                    with trio.move_on_after(PAUSE_S):
                        await stop.wait()

    async def ask(self, client: Client, asked: Asked) -> bool:
        """Send one submission, for the first time or again; False = no definite answer."""
        asked_at = trio.current_time()
        try:
            answer = await client.ask(
                "POST", "/v1/runs", json=asked.body, headers={"Idempotency-Key": asked.key}
            )
        except httpx.TransportError:
            self.lost += 1
            self.told(asked, asked_at, None, None)
            return False
        if answer.status_code == 503:
            assert int(answer.headers["retry-after"]) >= 1
            self.refused += 1
            self.told(asked, asked_at, 503, None)
            return False
        assert answer.status_code == 201, answer.text
        self.told(asked, asked_at, 201, answer.json())
        return True

    def told(
        self, asked: Asked, asked_at: float, status: int | None, run: dict[str, Any] | None
    ) -> None:
        """Write down what came of a submission; None = no definite answer."""
        self.history.submits.append(
            Submit(
                tenant=asked.tenant,
                key=asked.key,
                invoked_at=asked_at,
                answered_at=trio.current_time(),
                outcome="info" if run is None else "ok",
                status=status,
                run_id=None if run is None else run["run_id"],
                max_cost=None if run is None else micros(run["cost"]["max_usd"]),
            )
        )
        if run is not None:
            asked.named(run["run_id"])

    async def look(self, client: Client, tenant: str) -> None:
        """Read the budget and some earlier run, and write down what they show."""
        known = [asked.run_id for asked in self.of(tenant)[-50:] if asked.run_id is not None]
        with suppress(httpx.TransportError):
            asked_at = trio.current_time()
            answer = await client.ask("GET", "/v1/budget")
            if answer.status_code == 200:
                self.history.balances.append(balance(tenant, asked_at, answer.json()))
            asked_at = trio.current_time()
            answer = await client.ask("GET", f"/v1/runs/{self.dice.choice(known)}")
            if answer.status_code == 200:
                self.history.looks.append(look(tenant, asked_at, answer.json()))

    async def replay(self, url: str) -> int:
        """Ask again for everything that was ever asked; returns how many were unknown."""
        unknown = sum(asked.run_id is None for asked in self.asked)
        async with trio.open_nursery() as tenants:
            for tenant in self.tenants:
                tenants.start_soon(self._replay, url, tenant)
        return unknown

    async def check(self, url: str) -> None:
        """Wait for the end of every run that was asked for; each ended as its inputs say, once."""
        async with trio.open_nursery() as tenants:
            for tenant in self.tenants:
                tenants.start_soon(self._check, url, tenant)
        assert len({asked.run_id for asked in self.asked}) == len(self.asked)

    def of(self, tenant: str) -> list[Asked]:
        """Return what a tenant asked."""
        return [asked for asked in self.asked if asked.tenant == tenant]

    async def _replay(self, url: str, tenant: str) -> None:
        """A batch may replay what was submitted alone, and the other way round."""
        mine = self.of(tenant)
        async with connected(url, self.tenants[tenant]) as client:
            for asked in mine[-10:]:
                await until(partial(self.ask, client, asked))  # a 503 is asked again, as clients do
            for page in pages(mine, 500):
                asked_at = trio.current_time()
                items = await client.batch(
                    [{**one.body, "idempotency_key": one.key} for one in page]
                )
                for asked, item in zip(page, items, strict=True):
                    assert item["status"] == 201, (asked, item)
                    self.told(asked, asked_at, 201, item["run"])

    async def _check(self, url: str, tenant: str) -> None:
        async with connected(url, self.tenants[tenant]) as client:

            async def nothing_held() -> bool:
                answer = await client.ask("GET", "/v1/budget")
                assert answer.status_code in {200, 503}, answer.text  # just healed: ask again
                return answer.status_code == 200 and answer.json()["held_usd"] == "0.00"

            await until(nothing_held)
            runs = {run["run_id"]: run async for run in listed(client)}
        mine = self.of(tenant)
        assert set(runs) == {asked.run_id for asked in mine}
        for asked in mine:
            run = runs[asked.run_id]
            assert run["idempotency_key"] == asked.key
            assert (run["status"], run["cost"]["actual_usd"]) == (asked.status, asked.cost), run
            message = {"message": asked.body["inputs"].get("message")}
            assert run["result"] == (message if asked.status == "COMPLETED" else None)


def micros(usd: str) -> int:
    """Return dollars in micro-dollars."""
    return int(Decimal(usd) * 10**6)


def balance(tenant: str, asked_at: float, budget: Mapping[str, str]) -> Balance:
    """Return what a read of the budget showed."""
    parts = {name: micros(budget[f"{name}_usd"]) for name in ("available", "held", "spent")}
    return Balance(tenant=tenant, invoked_at=asked_at, answered_at=trio.current_time(), **parts)


def look(tenant: str, asked_at: float, run: Mapping[str, Any]) -> Look:
    """Return what a read of a run showed."""
    cost = run["cost"]["actual_usd"]
    return Look(
        tenant=tenant,
        invoked_at=asked_at,
        answered_at=trio.current_time(),
        run_id=run["run_id"],
        status=run["status"],
        attempt=run["attempt"],
        cost=None if cost is None else micros(cost),
    )


async def listed(client: Client) -> AsyncIterator[dict[str, Any]]:
    """Yield every run of a tenant, newest first."""
    query: dict[str, Any] = {"limit": 200}
    while True:
        page = await client.get("/v1/runs", **query)
        for run in page["items"]:
            yield run
        if page["next_cursor"] is None:
            return
        query["cursor"] = page["next_cursor"]


def pages(asked: Sequence[Asked], size: int) -> list[Sequence[Asked]]:
    """Return it in pieces of at most `size`."""
    return [asked[first : first + size] for first in range(0, len(asked), size)]
