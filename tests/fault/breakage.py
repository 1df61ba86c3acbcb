"""The helpers of a fleet, broken in turn: Redis, SQS and S3, each down, slow and wrong.

One at a time is broken for some seconds and then well, before it is the next one's turn. Who asks
meanwhile can look up which one it is; after each turn drift and audit are asked for.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from functools import partial
from itertools import cycle, product

import trio
from attrs import define, field, frozen

from tests.aws.proxy import Fault, Proxy
from tests.fault.fleet import Fleet
from tests.redis_server import RedisServer

SERVICES = ("redis", "sqs", "s3")
WAYS = ("down", "slow", "wrong")
NOTHING = "nothing"  # is broken
BROKEN_S, WELL_S = 4.0, 1.0  # and as long for the audit: all ways of all three in a minute
STUTTER_S = (0.3, 0.1)  # frozen and thawed by turns: over what a question to Redis may take
WRONG = (Fault.WRONG, Fault.CUT, Fault.GARBLED, Fault.TWICE, Fault.INTERNAL, Fault.REPLY_LOST)
WRONG_SHARE = 0.5  # of the requests
NONSENSE = b"+OK\r\n$-7\r\n:x\r\n" * 100  # what no Redis says


@frozen
class Turn:
    """One time that a service was broken. Times are trio's."""

    service: str
    way: str
    began_at: float
    ended_at: float


@define(eq=False)
class Breakage:
    """What is broken now, what was, and what the books came to after each turn."""

    fleet: Fleet
    look: Callable[[], Awaitable[tuple[int, str]]]  # drift in micro-dollars, and the audit
    turns: list[Turn] = field(factory=list)
    looks: dict[str, list[tuple[int, str]]] = field(factory=dict)
    now: str = NOTHING
    _began_at: float = 0.0

    def was(self, service: str, since: float) -> bool:
        """Say whether a service was broken at some moment from then on."""
        if self.now == service:
            return True
        return any(one.service == service and one.ended_at >= since for one in self.turns[-3:])

    async def take_turns(self, services: Sequence[str]) -> None:
        """Break one after the other, for ever; the one that is broken at the end is made well."""
        for way, service in cycle(product(WAYS, services)):
            await trio.sleep(WELL_S)
            await self._take(service, way)
            self.looks.setdefault(service, []).append(await self.look())

    async def _take(self, service: str, way: str) -> None:
        async with self._broken(service, way):
            at = trio.current_time()
            print(f"{time.strftime('%X')}  {service} is {way}", file=sys.stderr, flush=True)
            self.now = service
            try:
                await trio.sleep(BROKEN_S)
            finally:
                self.now = NOTHING
                self.turns.append(Turn(service, way, at, trio.current_time()))

    def _broken(self, service: str, way: str) -> AbstractAsyncContextManager[None]:
        redis, cloud = self.fleet.redis, self.fleet.cloud
        if service == "redis":
            assert redis is not None, "needs a redis-server"
            return broken_redis(redis, way)
        assert cloud is not None
        return broken_proxy(cloud.s3 if service == "s3" else cloud.sqs, way)

    def table(self, service: str) -> Iterator[tuple[str, object]]:
        """Yield what happened to one."""
        mine = [turn for turn in self.turns if turn.service == service]
        looks = self.looks.get(service, [])
        yield "times broken", len(mine)
        yield "seconds broken", round(sum(turn.ended_at - turn.began_at for turn in mine), 1)
        yield "ways", dict(Counter(turn.way for turn in mine))
        yield "drift in micro-dollars", max((abs(drift) for drift, _ in looks), default=0)
        yield "audits", dict(Counter(audit for _, audit in looks))


@asynccontextmanager
async def broken_redis(redis: RedisServer, way: str) -> AsyncIterator[None]:
    """Break Redis for the block: killed, standing still most of the time, or somebody else."""
    if way == "slow":
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stutter, redis)
            yield
            nursery.cancel_scope.cancel(reason="well again")
        return
    await trio.to_thread.run_sync(redis.kill)
    try:
        if way == "wrong":
            async with trio.open_nursery() as nursery:
                serve = partial(trio.serve_tcp, talk_nonsense, redis.port, host="127.0.0.1")
                await nursery.start(serve)
                yield
                nursery.cancel_scope.cancel(reason="well again")
        else:
            yield
    finally:
        with trio.CancelScope(shield=True):
            await trio.to_thread.run_sync(redis.start)


async def stutter(redis: RedisServer) -> None:
    """Let it stand still, and go on for a moment."""
    frozen_s, thawed_s = STUTTER_S
    while True:
        redis.freeze()
        try:
            await trio.sleep(frozen_s)
        finally:
            redis.thaw()
        await trio.sleep(thawed_s)


async def talk_nonsense(stream: trio.SocketStream) -> None:
    """Be another program on the port."""
    try:
        async with stream:
            while await stream.receive_some(1 << 16):
                await stream.send_all(NONSENSE)
    except trio.BrokenResourceError:
        return


@asynccontextmanager
async def broken_proxy(proxy: Proxy, way: str) -> AsyncIterator[None]:
    """Break a service of AWS for the block: it refuses all, is late, or half of it is wrong."""
    proxy.away = way == "down"
    if way == "slow":
        proxy.storm(1.0, Fault.LATE)
    elif way == "wrong":
        proxy.storm(WRONG_SHARE, *WRONG)
    try:
        yield
    finally:
        proxy.away = False
        proxy.storm(0.0)
