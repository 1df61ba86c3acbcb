"""Load on a real node that remembers what was asked and what was answered, across its deaths.

Each sender submits one run after another, of several kinds, for one tenant; where shares say so,
some come in batches, and some are cancelled. A request without an answer, or with a 503, is
*unknown*: the replay of it later must be answered, and by one run. All of it, and what senders read
in between, is written down for `tests.oracle.history`.
"""

from __future__ import annotations

import hashlib
import itertools
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import suppress
from decimal import Decimal
from functools import partial
from random import Random
from typing import Any, TypeAlias

import httpx
import trio
from attrs import define, field

from tests.node_client import Client, connected, submission, until
from tests.oracle.history import Balance, History, Look, Submit

LOOK_SHARE = 0.2  # of the submissions are followed by a look at the budget and at an earlier run
PAUSE_S = 0.2  # after a refused connection: the node is away
BATCH_MAX = 8  # submissions of a batch, as a client gathers them
PAGE = 250  # submissions that are replayed at once: with a few large ones still a small body
CANCEL_DELAYS_S = (0.0, 0.02, 0.1)  # still queued, just claimed, at work
INLINE_MAX = 64 * 1024  # bytes of a result in its row, as shipped
Kind: TypeAlias = tuple[dict[str, Any], str, str]
# What a run does and what that must cost, whichever attempt is the one that settles.
KINDS: tuple[Kind, ...] = (
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
    cancelled: bool = False  # somebody asked for it, and may have been heard

    @property
    def result(self) -> dict[str, Any]:
        """Return what the run answers with, if it completes."""
        return {"message": self.body["inputs"].get("message")}

    @property
    def ends(self) -> set[tuple[str, str]]:
        """Return how it may end: status and cost. A cancelled one costs what it charged so far."""
        whole = {(self.status, self.cost)}
        if self.cancelled:
            charged = self.body["inputs"].get("cost_usd", "0.00")
            whole |= {("CANCELED", "0.00"), ("CANCELED", charged)}
        return whole

    def named(self, run_id: str) -> None:
        """Hear which run the key names: always the same one."""
        assert self.run_id in (None, run_id), f"{self.key} named {self.run_id}, now {run_id}"
        self.run_id = run_id


@define(eq=False)
class Load:
    """All that was ever asked of the node. `tenants`: name → API key; shares are of all turns."""

    tenants: dict[str, str]
    dice: Random
    kinds: Sequence[Kind] = KINDS
    inline_max_bytes: int = INLINE_MAX  # beyond it a result is not in its run's row
    batch_share: float = 0
    cancel_share: float = 0
    asked: list[Asked] = field(factory=list)
    refused: int = 0  # 503, each with its Retry-After
    lost: int = 0  # no answer at all
    batches: int = 0  # that were answered
    cancels: int = 0  # the same
    history: History = field(factory=History)
    _numbers: itertools.count[int] = field(factory=itertools.count)
    _of: defaultdict[str, list[Asked]] = field(factory=lambda: defaultdict(list))

    def new(self, tenant: str) -> Asked:
        """Make up a submission."""
        return self.add(tenant, self.dice.choice(self.kinds))

    def add(self, tenant: str, kind: Kind) -> Asked:
        """Make up a submission of this kind."""
        inputs, status, cost = kind
        body = submission(inputs=inputs, priority=self.dice.randrange(10))
        asked = Asked(tenant, f"load-{next(self._numbers)}", body, status, cost)
        self.asked.append(asked)
        self._of[tenant].append(asked)
        return asked

    async def send(self, url: str, tenant: str, stop: trio.Event) -> None:
        """Submit one run after another until told to stop."""
        async with connected(url, self.tenants[tenant]) as client:
            while not stop.is_set():
                if await self.take_turn(client, tenant):
                    if self.dice.random() < LOOK_SHARE:
                        await self.look(client, tenant)
                else:
                    with trio.move_on_after(PAUSE_S):
                        await stop.wait()

    async def take_turn(self, client: Client, tenant: str) -> bool:
        """Submit a run, or a few; returns whether the node answered."""
        if self.dice.random() < self.batch_share:
            count = self.dice.randrange(2, BATCH_MAX + 1)
            return await self.ask_batch(client, [self.new(tenant) for _ in range(count)])
        asked = self.new(tenant)
        answered = await self.ask(client, asked)
        if answered and self.dice.random() < self.cancel_share:
            await self.cancel(client, asked)
        return answered

    async def cancel(self, client: Client, asked: Asked) -> None:
        """Ask for a cancel, soon after the run was admitted, whatever comes of it."""
        await trio.sleep(self.dice.choice(CANCEL_DELAYS_S))
        asked.cancelled = True
        assert asked.run_id is not None
        with suppress(httpx.TransportError):
            answer = await client.cancel(asked.run_id)
            assert answer.status_code in {200, 202, 503}, answer.text
            self.cancels += answer.status_code != 503

    async def ask_batch(self, client: Client, some: Sequence[Asked]) -> bool:
        """Send submissions of one tenant as a batch; False = not every answer is definite."""
        asked_at = trio.current_time()
        runs = [{**one.body, "idempotency_key": one.key} for one in some]
        try:
            answer = await client.ask("POST", "/v1/runs:batch", json={"runs": runs})
        except httpx.TransportError:
            self.lost += len(some)
            for one in some:
                self.told(one, asked_at, None, None)
            return False
        assert answer.status_code in {200, 503}, answer.text
        taken = answer.status_code == 200
        items = answer.json()["items"] if taken else [{"status": 503}] * len(some)
        for one, item in zip(some, items, strict=True):
            assert item["status"] in {201, 503}, (one, item)
            self.refused += item["status"] == 503
            self.told(one, asked_at, item["status"], item.get("run"))
        self.batches += taken
        return all(item["status"] == 201 for item in items)

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
            if not known:  # a node was away for all of them
                return
            asked_at = trio.current_time()
            answer = await client.ask("GET", f"/v1/runs/{self.dice.choice(known)}")
            if answer.status_code == 200:
                self.history.looks.append(look(tenant, asked_at, answer.json()))

    async def replay(
        self, url: str, room: Callable[[], Awaitable[object]] = trio.lowlevel.checkpoint
    ) -> int:
        """Ask again for everything that was ever asked; returns how many were unknown.

        After each page `room` is waited for: what was unknown is begun only now, maybe at once.
        """
        unknown = sum(asked.run_id is None for asked in self.asked)
        async with trio.open_nursery() as tenants:
            for tenant in self.tenants:
                tenants.start_soon(self._replay, url, tenant, room)
        return unknown

    async def check(self, url: str) -> None:
        """Wait for the end of every run that was asked for; each ended as its inputs say, once."""
        async with trio.open_nursery() as tenants:
            for tenant in self.tenants:
                tenants.start_soon(self._check, url, tenant)
        assert len({asked.run_id for asked in self.asked}) == len(self.asked)

    def of(self, tenant: str) -> list[Asked]:
        """Return what a tenant asked."""
        return self._of[tenant]

    async def _replay(self, url: str, tenant: str, room: Callable[[], Awaitable[object]]) -> None:
        """A batch may replay what was submitted alone, and the other way round."""
        mine = self.of(tenant)
        async with connected(url, self.tenants[tenant]) as client:
            for asked in mine[-10:]:
                await until(partial(self.ask, client, asked))  # a 503 is asked again, as clients do
            for page in pages(mine, PAGE):
                await until(partial(self.ask_batch, client, page))
                await room()

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
            assert (run["status"], run["cost"]["actual_usd"]) in asked.ends, run
            self.check_result(asked, run)

    def check_result(self, asked: Asked, run: Mapping[str, Any]) -> None:
        """A result is what was asked for, in its row or told by its digest; nothing else has one."""  # noqa: E501
        shown = (run["result"], run["result_sha256"])
        if run["status"] != "COMPLETED":
            assert shown == (None, None), run
            return
        stored = json.dumps(asked.result, separators=(",", ":")).encode()
        in_row = len(stored) <= self.inline_max_bytes
        assert shown == (asked.result if in_row else None, hashlib.sha256(stored).hexdigest())


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
