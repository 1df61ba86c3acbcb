"""The queue of hints, part by part, and the dead-letter queue beside it."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit

from attrs import frozen

from dpp.blobs import CouldNotAsk
from dpp.messages import RECEIVES_MAX
from dpp.store.aws import code_of
from dpp.store.provisions import Part
from dpp.store.sqs import VISIBILITY_S, WAIT_S

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

DEAD: Final = "-dead"
DAY_S: Final = 86_400
RETENTION: Final = {"MessageRetentionPeriod": str(4 * DAY_S)}  # a hint is old after a second
DEAD_RETENTION: Final = {"MessageRetentionPeriod": str(14 * DAY_S)}  # the longest: somebody looks
# What the nodes ask for each time; here for whoever looks at the queue by other means.
PATIENCE: Final = {
    "VisibilityTimeout": str(VISIBILITY_S),
    "ReceiveMessageWaitTimeSeconds": str(WAIT_S),
}
NONE: Final = frozenset({"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist"})


def parts_of(client: Any, queue_url: str) -> Sequence[Part]:  # noqa: ANN401  # the driver has no types
    """Return all parts, the dead-letter queue first: the redrive policy needs it."""
    name = urlsplit(queue_url).path.rpartition("/")[2]
    dead, queue = _Queue(client, name + DEAD), _Queue(client, name, queue_url)
    return (
        dead.queue(),
        dead.attributes("retention", DEAD_RETENTION),
        queue.queue(),
        queue.attributes("retention", RETENTION),
        queue.attributes("visibility, long poll", PATIENCE),
        queue.redrive(dead),
    )


@frozen
class _Queue:
    """One queue. `wanted_url`: where nodes look for it; None: by its name."""

    client: Any
    name: str
    wanted_url: str | None = None

    def queue(self) -> Part:
        return Part(self.name, "queue", self._exists, self._create)

    def attributes(self, part: str, wanted: Mapping[str, str]) -> Part:
        async def fits() -> bool:
            return wanted.items() <= (await self._read(*wanted)).items()

        return Part(self.name, part, fits, partial(self._write, wanted))

    def redrive(self, dead: _Queue) -> Part:
        async def policy() -> dict[str, object]:
            arn = (await dead._read("QueueArn"))["QueueArn"]
            return {"deadLetterTargetArn": arn, "maxReceiveCount": RECEIVES_MAX}

        async def fits() -> bool:
            there = json.loads((await self._read("RedrivePolicy")).get("RedrivePolicy") or "{}")
            # AWS keeps the number as it was written, others as a string.
            count = str(there.get("maxReceiveCount"))
            wanted = await policy()
            return count == str(RECEIVES_MAX) and (
                there.get("deadLetterTargetArn") == wanted["deadLetterTargetArn"]
            )

        async def write() -> None:
            await self._write({"RedrivePolicy": json.dumps(await policy())})

        return Part(self.name, "redrive policy", fits, write)

    async def _exists(self) -> bool:
        try:
            self._assert_wanted(await self._url())
        except self.client.exceptions.ClientError as error:
            if code_of(error) not in NONE:
                raise
            return False
        return True

    async def _create(self) -> None:
        made = await self.client.create_queue(QueueName=self.name)
        self._assert_wanted(str(made["QueueUrl"]))

    def _assert_wanted(self, url: str) -> None:
        """Raise where the caller's queue of this name is another than the nodes': its account."""
        if self.wanted_url and urlsplit(url).path != urlsplit(self.wanted_url).path:
            raise CouldNotAsk(f"the queue is {url}, but sqs.queue_url says {self.wanted_url}")

    async def _url(self) -> str:
        return str((await self.client.get_queue_url(QueueName=self.name))["QueueUrl"])

    async def _read(self, *names: str) -> dict[str, str]:
        url = await self._url()
        answer = await self.client.get_queue_attributes(QueueUrl=url, AttributeNames=[*names])
        return dict(answer.get("Attributes", {}))

    async def _write(self, wanted: Mapping[str, str]) -> None:
        url = await self._url()
        await self.client.set_queue_attributes(QueueUrl=url, Attributes=dict(wanted))
