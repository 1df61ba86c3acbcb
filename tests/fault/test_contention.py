"""Several nodes' stores at one row at once: one budget, one key, one reference, one run.

Each store has connections of its own, as on another machine. A caller that is refused for now asks
again, as clients do; what is definite in the end is judged, and the books by both judges. Rounds
are few here; `DPP_ROUNDS` sets how many.
"""

from __future__ import annotations

import itertools
import os
from contextlib import AsyncExitStack
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import define

from dpp.admission import (
    Busy,
    Created,
    Exists,
    ExistsWithDifferentRequest,
    InsufficientBudget,
)
from dpp.cancels import CancelAsked, Ended
from dpp.claims import Seen
from dpp.faults import StoreUnavailable
from dpp.leases import Lapse
from dpp.ledger import Kind, Posted, ReferenceReused
from dpp.money import Micros
from dpp.runs import ErrorCode, Failure, Status
from dpp.settlement import CanceledWhileRunning, Completed, FailedByItself, LeaseLost, Settled
from dpp.store.desk import Sizes
from dpp.store.postgres import open_postgres
from tests.conftest import LIMITS
from tests.node_client import together
from tests.store.examples import DOLLAR, STORE_PLANS, end, posting, submission
from tests.store.steps import ALL, begin, budget_of, claim, make_tenant, read, take_lease

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from dpp.admission import Submission
    from dpp.claims import Claimed
    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database

ROUNDS = int(os.environ.get("DPP_ROUNDS", "2"))
SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
NODES = 3
COST = DOLLAR // 10
MUCH = 10_000 * DOLLAR
AGAIN_S = 0.02  # between two tries of a client
PASSED = Failure(ErrorCode.TIMEBOX, "the time box passed")


@pytest.fixture
async def nodes(
    bridge: Bridge, database: Database, judged: PostgresStore
) -> AsyncIterator[list[PostgresStore]]:
    """Open the stores of a few nodes; `judged` looks at the books afterwards."""
    async with AsyncExitStack() as stack:
        opened = []
        for _ in range(NODES):
            store = await stack.enter_async_context(
                open_postgres(
                    bridge,
                    database.address(),
                    database.address("dpp_audit"),
                    Sizes.of(8),
                    LIMITS,
                )
            )
            store.plans = STORE_PLANS
            opened.append(store)
        yield opened


async def submitted(store: PostgresStore, one: Submission) -> Any:
    """Submit one run until the answer is definite."""
    while True:
        try:
            (answer,) = await store.submit_runs([one], wait=True)
        except StoreUnavailable:
            answer = Busy()
        if answer != Busy():
            return answer
        await trio.sleep(AGAIN_S)


async def over_all(
    nodes: Sequence[PostgresStore], asked: Sequence[Submission]
) -> list[tuple[Submission, Any]]:
    """Submit all at once, each to the next node; returns pairs of what was asked and answered."""
    answers = await together(
        *[
            partial(submitted, node, one)
            for node, one in zip(itertools.cycle(nodes), asked, strict=False)
        ]
    )
    return list(zip(asked, answers, strict=True))


async def test_of_64_reserves_of_9_on_10_one_is_admitted_whichever_node_is_asked(
    nodes: list[PostgresStore],
) -> None:
    for round_ in range(ROUNDS):
        tenant = f"hot-{round_}"
        await make_tenant(nodes[0], tenant)

        pairs = await over_all(nodes, [submission(tenant, max_cost=9 * DOLLAR) for _ in range(64)])

        answers = [answer for _, answer in pairs]
        refused = InsufficientBudget(Micros(DOLLAR), required=Micros(9 * DOLLAR))
        assert sum(isinstance(answer, Created) for answer in answers) == 1
        assert answers.count(refused) == 63
        assert await budget_of(nodes[1], tenant) == (10 * DOLLAR, DOLLAR, 9 * DOLLAR, 0)


