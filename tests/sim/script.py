"""What a run does, as data: what its pack follows, and what it may cost whoever is to pay.

The price is worked out from the rules of who pays alone, by no code of the product.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import accumulate
from random import Random
from typing import Any, TypeAlias

import trio
from attrs import define, field, frozen

from dpp.packs.ctx import CostCeilingReached, Ctx, InfrastructureFault, PackRefused

PACK = "script"
INLINE_BYTES, STORED_BYTES, OVERLONG_BYTES = 4, 60, 150  # of filling: see INLINE_MAX_BYTES in world
Step: TypeAlias = Sequence[Any]


@frozen(kw_only=True)
class Script:
    """Steps, then an end. `["charge" | "try", micros]`, `["sleep", s]`, `["tell", fraction]`.

    Ends: `["return", bytes]`, `["refuse"]`, `["raise"]`, `["broken", n]`: the first n attempts meet
    an infrastructure that fails.
    """

    steps: tuple[Step, ...]
    end: Step

    @property
    def inputs(self) -> dict[str, Any]:
        """Return the inputs of the run."""
        return {"steps": [list(step) for step in self.steps], "end": list(self.end)}

    @property
    def lasts_s(self) -> float:
        """Return how long the pack's own code takes, if it gets to its end."""
        return float(sum(step[1] for step in self.steps if step[0] == "sleep"))

    @property
    def is_large(self) -> bool:
        """Say whether its result goes to the blob store."""
        return self.end == ("return", STORED_BYTES)


def draw(dice: Random, reserve: int, timebox_s: int) -> Script:
    """Draw a script for a run with this reserve; a few overrun their reserve or their time box."""
    steps: list[Step] = []
    for _ in range(dice.choice([0, 1, 1, 2, 3])):
        kind = dice.choice(["charge", "charge", "sleep", "sleep", "sleep", "try", "tell"])
        match kind:
            case "sleep":
                longest_s = timebox_s if dice.random() < 0.8 else 2.5 * timebox_s
                steps.append((kind, round(dice.uniform(0.01, longest_s), 3)))
            case "tell":
                steps.append((kind, round(dice.random(), 2)))
            case _:
                most = reserve if dice.random() < 0.9 else 2 * reserve
                steps.append((kind, dice.randint(1, max(most // 2, 1))))
    ends: list[Step] = [
        ("return", INLINE_BYTES),
        ("return", STORED_BYTES),
        ("return", OVERLONG_BYTES),
        ("refuse",),
        ("raise",),
        ("broken", dice.choice([1, 2, 5])),
    ]
    (end,) = dice.choices(ends, [10, 5, 1, 2, 1, 1])
    return Script(steps=tuple(steps), end=end)


async def follow(ctx: Ctx, inputs: Any) -> object:
    """Do what the inputs say, as a pack."""
    for kind, amount in inputs["steps"]:
        match kind:
            case "charge":
                await ctx.charge(amount, "as the script says")
            case "try":
                try:
                    await ctx.charge(amount, "as the script says")
                except CostCeilingReached:
                    ctx.progress(0.5, "too much")
            case "sleep":
                await trio.sleep(amount)
            case "tell":
                ctx.progress(amount, "on its way")
    await trio.lowlevel.checkpoint()
    return end_as(ctx, inputs["end"])


def end_as(ctx: Ctx, end: Step) -> object:
    """Return or raise what the script ends with."""
    match end:
        case ["return", filling]:
            return result_of(str(ctx.run_id), filling)
        case ["refuse"]:
            raise PackRefused("as the script says")
        case ["broken", attempts] if ctx.attempt <= attempts:
            raise InfrastructureFault("as the script says")
        case ["broken", _]:
            return result_of(str(ctx.run_id), INLINE_BYTES)
    raise ValueError("as the script says")


def result_of(run_id: str, filling: int) -> str:
    """Return what a run returns: nobody else's result looks like it."""
    return f"{run_id}{'.' * filling}"


@define(eq=False, kw_only=True)
class Price:
    """What a run of this script may come to. `fee`: the least that a failure by itself costs."""

    script: Script
    reserve: int
    fee: int
    timebox_s: float
    attempts_max: int
    after_steps: list[int] = field(init=False)  # charged after 0, 1, 2 … of its steps
    ceiling: bool = field(init=False)  # a charge did not fit, and the script did not bear it

    def __attrs_post_init__(self) -> None:
        fitting = list(self._fitting())
        self.ceiling = None in fitting
        self.after_steps = [0, *accumulate(amount for amount in fitting if amount is not None)]

    def _fitting(self) -> Iterator[int | None]:
        charged = 0
        for kind, amount in self.script.steps:
            if kind in {"charge", "try"} and charged + amount <= self.reserve:
                charged += amount
                yield amount
            elif kind == "charge":
                yield None
                return

    @property
    def charged(self) -> int:
        """Return what is charged when the script is through."""
        return self.after_steps[-1]

    def natural(self) -> tuple[str, str | None, int]:
        """Return status, code and cost of an attempt that nothing disturbs; the last of several."""
        failed = max(self.charged, self.fee)
        if self.ceiling:
            return "FAILED", "cost_ceiling", failed
        match self.script.end:
            case ("refuse",):
                return "FAILED", "pack_refused", failed
            case ("raise",):
                return "FAILED", "pack_error", failed
            case ("return", filling) if filling == OVERLONG_BYTES:
                return "FAILED", "result_too_large", failed
            case ("broken", attempts) if attempts >= self.attempts_max:
                return "FAILED", "infrastructure", 0
        return "COMPLETED", None, self.charged

    def may_time_out(self, claimed_late_s: float) -> bool:
        """Say whether its time box may pass, which counts from before its claim was asked."""
        return self.script.lasts_s > 0 and self.script.lasts_s + claimed_late_s >= self.timebox_s

    def timed_out(self) -> set[int]:
        """Return what it may cost then."""
        return {max(charged, self.fee) for charged in self.after_steps}

    def canceled(self) -> set[int]:
        """Return what it may cost to have it canceled while it works, or waits."""
        return set(self.after_steps)
