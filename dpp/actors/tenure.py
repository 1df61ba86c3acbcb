"""The tenure: it keeps this node's lease and owns the runs that live under it.

The lease is a row; what the node trusts is the deadline of one cancel scope around all its runs,
counted from before each renewal was asked and ending before the row does. If the store stops
answering nobody has to notice: the deadline passes and the runs end, before anybody may take them.

A tenure ends in four ways. In order (drain): its runs are handed back free. Unanswered (a renewal
was asked on time, the store was silent): the lease is *owed*, and handed back free with the next.
By our own stall, or with the row gone: the reaper has the runs, an attempt is spent. By an
exception: the same, since a run that crashes its node must not be retried for ever.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from math import inf
from typing import TypeAlias
from uuid import uuid4

import trio
from attrs import define, evolve, field

from dpp import failpoints
from dpp.actors.attempts import Attempts
from dpp.actors.batches import Refusals, commit
from dpp.actors.clock import DatabaseClock
from dpp.actors.supervisor import GiveUp, supervise
from dpp.actors.wake import when
from dpp.faults import StoreUnavailable
from dpp.leases import Fence, NodeLease, margin, trusted_until
from dpp.logs import get_logger
from dpp.metrics import note_differing, note_lease, succeeded
from dpp.neighbours import PACKS, PLANS, Neighbour, Neighbourhood, Offer
from dpp.ports import Leases
from dpp.turns import turned

AGAIN_S = 0.1  # between tries to hand back what somebody holds: longer than a commit takes
END_S = 2.0  # to end a lease: what is not ended by then lapses, and SIGTERM to exit must stay short
OWED_S = 1.0  # between tries to end what is owed, of a node that rests
ASK_AGAIN_SHARE = 0.1  # of the heartbeat, after a renewal without an answer: several tries fit

log = get_logger(__name__)


class LeaseLapsed(StoreUnavailable):
    """The lease ran out under us: an outage, to whoever supervises."""


@define(eq=False)
class Standing:
    """What outlives a tenure.

    `owed`: leases that an outage kept us from ending. `earlier_gone`: the lease rows that this data
    directory left behind when it died are deleted, its runs are free for a reaper. `neighbourhood`:
    who else lives, as of the last renewal; before the first one this node counts itself alone.
    """

    node_id: str
    attempts: Attempts
    offer: Offer = field(factory=Offer)
    neighbourhood: Neighbourhood = field(factory=Neighbourhood)
    clock: DatabaseClock = field(factory=DatabaseClock)
    first_lease: trio.Event = field(factory=trio.Event)
    owed: set[NodeLease] = field(factory=set)
    earlier_gone: trio.Event = field(factory=trio.Event)


@define(eq=False)
class Tenure:
    """One term of this node, while it lasts."""

    lease: NodeLease
    attempts: Attempts
    trust: trio.CancelScope
    unanswered: bool = False  # the last renewal that was asked
    let_go_at: float = inf  # runs may take a while longer to unwind

    def lost(self) -> None:
        """End the tenure: the row is gone, whatever the deadline says."""
        self.trust.cancel(reason="lease lost")


Claimer: TypeAlias = Callable[[Tenure, trio.Nursery, trio.Event], Awaitable[None]]


async def work(  # noqa: PLR0913 - what a tenure is made of
    store: Leases,
    standing: Standing,
    draining: trio.Event,
    hurrying: trio.Event,
    claimer: Claimer,
    give_up: GiveUp,
    *,
    drain_s: float,
    lease_s: float,
    heartbeat_s: float,
) -> None:
    """Live one tenure: claim and execute until the drain, or raise what ended it."""
    if draining.is_set():  # restarted after SIGTERM: do not wait for the store
        await trio.lowlevel.checkpoint()
        return
    async with (
        tenure(store, standing, lease_s=lease_s, heartbeat_s=heartbeat_s) as here,
        trio.open_nursery() as hurry,
    ):
        time_left = trio.CancelScope()
        hurry.start_soon(when, hurrying, partial(time_left.cancel, "hurrying"))
        with time_left:
            async with trio.open_nursery() as runs:
                claim = partial(claimer, here, runs, draining)
                await supervise("claimer", claim, give_up)  # its bugs end no run
                failpoints.hit("drain.begin")
                time_left.deadline = trio.current_time() + drain_s
        hurry.cancel_scope.cancel(reason="runs over")
        assert draining.is_set(), "the runs of a tenure were cancelled by one of them"


@asynccontextmanager
async def tenure(
    store: Leases, standing: Standing, *, lease_s: float, heartbeat_s: float
) -> AsyncIterator[Tenure]:
    """Take a lease and keep it while the block runs. Runs live inside and end with it.

    Trust counts from before we asked and ends before the row's `lease_until`: we let go first.
    """
    await end_owed(store, standing)
    asked_at, lease = trio.current_time(), NodeLease(uuid4(), standing.node_id, standing.offer)
    await take(store, standing, lease, lease_s)
    trust = trio.CancelScope(deadline=trusted_until(asked_at, lease_s))
    here = Tenure(lease, standing.attempts, trust)
    blameless = False  # a crash: the reaper's, attempt spent
    try:
        with here.trust:
            async with trio.open_nursery() as upkeep:
                upkeep.start_soon(note_end, here)
                upkeep.start_soon(renew, store, here, standing, lease_s, heartbeat_s)
                if not standing.earlier_gone.is_set():
                    clear = partial(end_earlier, store, here.lease, standing.earlier_gone)
                    upkeep.start_soon(supervise, "earlier leases", clear, leave_to_lapse)
                yield here
                upkeep.cancel_scope.cancel(reason="tenure over")
            blameless = True  # inside the scope: not reached when trust ran out
        if here.trust.cancelled_caught:
            # The store was silent. Our own stall is no outage: it ends long after trust did.
            late_s = here.let_go_at - here.trust.deadline
            blameless = here.unanswered and late_s < margin(lease_s)
            log.warning("lease lapsed", lease_id=str(lease.lease_id), owed=blameless)
            raise LeaseLapsed(f"lease {lease.lease_id}")
    finally:
        note_lease(held=False)
        if blameless:
            standing.owed.add(lease)
        with trio.move_on_after(END_S, shield=True), suppress(StoreUnavailable):
            failpoints.hit("drain.before_end_lease")
            in_outage = here.trust.cancelled_caught  # of long ago: the next tenure asks again
            while await is_left(store, lease, hand_back=blameless, in_outage=in_outage):  # noqa: ASYNC110
                await trio.sleep(AGAIN_S)
            standing.owed.discard(lease)
            log.info("lease ended", lease_id=str(lease.lease_id), handed_back=blameless)


async def is_left(store: Leases, lease: NodeLease, *, hand_back: bool, in_outage: bool) -> bool:
    """Try to end a lease; True = somebody holds a run of it, or the store blinked: ask again."""
    try:
        return bool(await store.end_lease(lease, hand_back=hand_back))
    except StoreUnavailable:
        if in_outage:
            raise
        return True  # noqa: ASYNC910 - who asks again makes a pause


async def return_owed(store: Leases, standing: Standing) -> None:  # noqa: ASYNC910 - as below
    """End what is owed, however long the store is away: a node that rests takes no next lease."""
    while standing.owed:
        with suppress(StoreUnavailable):
            await end_owed(store, standing)
        await trio.sleep(OWED_S)


async def end_owed(store: Leases, standing: Standing) -> None:  # noqa: ASYNC910 - mostly nothing is owed
    """End what an outage left owed, free; where somebody holds a run of it, ask a few times more.

    What is left then is handed back as far as it goes with the next lease.
    """
    for owed in tuple(standing.owed):
        with trio.move_on_after(END_S):
            while await store.end_lease(owed, hand_back=True):  # noqa: ASYNC110
                await trio.sleep(AGAIN_S)
            standing.owed.discard(owed)


async def take(store: Leases, standing: Standing, lease: NodeLease, lease_s: float) -> None:
    """Take a lease, handing back free what an outage left owed; learn the database's time."""
    assert len(standing.attempts) == 0, "an attempt outlived its tenure"
    now = await store.take_lease(lease, lease_s=lease_s, hand_back=tuple(standing.owed))
    standing.clock.learn(now)
    standing.owed.clear()
    standing.attempts.forsaken.clear()  # fences of leases that are over
    standing.first_lease.set()
    note_lease(held=True)
    log.info("lease taken", lease_id=str(lease.lease_id), node_id=lease.node_id)