async def test_100_replays_of_one_key_at_once_are_one_run_whichever_node_is_asked(
    nodes: list[PostgresStore],
) -> None:
    await make_tenant(nodes[0], deposit=MUCH)
    for round_ in range(ROUNDS):
        asked = [submission(key=f"order-{round_}", max_cost=COST) for _ in range(100)]

        answers = [answer for _, answer in await over_all(nodes, asked)]

        (created,) = [answer for answer in answers if isinstance(answer, Created)]
        assert answers.count(Exists(created.run_id)) == 99
    assert (await budget_of(nodes[1]))[2] == ROUNDS * COST


async def test_of_different_requests_under_one_key_one_wins_and_stays_the_winner(
    nodes: list[PostgresStore],
) -> None:
    await make_tenant(nodes[0], deposit=MUCH)
    for round_ in range(ROUNDS):
        asked = [
            submission(key=f"order-{round_}", body=f"request {n % 4}", max_cost=COST)
            for n in range(40)
        ]

        pairs = await over_all(nodes, asked)

        ((winner, created),) = [pair for pair in pairs if isinstance(pair[1], Created)]
        for one, answer in pairs + await over_all(nodes, asked):
            same = one.fingerprint == winner.fingerprint
            assert answer in (
                [created, Exists(created.run_id)] if same else [ExistsWithDifferentRequest()]
            )
    assert (await budget_of(nodes[1]))[2] == ROUNDS * COST


async def test_a_key_that_was_refused_for_money_is_admitted_once_after_a_deposit(
    nodes: list[PostgresStore],
) -> None:
    """The deposit comes while replays of the key do: each is refused before it, or the one run."""
    for round_ in range(ROUNDS):
        tenant = f"poor-{round_}"
        await make_tenant(nodes[0], tenant, deposit=1)
        asked = [submission(tenant, "order", max_cost=COST) for _ in range(30)]
        deposit = posting(COST, "more", tenant_id=tenant)
        (first,) = [answer for _, answer in await over_all(nodes[:1], asked[:1])]

        answers, posted = await together(
            partial(over_all, nodes, asked), partial(posted_by, nodes[-1], deposit)
        )
        later = [answer for _, answer in await over_all(nodes, asked)]

        assert first == InsufficientBudget(Micros(1), required=Micros(COST))
        assert isinstance(posted, Posted)
        created = {answer.run_id for _, answer in answers if isinstance(answer, Created)}
        created |= {answer.run_id for answer in later if isinstance(answer, Created)}
        (run_id,) = created
        rest = [answer for _, answer in answers if not isinstance(answer, Created)]
        assert all(answer in (first, Exists(run_id)) for answer in rest)
        assert later.count(Exists(run_id)) >= 29
        assert await budget_of(nodes[1], tenant) == (COST + 1, 1, COST, 0)


async def posted_by(store: PostgresStore, asked: Any) -> Any:
    """Post a transfer until the answer is definite."""
    while True:
        try:
            return await store.post_transfer(asked)
        except StoreUnavailable:
            await trio.sleep(AGAIN_S)


async def test_a_deposit_asked_for_everywhere_at_once_is_credited_once(
    nodes: list[PostgresStore],
) -> None:
    """Of amounts that differ under one reference one wins, and the others are told so."""
    await make_tenant(nodes[0], deposit=0)
    credited = 0
    for round_ in range(ROUNDS):
        amounts = [DOLLAR * (1 + n % 2) for n in range(30)]
        asked = [posting(amount, f"order-{round_}") for amount in amounts]

        answers = await together(
            *[
                partial(posted_by, node, one)
                for node, one in zip(itertools.cycle(nodes), asked, strict=False)
            ]
        )

        won = {
            amount
            for amount, answer in zip(amounts, answers, strict=True)
            if isinstance(answer, Posted)
        }
        assert len(won) == 1
        assert sum(isinstance(answer, Posted) for answer in answers) == 15
        assert sum(isinstance(answer, ReferenceReused) for answer in answers) == 15
        credited += won.pop()
    assert await budget_of(nodes[1]) == (credited, credited, 0, 0)
    listed = await nodes[1].list_transfers("acme", before=None, limit=ALL)
    assert [one.kind for one in listed] == [Kind.DEPOSIT] * len(listed)


