"""Ctx: money, time, cancel and threads, as a pack meets them."""

import math
import threading
from typing import cast

import pytest
import trio
import trio.testing

from dpp.money import Micros
from dpp.packs.ctx import CostCeilingReached
from dpp.packs.events import RunEvent
from tests.packs.conftest import NewCtx


async def test_charges_add_up_and_are_told_in_order(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    await ctx.charge(Micros(3), "first")
    ctx.progress(0.5, "half")
    await ctx.charge(Micros(4), "second")

    assert ctx.charged == 7
    assert ctx.drain_events() == [
        RunEvent(1, "charge", amount=Micros(3), reason="first"),
        RunEvent(2, "progress", fraction=0.5, note="half"),
        RunEvent(3, "charge", amount=Micros(4), reason="second"),
    ]
    assert ctx.drain_events() == []


async def test_a_charge_may_use_up_the_ceiling_and_not_a_micro_more(new_ctx: NewCtx) -> None:
    ctx = new_ctx(ceiling="0.00001")
    await ctx.charge(Micros(10), "all of it")
    ctx.drain_events()

    with pytest.raises(CostCeilingReached) as reached:
        await ctx.charge(Micros(1), "too much")

    assert (reached.value.amount, reached.value.charged, reached.value.ceiling) == (1, 10, 10)
    assert ctx.charged == 10
    assert ctx.drain_events() == []


async def test_a_refused_charge_leaves_room_for_a_smaller_one(new_ctx: NewCtx) -> None:
    ctx = new_ctx(ceiling="0.00001")
    with pytest.raises(CostCeilingReached):
        await ctx.charge(Micros(11), "too much")

    await ctx.charge(Micros(10), "fits")

    assert ctx.charged == 10


@pytest.mark.parametrize("amount", [0.5, 1.0, math.nan, math.inf, 1e300, "1", None, True])
async def test_money_is_whole_micros(new_ctx: NewCtx, amount: object) -> None:
    ctx = new_ctx()

    with pytest.raises(TypeError, match="whole micro-dollars"):
        await ctx.charge(cast("Micros", amount), "odd")

    assert ctx.charged == 0
    assert ctx.drain_events() == []


async def test_a_negative_charge_gives_nothing_back(new_ctx: NewCtx) -> None:
    ctx = new_ctx()
    await ctx.charge(Micros(5), "paid")

    with pytest.raises(ValueError, match="at least 0"):
        await ctx.charge(Micros(-5), "refund")

    assert ctx.charged == 5


async def test_a_huge_charge_is_a_ceiling_not_an_overflow(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    with pytest.raises(CostCeilingReached):
        await ctx.charge(Micros(10**400), "everything")

    assert ctx.charged == 0


@pytest.mark.parametrize("reason", ["", None, 3])
async def test_a_charge_has_a_reason(new_ctx: NewCtx, reason: object) -> None:
    ctx = new_ctx()

    with pytest.raises(TypeError, match="reason"):
        await ctx.charge(Micros(1), cast("str", reason))

    assert ctx.charged == 0


async def test_charging_nothing_is_no_event(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    await ctx.charge(Micros(0), "nothing")

    assert ctx.drain_events() == []


async def test_a_cancelled_pack_charges_nothing_more(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    with trio.CancelScope() as scope:
        scope.cancel()
        await ctx.charge(Micros(1), "too late")

    assert scope.cancelled_caught
    assert ctx.charged == 0


@pytest.mark.parametrize(
    ("fraction", "told"), [(-1, 0.0), (0, 0.0), (0.25, 0.25), (1, 1.0), (7, 1.0), (math.inf, 1.0)]
)
async def test_progress_is_kept_between_0_and_1(
    new_ctx: NewCtx, fraction: float, told: float
) -> None:
    ctx = new_ctx()

    ctx.progress(fraction)

    assert ctx.drain_events() == [RunEvent(1, "progress", fraction=told, note="")]


async def test_progress_of_no_number_is_a_bug_of_the_pack(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    for wrong in ("0.5", None, True):
        with pytest.raises(TypeError, match="from 0 to 1"):
            ctx.progress(cast("float", wrong))
    with pytest.raises(ValueError, match="NaN"):
        ctx.progress(math.nan)

    assert ctx.drain_events() == []


async def test_notes_fit_a_column_and_a_line(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    ctx.progress(0, "x" * 201)
    ctx.progress(0, "two\nlines\0and \ud800 half")

    assert [event.note for event in ctx.drain_events()] == ["x" * 200, "two lines and ? half"]


async def test_remaining_time_never_falls_below_0(
    new_ctx: NewCtx, autojump_clock: trio.testing.MockClock
) -> None:
    assert autojump_clock.rate == 0
    ctx = new_ctx(timebox_s=10)

    await trio.sleep(4)
    left_after_4 = ctx.remaining_s()
    await trio.sleep(40)

    assert left_after_4 == pytest.approx(6)
    assert ctx.remaining_s() == 0


async def test_a_cancel_leaves_a_busy_thread_behind(new_ctx: NewCtx) -> None:
    ctx, started, release = new_ctx(), trio.Event(), threading.Event()

    def busy() -> None:
        trio.from_thread.run_sync(started.set)
        release.wait()

    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ctx.in_thread, busy)
            await started.wait()
            scope.cancel()

    assert scope.cancelled_caught  # reached while the thread still waits
    release.set()


async def test_threads_of_packs_do_not_use_up_those_of_the_node(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    limiter = trio.to_thread.current_default_thread_limiter()
    borrowed = await ctx.in_thread(lambda: limiter.borrowed_tokens)

    assert borrowed == 0


async def test_what_a_thread_raises_comes_out(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    with pytest.raises(ZeroDivisionError):
        await ctx.in_thread(divmod, 1, 0)
