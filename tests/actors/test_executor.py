from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from datetime import UTC, datetime
from functools import partial
from threading import Event
from uuid import uuid4

import pytest
import trio
from structlog.contextvars import get_contextvars
from structlog.testing import capture_logs
from trio.testing import MockClock

from dpp import logs
from dpp.actors.attempts import Attempt, Attempts
from dpp.actors.executor import execute, perform
from dpp.claims import Claimed
from dpp.faults import StoreUnavailable
from dpp.leases import Fence
from dpp.metrics import runs_ended_total
from dpp.money import Micros
from dpp.packs.ctx import CostCeilingReached, Ctx, InfrastructureFault, PackRefused
from dpp.packs.echo import ECHO
from dpp.packs.registry import Registry
from dpp.packs.results import NotAResult
from dpp.runs import ErrorCode, Failure, Status
from dpp.settlement import (
    CanceledWhileRunning,
    Completed,
    End,
    FailedByItself,
    FailedByPlatform,
    LeaseLost,
    Outcome,
    Settled,
    Settlement,
)
from tests.actors.world import Execute, pack_of

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

CEILING = 100_000
TIMEBOX_S = 60
RESULT_MAX_BYTES = 100


def claimed(timebox_s: int = TIMEBOX_S) -> Claimed:
    return Claimed(
        fence=Fence(uuid4(), uuid4(), 1),
        tenant_id="acme",
        pack_type="pack",
        inputs=b'{"message":"hi"}',
        max_cost=Micros(CEILING),
        minimum_fee=Micros(0),
        timebox_s=timebox_s,
        priority=5,
        available_at=None,  # type: ignore[arg-type]
        attempt=1,
        trace_id="trace",
        created_at=NOON,
        weight=1,
    )


def new_attempt(timebox_s: int = TIMEBOX_S) -> Attempt:
    return Attempt.of(claimed(timebox_s), asked_at=trio.current_time())


async def outcome_of(function: Execute, attempt: Attempt | None = None) -> Outcome:
    return await perform(attempt or new_attempt(), pack_of("pack", function), RESULT_MAX_BYTES)


def failed(code: ErrorCode, detail: str, charged: int = 0) -> FailedByItself:
    return FailedByItself(Failure(code, detail), Micros(charged))


def raising(error: BaseException, charge: int = 0) -> Execute:
    """Return a pack that charges, then raises."""

    async def pack(ctx: Ctx, _: object) -> object:
        await ctx.charge(Micros(charge), "work")
        raise error

    return pack


def returning(result: object, charge: int = 0) -> Execute:
    async def pack(ctx: Ctx, _: object) -> object:
        await ctx.charge(Micros(charge), "work")
        return result

    return pack


async def sleeper(ctx: Ctx, _: object) -> object:
    await ctx.charge(Micros(500), "began")
    await trio.sleep(3600)
    return "late"


# what a pack does, and what comes of it


async def test_a_result_is_canonical_json_and_pays_what_was_charged(
    autojump_clock: MockClock,
) -> None:
    outcome = await outcome_of(returning({"b": 1, "a": [1.5, None]}, charge=700))

    assert outcome == Completed(b'{"a":[1.5,null],"b":1}', Micros(700))


async def test_a_pack_gets_its_inputs_decoded(autojump_clock: MockClock) -> None:
    async def pack(_: Ctx, inputs: object) -> object:
        return inputs

    assert await outcome_of(pack) == Completed(b'{"message":"hi"}', Micros(0))


