"""What clients and the operator do in a storm: submissions to every node, money in, money back.

Each posting is asked for again and again under its reference, by any node; it must be booked once.
"""

from __future__ import annotations

import itertools
from decimal import Decimal
from random import Random
from typing import Any

import httpx
import trio
from attrs import define, field, frozen

from tests.fault.fleet import Fleet
from tests.node.load import KINDS, Kind, Load, micros
from tests.node_client import until
from tests.node_process import NO_TLS, NodeProcess

PAUSE_S = (0.1, 0.5)  # between two postings
POSTING_S = 20.0  # a node insists for 10 s itself
LOOK_S = 0.05
BIG, HUGE = 8_000, 100_000  # bytes: over what is kept in rows here; over what a full disk takes
LARGE_KINDS: tuple[Kind, ...] = (
    ({"cost_usd": "0.001", "message": "b" * BIG}, "COMPLETED", "0.001"),
    ({"cost_usd": "0.002", "message": "c" * BIG, "sleep_s": 0.05}, "COMPLETED", "0.002"),
    ({"cost_usd": "0.003", "message": "d" * BIG, "sleep_s": 0.3}, "COMPLETED", "0.003"),
    ({"cost_usd": "0.004", "message": "h" * HUGE}, "COMPLETED", "0.004"),
)
# Mostly small runs; some results go to the store, a few are large.
STORM_KINDS: tuple[Kind, ...] = (*KINDS * 3, *LARGE_KINDS)
# Where each of them is several requests to a stand-in for S3, which is Python and takes turns.
CLOUD_KINDS: tuple[Kind, ...] = (*KINDS * 12, *LARGE_KINDS)


async def send(load: Load, node: NodeProcess, tenant: str, stop: trio.Event) -> None:
    """Send to one node, wherever it listens by now."""
    while not stop.is_set():
        moved = trio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(watch, node.url, node, stop, moved)
            await load.send(node.url, tenant, moved)
            nursery.cancel_scope.cancel()


async def watch(url: str, node: NodeProcess, stop: trio.Event, moved: trio.Event) -> None:
    """Say when a node listens elsewhere, or all is over."""
    while node.url == url and not stop.is_set():  # noqa: ASYNC110
        await trio.sleep(LOOK_S)
    moved.set()


@frozen
class Posting:
    """Money that the operator moves. `kind`: as the ledger names it."""

    tenant: str
    kind: str
    reference: str
    amount_usd: str
    run_id: str | None = None

    @property
    def row(self) -> tuple[str, str, str, int]:
        """Return what the ledger must have of it."""
        return self.tenant, self.kind, self.reference, micros(self.amount_usd)

    @property
    def body(self) -> dict[str, Any]:
        """Return what is sent."""
        body = {"amount_usd": self.amount_usd, "reference": self.reference, "reason": "a storm"}
        return body if self.run_id is None else {**body, "run_id": self.run_id}


@define(eq=False)
class Operator:
    """Who posts, and all that was posted."""

    fleet: Fleet
    load: Load
    dice: Random
    posted: list[Posting] = field(factory=list)
    answered: int = 0
    _numbers: itertools.count[int] = field(factory=itertools.count)
    _refunded: set[str] = field(factory=set)

    async def post_until(self, stop: trio.Event) -> None:
        """Deposit, refund, and repeat, until told to stop."""
        while not stop.is_set():
            with trio.move_on_after(self.dice.uniform(*PAUSE_S)):
                await stop.wait()
            makers = [self.deposit, self.refund, self.old]
            posting = self.dice.choice(makers)()
            if posting is not None:
                await self.post(posting)

    def deposit(self) -> Posting:
        """Make up a deposit."""
        tenant, cents = self.dice.choice([*self.load.tenants]), self.dice.randrange(1, 100)
        amount = str(Decimal(cents) / 100)
        return self.new(Posting(tenant, "deposit", f"deposit-{next(self._numbers)}", amount))

    def refund(self) -> Posting | None:
        """Give back what some run cost, once it was seen to have cost something."""
        ended = [look for look in self.load.history.looks[-20:] if look.cost]
        ended = [look for look in ended if look.run_id not in self._refunded]
        if not ended:
            return None
        run = self.dice.choice(ended)
        self._refunded.add(run.run_id)
        assert run.cost is not None
        cost = str(Decimal(run.cost) / 10**6)
        return self.new(Posting(run.tenant, "refund", f"refund-{run.run_id}", cost, run.run_id))

    def old(self) -> Posting | None:
        """Return one that was posted before."""
        return self.dice.choice(self.posted) if self.posted else None

    def new(self, posting: Posting) -> Posting:
        """Remember a posting."""
        self.posted.append(posting)
        return posting

    async def post(self, posting: Posting) -> bool:
        """Ask any node for it; False = no definite answer."""
        node = self.dice.choice(self.fleet.members).node
        try:
            async with httpx.AsyncClient(
                timeout=POSTING_S, trust_env=False, verify=NO_TLS
            ) as client:
                answer = await client.post(
                    f"{node.management_url}/admin/v1/tenants/{posting.tenant}/{posting.kind}s",
                    json=posting.body,
                    headers={"Authorization": f"Bearer {node.admin_token}"},
                )
        except httpx.TransportError:
            return False
        # 408: the node stood still between the connection and the head, and did nothing yet.
        assert answer.status_code in {200, 408, 503}, answer.text
        self.answered += answer.status_code == 200
        return answer.status_code == 200

    async def replay(self) -> None:
        """Ask again for everything, until each is answered."""
        for posting in self.posted:
            await until(lambda posting=posting: self.post(posting))  # type: ignore[misc]
