"""Herald and hearsay on a channel in memory: what two nodes tell each other, and what is lost."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from uuid import UUID

import trio
from attrs import define, field
from trio.testing import MockClock

from dpp.actors.hearsay import Hearers, hearsay
from dpp.actors.herald import AWAY_S, GAP_S, Herald
from dpp.faults import HelperUnavailable
from dpp.hints import WAITING_MAX
from dpp.metrics import hints_total

RUNS = [UUID(int=n) for n in range(3)]


@define(eq=False)
class Air:
    """What all nodes hear, as Redis carries it. `away`: nobody is told, nobody hears."""

    away: bool = False
    said: list[bytes] = field(factory=list)
    _ears: list[trio.MemorySendChannel[bytes]] = field(factory=list)

    async def publish(self, message: bytes) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise HelperUnavailable
        self.said.append(message)
        for ear in self._ears:
            ear.send_nowait(message)

    def ear(self) -> Ear:
        send, receive = trio.open_memory_channel[bytes](1000)
        self._ears.append(send)
        return Ear(self, receive)


@define(eq=False)
class Ear:
    """One node's place at it."""

    air: Air
    receive: trio.MemoryReceiveChannel[bytes]

    async def publish(self, message: bytes) -> None:
        await self.air.publish(message)

    async def hear(self) -> Sequence[bytes]:
        if self.air.away:
            await trio.lowlevel.checkpoint()
            raise HelperUnavailable
        with trio.move_on_after(1):
            return [await self.receive.receive()]
        return []


@define(eq=False)
class Node:
    """What tells and what hears; `heard` is all that came, in order."""

    herald: Herald
    ear: Ear
    heard: list[object] = field(factory=list)

    @classmethod
    def at(cls, air: Air) -> Node:
        ear = air.ear()
        return cls(Herald(ear), ear)

    async def live(self) -> None:
        note = self.heard.append
        hearers = Hearers(
            queued=note,
            changed=note,
            key_ended=note,
            used_up=lambda *hint: note(hint),
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.herald.run)
            nursery.start_soon(partial(hearsay, self.ear, self.herald.name, hearers))


async def test_the_others_hear_all_of_it_and_who_tells_does_not(autojump_clock: MockClock) -> None:
    air = Air()
    nodes = [Node.at(air) for _ in range(3)]
    async with trio.open_nursery() as nursery:
        for node in nodes:
            nursery.start_soon(node.live)
        await trio.sleep(1)
        nodes[0].herald.queued("acme")
        nodes[0].herald.changed(RUNS[0])
        nodes[0].herald.key_ended("AbCdEf012345")
        nodes[0].herald.used_up("acme", 10, 1_800_000_000_000)
        await trio.sleep(GAP_S / 2)
        nursery.cancel_scope.cancel()

    news = ["acme", RUNS[0], "AbCdEf012345", ("acme", 10, 1_800_000_000_000)]
    assert [node.heard for node in nodes] == [[], news, news]
    assert len(air.said) == 1


async def test_what_comes_at_once_is_one_bulletin_and_each_thing_once(
    autojump_clock: MockClock,
) -> None:
    air = Air()
    one, other = Node.at(air), Node.at(air)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.live)
        nursery.start_soon(other.live)
        for _ in range(10):
            for run_id in RUNS:
                one.herald.changed(run_id)
        await trio.sleep(1)
        nursery.cancel_scope.cancel()

    assert other.heard == RUNS
    assert len(air.said) == 1


async def test_while_nobody_can_be_told_news_are_dropped_and_later_ones_are_told(
    autojump_clock: MockClock,
) -> None:
    air = Air(away=True)
    one, other = Node.at(air), Node.at(air)
    lost = hints_total.labels("lost")._value.get()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(one.live)
        nursery.start_soon(other.live)
        one.herald.changed(RUNS[0])
        await trio.sleep(2 * AWAY_S)
        air.away = False
        one.herald.changed(RUNS[1])
        await trio.sleep(2)
        nursery.cancel_scope.cancel()

    assert other.heard == [RUNS[1]]
    assert hints_total.labels("lost")._value.get() == lost + 1


async def test_what_is_no_bulletin_is_counted_and_passed_over(autojump_clock: MockClock) -> None:
    air = Air()
    node = Node.at(air)
    ignored = hints_total.labels("ignored")._value.get()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.live)
        for message in (b"", b"nonsense", b"{}", b'{"v":2,"from":"0123456789abcdef"}'):
            await air.publish(message)
        await air.publish(b'{"v":1,"from":"0123456789abcdef","queued":["acme"],"more":[{}]}')
        await trio.sleep(1)
        nursery.cancel_scope.cancel()

    assert node.heard == ["acme"]
    assert hints_total.labels("ignored")._value.get() == ignored + 4


async def test_news_that_nobody_takes_are_bounded_and_without_redis_there_are_none() -> None:
    waiting, silent = Herald(Air().ear()), Herald(None)
    for n in range(2 * WAITING_MAX):
        for herald in (waiting, silent):
            herald.changed(UUID(int=n))
            herald.queued(f"tenant-{n}")

    assert (len(waiting._news.runs), len(waiting._news.queued)) == (WAITING_MAX, WAITING_MAX)
    assert not silent._news
