"""The pack that answers with what it was sent: for smoke tests, benchmarks and trying things out.

It charges, sleeps, then returns or fails, as its inputs say. Its floor is 0, so a cost above the
reserve is admitted and meets the ceiling. It is the cheapest run there is: no thread, and one
checkpoint where nothing is charged and nothing slept.
"""

from typing import Annotated

import trio
from attrs import frozen
from msgspec import Meta

from dpp import money
from dpp.money import Micros
from dpp.packs.ctx import Ctx, PackRefused
from dpp.packs.inputs import Json
from dpp.packs.pack import Pack
from dpp.packs.strict import Check
from dpp.pricing import Appraised

SLEEP_S_MAX = 3600  # no run may have a longer time box

Usd = Annotated[
    str,
    Meta(
        description="US dollars as a decimal string",
        examples=["0.05"],
        extra_json_schema={"pattern": f"^{money.GRAMMAR.pattern}$"},
    ),
    Check(money.parse),
]


@frozen
class EchoInputs:
    """All optional; without any of them a run costs nothing and takes no time."""

    message: Json = None
    cost_usd: Usd = "0"
    sleep_s: Annotated[float, Meta(ge=0, le=SLEEP_S_MAX)] = 0
    fail: bool = False


@frozen
class EchoResult:
    """The message that was sent."""

    message: Json


def quote(_: EchoInputs) -> Appraised:
    """Nothing is promised about the cost: meeting the ceiling is one of the things to try out."""
    return Appraised(floor=Micros(0), price=None)


async def execute(ctx: Ctx, inputs: EchoInputs) -> dict[str, object]:
    """Charge, sleep, then answer or fail."""
    cost = money.parse(inputs.cost_usd)
    if cost:
        await ctx.charge(cost, "echo")
    if inputs.sleep_s:
        await trio.sleep(inputs.sleep_s)
    else:
        await trio.lowlevel.checkpoint()
    if inputs.fail:
        raise PackRefused("the inputs ask this run to fail")
    return {"message": inputs.message}


ECHO = Pack(
    pack_type="echo",
    version="1.0.0",
    inputs=EchoInputs,
    result=EchoResult,
    price="what cost_usd says, by default nothing",
    quote=quote,
    execute=execute,
)
