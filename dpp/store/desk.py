"""The desk: where a verb is handed to the bridge, with a connection of the right pool.

A verb is asked again, on a fresh connection, when nothing was committed or when it is unknown
whether it was; every verb is idempotent under its identity, so asking again tells the truth. Past
`ASK_S` the caller gets `StoreUnavailable`.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from functools import partial
from typing import Any, Protocol, TypeVar

from attrs import frozen

from dpp import metrics
from dpp.admission import Busy
from dpp.faults import ClaimUnknown, PageBroken, StoreBroken, StoreUnavailable, told
from dpp.logs import get_logger
from dpp.store.bridge import Bridge
from dpp.store.connections import Address, Connection, Pool, Primary
from dpp.store.patience import Patience
from dpp.store.sqlstates import LOST_STATEMENTS, Fault, classify
from dpp.store.transactions import CommitRefused, CommitUnknown, NoPrimary, NotCommitted

log = get_logger(__name__)

POOLS = ("audit", "keep", "work", "read")
BROKEN = {Fault.BROKEN: StoreBroken, Fault.TORN: PageBroken}

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

# one transaction: over every server-side wait it may meet (lock 2 s, idle 5 s), then the
# connection is cut
WALL_S = 8.0
FOLLOW_WALL_S = 2.0  # its server-side limit is 1 s, and a renewal waits behind it
AUDIT_WALL_S = 150.0  # an audit reads everything
# asking for an unknown COMMIT: the old backend is gone after 5 s idle, or ended by the server
# after 15 s
ASK_S = 20.0
ROOM = 1024  # operations handed over and not ended, of all pools: far over what they run at once
ROOM_MIN = 8  # of one pool: lease and follower have few
FREE_TRIES = 3  # for one tenant's row without waiting for it, before a place to wait is asked for
TRIES_MAX = 4  # of a transaction that was certainly not committed
PAUSE_S = (
    0.05  # between tries, jittered: longer than a deadlock takes to clear, too short to notice
)


@frozen
class Share:
    """Connections of one pool: at once, and of those the ones that stay when idle."""

    most: int
    kept: int


@frozen
class Sizes:
    """How the connections are split: so that slow reads lapse no lease and stop no money."""

    keep: Share
    work: Share
    read: Share
    audit: Share

    @classmethod
    def of(cls, pool_size: int, max_overflow: int = 0, *, kept: bool = True) -> "Sizes":
        """Split: one for lease and follower, half of the rest or more for work, then reads.

        What is over `pool_size` goes to work and reads alike, and is closed when it was used. Not
        `kept`: so is every connection, after each transaction.
        """
        assert pool_size >= 4  # noqa: PLR2004  # one to keep, two to work (a waiting lane and a free one), one to read
        rest = pool_size - 1
        work = max(2, (rest + 1) // 2)
        more = (max_overflow + 1) // 2

        def share(usual: int, over: int = 0) -> Share:
            return Share(usual + over, usual if kept else 0)

        return cls(share(1), share(work, more), share(rest - work, max_overflow - more), share(1))


class RowVerb(Protocol[T_co]):
    """A transaction for one tenant; without `wait`, `Busy` where its row is held."""

    async def __call__(self, connection: Connection, *, wait: bool) -> T_co | Busy: ...


class Desk:
    """The pools of connections, and who may ask for how much of them at once."""

    def __init__(self, bridge: Bridge, address: Address, auditor: Address, sizes: Sizes) -> None:
        primary = Primary()

        def pool(where: Address, share: Share) -> Pool:
            return Pool(where, share.most, kept=share.kept, primary=primary)

        self.auditor = pool(auditor, sizes.audit)
        self.keep = pool(address, sizes.keep)
        self.work = pool(address, sizes.work)
        self.read = pool(address, sizes.read)
        self._bridge = bridge
        self._patience = Patience(sizes.work.most)
        self._pools = (self.auditor, self.keep, self.work, self.read)
        whole = sum(pool.size for pool in self._pools)
        # Each pool has a share of its own: a flood of reads lapses no lease and stops no money.
        self._room = {pool: ROOM_MIN + ROOM * pool.size // whole for pool in self._pools}
        self._asked: Counter[Pool] = Counter()
        for name, one in zip(POOLS, self._pools, strict=True):
            metrics.watch_pool(name, partial(getattr, one, "in_use"), one.size)

    async def ask(
        self,
        name: str,
        pool: Pool,
        verb: Callable[[Connection], Awaitable[T]],
        *,
        once: bool = False,
        wall_s: float = WALL_S,
    ) -> T:
        """Ask until it is definite, see `ask` below; raises at once where too much waits."""
        asking = partial(ask, name, pool, verb, once=once, wall_s=wall_s)
        return await self._hand_over(name, pool, asking)

    async def _hand_over(
        self, name: str, pool: Pool, asking: Callable[[], Coroutine[Any, Any, T]]
    ) -> T:
        """Hand an operation to the bridge, where it runs if not too much waits for its pool.

        Counted there until its end: an asker that has gone leaves it behind.
        """

        async def bounded() -> T:
            if self._asked[pool] >= self._room[pool]:
                metrics.store_unavailable_total.labels(name).inc()
                message = f"{name}: too much waits for this; nothing was started"
                raise StoreUnavailable(message)
            self._asked[pool] += 1
            try:
                return await asking()
            finally:
                self._asked[pool] -= 1

        return await self._bridge.run(bounded)

    async def ask_lane(
        self,
        name: str,
        tenant_id: str,
        verb: Callable[[Connection], Awaitable[Sequence[T]]],
        items: int,
    ) -> list[T | Busy]:
        """Ask for one tenant, waiting for its row; all `Busy` where it may not be waited for."""

        async def asking() -> list[T | Busy]:
            async with self._patience.try_place(tenant_id) as got:
                if not got:
                    return [Busy()] * items
                return [*await ask(name, self.work, verb, once=False, wall_s=WALL_S)]

        return await self._hand_over(name, self.work, asking)

    async def ask_row(self, name: str, tenant_id: str, verb: RowVerb[T]) -> T:
        """Ask for what needs one tenant's row: without waiting for it first, then in its turn."""

        async def asked(*, wait: bool) -> T | Busy:
            tried = partial(verb, wait=wait)
            return await ask(name, self.work, tried, once=False, wall_s=WALL_S)

        async def asking() -> T:
            with self._patience.asking(tenant_id):
                for tries in range(FREE_TRIES):
                    if not isinstance(answer := await asked(wait=False), Busy):
                        return answer
                    await asyncio.sleep(PAUSE_S * tries)
                async with self._patience.place(tenant_id):
                    answer = await asked(wait=True)
            assert not isinstance(answer, Busy), "who waits is not told to wait"
            return answer

        return await self._hand_over(name, self.work, asking)

    async def close(self) -> None:
        """Close the pools; an operation that still goes on leaves no connection behind."""

        async def close() -> None:  # it must run in the bridge's thread
            for pool in self._pools:
                pool.close()

        await self._bridge.run(close)


