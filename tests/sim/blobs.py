"""The fake blob store through the weather: slow, away, or its answer to a put is lost."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING

import trio
from attrs import define, field

from dpp.blobs import CouldNotAsk
from tests.fake_blobs import FakeBlobs
from tests.sim.trace import Trace

if TYPE_CHECKING:
    from dpp.blobs import BlobKey, Label, Looked, Putting

SLOW_S = 1.5


@define(eq=False)
class SimBlobs(FakeBlobs):
    """`losing`: the share of puts that are applied and not answered. `slow`: whether any takes time."""  # noqa: E501

    dice: Random = field(factory=Random)
    trace: Trace = field(factory=Trace)
    losing: float = 0.0
    slow: bool = False

    async def put(self, key: BlobKey, label: Label, body: bytes) -> Putting:
        if self.slow:
            await trio.sleep(self.dice.uniform(0, SLOW_S))
        there = await super().put(key, label, body)
        self.trace.add("put", key.name, type(there).__name__)
        if self.dice.random() < self.losing:
            self.trace.hit("blobs lose", key.name)
            raise CouldNotAsk("the answer was lost")
        return there

    async def look(self, key: BlobKey) -> Looked:
        there = await super().look(key)
        self.trace.add("look", key.name, type(there).__name__)
        return there

    def clear(self) -> None:
        """Let all be well."""
        self.away, self.losing, self.slow = "", 0.0, False
