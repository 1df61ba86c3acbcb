"""The directory store: large results as files under the node's data directory.

`blob_files` knows one file, `blob_place` the directory and its id, `blob_sweep` what is left over;
this is their port. Each verb opens the directory and works relative to that descriptor: one kept
for longer would answer for a directory that the path no longer names, and pin its volume.

All work on files is in worker threads, a few at a time. A put or a read may be abandoned, so that a
caller can bound its wait for a disk that hangs: the thread goes on, and what it put is found under
its key. Deletions run to their end whoever is cancelled meanwhile.
"""

from __future__ import annotations

import errno
import hashlib
import os
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import trio

from dpp.blobs import Collected, CouldNotAsk, Found, Missing, PutConflict, Stored, describe
from dpp.store import blob_files, blob_place, blob_sweep

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path
    from uuid import UUID

    from dpp.blobs import (
        BlobKey,
        Fetched,
        Keep,
        Label,
        Looked,
        Metadata,
        NotVerified,
        Putting,
    )

T = TypeVar("T")

# Threads, and so bodies of up to 64 MiB in memory: a few cores hash no more than that at once, and
# a longer queue helps no disk. Reads have their own: writes that hang do not stop them.
WRITES_AT_ONCE, READS_AT_ONCE = 4, 4
SERVED_AT_ONCE = 4  # for clients: however many download, the reconciler's looks have theirs
# A collection may remove a directory just before a put uses it. Twice running is rare already.
PUT_TRIES = 5


class DirectoryBlobs:
    """`dpp.blobs.Blobs` on a directory that is this node's own. Ask `identify` first."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._store_id: UUID | None = None
        self._writing = trio.CapacityLimiter(WRITES_AT_ONCE)
        self._reading = trio.CapacityLimiter(READS_AT_ONCE)
        self._serving = trio.CapacityLimiter(SERVED_AT_ONCE)

    async def identify(self, known: UUID | None) -> UUID | None:
        """Return the id in the directory; see `Blobs`."""
        there = await trio.to_thread.run_sync(
            blob_place.identify, self._path, known, abandon_on_cancel=False, limiter=self._writing
        )
        self._store_id = known or there
        return there

    async def put(self, key: BlobKey, label: Label, body: bytes) -> Putting:
        """Store an object, verified and durable, never over another one."""
        return await self._write(partial(_put, key, label, body), abandon=True)

    async def look(self, key: BlobKey) -> Looked:
        """Verify the object under `key`, and make it durable."""
        return await self._read(partial(_look, key))

    async def read(self, key: BlobKey) -> Fetched:
        """Return the verified object under `key`, body and all."""
        return await self._read(partial(_load, key))

    async def check(self, key: BlobKey) -> Looked:
        """Verify the object under `key`, to be served."""
        return await self._serve(partial(_check, key))

    async def piece(self, key: BlobKey, there: Metadata, start: int, length: int) -> bytes:
        """Return a part of the body of the object that was checked."""
        return await self._serve(partial(_piece, key, there, start, length))

    async def link(self, _key: BlobKey, _method: str) -> None:
        """Return None: files are read through the API."""
        await trio.lowlevel.checkpoint()

    async def collect(
        self, *, older_than_s: float, keep: Keep, after: str = "", limit: int = 1000
    ) -> Collected:
        """Delete what is older and not kept of one page, and what crashes left half written."""
        page = await self._write(
            partial(blob_sweep.read_page, older_than_s=older_than_s, after=after, limit=limit)
        )
        kept = await keep(tuple(page.objects.values())) if page.objects else frozenset()
        lost = [name for name, attempt in page.objects.items() if attempt not in kept]
        objects = await self._write(partial(blob_sweep.delete, names=lost))
        torn = await self._write(partial(blob_sweep.delete, names=page.torn))
        refused = objects.refused + torn.refused
        return Collected(page.looked, objects.deleted, torn.deleted, refused, page.after)

    async def _write(self, verb: Callable[[int], T], *, abandon: bool = False) -> T:
        return await trio.to_thread.run_sync(
            self._within, verb, abandon_on_cancel=abandon, limiter=self._writing
        )

    async def _read(self, verb: Callable[[int], T]) -> T:
        return await trio.to_thread.run_sync(
            self._within, verb, abandon_on_cancel=True, limiter=self._reading
        )

    async def _serve(self, verb: Callable[[int], T]) -> T:
        return await trio.to_thread.run_sync(
            self._within, verb, abandon_on_cancel=True, limiter=self._serving
        )

    def _within(self, verb: Callable[[int], T]) -> T:
        assert self._store_id is not None, "identify was not asked"
        with blob_place.insisted(self._path, self._store_id) as root:
            return verb(root)


def _put(key: BlobKey, label: Label, body: bytes, root: int) -> Putting:
    metadata = describe(key, label, length=len(body), sha256=hashlib.sha256(body).digest())
    header = blob_files.header(metadata)
    for _ in range(PUT_TRIES):
        with suppress(FileNotFoundError):
            there = _put_once(key, header, body, root)
            if there == Found(metadata):
                return Stored(metadata)
            return PutConflict(there.metadata if isinstance(there, Found) else there)
    raise CouldNotAsk(f"what was written under {key.name} was gone again, {PUT_TRIES} times")


def _put_once(key: BlobKey, header: bytes, body: bytes, root: int) -> Found | NotVerified:
    """Return what lies under the key after our turn, read back and durable.

    Raises FileNotFoundError where a collection took the directory away.
    """
    *directories, name = key.parts
    with blob_files.descend(root, directories, make=True) as chain:
        there = blob_files.look(chain[-1], name, key)
        if isinstance(there, Missing):
            blob_files.publish(chain[-1], name, header, body)
            there = blob_files.look(chain[-1], name, key)
        if isinstance(there, Missing):
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), key.name)
        blob_files.sync_chain(chain)
        return there


def _look(key: BlobKey, root: int) -> Looked:
    """Look, and sync: a put that was killed may have given the name and not made it last."""
    *directories, name = key.parts
    try:
        with blob_files.descend(root, directories) as chain:
            there = blob_files.look(chain[-1], name, key)
            if isinstance(there, Found):
                blob_files.sync_chain(chain)
            return there
    except FileNotFoundError:
        return Missing()


def _check(key: BlobKey, root: int) -> Looked:
    *directories, name = key.parts
    try:
        with blob_files.descend(root, directories) as chain:
            return blob_files.look(chain[-1], name, key, settle=False)
    except FileNotFoundError:
        return Missing()


def _piece(key: BlobKey, there: Metadata, start: int, length: int, root: int) -> bytes:
    *directories, name = key.parts
    with blob_files.descend(root, directories) as chain:
        return blob_files.piece(chain[-1], name, there, start, length)


def _load(key: BlobKey, root: int) -> Fetched:
    *directories, name = key.parts
    try:
        with blob_files.descend(root, directories) as chain:
            return blob_files.load(chain[-1], name, key)
    except FileNotFoundError:
        return Missing()