@pytest.mark.parametrize(
    ("error", "failure"),
    [
        (PackRefused("no\x00 way"), Failure(ErrorCode.PACK_REFUSED, "no  way")),
        (ValueError("secret"), Failure(ErrorCode.PACK_ERROR, "the pack raised ValueError")),
        (SystemExit(3), Failure(ErrorCode.PACK_ERROR, "the pack raised SystemExit")),
        (GeneratorExit(), Failure(ErrorCode.PACK_ERROR, "the pack raised GeneratorExit")),
        (
            CostCeilingReached(Micros(50_000), Micros(90_000), Micros(CEILING)),
            Failure(ErrorCode.COST_CEILING, "it would cost $0.14, over its $0.10"),
        ),
        (
            BaseExceptionGroup("", [ValueError("a"), BaseExceptionGroup("", [PackRefused("b")])]),
            Failure(ErrorCode.PACK_REFUSED, "b"),
        ),
        (
            ExceptionGroup("", [KeyError("a")]),
            Failure(ErrorCode.PACK_ERROR, "the pack raised KeyError"),
        ),
    ],
)
async def test_what_a_pack_raises_is_its_own_and_pays_what_was_charged(
    autojump_clock: MockClock, error: BaseException, failure: Failure
) -> None:
    outcome = await outcome_of(raising(error, charge=300))

    assert outcome == FailedByItself(failure, Micros(300))


@pytest.mark.parametrize("wrap", [lambda e: e, lambda e: ExceptionGroup("", [ValueError(), e])])
async def test_an_infrastructure_fault_is_the_platform_s(
    autojump_clock: MockClock, wrap: Callable[[Exception], Exception]
) -> None:
    outcome = await outcome_of(raising(wrap(InfrastructureFault("disk full")), charge=300))

    assert outcome == FailedByPlatform("disk full")


async def test_a_pack_that_this_node_has_not_is_the_platform_s_fault(
    autojump_clock: MockClock,
) -> None:
    outcome = await perform(new_attempt(), None, RESULT_MAX_BYTES)

    assert outcome == FailedByPlatform("this node has not loaded the pack")


async def test_a_charge_over_the_reserve_meets_the_ceiling(autojump_clock: MockClock) -> None:
    async def pack(ctx: Ctx, _: object) -> object:
        await ctx.charge(Micros(CEILING), "all of it")
        await ctx.charge(Micros(1), "one too many")
        return None

    outcome = await outcome_of(pack)

    assert outcome == failed(
        ErrorCode.COST_CEILING, "it would cost $0.100001, over its $0.10", CEILING
    )


async def test_a_pack_that_swallows_the_ceiling_still_pays_no_more(
    autojump_clock: MockClock,
) -> None:
    async def pack(ctx: Ctx, _: object) -> object:
        await ctx.charge(Micros(CEILING - 1), "nearly all")
        with pytest.raises(CostCeilingReached):
            await ctx.charge(Micros(2), "too much")
        return "done"

    assert await outcome_of(pack) == Completed(b'"done"', Micros(CEILING - 1))


@pytest.mark.parametrize("result", [float("nan"), object(), "nul \x00", {1, 2}])
async def test_what_json_cannot_carry_is_the_pack_s_error(
    autojump_clock: MockClock, result: object
) -> None:
    outcome = await outcome_of(returning(result, charge=10))

    assert isinstance(outcome, FailedByItself)
    assert (outcome.failure.code, outcome.charged) == (ErrorCode.PACK_ERROR, 10)
    assert outcome.failure.detail.startswith("the result")


@pytest.mark.parametrize(("size", "fits"), [(98, True), (99, False)])
async def test_a_result_is_stored_up_to_the_limit(
    autojump_clock: MockClock, size: int, *, fits: bool
) -> None:
    outcome = await outcome_of(returning("x" * size, charge=10))

    if fits:
        assert isinstance(outcome, Completed)
        assert len(outcome.result) == RESULT_MAX_BYTES
    else:
        assert outcome == failed(
            ErrorCode.RESULT_TOO_LARGE, "the result has 101 bytes; at most 100 are stored", 10
        )


# time


async def test_the_time_box_counts_from_before_the_claim_was_asked(
    autojump_clock: MockClock,
) -> None:
    attempt = Attempt.of(claimed(), asked_at=trio.current_time() - 10)

    outcome = await outcome_of(sleeper, attempt)

    assert outcome == failed(ErrorCode.TIMEBOX, "not done within its time box of 60 s", 500)
    assert trio.current_time() == TIMEBOX_S - 10


