"""The fake blob store: `dpp.blobs.Blobs` in memory. It passes the contract of the real ones.

`away` is raised by every verb while it is set; `objects` may be damaged by a test.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import trio
from attrs import define, evolve, field

from dpp.blobs import (
    Archived,
    Attempt,
    Collected,
    Content,
    CouldNotAsk,
    Found,
    Linked,
    Missing,
    NotVerified,
    PutConflict,
    Stored,
    attempt_in,
    describe,
    said,
    to_strings,
    verify,
)

if TYPE_CHECKING:
    from dpp.blobs import BlobKey, Fetched, Keep, Label, Linking, Looked, Metadata, Putting


@define
class Object:
    """One object, as the store keeps it."""

    strings: dict[str, str]
    body: bytes
    written_at: float


@define(eq=False)
class FakeBlobs:
    """Implements `dpp.blobs.Blobs`; `volume` is what several of them may share."""

    now: Callable[[], float] = trio.current_time
    objects: dict[str, Object] = field(factory=dict)
    volume_id: list[UUID | None] = field(factory=lambda: [None])
    away: str = ""
    known: UUID | None = None
    asked: list[str] = field(factory=list)
    links: str = ""  # where clients are sent, if they are
    archived: set[str] = field(factory=set)

    async def identify(self, known: UUID | None) -> UUID | None:
        await self._asked("identify")
        if self.volume_id[0] is None and known is None:
            if self.objects:
                raise CouldNotAsk("there are objects and no id")
            self.volume_id[0] = uuid4()
        self.known = known or self.volume_id[0]
        return self.volume_id[0]

    async def put(self, key: BlobKey, label: Label, body: bytes) -> Putting:
        await self._asked("put")
        self._insist()
        metadata = describe(key, label, length=len(body), sha256=sha256(body).digest())
        self.objects.setdefault(key.name, Object(to_strings(metadata), body, self.now()))
        there = self._look(key)
        if there == Found(metadata):
            return Stored(metadata)
        assert not isinstance(there, Missing)
        return PutConflict(there.metadata if isinstance(there, Found) else there)

    async def look(self, key: BlobKey) -> Looked:
        await self._asked("look")
        self._insist()
        return self._look(key)

    async def read(self, key: BlobKey) -> Fetched:
        await self._asked("read")
        self._insist()
        there = self._look(key)
        if isinstance(there, Found):
            return Content(there.metadata, self.objects[key.name].body)
        return there

    async def check(self, key: BlobKey) -> Looked:
        await self._asked("check")
        self._insist()
        return self._look(key)

    async def piece(self, key: BlobKey, there: Metadata, start: int, length: int) -> bytes:
        await self._asked("piece")
        self._insist()
        now = self.objects.get(key.name)
        if now is None or now.strings != to_strings(there) or len(now.body) != there.length:
            raise CouldNotAsk("it is another object by now")
        return now.body[start : start + length]

    async def link(self, key: BlobKey, method: str) -> Linking | None:
        await self._asked("link")
        if not self.links:
            return None
        self._insist()
        there = self.objects.get(key.name)
        if there is None:
            return Missing()
        stated = said(there.strings, key, length=len(there.body))
        if isinstance(stated, NotVerified):
            return stated
        if key.name in self.archived:
            return Archived(stated)
        return Linked(stated, f"{self.links}/{key.name}?{method}")

    async def collect(
        self, *, older_than_s: float, keep: Keep, after: str = "", limit: int = 1000
    ) -> Collected:
        await self._asked("collect")
        self._insist()
        names = sorted(name for name in self.objects if name > after)[:limit]
        old = {
            name: attempt
            for name in names
            if (attempt := attempt_in(name)) is not None
            and self.objects[name].written_at <= self.now() - older_than_s
        }
        kept = await keep(tuple(old.values())) if old else frozenset[Attempt]()
        lost = [name for name, attempt in old.items() if attempt not in kept]
        for name in lost:
            del self.objects[name]
        rest = any(name > names[-1] for name in self.objects) if names else False
        return Collected(len(names), len(lost), 0, 0, names[-1] if rest else None)

    def damage(self, key: BlobKey) -> None:
        """Change a byte of an object's body."""
        there = self.objects[key.name]
        self.objects[key.name] = evolve(there, body=there.body[:-1] + bytes([there.body[-1] ^ 1]))

    def _look(self, key: BlobKey) -> Looked:
        there = self.objects.get(key.name)
        if there is None:
            return Missing()
        checked = verify(
            there.strings, key, length=len(there.body), sha256=sha256(there.body).digest()
        )
        return checked if isinstance(checked, NotVerified) else Found(checked)

    def _insist(self) -> None:
        assert self.known is not None, "identify was not asked"
        if self.volume_id[0] != self.known:
            raise CouldNotAsk("another store")

    async def _asked(self, verb: str) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(verb)
        if self.away:
            raise CouldNotAsk(self.away)
