"""Which store of large results a node has: a directory of its own, or a bucket that all share."""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING

import trio
from attrs import field, frozen

from dpp.blobs import CouldNotAsk
from dpp.sections import PRODUCTION
from dpp.store import aws
from dpp.store.directory_blobs import DirectoryBlobs
from dpp.store.fitness import assert_fit
from dpp.store.place import SchemaRefused
from dpp.store.s3_blobs import S3Blobs
from dpp.store.s3_objects import Bucket

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
    from pathlib import Path

    from dpp.blobs import Blobs
    from dpp.config import Config
    from dpp.store.bridge import Bridge


@frozen
class BlobStore:
    """The store, where it is, and how readiness asks whether it answers: by the name for it."""

    blobs: Blobs
    where: str
    pings: Mapping[str, Callable[[], Awaitable[None]]] = field(factory=dict)


@asynccontextmanager
async def open_blobs(config: Config, directory: Path, bridge: Bridge) -> AsyncIterator[BlobStore]:
    """Give the node's store of results; it is not identified yet. Raises `SchemaRefused`."""
    if config.s3.bucket is None:
        yield BlobStore(DirectoryBlobs(directory), str(directory))
        return
    service = aws.Service("s3", config.s3.region, config.s3.endpoint_url)
    try:
        opened = await bridge.run(partial(aws.open_client, service))
    except CouldNotAsk as error:
        raise SchemaRefused(
            f"The bucket {config.s3.bucket} cannot be reached: {error.why}.",
            "Correct s3.region or the AWS settings of this machine; `dpp doctor` looks at them.",
        ) from error
    try:
        if config.node.profile == PRODUCTION:
            await bridge.run(partial(assert_fit, service, opened.client))
        bucket = Bucket(opened.client, config.s3.bucket, config.s3.kms_key_id)
        blobs = S3Blobs(bridge, bucket)
        yield BlobStore(blobs, f"the bucket {config.s3.bucket}", {"s3": blobs.ping})
    finally:
        with trio.CancelScope(shield=True):
            await bridge.run(opened.close)
