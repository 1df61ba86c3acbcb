"""The S3 store: large results in a bucket, the same one for all nodes.

`aws` asks until there is an answer, `s3_objects` knows the requests; this is their port. Before any
answer is given the store's id is compared, so that a bucket made anew under the old name, or
another one behind an endpoint, answers "missing" to nobody. Everything runs in the bridge's thread,
a few at a time: what is abandoned by its caller goes on to its end there, and may not fill the
bridge.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar
from uuid import uuid4

from dpp.blobs import (
    Archived,
    Away,
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
from dpp.logs import get_logger
from dpp.store.aws import ask
from dpp.store.s3_objects import NoId

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine
    from uuid import UUID

    from dpp.blobs import BlobKey, Fetched, Keep, Label, Linking, Looked, Metadata, Putting
    from dpp.store.bridge import Bridge
    from dpp.store.s3_objects import Body, Bucket, Head, Row

T = TypeVar("T")

REPLY_S: Final = 10.0  # of a try: to a request without a body S3 answers within one
PACE: Final = 1 << 20  # bytes a second, the least for a body: a tenth of what one connection gives
PING_S: Final = 1.0  # one try: readiness asks again soon
# A collection may delete a damaged object just before a put uses its place. Twice is rare already.
PUT_TRIES: Final = 3

log = get_logger(__name__)


class Lane:
    """How many operations of a kind run at once, and how many more may wait."""

    def __init__(self, at_once: int, waiting: int) -> None:
        self._places = asyncio.Semaphore(at_once)
        self._room = at_once + waiting
        self._asked = 0

    async def run(self, operation: Callable[[], Awaitable[T]]) -> T:
        """Run it in its turn; raises at once where too many wait: nothing was started."""
        if self._asked >= self._room:
            raise Away("too much waits for it; nothing was started")
        self._asked += 1
        try:
            async with self._places:
                return await operation()
        finally:
            self._asked -= 1


class S3Blobs:
    """`dpp.blobs.Blobs` on a bucket. Ask `identify` first."""

    def __init__(self, bridge: Bridge, bucket: Bucket) -> None:
        self._bridge = bridge
        self._bucket = bucket
        self._store_id: UUID | None = None
        # Bodies of up to 64 MiB are in memory anyway; more at once help no network. Reads have
        # their own: writes that hang do not stop them. Links are small, and clients are many.
        self._writing, self._reading, self._serving = Lane(8, 500), Lane(8, 100), Lane(32, 500)

    # ── the port ─────────────────────────────────────────────────────────────────────────────────

    async def identify(self, known: UUID | None) -> UUID | None:
        """Return the id in the bucket; see `Blobs`."""
        self._store_id = known  # also where there is no answer: the next ones are measured by it
        there = await self._run(self._reading, partial(self._identify, known))
        self._store_id = known or there
        return there

    async def put(self, key: BlobKey, label: Label, body: bytes) -> Putting:
        """Store an object, verified and durable, never over another one."""
        return await self._run(self._writing, partial(self._put, key, label, body))

    async def look(self, key: BlobKey) -> Looked:
        """Verify the object under `key`; in a bucket it is durable."""
        there = await self._run(self._reading, partial(self._read, key, keep=False))
        return Found(there.metadata) if isinstance(there, Content) else there

    async def read(self, key: BlobKey) -> Fetched:
        """Return the verified object under `key`, body and all."""
        return await self._run(self._reading, partial(self._read, key, keep=True))

    async def check(self, key: BlobKey) -> Looked:
        """Verify the object under `key`; an archived one by what it says of itself."""
        there = await self._run(self._serving, partial(self._look_at, key))
        if isinstance(there, Archived):
            return Found(there.metadata)
        return await self.look(key) if isinstance(there, Found) else there

    async def piece(self, key: BlobKey, there: Metadata, start: int, length: int) -> bytes:
        """Return a part of the body of the object that was checked."""
        return await self._run(self._serving, partial(self._piece, key, there, start, length))

    async def link(self, key: BlobKey, method: str) -> Linking:
        """Return a presigned URL of the object, which was looked at and not read."""
        return await self._run(self._serving, partial(self._link, key, method))

    async def collect(
        self, *, older_than_s: float, keep: Keep, after: str = "", limit: int = 1000
    ) -> Collected:
        """Delete what is older and not kept of one page."""
        rows, more = await self._run(self._reading, partial(self._page, after, limit))
        old = [row.name for row in rows if row.age_s >= older_than_s]
        attempts = {name: attempt for name in old if (attempt := attempt_in(name)) is not None}
        kept = await keep(tuple(attempts.values())) if attempts else frozenset()
        lost = [name for name, attempt in attempts.items() if attempt not in kept]
        refused = await self._run(self._writing, partial(self._delete, lost)) if lost else 0
        next_after = rows[-1].name if more and rows else None
        return Collected(len(rows), len(lost) - refused, 0, refused, next_after)

    async def ping(self) -> None:
        """Raise `CouldNotAsk` unless the store answers, and is the one we know."""
        await self._bridge.run(self._ping)

    # ── in the bridge's thread ───────────────────────────────────────────────────────────────────

    async def _run(self, lane: Lane, operation: Callable[[], Coroutine[Any, Any, T]]) -> T:
        return await self._bridge.run(partial(lane.run, operation))

    async def _identify(self, known: UUID | None) -> UUID | None:
        there = await self._read_id()
        if there is not None or known is not None:
            return there
        objects, _ = await ask(partial(self._bucket.page, "", 1), wall_s=REPLY_S)
        if objects:
            raise CouldNotAsk(f"{self._bucket.name} holds results and no id: put it back")
        await ask(partial(self._bucket.give_id, uuid4()), wall_s=REPLY_S)
        return await self._read_id()

    async def _insist(self) -> None:
        """Raise unless the bucket is the one that PostgreSQL knows."""
        self._compare(await self._read_id())

    async def _read_id(self) -> UUID | None:
        """Return the id in the bucket. One that is not ours counts when it was read twice the same.

        Else a byte that the network made another would keep a node from starting, or become the id
        that the database expects for ever.
        """
        first = await self._read_id_once()
        if not isinstance(first, str) and first in (None, self._store_id):
            return first
        again = await self._read_id_once()
        if again != first:
            raise Away(f"the id of {self._bucket.name} was read twice, and was not the same")
        if isinstance(again, str):
            raise NoId(again)
        return again

    async def _read_id_once(self) -> UUID | str | None:
        """Return the id, or why what stands there is none; None: nothing does."""
        try:
            return await ask(self._bucket.read_id, wall_s=REPLY_S)
        except NoId as none:
            return none.why

    async def _ping(self) -> None:
        self._compare(await ask(self._bucket.read_id, wall_s=PING_S, tries=1))

    def _compare(self, there: UUID | None) -> None:
        assert self._store_id is not None, "identify was not asked"
        if there != self._store_id:
            has = f"has the id {there}" if there else "has no id"
            raise CouldNotAsk(f"{self._bucket.name} {has}, and should have {self._store_id}")

    async def _put(self, key: BlobKey, label: Label, body: bytes) -> Putting:
        await self._insist()
        sha256 = await asyncio.to_thread(lambda: hashlib.sha256(body).digest())
        metadata = describe(key, label, length=len(body), sha256=sha256)
        store = partial(self._bucket.put, key.name, to_strings(metadata), body, sha256)
        for _ in range(PUT_TRIES):
            if await ask(store, wall_s=wall_for(len(body))):
                return Stored(metadata)
            # There is one: mostly our own, of a try whose answer was lost.
            there = await self._verified(key, keep=False)
            if not isinstance(there, Missing):
                other = there.metadata if isinstance(there, Content) else there
                return Stored(metadata) if other == metadata else PutConflict(other)
        raise CouldNotAsk(f"what lay under {key.name} was gone again, {PUT_TRIES} times")

    async def _read(self, key: BlobKey, *, keep: bool) -> Fetched:
        await self._insist()
        return await self._verified(key, keep=keep)

    async def _verified(self, key: BlobKey, *, keep: bool) -> Fetched:
        """Read the object; it is called wrong when it was read wrong twice, the same way.

        Bytes that differ each time are the network's, and say nothing of the object.
        """
        first = await self._read_once(key, keep=keep)
        if not isinstance(first, NotVerified):
            return first
        log.warning("object read wrong", key=key.name, detail=first.why)
        again = await self._read_once(key, keep=keep)
        if isinstance(again, NotVerified) and again != first:
            raise Away(f"{key.name} was read twice, and was not the same")
        return again

    async def _read_once(self, key: BlobKey, *, keep: bool) -> Fetched:
        head = await ask(partial(self._bucket.head, key.name), wall_s=REPLY_S)
        if head is None:
            return Missing()
        if head.archived:
            raise CouldNotAsk(f"{key.name} is archived: restore it")
        read = partial(self._bucket.read, key.name, keep=keep)
        body = await ask(read, wall_s=wall_for(head.length))
        return Missing() if body is None else judged(body, key)

    async def _look_at(self, key: BlobKey) -> Found | Archived | Missing | NotVerified:
        """Look at what the object says of itself; a "no" counts only from the right store."""
        head = await ask(partial(self._bucket.head, key.name), wall_s=REPLY_S)
        there = Missing() if head is None else stated(head, key)
        if isinstance(there, Missing | NotVerified):
            await self._insist()
        return there

    async def _piece(self, key: BlobKey, there: Metadata, start: int, length: int) -> bytes:
        wall_s = wall_for(length)
        got = await ask(partial(self._bucket.piece, key.name, start, length), wall_s=wall_s)
        if got is None:
            raise CouldNotAsk(f"{key.name} is gone")
        head, data = got
        if head.strings != to_strings(there) or head.length != there.length or len(data) != length:
            raise CouldNotAsk(f"{key.name} is another object by now")
        return data

    async def _link(self, key: BlobKey, method: str) -> Linking:
        there = await self._look_at(key)
        if not isinstance(there, Found):
            return there
        sign = partial(self._bucket.link, key.name, method, f"{key.run_id}.json")
        return Linked(there.metadata, await ask(sign, wall_s=REPLY_S))

    async def _page(self, after: str, limit: int) -> tuple[list[Row], bool]:
        await self._insist()
        return await ask(partial(self._bucket.page, after, limit), wall_s=REPLY_S)

    async def _delete(self, names: list[str]) -> int:
        await self._insist()
        return await ask(partial(self._bucket.delete, names), wall_s=REPLY_S)


def wall_for(length: int) -> float:
    """Return how many seconds a try with a body of this length may take."""
    return REPLY_S + length / PACE


def judged(body: Body, key: BlobKey) -> Content | NotVerified:
    """Compare an object that was read with its key and with what it says of itself."""
    checked = verify(body.head.strings, key, length=body.head.length, sha256=body.sha256)
    return checked if isinstance(checked, NotVerified) else Content(checked, body.data)


def stated(head: Head, key: BlobKey) -> Found | Archived | NotVerified:
    """Compare what an object says of itself with its key; its body was not read."""
    metadata = said(head.strings, key, length=head.length)
    if isinstance(metadata, NotVerified):
        return metadata
    return Archived(metadata) if head.archived else Found(metadata)
