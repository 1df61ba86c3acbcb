"""What the tests of AWS share: one stand-in a run, a proxy and two buckets a test."""

from __future__ import annotations

import functools
import itertools
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import botocore.loaders
import pytest
from attrs import define

from dpp.store import aws
from dpp.store.s3_blobs import S3Blobs
from dpp.store.s3_objects import PREFIX, STORE_ID, Bucket
from tests.aws.post import Post, open_post
from tests.aws.proxy import Proxy, open_proxy
from tests.aws.standin import standin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from dpp.blobs import BlobKey
    from dpp.store.bridge import Bridge

pytest.register_assert_rewrite("tests.store.blob_contract")

SEED = 20_261_129
_names = itertools.count(1)


@pytest.fixture(scope="session", autouse=True)
def _loaded_once() -> Iterator[None]:
    """Let the driver read its tables once a run: each client takes 70 ms for it otherwise."""
    patch = pytest.MonkeyPatch()
    create = functools.cache(botocore.loaders.create_loader)
    patch.setattr(botocore.loaders, "create_loader", create)
    yield
    patch.undo()


@pytest.fixture(scope="session")
def moto() -> Iterator[int]:
    """Run the stand-in for the whole run; gives its port."""
    with standin() as port:
        yield port


@pytest.fixture
async def proxy(moto: int) -> AsyncIterator[Proxy]:
    """Put a proxy before it, which breaks nothing until it is told to."""
    async with open_proxy(moto, SEED) as one:
        yield one


@define
class S3:
    """A bucket with its store, and what can happen to it behind its back."""

    bridge: Bridge
    client: Any  # the driver's, which asks through the proxy
    bucket: str
    other: str
    proxy: Proxy
    blobs: S3Blobs
    store_id: UUID

    def another(self) -> S3Blobs:
        return S3Blobs(self.bridge, Bucket(self.client, self.bucket))

    def elsewhere(self) -> S3Blobs:
        return S3Blobs(self.bridge, Bucket(self.client, self.other))

    async def ask(self, operation: str, **said: Any) -> Any:
        """Ask the bucket for anything, as its owner."""
        act = partial(getattr(self.client, operation), Bucket=self.bucket, **said)
        return await self.bridge.run(act)

    async def rewrite(self, key: BlobKey, change: Callable[[bytes], bytes], **more: Any) -> None:
        """Put another body under a key, with the metadata that are there."""

        async def read() -> tuple[bytes, dict[str, str]]:
            there = await self.client.get_object(Bucket=self.bucket, Key=PREFIX + key.name)
            async with there["Body"] as reply:
                return await reply.read(), there["Metadata"]

        body, metadata = await self.bridge.run(read)
        name = PREFIX + key.name
        await self.ask("put_object", Key=name, Body=change(body), Metadata=metadata, **more)

    async def flip(self, key: BlobKey) -> None:
        await self.rewrite(key, lambda body: body[:-1] + bytes([body[-1] ^ 1]))

    async def cut(self, key: BlobKey) -> None:
        await self.rewrite(key, lambda body: body[:-1])

    async def misplace(self, key: BlobKey, to: BlobKey) -> None:
        source = {"Bucket": self.bucket, "Key": PREFIX + key.name}
        await self.ask("copy_object", Key=PREFIX + to.name, CopySource=source)

    async def age(self, key: BlobKey, seconds: float) -> None:
        self.proxy.ages[PREFIX + key.name] = seconds

    async def lose_id(self) -> None:
        await self.ask("delete_object", Key=STORE_ID)

    async def swap_id(self) -> None:
        await self.ask("put_object", Key=STORE_ID, Body=f"{uuid4()}\n".encode())

    async def archive(self, key: BlobKey) -> None:
        """Move an object to where the lifecycle brings it after 90 days."""
        await self.rewrite(key, lambda body: body, StorageClass="GLACIER")


@pytest.fixture
async def depot(bridge: Bridge, proxy: Proxy) -> AsyncIterator[S3]:
    """A bucket at its first use, and another one that nobody has used."""
    opened = await bridge.run(partial(aws.open_client, aws.Service("s3", None, proxy.url)))
    name = f"dpp-test-{next(_names)}-{uuid4().hex[:8]}"
    for bucket in (name, f"{name}-other"):
        await bridge.run(partial(opened.client.create_bucket, Bucket=bucket))
    blobs = S3Blobs(bridge, Bucket(opened.client, name))
    store_id = await blobs.identify(None)
    assert store_id is not None
    yield S3(bridge, opened.client, name, f"{name}-other", proxy, blobs, store_id)
    await bridge.run(opened.close)


@pytest.fixture
async def post(moto: int, bridge: Bridge) -> AsyncIterator[Post]:
    """A queue of hints with its dead-letter queue."""
    async with open_post(moto, bridge, SEED) as one:
        yield one