async def note_end(here: Tenure) -> None:
    """Note when the loop came to end the tenure, however long its runs then take to be gone."""
    try:
        await trio.sleep_forever()
    finally:
        here.let_go_at = trio.current_time()


async def renew(
    store: Leases, here: Tenure, standing: Standing, lease_s: float, heartbeat_s: float
) -> None:
    """Renew until the lease is lost. A renewal without an answer leaves the deadline alone."""
    suspects: frozenset[Fence] = frozenset()
    ask_at = trio.current_time() + heartbeat_s
    while True:
        await trio.sleep_until(ask_at)
        asked_at = trio.current_time()
        # Asked late, a silence is our own stall: no outage, whatever the store then does.
        here.unanswered = asked_at - ask_at < margin(lease_s)
        try:
            lease = evolve(here.lease, offer=standing.offer)  # a reload may have changed it
            renewal = await store.renew_lease(lease, lease_s=lease_s)
        except StoreUnavailable as outage:
            log.warning("heartbeat unanswered", detail=str(outage))
            turned("tenure")
            ask_at = trio.current_time() + ASK_AGAIN_SHARE * heartbeat_s
            continue
        here.unanswered = False
        if not renewal.held:
            log.warning("lease lost", lease_id=str(here.lease.lease_id))
            here.lost()
            return
        here.trust.deadline = trusted_until(asked_at, lease_s)
        standing.clock.learn(renewal.now)
        meet(standing, renewal.neighbours)
        succeeded("tenure")
        note_lease(held=True)
        log.info("heartbeat", lease_id=str(here.lease.lease_id), runs=len(here.attempts))
        suspects = await hand_back_ghosts(store, here, renewal.fences, suspects, heartbeat_s)
        ask_at = asked_at + heartbeat_s


