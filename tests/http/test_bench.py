"""The bench: slices by what steps cost, in turn, and nobody in between is lost."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing

from dpp.http.bench import SLICE_S, Bench


class Clock:
    """Each step of work takes what it says."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now

    def work(self, seconds: float) -> float:
        self.now += seconds
        return seconds


class Rounds(trio.abc.Instrument):
    """Counts rounds of the scheduler."""

    def __init__(self) -> None:
        self.count = 0

    def before_io_wait(self, _timeout: float) -> None:
        self.count += 1


async def test_a_slice_ends_by_what_its_steps_cost_not_by_their_number() -> None:
    clock, rounds = Clock(), Rounds()
    bench = Bench(clock)
    counts = []
    trio.lowlevel.add_instrument(rounds)

    for steps in ([0.0] * 10_000, [SLICE_S] * 50):
        before = rounds.count
        assert await bench.each(clock.work, steps) == steps
        counts.append(rounds.count - before)

    assert counts[0] < 5
    assert counts[1] >= 50


async def test_those_who_wait_have_a_slice_each_in_turn() -> None:
    clock, order = Clock(), []
    bench = Bench(clock)

    def work(name: str) -> None:
        order.append(name)
        clock.work(SLICE_S)

    async with trio.open_nursery() as nursery, bench._place:  # all stand in line before the first
        for name in "abc":
            nursery.start_soon(bench.each, work, [name] * 3)
            await trio.testing.wait_all_tasks_blocked()

    assert "".join(order) == "abcabcabc"


async def test_steps_are_taken_one_by_one_also_where_finding_them_is_the_work() -> None:
    clock, rounds = Clock(), Rounds()
    bench = Bench(clock)
    trio.lowlevel.add_instrument(rounds)

    def finding() -> Any:
        for n in range(20):
            clock.work(SLICE_S)
            yield n

    assert await bench.each(lambda n: n, finding()) == list(range(20))
    assert rounds.count >= 20


async def test_whoever_is_cancelled_or_fails_leaves_the_bench_to_others() -> None:
    bench = Bench()

    with trio.CancelScope() as scope:
        scope.cancel()
        await bench.each(str, [1])
    with pytest.raises(ZeroDivisionError):
        await bench.each(lambda n: 1 // n, [0])
    with pytest.raises(ZeroDivisionError):
        await bench.once(lambda: 1 // 0)

    assert await bench.once(lambda: 5) == 5
