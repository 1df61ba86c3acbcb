"""A queue of hints at the stand-in for AWS, asked through a proxy, and its owner's view of it."""

from __future__ import annotations

import itertools
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import trio
from attrs import define

from dpp.messages import RECEIVES_MAX, encode
from dpp.store import aws
from dpp.store.sqs import SqsQueue, service_of
from tests.aws.proxy import Proxy, open_proxy
from tests.node_client import LOOK_S

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.aws.proxy import Request

AT_ONCE = 20  # requests: a long poll holds up no others
SOON_S = 60
POISON = ("no json", '{"v":2}', encode(UUID(int=1)))
_names = itertools.count(1)


@define(eq=False)
class Post:
    """A queue with its dead-letter queue, and the client that asks the stand-in past the proxy."""

    bridge: Bridge
    proxy: Proxy
    client: Any
    url: str
    dead_url: str
    queue: SqsQueue

    async def ask(self, operation: str, **said: Any) -> Any:
        """Ask for anything, as the queue's owner."""
        return await self.bridge.run(partial(getattr(self.client, operation), **said))

    async def put(self, body: str) -> None:
        """Put in a message, whoever would."""
        await self.ask("send_message", QueueUrl=self.url, MessageBody=body)

    async def bodies(self, url: str) -> list[str]:
        """Take out all messages of a queue that lie there now."""
        found: list[str] = []
        while True:
            taken = await self.ask("receive_message", QueueUrl=url, MaxNumberOfMessages=10)
            if "Messages" not in taken:
                return found
            found += [one["Body"] for one in taken["Messages"]]

    async def lying(self) -> int:
        """Return how many messages are in the queue, those included that were just taken out."""
        names = ["ApproximateNumberOfMessages", "ApproximateNumberOfMessagesNotVisible"]
        told = await self.ask("get_queue_attributes", QueueUrl=self.url, AttributeNames=names)
        return sum(int(told["Attributes"][name]) for name in names)

    async def until_lie(self, messages: int) -> None:
        """Wait until so many are in the queue."""
        with trio.fail_after(SOON_S):
            while await self.lying() != messages:  # noqa: ASYNC110 - SQS tells nobody
                await trio.sleep(LOOK_S)


@asynccontextmanager
async def open_post(moto: int, bridge: Bridge, seed: int) -> AsyncIterator[Post]:
    """Make a queue whose messages come again after a second."""
    async with open_proxy(moto, seed, AT_ONCE) as proxy:
        straight = aws.Service("sqs", None, f"http://127.0.0.1:{moto}")
        owner = await bridge.run(partial(aws.open_client, straight))
        name = f"dpp-test-{next(_names)}-{uuid4().hex[:8]}"
        dead = await bridge.run(partial(make_queue, owner.client, f"{name}-dead"))
        url = await bridge.run(partial(make_queue, owner.client, name, f"{name}-dead"))
        opened = await bridge.run(partial(aws.open_client, service_of(url, proxy.url, None)))
        queue = SqsQueue(bridge, opened.client, url, wait_s=1, visibility_s=1)
        yield Post(bridge, proxy, owner.client, url, dead, queue)
        for one in (opened, owner):
            await bridge.run(one.close)


async def make_queue(client: Any, name: str, dead: str | None = None) -> str:
    """Make a queue; returns its URL."""
    attributes = {}
    if dead is not None:
        arn = f"arn:aws:sqs:us-east-1:123456789012:{dead}"
        policy = {"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES_MAX}
        attributes = {"RedrivePolicy": json.dumps(policy)}
    made = await client.create_queue(QueueName=name, Attributes=attributes)
    return str(made["QueueUrl"])


def asks(*operations: str) -> Callable[[Request], bool]:
    """Return what says whether a request is one of these."""
    return lambda request: request.headers.get("x-amz-target", "").endswith(operations)
