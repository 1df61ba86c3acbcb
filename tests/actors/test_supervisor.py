from __future__ import annotations

from collections.abc import Callable

import pytest
import trio
from trio.testing import MockClock

from dpp.actors.supervisor import PAUSE_S_MAX, RESTARTS_MAX, Stopping, supervise
from dpp.faults import StoreUnavailable
from dpp.metrics import actor_restarts_total


class Lives:
    """An actor that lives through a plan: each life is how it ends."""

    def __init__(self, *plan: Exception | None, each_s: float = 0.0) -> None:
        self.plan = list(plan)
        self.each_s = each_s
        self.began_at: list[float] = []

    async def __call__(self) -> None:
        self.began_at.append(trio.current_time())
        await trio.sleep(self.each_s)
        end = self.plan.pop(0)
        if end is not None:
            raise end


def given_up(bugs: list[BaseException]) -> Callable[[BaseException], None]:
    return bugs.append


async def test_an_actor_that_returns_is_over(autojump_clock: MockClock) -> None:
    actor = Lives(None)

    await supervise("actor", actor)

    assert actor.began_at == [0]


async def test_outages_are_ridden_out_for_ever_and_at_most_a_second_apart(
    autojump_clock: MockClock,
) -> None:
    actor = Lives(*[StoreUnavailable()] * 200, None)
    bugs: list[BaseException] = []

    await supervise("actor", actor, given_up(bugs))

    gaps = [b - a for a, b in zip(actor.began_at, actor.began_at[1:], strict=False)]
    assert bugs == []
    assert max(gaps) <= PAUSE_S_MAX
    assert gaps[0] <= 0.05


async def test_five_bugs_in_thirty_seconds_are_restarted(autojump_clock: MockClock) -> None:
    before = actor_restarts_total.labels("five")._value.get()
    actor = Lives(*[ValueError()] * RESTARTS_MAX, None)
    bugs: list[BaseException] = []

    await supervise("five", actor, given_up(bugs))

    assert bugs == []
    assert actor_restarts_total.labels("five")._value.get() == before + RESTARTS_MAX


async def test_the_sixth_bug_gives_up(autojump_clock: MockClock) -> None:
    actor = Lives(*[ValueError()] * 99)
    bugs: list[BaseException] = []

    await supervise("actor", actor, given_up(bugs))

    assert len(actor.began_at) == RESTARTS_MAX + 1
    assert pytest.RaisesGroup(ValueError).matches(bugs[0])


async def test_without_anyone_to_give_up_to_the_bug_is_raised(autojump_clock: MockClock) -> None:
    with pytest.RaisesGroup(ValueError):
        await supervise("actor", Lives(*[ValueError()] * 99))


async def test_one_bug_a_minute_never_gives_up(autojump_clock: MockClock) -> None:
    actor = Lives(*[ValueError()] * 50, None, each_s=60)
    bugs: list[BaseException] = []

    await supervise("actor", actor, given_up(bugs))

    assert bugs == []


async def test_an_outage_out_of_a_nursery_is_an_outage(autojump_clock: MockClock) -> None:
    lives = 0

    async def fail() -> None:
        raise StoreUnavailable

    async def actor() -> None:
        nonlocal lives
        lives += 1
        async with trio.open_nursery() as nursery:
            if lives < 20:
                nursery.start_soon(fail)

    bugs: list[BaseException] = []

    await supervise("actor", actor, given_up(bugs))

    assert (lives, bugs) == (20, [])


async def test_an_outage_with_a_bug_beside_it_counts_as_a_bug(autojump_clock: MockClock) -> None:
    both = ExceptionGroup("both", [StoreUnavailable(), ValueError()])
    bugs: list[BaseException] = []

    await supervise("actor", Lives(*[both] * 99), given_up(bugs))

    assert len(bugs) == 1


async def test_after_a_good_while_the_pause_is_short_again(autojump_clock: MockClock) -> None:
    class Long(Lives):
        async def __call__(self) -> None:
            self.each_s = 5 if len(self.began_at) == 10 else 0
            await super().__call__()

    actor = Long(*[StoreUnavailable()] * 12, None)

    await supervise("actor", actor)

    assert actor.began_at[10] - actor.began_at[9] >= PAUSE_S_MAX / 2
    assert actor.began_at[11] - actor.began_at[10] - 5 <= 0.05


async def test_cancelling_is_no_crash(autojump_clock: MockClock) -> None:
    actor = Lives(None, each_s=60)

    with trio.move_on_after(1) as scope:
        await supervise("actor", actor)

    assert scope.cancelled_caught
    assert actor.began_at == [0]


def test_stopping_keeps_the_first_bug_and_asks_for_the_drain() -> None:
    stopping = Stopping()
    first, second = ValueError("first"), ValueError("second")

    stopping.after(first)
    stopping.after(second)

    assert stopping.draining.is_set()
    assert stopping.bug is first


def test_stopping_in_order_has_no_bug() -> None:
    stopping = Stopping()

    stopping.begin("SIGTERM")
    stopping.begin("SIGTERM")

    assert stopping.draining.is_set()
    assert stopping.bug is None
