"""The executor: one task per attempt, from its claim to its settlement.

`perform` runs the pack and decides the outcome, once: what a pack does, whatever it is, becomes a
value there. A tenure that is lost gives no outcome, and nothing is written for the attempt. Then
the settler is asked, again and again under the same ending id while the tenure lives; settling is
not in the time box.
"""

import json
import math
from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import TypeAlias, assert_never
from uuid import uuid4

import trio
from structlog.contextvars import bind_contextvars

from dpp import failpoints, money
from dpp.actors.asking import until_answered
from dpp.actors.attempts import Attempt, Attempts
from dpp.claims import Claimed
from dpp.logs import get_logger
from dpp.metrics import run_duration_seconds, runs_ended_total, runs_taken_back_total
from dpp.money import Micros
from dpp.packs.ctx import CostCeilingReached, InfrastructureFault, PackRefused
from dpp.packs.events import one_line
from dpp.packs.registry import AnyPack, Registry
from dpp.packs.results import NotAResult, encode
from dpp.runs import ErrorCode, Failure, Status
from dpp.settlement import (
    CanceledWhileRunning,
    Completed,
    End,
    FailedByItself,
    FailedByPlatform,
    LeaseLost,
    Outcome,
    Quarantined,
    Requeued,
    Settled,
    Settlement,
)

Settle: TypeAlias = Callable[[End, str], Awaitable[Settlement]]
Deliver: TypeAlias = Callable[[Claimed, Outcome], Awaitable[Outcome | LeaseLost]]

log = get_logger(__name__)


async def execute(
    attempts: Attempts,
    registry: Registry,
    deliver: Deliver,
    settle: Settle,
    attempt: Attempt,
    *,
    result_max_bytes: int,
) -> None:
    """Perform an attempt and have it settled; it leaves `attempts` whatever happens."""
    claimed = attempt.claimed
    bind_contextvars(trace_id=claimed.trace_id, run_id=str(claimed.fence.run_id))
    log.debug("run started", pack_type=claimed.pack_type, attempt=claimed.attempt)
    try:
        failpoints.hit("execute.before_pack")
        outcome = await perform(attempt, registry.find(claimed.pack_type), result_max_bytes)
        failpoints.hit("execute.after_pack")
        delivered = await deliver(claimed, outcome)
        if isinstance(delivered, LeaseLost):
            settlement: Settlement = delivered
        else:
            outcome = delivered
            end = End(uuid4(), claimed.tenant_id, claimed.fence, outcome)
            settlement = await until_answered("settle", partial(settle, end, claimed.trace_id))
    finally:
        attempts.remove(attempt)
    tell(claimed.pack_type, outcome, settlement, trio.current_time() - attempt.asked_at)


async def perform(attempt: Attempt, pack: AnyPack | None, result_max_bytes: int) -> Outcome:
    """Run the pack inside its time box and decide what came of it.

    Raises nothing but what ends this task with its tenure. A result counts even if the box passed
    while it came; once a cancel was felt, whatever the pack does is its answer to the cancel.
    """
    if pack is None:
        return FailedByPlatform("this node has not loaded the pack")  # noqa: ASYNC910  # settling is
    if attempt.ctx.remaining_s() == 0:
        return FailedByPlatform("claiming the run took longer than its time box")  # noqa: ASYNC910
    ctx, error = attempt.ctx, None
    try:
        with attempt.scope:
            result = await pack.run(ctx, json.loads(attempt.claimed.inputs))
            if ctx.cancelled.is_set():
                return CanceledWhileRunning(ctx.charged)
            return completed(result, ctx.charged, result_max_bytes)
    except BaseException as raised:  # noqa: BLE001 - whatever it is: see the top
        error = telling(raised)
    return failed(attempt, error)  # noqa: ASYNC910


def completed(result: object, charged: Micros, result_max_bytes: int) -> Outcome:
    """Decide what a returned result is worth; `NotAResult` is the pack's error."""
    encoded = encode(result)
    if len(encoded) > result_max_bytes:
        detail = f"the result has {len(encoded)} bytes; at most {result_max_bytes} are stored"
        return FailedByItself(Failure(ErrorCode.RESULT_TOO_LARGE, detail), charged)
    return Completed(encoded, charged)