def meet(standing: Standing, neighbours: Sequence[Neighbour]) -> None:
    """Look at who lives; say once when nodes begin, or cease, to differ."""
    seen = Neighbourhood.seen_by(standing.offer, neighbours)
    note_differing({what: len(seen.differing.get(what, ())) for what in (PLANS, PACKS)})
    if seen.differing and seen.differing != standing.neighbourhood.differing:
        log.warning("nodes differ", **seen.differing)
    standing.neighbourhood = seen


async def hand_back_ghosts(
    store: Leases,
    here: Tenure,
    held: Sequence[Fence],
    suspects: frozenset[Fence],
    heartbeat_s: float,
) -> frozenset[Fence]:
    """Hand back what this node has not known at two renewals running; return the new suspects.

    At one renewal alone it may be a claim on its way here. What is handed back is forsaken first,
    so that a claim that is answered after all does not start it.
    """
    await trio.lowlevel.checkpoint()
    unknown = frozenset(fence for fence in held if fence not in here.attempts)
    ghosts = unknown & suspects
    if ghosts:
        here.attempts.forsake(ghosts)
        log.warning("ghosts handed back", run_ids=[str(ghost.run_id) for ghost in ghosts])
        with trio.move_on_after(heartbeat_s / 2), suppress(StoreUnavailable):

            async def hand_back(some: Sequence[Fence]) -> None:
                await store.hand_back_runs(some)

            order = sorted(ghosts, key=lambda ghost: ghost.run_id)
            await commit(hand_back, order, leave_ghost, Refusals())
    return unknown


async def leave_ghost(ghost: Fence, bug: Exception) -> None:
    """Leave a ghost that the database refuses to hand back: healthy runs must not pay for it."""
    log.error("ghost not handed back", run_id=str(ghost.run_id), exc_info=bug)
    await trio.lowlevel.checkpoint()


async def end_earlier(store: Leases, lease: NodeLease, gone: trio.Event) -> None:
    """Delete the lease rows of this node's earlier tenures: it holds the data directory's lock."""
    ended = await store.end_earlier_leases(lease)
    gone.set()
    log.info("earlier leases ended", leases=ended)


def leave_to_lapse(_: BaseException) -> None:
    """Let a bug there cost the runs of this tenure nothing: the rows lapse by themselves."""
