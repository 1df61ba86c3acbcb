"""The follower: this node's one ear. One question tells it all, every half second or when woken.

Out go the events of attempts executed here, the last ones after their end; in come cancels of
these, the runs that handlers wait for, and the events of those that they stream. It is asked once
at a time, and not at all where there is nothing to ask. A wake-up only makes it ask sooner: a
completion here, on another node, or hinted by somebody takes the same way. Many watches are asked
for in slices, each a question of its own: a lease is renewed between two, over the same connection.
"""

import trio

from dpp.actors.attempts import Attempts, Outbox
from dpp.actors.wake import when
from dpp.actors.watchboard import Watchboard
from dpp.faults import StoreUnavailable
from dpp.leases import Fence
from dpp.logs import get_logger
from dpp.metrics import succeeded
from dpp.packs import events as pack_events
from dpp.ports import Following
from dpp.turns import turned
from dpp.watches import RunEvent

FOLLOW_S = 0.5  # a cancel is felt within a second, question included
SOON_S = 0.1  # where an end is known and not yet told: what a stream waits beyond what it must
GAP_S = 0.005  # between two questions: wake-ups of that time share one
EVENTS_MAX = 1000  # a question; the rest stay in the outboxes, which are bounded themselves

log = get_logger(__name__)


async def follower(
    store: Following, attempts: Attempts, board: Watchboard, draining: trio.Event
) -> None:
    """Follow until the board is told to finish; at the drain every waiter is answered."""
    unsent: list[RunEvent] = []
    whole_at = trio.current_time()  # when all is asked for again, whatever was heard
    async with trio.open_nursery() as nursery:
        nursery.start_soon(when, draining, board.close)
        while True:
            left_s = max(0.0, whole_at - trio.current_time())
            await board.wake.wait(min(SOON_S, left_s) if board.unsealed else left_s)
            whole = trio.current_time() >= whole_at
            unsent += collect(attempts, EVENTS_MAX - len(unsent))
            try:
                await step(store, attempts, board, unsent, whole=whole)
            except StoreUnavailable as outage:  # here, not outside: what is unsent stays
                log.warning("store unavailable", actor="follower", detail=str(outage))
                turned("follower")
                await trio.sleep(FOLLOW_S)
                whole_at = trio.current_time()
            else:
                unsent = []
                succeeded("follower")
                if whole:
                    whole_at = trio.current_time() + FOLLOW_S
                if board.finish_asked and not attempts.untold():
                    break
                await trio.sleep(GAP_S)
        board.finished.set()
        nursery.cancel_scope.cancel(reason="finished")


async def step(
    store: Following,
    attempts: Attempts,
    board: Watchboard,
    events: list[RunEvent],
    *,
    whole: bool,
) -> None:
    """Ask once, for a slice of all or for what was heard of, and pass on what came in."""
    executing, watching = board.question(attempts.run_ids(), whole=whole)
    if not (executing or watching or events):
        await trio.lowlevel.checkpoint()
        return
    changes = await store.follow(executing, watching, events)
    for run_id in {event.fence.run_id for event in events}:
        board.tell(run_id)  # they can be read from now on
    attempts.cancel(changes.canceled)
    board.publish(changes, attempts.untold())


def collect(attempts: Attempts, events_max: int) -> list[RunEvent]:
    """Empty outboxes, whole ones, until there are about `events_max` events."""
    taken: list[RunEvent] = []
    for outbox in attempts.outboxes():
        taken += events_of(outbox)
        if len(taken) >= events_max:
            break
    return taken


def events_of(outbox: Outbox) -> list[RunEvent]:
    """Put the attempt's fence on its events: it decides whether they are stored."""
    return [event_of(outbox.fence, outbox.tenant_id, event) for event in outbox.events]


def event_of(fence: Fence, tenant_id: str, event: pack_events.RunEvent) -> RunEvent:
    """Put a fence on an event."""
    return RunEvent(
        fence=fence,
        tenant_id=tenant_id,
        n=event.n,
        kind=event.kind,
        fraction=event.fraction,
        note=event.note if event.reason is None else event.reason,
        amount=event.amount,
    )
