"""A bucket and a queue for nodes of a fleet: a stand-in for AWS and a proxy before it for each."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what runs in the bridge's thread
import hashlib
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from attrs import define

from dpp.store import aws
from dpp.store.s3_objects import PREFIX
from tests.aws.post import AT_ONCE, make_queue
from tests.aws.proxy import Proxy, open_proxy
from tests.aws.standin import standin

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Mapping

    from dpp.store.bridge import Bridge

WAITING = "ApproximateNumberOfMessages"
READS = 4  # at once: more the stand-in does not answer any sooner


@define(eq=False)
class Cloud:
    """Both services as nodes ask them, through proxies, and the bucket as its owner sees it."""

    s3: Proxy
    sqs: Proxy
    bucket: str
    queue_url: str
    _owner: Any  # the driver's clients, past the proxies
    _sender: Any

    @property
    def config(self) -> str:
        """Return the sections of a node's configuration."""
        return f"""
[s3]
bucket = "{self.bucket}"
endpoint_url = "{self.s3.url}"
[sqs]
queue_url = "{self.queue_url}"
endpoint_url = "{self.sqs.url}"
"""

    async def lose_messages(self) -> int:
        """Empty the queue, which may be once a minute; returns how many it had. On the bridge."""
        held = await self._sender.get_queue_attributes(
            QueueUrl=self.queue_url, AttributeNames=[WAITING]
        )
        try:
            await self._sender.purge_queue(QueueUrl=self.queue_url)
        except self._sender.exceptions.PurgeQueueInProgress:  # it allows no more
            return 0
        return int(held["Attributes"][WAITING])

    async def digests(self, names: Iterable[str]) -> Mapping[str, bytes]:
        """Return the SHA-256 of each of these results that is there; in the bridge's thread."""
        places, found = asyncio.Semaphore(READS), {}

        async def read(name: str) -> None:
            async with places:
                try:
                    there = await self._owner.get_object(Bucket=self.bucket, Key=PREFIX + name)
                except self._owner.exceptions.NoSuchKey:
                    return
                async with there["Body"] as reply:
                    found[name] = hashlib.sha256(await reply.read()).digest()

        await asyncio.gather(*map(read, names))
        return found


@asynccontextmanager
async def open_cloud(bridge: Bridge, seed: int) -> AsyncIterator[Cloud]:
    """Run stand-ins and proxies for the block; nothing is broken until somebody says so."""
    with standin() as first, standin() as second:  # one that is slow must not slow the other
        async with open_proxy(first, seed) as s3, open_proxy(second, seed + 1, AT_ONCE) as sqs:
            s3.remembers = sqs.remembers = False
            name = f"dpp-{uuid4().hex[:8]}"
            services = {"s3": first, "sqs": second}
            owner, sender = [
                await bridge.run(partial(aws.open_client, aws.Service(service, None, url(port))))
                for service, port in services.items()
            ]
            await bridge.run(partial(make_queue, sender.client, f"{name}-dead"))
            queue = await bridge.run(partial(make_queue, sender.client, name, f"{name}-dead"))
            await bridge.run(partial(owner.client.create_bucket, Bucket=name))
            yield Cloud(s3, sqs, name, queue, owner.client, sender.client)
            await bridge.run(sender.close)
            await bridge.run(owner.close)


def url(port: int) -> str:
    """Return how a stand-in is asked past its proxy."""
    return f"http://127.0.0.1:{port}"