async def test_a_claim_that_took_longer_than_the_box_is_the_platform_s_fault(
    autojump_clock: MockClock,
) -> None:
    attempt = Attempt.of(claimed(), asked_at=trio.current_time() - TIMEBOX_S)

    outcome = await outcome_of(sleeper, attempt)

    assert outcome == FailedByPlatform("claiming the run took longer than its time box")


async def test_an_error_on_the_way_out_of_the_box_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async def pack(_: Ctx, __: object) -> object:
        try:
            await trio.sleep_forever()
        finally:
            raise InfrastructureFault("my connection was cancelled")

    outcome = await outcome_of(pack)

    assert outcome == failed(ErrorCode.TIMEBOX, "not done within its time box of 60 s")


async def test_a_result_that_comes_in_spite_of_the_box_counts(autojump_clock: MockClock) -> None:
    async def pack(_: Ctx, __: object) -> object:
        with trio.CancelScope(shield=True):
            await trio.sleep(TIMEBOX_S + 1)
        return "here"

    assert await outcome_of(pack) == Completed(b'"here"', Micros(0))


async def test_a_thread_is_left_behind_at_the_end_of_the_box() -> None:
    async def pack(ctx: Ctx, _: object) -> object:
        return await ctx.in_thread(release.wait)

    release = Event()
    attempt = Attempt.of(claimed(timebox_s=1), asked_at=trio.current_time() - 0.9)

    outcome = await outcome_of(pack, attempt)
    release.set()

    assert outcome == failed(ErrorCode.TIMEBOX, "not done within its time box of 1 s")


# cancel


async def cancel_after(attempt: Attempt, seconds: float) -> None:
    await trio.sleep(seconds)
    attempt.cancel()


async def canceled(function: Execute, after_s: float = 5) -> tuple[Outcome, float]:
    """Return the outcome of a run that is cancelled after so long, and when it came."""
    attempt = new_attempt()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(cancel_after, attempt, after_s)
        outcome = await outcome_of(function, attempt)
        nursery.cancel_scope.cancel()
    return outcome, trio.current_time()


async def test_a_pack_that_ignores_a_cancel_is_ended_a_second_later(
    autojump_clock: MockClock,
) -> None:
    assert await canceled(sleeper) == (CanceledWhileRunning(Micros(500)), 6)


async def test_a_pack_that_heeds_a_cancel_stops_at_once_and_pays_what_it_charged(
    autojump_clock: MockClock,
) -> None:
    async def pack(ctx: Ctx, _: object) -> object:
        await ctx.charge(Micros(200), "half")
        await ctx.cancelled.wait()
        return "half a result"

    assert await canceled(pack) == (CanceledWhileRunning(Micros(200)), 5)


async def test_an_error_after_a_cancel_is_its_answer_to_it(autojump_clock: MockClock) -> None:
    async def pack(ctx: Ctx, _: object) -> object:
        await ctx.cancelled.wait()
        raise PackRefused("stopped")

    assert await canceled(pack) == (CanceledWhileRunning(Micros(0)), 5)


async def test_an_infrastructure_fault_after_a_cancel_costs_nothing(
    autojump_clock: MockClock,
) -> None:
    async def pack(ctx: Ctx, _: object) -> object:
        await ctx.charge(Micros(200), "half")
        await ctx.cancelled.wait()
        raise InfrastructureFault("network")

    assert await canceled(pack) == (FailedByPlatform("network"), 5)


async def test_a_cancel_after_the_outcome_changes_nothing(autojump_clock: MockClock) -> None:
    attempt = new_attempt()
    outcome = await outcome_of(returning("done"), attempt)

    attempt.cancel()

    assert outcome == Completed(b'"done"', Micros(0))


async def test_a_cancel_does_not_stretch_the_time_box(autojump_clock: MockClock) -> None:
    outcome, at = await canceled(sleeper, after_s=TIMEBOX_S - 0.5)

    assert (outcome, at) == (CanceledWhileRunning(Micros(500)), TIMEBOX_S)


# the end of the tenure


