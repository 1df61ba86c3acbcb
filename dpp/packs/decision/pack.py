"""The pack `decision`: the analysis on a worker thread, step by step.

Between two steps the trio side reports progress and feels a cancel or the end of the time box; a
thread that is left behind ends with its step. The base is charged at the start, the cells when the
analysis is there, together exactly the price that was quoted.
"""

from attrs import asdict

from dpp.money import Micros
from dpp.packs.ctx import Ctx
from dpp.packs.decision.analysis import Step, advance, analyse
from dpp.packs.decision.model import BASE, CELL, Decision, DecisionInputs, price_of, quote
from dpp.packs.decision.proof import PACK, VERSION
from dpp.packs.pack import Pack


async def execute(ctx: Ctx, inputs: DecisionInputs) -> dict[str, object]:
    """Charge the base, analyse, charge the cells, answer."""
    await ctx.charge(BASE, "decision analysis")
    steps = analyse(inputs)
    while isinstance(step := await ctx.in_thread(advance, steps), Step):
        ctx.progress(step.fraction, step.note)
    await ctx.charge(Micros(price_of(inputs) - BASE), f"{inputs.cells} option × criterion cells")
    ctx.progress(1, step.verdict)
    return asdict(step)


DECISION = Pack(
    pack_type=PACK,
    version=VERSION,
    inputs=DecisionInputs,
    result=Decision,
    price="$0.01 and $0.000001 for each option × criterion",
    quote=quote,
    execute=execute,
    rates={"base": BASE, "cell": CELL},
)
