"""The storm itself: one fault after another on the nodes of a fleet, and what was seen of it.

It goes in three strands, so that what happens to a process meets what happens to another one's
wire, and what operators do; no node is in the hands of two. A fourth one troubles S3 and SQS, where
they are. Each strand takes its faults once in a shuffled order, then by their weights. A node that
ends while nobody ends it is a violation, and so is whatever a fault finds that it should not.
"""

from __future__ import annotations

import re
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import asyncpg
import httpx
import trio
from attrs import define, field

from dpp.store.aws import SILENCE_S
from dpp.store.bridge import Bridge
from tests.aws.cloud import Cloud
from tests.cluster import Cluster
from tests.fault.clouds import deck, trouble
from tests.fault.faults import PROCESSES, WIRES, Fault
from tests.fault.fleet import LEASE_S, REAPER_S, TIMEBOX_S, Fleet, Member
from tests.fault.operators import OPERATORS
from tests.node_process import NO_TLS

QUIET_S = (0.2, 1.2)  # between two faults of a strand
TRIES = 4  # of a fault that found nothing to hit, before its turn is over
LOOK_S = 0.2
LOST = "sqs loses all messages"
COUNT_S = 5.0  # for a node that is up to tell what it has counted
# Promised: every claimed run has ended so long after faults stop.
# The last: of a question to S3 that hung when all was mended.
REST_S = 2 * LEASE_S + REAPER_S + TIMEBOX_S + 5 + SILENCE_S
# Unended at a time while all is replayed: what was unknown begins only then. Three nodes end them
# in half of REST_S where the stand-in for S3 is slow.
ROOM = 500
LIVE = "select count(*) from dpp.live_runs"
COUNTED = re.compile(
    r"(?:dpp_)?(zombie_writes_refused|commits_unknown|commits_refused|reconcile|findings"
    r'|actor_restarts)_total(?:\{\w+="(\w+)"\})? ([0-9.e+]+)'
)