async def test_a_lost_tenure_gives_no_outcome(autojump_clock: MockClock) -> None:
    with trio.move_on_after(5) as tenure:
        await outcome_of(sleeper)

    assert tenure.cancelled_caught


async def test_errors_of_a_pack_whose_tenure_ends_go_with_it(autojump_clock: MockClock) -> None:
    async def rude() -> None:
        try:
            await trio.sleep_forever()
        finally:
            raise ValueError("while cleaning up")

    async def pack(_: Ctx, __: object) -> object:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(rude)
            nursery.start_soon(trio.sleep_forever)
        return None

    with trio.move_on_after(5) as tenure:
        await outcome_of(pack)

    assert tenure.cancelled_caught


async def test_a_cancellation_that_nobody_asked_for_is_the_pack_s_bug(
    autojump_clock: MockClock,
) -> None:
    kept: list[BaseException] = []

    async def pack(_: Ctx, __: object) -> object:
        with trio.CancelScope() as scope:
            scope.cancel()
            try:
                await trio.sleep(1)
            except trio.Cancelled as cancelled:
                kept.append(cancelled)
                raise
        raise kept[0]

    outcomes: list[Outcome] = []

    async def run() -> None:
        outcomes.append(await outcome_of(pack))

    async with trio.open_nursery() as nursery:  # which would swallow it
        nursery.start_soon(run)

    assert outcomes == [failed(ErrorCode.PACK_ERROR, "the pack raised Cancelled")]


async def test_an_interrupt_that_a_pack_raises_is_its_error(autojump_clock: MockClock) -> None:
    expected = failed(ErrorCode.PACK_ERROR, "the pack raised KeyboardInterrupt")

    assert await outcome_of(raising(KeyboardInterrupt())) == expected


NO_MORE = "the pack said no more"


class Numbered(PackRefused):
    """A refusal that never told its base what is wrong."""

    def __init__(self, number: int) -> None:
        self.number = number


class Unsaid(InfrastructureFault):
    def __init__(self) -> None:
        pass


class Beyond(CostCeilingReached):
    def __init__(self) -> None:
        pass


class Mute(NotAResult):
    def __str__(self) -> str:
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (Numbered(7), failed(ErrorCode.PACK_REFUSED, NO_MORE, 200)),
        (
            PackRefused(ValueError("x")),
            failed(ErrorCode.PACK_REFUSED, NO_MORE, 200),
        ),
        (Beyond(), failed(ErrorCode.COST_CEILING, NO_MORE, 200)),
        (Mute("x"), failed(ErrorCode.PACK_ERROR, NO_MORE, 200)),
        (Unsaid(), FailedByPlatform(NO_MORE)),
    ],
    ids=lambda case: type(case).__name__,
)
async def test_an_exception_of_any_shape_is_its_own_runs_outcome(
    autojump_clock: MockClock, error: Exception, outcome: Outcome
) -> None:
    assert await outcome_of(raising(error, charge=200)) == outcome


# settling


SETTLED = Settled(Status.COMPLETED, Micros(0))


class Desk:
    """Answers as planned, and remembers what it was asked."""

    def __init__(self, *answers: Settlement | Exception) -> None:
        self.answers = list(answers)
        self.asked: list[End] = []

    async def settle(self, end: End, trace_id: str) -> Settlement:
        await trio.lowlevel.checkpoint()
        assert trace_id == "trace"
        self.asked.append(end)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


async def inline(_: Claimed, outcome: Outcome) -> Outcome:
    """Deliver as a node does whose results are all small."""
    await trio.lowlevel.checkpoint()
    return outcome


def executing(desk: Desk, attempt: Attempt, attempts: Attempts) -> Callable[[], Awaitable[None]]:
    registry = Registry.of(ECHO, pack_of("pack", returning("done")))
    attempts.add(attempt)
    return partial(
        execute, attempts, registry, inline, desk.settle, attempt, result_max_bytes=RESULT_MAX_BYTES
    )


