"""The executor: one task per attempt, from its claim to its settlement.

`perform` runs the pack and decides the outcome, once: what a pack does, whatever it is, becomes a
value there. A tenure that is lost gives no outcome, and nothing is written for the attempt. Then the
settler is asked, again and again under the same ending id while the tenure lives; storing and
settling are not in the time box.
"""

import json
import random
from collections.abc import Awaitable, Callable, Iterator
from typing import TypeAlias
from uuid import uuid4

import trio
from attrs import frozen
from structlog.contextvars import bind_contextvars

from dpp.actors.attempts import Attempt, Attempts
from dpp.faults import StoreUnavailable
from dpp.logs import get_logger
from dpp.metrics import runs_ended_total
from dpp.packs.ctx import CostCeilingReached, InfrastructureFault, PackRefused
from dpp.packs.events import one_line
from dpp.packs.pack import Pack
from dpp.packs.registry import AnyPack, Registry
from dpp.packs.results import NotAResult, encode
from dpp.runs import ErrorCode, Failure
from dpp.settlement import (
    CanceledWhileRunning,
    Completed,
    End,
    FailedByItself,
    FailedByPlatform,
    Outcome,
    Settled,
    Settlement,
)

PAUSE_S_MIN = 0.05  # before the settler is asked again after an outage; then twice as long
PAUSE_S_MAX = 1.0  # all of a node's executors ask again: jittered, so not at once

Settle: TypeAlias = Callable[[End, str], Awaitable[Settlement]]

log = get_logger(__name__)


async def execute(
    attempts: Attempts,
    registry: Registry,
    settle: Settle,
    attempt: Attempt,
    *,
    inline_max_bytes: int,
) -> None:
    """Perform an attempt and have it settled; it leaves `attempts` whatever happens."""
    claimed = attempt.claimed
    bind_contextvars(trace_id=claimed.trace_id, run_id=str(claimed.fence.run_id))
    log.debug("run started", pack_type=claimed.pack_type, attempt=claimed.attempt)
    try:
        outcome = await perform(attempt, registry.find(claimed.pack_type), inline_max_bytes)
        end = End(uuid4(), claimed.tenant_id, claimed.fence, outcome)
        settlement = await settle_at_last(settle, end, claimed.trace_id)
    finally:
        attempts.remove(attempt)
    tell(claimed.pack_type, outcome, settlement)


async def settle_at_last(settle: Settle, end: End, trace_id: str) -> Settlement:
    """Ask for the settlement until there is one; the tenure's end is the end of asking."""
    pause_s = PAUSE_S_MIN
    while True:
        try:
            return await settle(end, trace_id)
        except StoreUnavailable:
            log.debug("settlement unanswered", ending_id=str(end.ending_id))
        await trio.sleep(pause_s * random.uniform(0.5, 1.0))
        pause_s = min(2 * pause_s, PAUSE_S_MAX)


async def perform(attempt: Attempt, pack: AnyPack | None, inline_max_bytes: int) -> Outcome:
    """Run the pack inside its time box and decide what came of it: the outcome never changes.

    Raises only what ends the task with its tenure. A result counts although the box passed while
    it was on its way; after a cancel was felt, whatever the pack does is the answer to the cancel.
    """
    ctx, error = attempt.ctx, None
    try:
        with attempt.scope:
            if pack is None:
                raise InfrastructureFault(f"no pack {attempt.claimed.pack_type} on this node")
            result = await pack.run(ctx, json.loads(attempt.claimed.inputs))
            if not ctx.cancelled.is_set():
                return Completed(inline(result, inline_max_bytes), ctx.charged)
    except BaseException as raised:  # noqa: BLE001 - one of the three broad catches: see the top
        error = pack_error(raised)
    return failed(attempt, error)
'''