@define(eq=False)
class Storm:
    """What is hit, what hits it, and what was counted."""

    cluster: Cluster
    fleet: Fleet
    bridge: Bridge
    dice: Random
    dumped: Path  # the last whole dump of the books
    began_at: float = field(factory=time.monotonic)
    hits: Counter[str] = field(factory=Counter)
    lives: dict[int, Counter[str]] = field(factory=dict)  # what each process last said it counted
    blames: list[str] = field(factory=list)

    async def rage(self, seconds: float) -> None:
        """Hit one thing after another for so long; what was hit is up again afterwards."""
        async with trio.open_nursery() as watching:
            watching.start_soon(self.watch)
            async with trio.open_nursery() as strands:
                for faults in (PROCESSES, WIRES, OPERATORS):
                    dice = Random(self.dice.random())
                    strands.start_soon(self.strand, faults, seconds, dice)
                if self.fleet.cloud is not None:
                    dice = Random(self.dice.random())
                    strands.start_soon(self.cloud_over, self.fleet.cloud, seconds, dice)
            watching.cancel_scope.cancel()

    async def strand(self, faults: Sequence[Fault], seconds: float, dice: Random) -> None:
        """Take each fault once, in any order, then by weight."""
        deck = dice.sample(faults, len(faults)) * TRIES
        until_at = trio.current_time() + seconds
        while trio.current_time() < until_at:
            await trio.sleep(dice.uniform(*QUIET_S))
            deck = [fault for fault in deck if not self.hits[fault.name]]
            weights = [fault.weight for fault in faults]
            fault = deck.pop(0) if deck else dice.choices(faults, weights)[0]
            async with self.taken(dice) as member:
                await self.hit(fault, member)

    async def cloud_over(self, cloud: Cloud, seconds: float, dice: Random) -> None:
        """Trouble one service after the other."""
        until_at = trio.current_time() + seconds
        for name, proxy, one in deck(cloud, dice):
            if trio.current_time() >= until_at:
                return
            await trio.sleep(dice.uniform(*QUIET_S))
            self.tell(name)
            self.hits[name] += await trouble(proxy, one, dice)
            if proxy is cloud.sqs:  # which grows slow by what it holds, the square of it
                self.hits[LOST] += await self.bridge.run(cloud.lose_messages)

    def tell(self, what: str) -> None:
        """Print what happens now, by the storm's clock."""
        at = time.monotonic() - self.began_at
        print(f"{at:8.2f} s  {what}", file=sys.stderr, flush=True)

    async def hit(self, fault: Fault, member: Member) -> None:
        """Let a fault happen; where PostgreSQL is away it may have nothing to hit."""
        self.tell(f"{fault.name}, {member.name}")
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            self.hits[fault.name] += await fault.hit(self, member)

    @asynccontextmanager
    async def taken(self, dice: Random) -> AsyncIterator[Member]:
        """Take a node that no other fault has."""
        while not (free := [one for one in self.fleet.members if not one.taken]):  # noqa: ASYNC110
            await trio.sleep(LOOK_S)
        member = dice.choice(free)
        member.taken = True
        try:
            yield member
        finally:
            member.taken = False

    async def start(self, member: Member) -> None:
        """Start a node that was ended."""
        await trio.to_thread.run_sync(member.start)
        member.may_end = False

    async def watch(self) -> None:
        """See that no node ends that nobody ends; one that does is started again."""
        while True:
            await trio.sleep(LOOK_S)
            for member in self.fleet.members:
                if not member.may_end and not member.node.running:
                    member.may_end = True
                    status = await trio.to_thread.run_sync(member.node.wait_ended)
                    self.blame(f"{member.name} ended with status {status}\n{member.node.tail()}")
                    await self.start(member)

    def blame(self, what: str) -> None:
        """Write down what must not be."""
        print(f"VIOLATION  {what}", file=sys.stderr, flush=True)
        self.blames.append(what.splitlines()[0])

    async def rest(self, most: int = 0) -> float:
        """Wait until no run lives any more, or so many; returns how many seconds that took."""
        began_at = trio.current_time()
        with trio.move_on_after(2 * REST_S):
            while (await self.ask(LIVE))[0][0] > most:  # noqa: ASYNC110
                await trio.sleep(LOOK_S)
        took_s = trio.current_time() - began_at
        if took_s > REST_S:
            left = await self.ask("select * from dpp.live_runs limit 3")
            rows = [dict(row) for row in left]
            self.blame(f"H9: not at rest after {took_s:.1f} s, promised {REST_S} s: {rows}")
        return took_s

    async def ask(self, query: str, *args: Any) -> Sequence[Any]:
        """Ask PostgreSQL past the wires, as superuser."""
        return await self.bridge.run(partial(fetch, self.cluster.host, query, args))

    async def count(self, member: Member) -> None:
        """Remember what a node has counted so far: it may be gone soon."""
        with suppress(httpx.TransportError):
            async with httpx.AsyncClient(timeout=COUNT_S, trust_env=False, verify=NO_TLS) as client:
                text = (await client.get(f"{member.node.management_url}/metrics")).text
            life = self.lives[member.node.pid] = Counter()
            for name, label, value in COUNTED.findall(text):
                kind = name.replace("_", " ")
                life[f"{kind}: {label}" if label else kind] += int(float(value))

    @property
    def counted(self) -> Counter[str]:
        """Return what all nodes counted, "name: label"."""
        return sum(self.lives.values(), Counter())


async def fetch(host: str, query: str, args: Sequence[Any]) -> Sequence[Any]:
    """Ask on a connection of its own: the server may have been killed since the last one."""
    connection = await asyncpg.connect(host=host, user="postgres", database="dpp", timeout=5)
    try:
        return await connection.fetch(query, *args)
    finally:
        await connection.close(timeout=5)  # noqa: ASYNC102 - asyncio, where nobody cancels it
