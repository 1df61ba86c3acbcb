"""Redis as a node sees it, from the trio side: counters, a channel, and whether it is there.

A helper: each question ends within a fraction of a second, by `HelperUnavailable` at the latest.
After one that was not answered Redis is left alone for a while (`PAUSE_S`), so that it costs the
others nothing, and then asked by one. So for each kind of question: a Redis that is full refuses
counts and goes on telling. What Redis says is held against what was asked: a count comes
with its name and its end. All names begin with the deployment's id, so that two deployments may
share a Redis.
"""

from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any, TypeVar
from uuid import UUID, uuid4

import trio
from attrs import define, field

from dpp.faults import HelperUnavailable, StoreUnavailable
from dpp.logs import get_logger
from dpp.metrics import redis_faults_total, redis_up
from dpp.plans import WINDOW_S
from dpp.ports import Counted, Reconciling
from dpp.store.bridge import Bridge
from dpp.store.redis_line import WALL_S, Command, Ear, Line

PAUSE_S = 2.0  # of nobody asking, after a question that was not answered
WAIT_S = 1.5 * WALL_S  # for an answer to cross the bridge, whose thread may be busy
TRIP_MAX = 500  # counts in one question
COUNT, TELL, HEAR = "count", "publish", "hear"  # what is asked
PROBE = "probe"  # what readiness counts, and where it tells
NAME = "redis"  # under which the database keeps the deployment's id
MILLISECONDS = 1000

T = TypeVar("T")

log = get_logger(__name__)


@define(eq=False)
class Trip:
    """Counts that are asked for together: those that came while the trip before was under way."""

    names: list[str] = field(factory=list)
    over: trio.Event = field(factory=trio.Event)
    counted: Sequence[Counted] | None = None
    why: str = ""  # there is none


@define(eq=False)
class Aside:
    """Implements `dpp.ports.SharedCounts` and `dpp.ports.Channel`."""

    bridge: Bridge
    prefix: str
    _counting: Line
    _telling: Line
    _probing: Line
    _showing: Line
    _ear: Ear
    _well: dict[str, bool] = field(init=False)  # so until it is known better
    _ask_at: dict[str, float] = field(init=False)  # of a kind that is not: when somebody may again
    _boarding: Trip | None = None
    _under_way: trio.Lock = field(factory=trio.Lock)

    def __attrs_post_init__(self) -> None:
        self._well = dict.fromkeys((COUNT, TELL, HEAR), True)
        self._ask_at = dict.fromkeys(self._well, float("-inf"))

    @property
    def up(self) -> bool:
        """Say whether all that is asked is answered."""
        return all(self._well.values())

    @classmethod
    def to(cls, bridge: Bridge, url: str, deployment: UUID) -> "Aside":
        """Return what asks the Redis at `url`; nothing is asked yet."""
        prefix = f"dpp:{deployment}:"
        ear = Ear(url, f"{prefix}hints".encode())
        return cls(bridge, prefix, Line(url), Line(url), Line(url), Line(url), ear)

    async def count(self, name: str) -> Counted:
        """Count one more. Counts of the same moment are one question."""
        trip, first = self._boarding, False
        if trip is None or len(trip.names) >= TRIP_MAX:
            trip, first = Trip(), True
            self._boarding = trip
        place = len(trip.names)
        trip.names.append(name)
        if first:
            # To its end, whoever leaves: others ride along.
            with trio.CancelScope(shield=True):
                await self._go(trip)
        await trip.over.wait()
        if trip.counted is None:
            raise HelperUnavailable(trip.why)
        return trip.counted[place]

    async def publish(self, message: bytes) -> None:
        """Tell all nodes that hear it now."""
        command = ("PUBLISH", f"{self.prefix}hints", message)
        [heard_by] = await self._ask(TELL, partial(self._telling.ask, [command]))
        if not isinstance(heard_by, int):
            self._down(TELL, TELL, f"no number: {str(heard_by)[:100]}")
            raise HelperUnavailable

    async def hear(self) -> Sequence[bytes]:
        """Wait for messages, a second at most; [] = none came. Asks whether Redis is there or not.

        Whoever hears waits between two times by himself.
        """
        try:
            heard = await self.bridge.run(self._ear.hear)
        except (HelperUnavailable, StoreUnavailable) as error:
            redis_faults_total.labels(HEAR).inc()
            self._note(HEAR, well=False, asked=HEAR, detail=str(error))
            raise HelperUnavailable(str(error)) from error
        self._note(HEAR, well=True)
        return heard

    async def probe(self) -> None:
        """Count, whether Redis is left alone or not; raises where it does not, or nobody hears.

        And tell, where the last that was told got no answer: there may be nothing to tell for long.
        """
        ask = partial(count_all, self._probing, self.prefix, [PROBE])
        await self._ask(COUNT, ask, probe=True)
        if not self._well[TELL]:
            command = ("PUBLISH", f"{self.prefix}{PROBE}", b"")
            await self._ask(TELL, partial(self._probing.ask, [command]), probe=True)
        if not self._well[HEAR]:
            raise HelperUnavailable("nothing is heard")

    async def memory(self) -> int:
        """Return the bytes that Redis uses. Who may not ask leaves Redis as up as it was.

        What had no answer is asked again here, too: nobody else may have anything to ask for long.
        """
        if not self.up:
            with suppress(HelperUnavailable):
                await self.probe()
        try:
            with trio.move_on_after(WAIT_S):
                return await self.bridge.run(partial(used_memory, self._showing))
        except (HelperUnavailable, StoreUnavailable) as error:
            raise HelperUnavailable(str(error)) from error
        raise HelperUnavailable("no answer in time")

    async def close(self) -> None:
        """End the connections."""
        for line in (self._showing, self._counting, self._telling, self._probing, self._ear):
            await self.bridge.run(line.close)

    async def _go(self, trip: Trip) -> None:
        """Ask for all that board until the trip before is over."""
        try:
            async with self._under_way:
                if self._boarding is trip:
                    self._boarding = None
                ask = partial(count_all, self._counting, self.prefix, trip.names)
                trip.counted = await self._ask(COUNT, ask)
        except HelperUnavailable as error:
            trip.why = str(error)  # for all that wait
        finally:
            trip.over.set()

    async def _ask(
        self, kind: str, ask: Callable[[], Coroutine[Any, Any, T]], *, probe: bool = False
    ) -> T:
        """Ask on the bridge. While this kind has no answer one in `PAUSE_S` does, and a `probe`."""
        if not (self._well[kind] or probe):
            if trio.current_time() < self._ask_at[kind]:
                await trio.lowlevel.checkpoint()
                raise HelperUnavailable("left alone")
            self._ask_at[kind] = trio.current_time() + PAUSE_S
        why = "no answer in time"
        try:
            with trio.move_on_after(WAIT_S):
                answer = await self.bridge.run(ask)
                self._note(kind, well=True)
                return answer
        except (HelperUnavailable, StoreUnavailable) as error:
            why = str(error)
        self._down(kind, "probe" if probe else kind, why)
        raise HelperUnavailable(why)

    def _down(self, kind: str, asked: str, why: str) -> None:
        redis_faults_total.labels(asked).inc()
        self._ask_at[kind] = trio.current_time() + PAUSE_S
        self._note(kind, well=False, asked=asked, detail=why)

    def _note(self, kind: str, *, well: bool, **more: str) -> None:
        """Keep how a kind of question stands, and say so where the whole has changed."""
        before = self.up
        self._well[kind] = well
        now = self.up
        redis_up.set(now)
        if before and not now:
            log.warning("redis unavailable", **more)
        elif now and not before:
            log.info("redis answers")


