"""The fake blob store keeps the contract of the real ones."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from attrs import define, evolve

from dpp.blobs import BlobKey
from tests.fake_blobs import FakeBlobs
from tests.store.blob_contract import BlobContract


@define
class Memory:
    """A fake store, and what can happen to it."""

    blobs: FakeBlobs
    store_id: UUID

    def another(self) -> FakeBlobs:
        return FakeBlobs(objects=self.blobs.objects, volume_id=self.blobs.volume_id)

    def elsewhere(self) -> FakeBlobs:
        return FakeBlobs()

    async def flip(self, key: BlobKey) -> None:
        self.blobs.damage(key)

    async def cut(self, key: BlobKey) -> None:
        there = self.blobs.objects[key.name]
        self.blobs.objects[key.name] = evolve(there, body=there.body[:-1])

    async def misplace(self, key: BlobKey, to: BlobKey) -> None:
        self.blobs.objects[to.name] = self.blobs.objects[key.name]

    async def age(self, key: BlobKey, seconds: float) -> None:
        self.blobs.objects[key.name].written_at -= seconds

    async def lose_id(self) -> None:
        self.blobs.volume_id[0] = None

    async def swap_id(self) -> None:
        self.blobs.volume_id[0] = uuid4()


@pytest.fixture
async def depot() -> Memory:
    """A fake store at its first use."""
    blobs = FakeBlobs()
    store_id = await blobs.identify(None)
    assert store_id is not None
    return Memory(blobs, store_id)


class TestFake(BlobContract):
    """All of it."""
