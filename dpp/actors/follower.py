"""The follower: this node's one ear. One question tells it all, every half second or when woken.

Out go the events of attempts executed here; in come cancels of these and the runs that handlers
wait for. It is asked once at a time, and not at all where there is nothing to ask. A wake-up only
makes it ask sooner: a completion here, on another node, or hinted by somebody takes the same way.
"""

import trio

from dpp.actors.attempts import Attempt, Attempts
from dpp.actors.wake import when
from dpp.actors.watchboard import Watchboard
from dpp.faults import StoreUnavailable
from dpp.logs import get_logger
from dpp.metrics import succeeded
from dpp.packs import events as pack_events
from dpp.ports import Following
from dpp.watches import RunEvent

FOLLOW_S = 0.5  # a cancel is felt within a second, question included
GAP_S = 0.005  # between two questions: wake-ups of that time share one
EVENTS_MAX = 1000  # a question; the rest stay in the outboxes, which are bounded themselves

log = get_logger(__name__)


async def follower(
    store: Following, attempts: Attempts, board: Watchboard, draining: trio.Event
) -> None:
    """Follow for as long as the node lives; at the drain every waiter is answered."""
    unsent: list[RunEvent] = []
    async with trio.open_nursery() as nursery:
        nursery.start_soon(when, draining, board.close)
        while True:
            await board.wake.wait(FOLLOW_S)
            unsent += collect(attempts, EVENTS_MAX - len(unsent))
            try:
                await step(store, attempts, board, unsent)
            except StoreUnavailable as outage:  # here, not outside: what is unsent stays
                log.warning("store unavailable", actor="follower", detail=str(outage))
                await trio.sleep(FOLLOW_S)
            else:
                unsent = []
                succeeded("follower")
                await trio.sleep(GAP_S)


async def step(
    store: Following, attempts: Attempts, board: Watchboard, events: list[RunEvent]
) -> None:
    """Ask once, and pass on what came in."""
    executing, watching = attempts.run_ids(), board.watching()
    if not (executing or watching or events):
        await trio.lowlevel.checkpoint()
        return
    changes = await store.follow(executing, watching, events)
    attempts.cancel(changes.canceled)
    board.publish(changes.runs)


def collect(attempts: Attempts, events_max: int) -> list[RunEvent]:
    """Empty outboxes, whole ones, until there are about `events_max` events."""
    taken: list[RunEvent] = []
    for attempt in attempts:
        if len(taken) >= events_max:
            break
        taken += (event_of(attempt, event) for event in attempt.ctx.drain_events())
    return taken


def event_of(attempt: Attempt, event: pack_events.RunEvent) -> RunEvent:
    """Put the attempt's fence on an event: it is stored only while the attempt holds its run."""
    return RunEvent(
        fence=attempt.fence,
        tenant_id=attempt.claimed.tenant_id,
        n=event.n,
        kind=event.kind,
        fraction=event.fraction,
        note=event.note if event.reason is None else event.reason,
        amount=event.amount,
    )