def failed(attempt: Attempt, error: BaseException | None) -> Outcome:
    """Decide what came of a pack that returned nothing; without an error its scope ended it."""
    charged, ended_by_scope = attempt.ctx.charged, attempt.scope.cancel_called
    if isinstance(error, InfrastructureFault) and not ended_by_scope:
        fault = error
        return FailedByPlatform(words(lambda: fault.detail))
    if attempt.ctx.cancelled.is_set():
        return CanceledWhileRunning(charged)
    if error is None or ended_by_scope:
        detail = f"not done within its time box of {attempt.claimed.timebox_s} s"
        return FailedByItself(Failure(ErrorCode.TIMEBOX, detail), charged)
    return FailedByItself(failure(error), charged)


def failure(error: BaseException) -> Failure:
    """Say what a pack did, in words that give away nothing of this node."""
    match error:
        case PackRefused():
            return Failure(ErrorCode.PACK_REFUSED, words(lambda: error.detail))
        case CostCeilingReached():
            return Failure(ErrorCode.COST_CEILING, words(lambda: ceiling(error)))
        case NotAResult():
            return Failure(ErrorCode.PACK_ERROR, words(lambda: str(error)))
    log.warning("pack raised", exc_info=error)
    return Failure(ErrorCode.PACK_ERROR, f"the pack raised {type(error).__name__}")


def ceiling(error: CostCeilingReached) -> str:
    """Say what a charge would have come to."""
    over, reserve = money.show(error.charged + error.amount), money.show(error.ceiling)
    return f"it would cost ${over}, over its ${reserve}"


def words(tell: Callable[[], str]) -> str:
    """Return what an exception of a pack says. It may be of any shape, and ends no other run."""
    try:
        return one_line(tell())
    except Exception as broken:
        log.warning("pack raised", exc_info=broken)
        return "the pack said no more"


TELLING: tuple[type[BaseException], ...] = (InfrastructureFault, CostCeilingReached, PackRefused)


def telling(raised: BaseException) -> BaseException:
    """Return the one exception that says what a pack did: it may raise groups of them.

    Raises on what is not the pack's: the cancellation that ends this task. One that came from no
    scope around us is a bug of the pack; let through, it would pass for ours. So would an
    interrupt: signals are the node's own, none is raised in a task.
    """
    leaves = tuple(flat(raised))
    cancels = [leaf for leaf in leaves if isinstance(leaf, trio.Cancelled)]
    if cancels and trio.current_effective_deadline() == -math.inf:
        raise cancels[0]
    kinds = (*TELLING, BaseException)
    return next(leaf for kind in kinds for leaf in leaves if isinstance(leaf, kind))


def flat(raised: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions of a group, or the one."""
    if isinstance(raised, BaseExceptionGroup):
        for inner in raised.exceptions:
            yield from flat(inner)
    else:
        yield raised


def tell(pack_type: str, outcome: Outcome, settlement: Settlement, took_s: float) -> None:
    """Count and log what came of an attempt."""
    match settlement:
        case Settled(status, cost):
            runs_ended_total.labels(status.value, pack_type).inc()
            run_duration_seconds.labels(pack_type).observe(took_s)
            if status is Status.FAILED:
                code = ErrorCode.INFRASTRUCTURE
                if isinstance(outcome, FailedByItself):
                    code = outcome.failure.code
                log.info("run ended", status=status.value, cost_micros=cost, code=code.value)
            else:  # thousands a second, of which nobody has to hear
                log.debug("run ended", status=status.value, cost_micros=cost)
        case Requeued():
            runs_taken_back_total.labels("platform").inc()
            log.warning("run requeued", outcome=outcome)
        case LeaseLost():
            log.warning("attempt was lost before it was settled")
        case Quarantined():
            log.error("run quarantined")
        case _:
            assert_never(settlement)
