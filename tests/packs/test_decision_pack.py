"""The pack as an executor runs it: price, progress, cancel."""

import json

import pytest
import trio
from attrs import asdict, define

from dpp import money
from dpp.packs.ctx import CostCeilingReached, Ctx
from dpp.packs.decision.pack import DECISION
from dpp.packs.results import encode
from dpp.pricing import Appraised
from tests.packs.conftest import NewCtx
from tests.packs.decisions import decision

SENT = json.loads(
    json.dumps(
        asdict(
            decision(
                {"price": (3, "min"), "range": (1, "max")},
                {"A": (100, 9), "B": (80, 5), "C": (90, 8)},
            )
        )
    )
)


@pytest.mark.parametrize("sent", [{"question": "Which?"}, SENT])
async def test_it_charges_exactly_the_price(new_ctx: NewCtx, sent: dict[str, object]) -> None:
    ctx, quoted = new_ctx(), DECISION.appraise(sent)

    await DECISION.run(ctx, sent)

    assert isinstance(quoted, Appraised)
    assert ctx.charged == quoted.price
    assert sum(event.amount or 0 for event in ctx.drain_events()) == quoted.price


async def test_a_question_alone_completes_undetermined(new_ctx: NewCtx) -> None:
    result = json.loads(encode(await DECISION.run(new_ctx(), {"question": "Which?"})))

    assert result["verdict"] == "undetermined"
    assert result["ranking"] == []
    assert result["missing"] == ["/options", "/criteria", "/scores"]


async def test_progress_rises_to_1(new_ctx: NewCtx) -> None:
    ctx = new_ctx()

    await DECISION.run(ctx, SENT)

    told = [event for event in ctx.drain_events() if event.kind == "progress"]
    fractions = [event.fraction or 0 for event in told]
    assert fractions == sorted(fractions)
    assert len(fractions) >= 5
    assert (told[-1].fraction, told[-1].note) == (1, "decided")


@define(eq=False, kw_only=True)
class CancelledOnProgress(Ctx):
    """A ctx whose run is cancelled at the first progress that is told."""

    scope: trio.CancelScope

    def progress(self, fraction: float, note: str = "") -> None:
        super().progress(fraction, note)
        self.scope.cancel(reason="asked for")


async def test_a_cancel_is_felt_between_two_steps(new_ctx: NewCtx) -> None:
    plain, scope = new_ctx(), trio.CancelScope()
    ctx = CancelledOnProgress(
        run_id=plain.run_id,
        tenant_id=plain.tenant_id,
        attempt=1,
        ceiling=plain.ceiling,
        deadline=plain.deadline,
        scope=scope,
    )

    with scope:
        await DECISION.run(ctx, SENT)

    assert scope.cancelled_caught
    assert ctx.charged == money.parse("0.01")  # the cells are charged with the answer
    assert len([event for event in ctx.drain_events() if event.kind == "progress"]) == 1


async def test_a_reserve_under_the_price_meets_the_ceiling(new_ctx: NewCtx) -> None:
    """Admission refuses it before; a lower price at submission must not settle at more either."""
    ctx = new_ctx(ceiling="0.010001")

    with pytest.raises(CostCeilingReached):
        await DECISION.run(ctx, SENT)

    assert ctx.charged == money.parse("0.01")