async def test_an_end_is_asked_for_again_under_the_same_id(autojump_clock: MockClock) -> None:
    desk = Desk(StoreUnavailable(), StoreUnavailable(), StoreUnavailable(), SETTLED)
    attempt, freed = new_attempt(), list[str]()
    attempts = Attempts(freed.append)

    await executing(desk, attempt, attempts)()

    assert len(desk.asked) == 4
    assert len(set(desk.asked)) == 1
    assert desk.asked[0].fence == attempt.fence
    assert (len(attempts), freed) == (0, ["acme"])


async def test_it_is_asked_for_while_the_tenure_lives_and_no_longer(
    autojump_clock: MockClock,
) -> None:
    desk = Desk(*[StoreUnavailable()] * 1000)
    attempts = Attempts()

    with trio.move_on_after(60):
        await executing(desk, new_attempt(), attempts)()

    assert 60 <= len(desk.asked) <= 130
    assert len(attempts) == 0


async def test_settling_is_not_in_the_time_box(autojump_clock: MockClock) -> None:
    class Slow(Desk):
        async def settle(self, end: End, trace_id: str) -> Settlement:
            await trio.sleep(TIMEBOX_S)
            return await super().settle(end, trace_id)

    desk = Slow(StoreUnavailable(), SETTLED)

    await executing(desk, new_attempt(), Attempts())()

    assert desk.asked[1].outcome == Completed(b'"done"', Micros(0))


async def test_what_ended_is_counted_by_status_and_pack(autojump_clock: MockClock) -> None:
    counted = runs_ended_total.labels("COMPLETED", "pack")
    before = counted._value.get()

    await executing(Desk(SETTLED), new_attempt(), Attempts())()
    await executing(Desk(LeaseLost()), new_attempt(), Attempts())()

    assert counted._value.get() == before + 1


@pytest.fixture
def _everything_is_logged() -> Iterator[None]:
    logs.configure("DEBUG")
    yield
    logs.configure("WARNING")


@pytest.mark.usefixtures("_everything_is_logged")
@pytest.mark.parametrize(
    ("function", "status", "level", "code"),
    [
        (returning("done"), Status.COMPLETED, "debug", None),
        (raising(PackRefused("no")), Status.FAILED, "info", "pack_refused"),
        (raising(InfrastructureFault("no")), Status.FAILED, "info", "infrastructure"),
    ],
)
async def test_a_run_that_fails_is_told_where_one_that_completes_is_not(
    autojump_clock: MockClock, function: Execute, status: Status, level: str, code: str | None
) -> None:
    attempt, attempts = new_attempt(), Attempts()
    attempts.add(attempt)
    desk, registry = Desk(Settled(status, Micros(5))), Registry.of(pack_of("pack", function))

    with capture_logs() as lines:
        await execute(
            attempts, registry, inline, desk.settle, attempt, result_max_bytes=RESULT_MAX_BYTES
        )

    (ended,) = (line for line in lines if line["event"] == "run ended")
    assert (ended["log_level"], ended["status"]) == (level, status.value)
    assert (ended["cost_micros"], ended.get("code")) == (5, code)


async def test_every_line_of_a_run_names_it(autojump_clock: MockClock) -> None:
    attempt = new_attempt()
    names: dict[str, object] = {}

    async def pack(_: Ctx, __: object) -> object:
        names.update(get_contextvars())
        raise ValueError("oh")

    registry = Registry.of(pack_of("pack", pack))
    attempts = Attempts()
    attempts.add(attempt)
    with capture_logs() as lines:
        async with trio.open_nursery() as nursery:  # a task of its own, as under the claimer
            nursery.start_soon(
                partial(
                    execute,
                    attempts,
                    registry,
                    inline,
                    Desk(SETTLED).settle,
                    attempt,
                    result_max_bytes=RESULT_MAX_BYTES,
                )
            )

    assert names == {"trace_id": "trace", "run_id": str(attempt.fence.run_id)}
    assert [line["event"] for line in lines if line["log_level"] == "warning"] == ["pack raised"]
    assert get_contextvars() == {}