# ── one run, and everybody who may end it ─────────────────────────────────────────────────────────


@define(eq=False)
class Enders:
    """Those who may end one attempt, each at a node of its own choice."""

    nodes: Sequence[PostgresStore]
    claimed: Claimed
    dice: Random

    def all(self) -> list[Callable[[], Any]]:
        """Return them in any order: pack, time box, felt cancel, reaper, drain, and a client."""
        outcomes = [
            Completed(b"{}", Micros(COST // 2)),
            FailedByItself(PASSED, Micros(COST)),
            CanceledWhileRunning(Micros(COST // 4)),
        ]
        ends = [partial(self.end, end(self.claimed, outcome)) for outcome in outcomes]
        enders: list[Callable[[], Any]] = [*ends, self.take_back, self.hand_back, self.cancel]
        self.dice.shuffle(enders)
        return enders

    async def end(self, one: Any) -> Any:
        return ("end", await self._until_answered(partial(self._end, one)))

    async def _end(self, one: Any) -> Any:
        (answer,) = await self.dice.choice(self.nodes).end_runs([one], wait=False)
        if answer == Busy():
            raise StoreUnavailable("somebody holds its row")
        return answer

    async def take_back(self) -> Any:
        fence = self.claimed.fence
        seen = Seen(fence.run_id, self.claimed.tenant_id, fence.lease_id, fence.lease_epoch)
        store = self.dice.choice(self.nodes)
        return ("taken", await self._until_answered(partial(store.take_back, [seen], Lapse.LOST)))

    async def hand_back(self) -> Any:
        store = self.dice.choice(self.nodes)
        back = partial(store.hand_back_runs, [self.claimed.fence])
        return ("handed back", await self._until_answered(back))

    async def cancel(self) -> Any:
        store, run_id = self.dice.choice(self.nodes), self.claimed.fence.run_id
        cancel = partial(store.cancel_run, self.claimed.tenant_id, run_id)
        return ("cancel", await self._until_answered(cancel))

    async def _until_answered(self, ask: Callable[[], Any]) -> Any:
        await trio.sleep(self.dice.uniform(0, 0.005))  # about what one of them takes
        while True:
            try:
                return await ask()
            except StoreUnavailable:
                await trio.sleep(AGAIN_S / 4)


async def test_whoever_comes_first_ends_a_run_and_all_others_hear_of_it(
    nodes: list[PostgresStore], judged: PostgresStore
) -> None:
    print(f"DPP_TEST_SEED={SEED}")
    dice = Random(SEED)
    await make_tenant(judged, deposit=MUCH)
    lease = await take_lease(judged)
    winners: dict[str, int] = {}
    for _ in range(10 * ROUNDS):
        claimed = await begin(judged, lease, max_cost=COST)

        answers = await together(*Enders(nodes, claimed, dice).all())

        run = await read(judged, claimed.fence.run_id)
        settled = [a for name, a in answers if name == "end" and isinstance(a, Settled)]
        back = sum(a for name, a in answers if name in {"taken", "handed back"})
        ends = [a for name, a in answers if name == "end"]
        (cancel,) = [a for name, a in answers if name == "cancel"]
        assert len(settled) + back == 1, answers
        assert ends.count(LeaseLost()) == 3 - len(settled)
        if settled:
            assert settled == [Settled(run.status, run.actual_cost)]
            winners[run.status] = winners.get(run.status, 0) + 1
        else:  # a cancel ended it, before it was taken back or after
            assert (run.status, run.actual_cost) == (Status.CANCELED, 0)
            winners["taken back"] = winners.get("taken back", 0) + 1
        assert isinstance(cancel, CancelAsked | Ended)
        assert run.actual_cost is not None
    print(f"ended by: {winners}")
    assert await claim(judged, lease) == []
    assert len(winners) > 1, "one of them always came first"
    assert (await budget_of(judged))[2] == 0