async def count_all(line: Line, prefix: str, names: Sequence[str]) -> list[Counted]:
    """Count one more of each name, in one question; on the bridge's loop.

    INCR comes first, and with the expiry it is one step: a counter without an end cannot be left.
    A name that is counted twice here is two counts. The names come back with the counts.
    """
    commands: list[Command] = [("MULTI",)]
    keys = [f"{prefix}count:{name}".encode() for name in names]
    for key in keys:
        commands += [("INCR", key), ("EXPIRE", key, WINDOW_S, "NX"), ("PTTL", key), ("ECHO", key)]
    *_, replies = await line.ask([*commands, ("EXEC",)])
    try:
        return _counts(keys, replies)
    except ValueError as error:
        line.drop()
        raise HelperUnavailable(str(error)) from error


async def used_memory(line: Line) -> int:
    """Ask for what `INFO memory` says; on the bridge's loop."""
    [told] = await line.ask([("INFO", "memory")])
    for word in told.split() if isinstance(told, bytes) else ():
        name, _, figure = word.partition(b":")
        if name == b"used_memory" and figure.isdigit():
            return int(figure)
    raise HelperUnavailable(f"no memory told: {str(told)[:100]}")


def _counts(keys: Sequence[bytes], replies: object) -> list[Counted]:
    if not isinstance(replies, list) or len(replies) != 4 * len(keys):
        raise ValueError(f"not the counts: {str(replies)[:100]}")
    counted = []
    for place, key in enumerate(keys):
        count, _, left_ms, name = replies[4 * place : 4 * place + 4]
        if name != key or not isinstance(count, int) or not isinstance(left_ms, int):
            raise ValueError(f"not the count of {key!r}: {str(replies)[:100]}")
        if count < 1 or not 0 <= left_ms <= WINDOW_S * MILLISECONDS:
            raise ValueError(f"{key!r} cannot be {count} for {left_ms} ms")
        counted.append(Counted(count, left_ms / MILLISECONDS))
    return counted


@asynccontextmanager
async def open_aside(
    bridge: Bridge, url: str | None, store: Reconciling
) -> AsyncIterator[Aside | None]:
    """Give Redis for the length of the block; None = there is none in the configuration.

    The deployment's id is kept in its database: a node cannot be told a wrong one.
    """
    if url is None:
        yield None
        return
    deployment = await store.store_id(NAME) or await store.keep_store_id(NAME, uuid4())
    aside = Aside.to(bridge, url, deployment)
    try:
        yield aside
    finally:
        with trio.move_on_after(1.0, shield=True):
            await aside.close()