async def ask(
    name: str,
    pool: Pool,
    verb: Callable[[Connection], Awaitable[T]],
    *,
    once: bool,
    wall_s: float,
) -> T:
    """Ask until it is definite: the result, a bug, or `StoreUnavailable`.

    `once`: a COMMIT that got no answer is not asked again here; a claim's is `ClaimUnknown`.
    """
    loop = asyncio.get_running_loop()
    give_up_at = loop.time() + ASK_S
    tries = 0
    unknown_once = False  # then its old backend may hold the locks: only the time ends the asking
    while True:
        tries += 1
        try:
            async with pool.connection(wall_s) as connection:
                began_at = loop.time()
                answer = await verb(connection)
                metrics.commit_seconds.labels(name).observe(loop.time() - began_at)
                return answer
        except CommitUnknown as unknown:
            metrics.commits_unknown_total.labels(name).inc()
            pool.drop_idle()
            if once:
                fault = ClaimUnknown if name == "claim_runs" else StoreUnavailable
                message = f"{name}: COMMIT got no answer"
                raise fault(message) from unknown
            unknown_once = True
            reason: Exception = unknown
            over = loop.time() > give_up_at
        except CommitRefused as refused:
            metrics.commits_refused_total.inc()
            raise StoreBroken(str(refused)) from refused
        except Exception as error:  # every error is classified, and bugs go on
            fault_kind = judge(error)
            if fault_kind is Fault.BUG:
                raise
            if fault_kind in BROKEN:
                raise BROKEN[fault_kind](f"{name}: {told(error)}{remedy_of(error)}") from error
            drop_suspects(pool, fault_kind, error)
            reason = error
            tired = tries >= TRIES_MAX and not unknown_once
            over = fault_kind is Fault.AWAY or tired or loop.time() > give_up_at
        if over:
            metrics.store_unavailable_total.labels(name).inc()
            message = f"{name}: {told(reason)}"
            raise StoreUnavailable(message) from reason
        metrics.store_retries_total.labels(name).inc()
        await asyncio.sleep(PAUSE_S * tries * random.uniform(0.5, 1.5))  # noqa: S311  # jitter


def drop_suspects(pool: Pool, fault_kind: Fault, error: Exception) -> None:
    """Throw away the connections that an error has told of, beside the one that it came on."""
    if fault_kind is Fault.RECONNECT:
        pool.drop_idle()
    elif fault_kind is Fault.DEMOTED:
        log.warning("no primary any more", detail=told(error))
        pool.fail_over()


def judge(error: Exception) -> Fault:
    """Judge an error that a verb raised, which is no COMMIT without an answer."""
    if isinstance(error, NotCommitted):
        return Fault.RECONNECT
    if isinstance(error, NoPrimary):
        return Fault.DEMOTED
    if isinstance(error, StoreUnavailable):  # no connection is to be had
        return Fault.AWAY
    return classify(error)


def remedy_of(error: Exception) -> str:
    """Say what to do about statements that are gone: no bug, but a setting that is contradicted."""
    if getattr(error, "sqlstate", None) not in LOST_STATEMENTS:
        return ""
    return (
        '; a pooler in transaction mode stands between: set database.pooler to "transaction", or to'
        ' "auto" and start the node again'
    )
