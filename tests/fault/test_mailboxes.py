"""Intake or settler is killed with a full mailbox: whoever waits gets an answer, and soon.

An answer is what was asked for, or `StoreUnavailable`, which is safe to ask again. The actor is
cancelled, raises, or gives up for good, at a moment drawn from a seed; asked again it is one run
and one charge. Rounds are few here; `DPP_ROUNDS` sets how many.
"""

from __future__ import annotations

import os
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
import trio.testing
from attrs import define, field

from dpp.actors.intake import IntakeDesk, intake
from dpp.actors.lanes import keep_lanes
from dpp.actors.settler import SettlingDesk, settler
from dpp.admission import Created, Exists
from dpp.faults import StoreUnavailable
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import Settled
from tests.node_client import together
from tests.store.examples import DOLLAR, end, submission
from tests.store.steps import budget_of, claim, make_tenant, take_lease

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from dpp.actors.lanes import Lanes
    from dpp.actors.mailbox import Mailbox
    from dpp.store.postgres import PostgresStore

ROUNDS = int(os.environ.get("DPP_ROUNDS", "2"))
SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
CAPACITY = 20
ASKERS = 2 * CAPACITY  # the mailbox is full while they come
ANSWERED_S = 5.0  # promised
COST = DOLLAR // 10  # what `end` charges
TENANTS = ("acme", "globex")
SETTLED = Settled(Status.COMPLETED, Micros(COST))


class Killed(Exception):
    """The bug that an actor dies of here."""


@define(eq=False)
class Mortal:
    """An actor that dies in a number of its lives, a moment after it has begun."""

    actor: Callable[[Mailbox[Any, Any]], Awaitable[None]]
    dice: Random
    how: str
    deaths: int
    died: int = field(default=0, init=False)

    async def live(self, mailbox: Mailbox[Any, Any]) -> None:
        """Live once."""
        if self.died == self.deaths:
            await self.actor(mailbox)
            return
        self.died += 1
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._die, nursery)
            await self.actor(mailbox)
        raise Killed(f"the {self.died}. time")

    async def _die(self, nursery: trio.Nursery) -> None:
        await trio.sleep(self.dice.uniform(0, 0.02))  # a batch takes about half of that
        if self.how == "raise":
            raise Killed("in the middle")
        nursery.cancel_scope.cancel()


@define(eq=False)
class Actor:
    """One of the two: its desk, what is asked there, and what is right in the end."""

    name: str
    desk: Lanes[Any, Any]
    live: Callable[[Mailbox[Any, Any]], Awaitable[None]]
    asked: Sequence[Any]
    ask: Callable[[Any], Awaitable[Any]]
    right: Callable[[Any, Any], bool]


async def intaking(store: PostgresStore) -> Actor:
    desk = IntakeDesk(1, CAPACITY)
    await trio.lowlevel.checkpoint()
    return Actor(
        "intake",
        desk,
        partial(intake, store, lambda _: None),
        [submission(TENANTS[n % 2], max_cost=COST) for n in range(ASKERS)],
        desk.submit,
        lambda one, answer: (
            isinstance(answer, Created | Exists) and bool(answer.run_id == one.run_id)
        ),
    )


async def settling(store: PostgresStore) -> Actor:
    desk = SettlingDesk(1, CAPACITY)
    asked = [submission(TENANTS[n % 2], max_cost=COST) for n in range(ASKERS)]
    await store.submit_runs(asked, wait=True)
    claimed = await claim(store, await take_lease(store), *TENANTS)
    assert len(claimed) == ASKERS
    return Actor(
        "settler",
        desk,
        partial(settler, store, lambda _: None),
        [end(one) for one in claimed],
        lambda one: desk.settle(one, "a trace"),
        lambda _, answer: bool(answer == SETTLED),
    )


ACTORS = {"intake": intaking, "settler": settling}


@define(eq=False)
class Asker:
    """Asks once and remembers, then again until it is answered."""

    actor: Actor
    one: Any
    refused: int = 0

    async def ask(self) -> Any:
        while True:
            try:
                with trio.fail_after(ANSWERED_S):
                    return await self.actor.ask(self.one)
            except StoreUnavailable:
                self.refused += 1
                await trio.sleep(0.01)


@pytest.mark.parametrize("how", ["cancel", "raise"])
@pytest.mark.parametrize("name", ACTORS)
async def test_an_actor_killed_with_a_full_mailbox_leaves_nobody_without_an_answer(
    judged: PostgresStore, name: str, how: str
) -> None:
    print(f"DPP_TEST_SEED={SEED}")
    dice, refused = Random(SEED), 0
    for tenant in TENANTS:
        await make_tenant(judged, tenant, deposit=1_000 * DOLLAR)
    for _ in range(ROUNDS):
        actor = await ACTORS[name](judged)
        mortal = Mortal(actor.live, dice, how, deaths=3)
        askers = [Asker(actor, one) for one in actor.asked]
        async with trio.open_nursery() as nursery, actor.desk:
            nursery.start_soon(keep_lanes, name, actor.desk, mortal.live, give_up)
            answers = await together(*[asker.ask for asker in askers])

        assert mortal.died
        assert all(map(actor.right, actor.asked, answers))
        refused += sum(asker.refused for asker in askers)

    print(f"{refused} refused and answered later")
    assert refused, "the mailbox was never full"
    runs = ROUNDS * ASKERS // 2
    spent = runs * COST if name == "settler" else 0
    held = runs * COST - spent
    for tenant in TENANTS:
        assert (await budget_of(judged, tenant))[2:] == (held, spent)


def give_up(bug: BaseException) -> None:
    """No actor has to where it dies three times."""
    raise bug


@pytest.mark.parametrize("name", ACTORS)
async def test_an_actor_that_gives_up_with_a_full_mailbox_refuses_all_at_once(
    judged: PostgresStore, name: str
) -> None:
    for tenant in TENANTS:
        await make_tenant(judged, tenant, deposit=1_000 * DOLLAR)
    actor = await ACTORS[name](judged)
    gone: list[BaseException] = []
    told: list[str] = []

    async def dies(_: Mailbox[Any, Any]) -> None:
        await trio.lowlevel.checkpoint()
        raise Killed("for good")

    async def ask(one: Any) -> None:
        try:
            await actor.ask(one)
        except StoreUnavailable:
            told.append("ask again")

    async with trio.open_nursery() as nursery:
        for one in actor.asked:
            nursery.start_soon(ask, one)
        await trio.testing.wait_all_tasks_blocked()
        with trio.fail_after(ANSWERED_S):
            await keep_lanes(name, actor.desk, dies, gone.append)

    assert len(gone) == 1
    assert told == ["ask again"] * ASKERS
