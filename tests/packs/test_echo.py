"""The echo pack, as smoke tests and benchmarks use it."""

from typing import Any

import pytest
import trio
import trio.testing

from dpp.money import Micros
from dpp.packs.ctx import CostCeilingReached, PackRefused
from dpp.packs.echo import ECHO
from dpp.pricing import Appraised, InputsInvalid
from tests.packs.conftest import NewCtx


class TaskSteps(trio.abc.Instrument):
    """How often any task was resumed."""

    def __init__(self) -> None:
        self.count = 0

    def before_task_step(self, _: trio.lowlevel.Task) -> None:
        self.count += 1


async def test_without_inputs_it_answers_null_and_costs_nothing(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    assert await ECHO.run(ctx, {}) == {"message": None}
    assert ctx.charged == 0
    assert ctx.drain_events() == []


async def test_the_cheapest_run_is_one_checkpoint(new_ctx: NewCtx) -> None:
    ctx, steps = new_ctx(), TaskSteps()
    trio.lowlevel.add_instrument(steps)

    await ECHO.run(ctx, {})

    trio.lowlevel.remove_instrument(steps)
    assert steps.count == 1


@pytest.mark.parametrize("message", ["hello", 5, {"a": [1, None]}, False, ""])
async def test_any_message_comes_back(new_ctx: NewCtx, message: object) -> None:
    assert await ECHO.run(new_ctx(), {"message": message}) == {"message": message}


async def test_it_charges_sleeps_and_answers(
    new_ctx: NewCtx, autojump_clock: trio.testing.MockClock
) -> None:
    ctx, began_at = new_ctx(), autojump_clock.current_time()

    result = await ECHO.run(ctx, {"message": "m", "cost_usd": "0.05", "sleep_s": 3600})

    assert result == {"message": "m"}
    assert ctx.charged == 50_000
    assert autojump_clock.current_time() - began_at == pytest.approx(3600)


async def test_it_charges_before_it_fails(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    with pytest.raises(PackRefused, match="ask this run to fail"):
        await ECHO.run(ctx, {"cost_usd": "0.05", "fail": True})

    assert ctx.charged == 50_000


async def test_a_cost_over_the_reserve_is_admitted_and_meets_the_ceiling(new_ctx: NewCtx) -> None:
    ctx, inputs = new_ctx(ceiling="0.04"), {"cost_usd": "0.05"}

    assert ECHO.appraise(inputs) == Appraised(floor=Micros(0), price=None)
    with pytest.raises(CostCeilingReached):
        await ECHO.run(ctx, inputs)

    assert ctx.charged == 0


async def test_a_cancel_ends_the_sleep(
    new_ctx: NewCtx, autojump_clock: trio.testing.MockClock
) -> None:
    ctx, began_at = new_ctx(), autojump_clock.current_time()

    with trio.move_on_after(2) as scope:
        await ECHO.run(ctx, {"cost_usd": "0.05", "sleep_s": 60})

    assert scope.cancelled_caught
    assert ctx.charged == 50_000
    assert autojump_clock.current_time() - began_at == pytest.approx(2)


@pytest.mark.parametrize(
    "inputs",
    [
        {"sleep_s": -1},
        {"sleep_s": 3600.5},
        {"sleep_s": "1"},
        {"sleep_s": True},
        {"cost_usd": 0.05},
        {"cost_usd": "-1"},
        {"cost_usd": "1e-3"},
        {"cost_usd": "1000000.01"},
        {"cost_usd": None},
        {"fail": None},
        {"fail": 1},
        {"massage": 1},
    ],
)
def test_wrong_inputs_are_refused(inputs: dict[str, Any]) -> None:
    answer = ECHO.appraise(inputs)

    (name,) = inputs
    assert isinstance(answer, InputsInvalid)
    assert [error.pointer for error in answer.errors] == [f"/inputs/{name}"]
