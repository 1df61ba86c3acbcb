"""A queue in memory that does what SQS may do: doubles, disorder, delay, loss, and its own end."""

from __future__ import annotations

import random
from collections.abc import Sequence
from uuid import UUID

import trio
from attrs import define, field

from dpp.faults import HelperUnavailable
from dpp.messages import Depths, Message, encode

RECEIVES_MAX = 3
VISIBILITY_S = 120.0
WAIT_S = 20.0
BATCH = 10


@define(eq=False)
class Lying:
    """A message in the queue: when it may be taken out next, and how often it was."""

    body: str
    visible_at: float
    receives: int = 0


@define(eq=False)
class FakeQueue:
    """Implements `dpp.ports.Queue`. `loss`, `doubles` and `delay_s` are what its dice may do."""

    dice: random.Random = field(factory=lambda: random.Random(0))
    away: bool = False
    deaf: bool = False  # what is deleted stays, and nobody is told
    loss: float = 0.0
    doubles: int = 0
    delay_s: float = 0.0
    sent: list[list[UUID]] = field(factory=list)
    lying: dict[str, Lying] = field(factory=dict)
    dead: list[str] = field(factory=list)
    _receipts: int = 0

    async def send(self, run_ids: Sequence[UUID]) -> int:
        await self._is_there()
        self.sent.append([*run_ids])
        for run_id in run_ids:
            if self.dice.random() >= self.loss:
                for _ in range(1 + self.dice.randint(0, self.doubles)):
                    self.put(encode(run_id), self.dice.uniform(0, self.delay_s))
        return len(run_ids)

    def put(self, body: str, delay_s: float = 0.0) -> None:
        self._receipts += 1
        self.lying[f"m{self._receipts}"] = Lying(body, trio.current_time() + delay_s)

    async def receive(self) -> Sequence[Message]:
        deadline = trio.current_time() + WAIT_S
        while True:
            await self._is_there()
            taken = self._take()
            if taken or trio.current_time() >= deadline:
                return taken
            await trio.sleep(0.5)

    def _take(self) -> list[Message]:
        now = trio.current_time()
        ready = [name for name, one in self.lying.items() if one.visible_at <= now]
        self.dice.shuffle(ready)
        taken: list[Message] = []
        for name in ready:
            one = self.lying[name]
            if one.receives >= RECEIVES_MAX:
                self.dead.append(self.lying.pop(name).body)
            elif len(taken) < BATCH:
                one.receives += 1
                one.visible_at = now + VISIBILITY_S
                taken.append(Message(one.body, name))
        return taken

    async def delete(self, messages: Sequence[Message]) -> None:
        await self._is_there()
        if not self.deaf:
            for message in messages:
                self.lying.pop(message.receipt, None)

    async def depths(self) -> Depths:
        await self._is_there()
        return Depths(len(self.lying), len(self.dead))

    async def _is_there(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise HelperUnavailable("away")
