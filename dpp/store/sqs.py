"""SQS as a node sees it, from the trio side: hints in and out of a queue, and how much lies there.

A helper: each question is asked once, and ends by `HelperUnavailable` at the latest; whoever asks
makes a pause. The queue's URL says where it is, so it has no region of its own to set. A long poll
is one operation of the bridge; who stops waiting leaves it there, and closing the client ends it.
"""

from __future__ import annotations

import re
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import trio
from attrs import define, field

from dpp.blobs import Away, CouldNotAsk
from dpp.faults import HelperUnavailable, StoreUnavailable, told
from dpp.logs import get_logger
from dpp.messages import Depths, Message, encode
from dpp.metrics import sqs_faults_total, sqs_up
from dpp.sections import PRODUCTION
from dpp.store import aws
from dpp.store.fitness import assert_fit
from dpp.store.place import SchemaRefused

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
    from uuid import UUID

    from dpp.config import Config
    from dpp.store.bridge import Bridge

BATCH_MAX = 10  # messages in one request: SQS takes no more
WAIT_S = 20  # of a long poll: the longest that SQS offers, and so the cheapest
VISIBILITY_S = 120  # until a message that was not deleted comes again
REPLY_S = 3.0  # of a request that does not wait
SLACK_S = 5.0  # beyond a long poll, for connection and answer
CLOSE_S = 1.0
REFUSED_S = 60.0  # that a refusal is believed: what refused it may have been mended since

COUNT = "ApproximateNumberOfMessages"
REDRIVE = "RedrivePolicy"
REGION = re.compile(r"(?:^|\.)sqs(?:-fips)?\.([a-z]{2}(?:-[a-z]+)+-[0-9])\.")

T = TypeVar("T")

log = get_logger(__name__)


def service_of(queue_url: str, endpoint_url: str | None, region: str | None) -> aws.Service:
    """Return where a queue is asked: at its own URL's host, unless an endpoint is given.

    `region`: what to take where the host names none.
    """
    url = urlsplit(queue_url)
    named = REGION.search(url.hostname or "")
    return aws.Service(
        "sqs",
        named[1] if named else region,
        endpoint_url or f"{url.scheme}://{url.netloc}",
        silence_s=WAIT_S + SLACK_S,
    )


@define(eq=False)
class SqsQueue:
    """Implements `dpp.ports.Queue`."""

    bridge: Bridge
    _client: Any
    _url: str
    wait_s: int = WAIT_S
    visibility_s: int = VISIBILITY_S
    # What is not answered → whether it is refused, and since when.
    _failing: dict[str, tuple[bool, float]] = field(factory=dict)

    async def send(self, run_ids: Sequence[UUID]) -> int:
        """Put in a message for each run, 10 at most; return how many were taken."""
        entries = [{"Id": str(n), "MessageBody": encode(one)} for n, one in enumerate(run_ids)]
        asked = partial(self._client.send_message_batch, QueueUrl=self._url, Entries=entries)
        answer = await self._ask("send", asked)
        return len(_rows(answer, "Successful"))

    async def receive(self) -> Sequence[Message]:
        """Take out up to 10 messages, waiting for the first; [] = none came."""
        asked = partial(
            self._client.receive_message,
            QueueUrl=self._url,
            MaxNumberOfMessages=BATCH_MAX,
            WaitTimeSeconds=self.wait_s,
            VisibilityTimeout=self.visibility_s,
        )
        answer = await self._ask("receive", asked, wall_s=self.wait_s + SLACK_S)
        found = [(row.get("Body"), row.get("ReceiptHandle")) for row in _rows(answer, "Messages")]
        return [
            Message(body, receipt)
            for body, receipt in found
            if isinstance(body, str) and isinstance(receipt, str)
        ]

    async def delete(self, messages: Sequence[Message]) -> None:
        """Delete messages, 10 at most; one that is not comes again."""
        entries = [{"Id": str(n), "ReceiptHandle": one.receipt} for n, one in enumerate(messages)]
        asked = partial(self._client.delete_message_batch, QueueUrl=self._url, Entries=entries)
        await self._ask("delete", asked)

    async def depths(self) -> Depths:
        """Return how much lies in the queue and in its dead-letter queue."""
        return await self._ask("depths", partial(look_at_both, self._client, self._url))

    async def probe(self) -> None:
        """Ask now; raises where there is no answer, or some other question has none."""
        await self._ask("probe", partial(look, self._client, self._url))
        if self._failing:
            raise HelperUnavailable(f"not answered: {', '.join(sorted(self._failing))}")

    async def _ask(
        self,
        what: str,
        once: Callable[[], Coroutine[Any, Any, T]],
        *,
        wall_s: float = REPLY_S,
    ) -> T:
        """Ask on the bridge, once."""
        try:
            answer = await self.bridge.run(partial(ask, once, wall_s))
        except CouldNotAsk as error:
            raise self._failed(what, error.why, refused=not isinstance(error, Away)) from error
        except StoreUnavailable as error:  # the bridge's own: nothing was asked
            raise HelperUnavailable(str(error)) from error
        self._answered(what)
        return answer

    # ── how things stand ─────────────────────────────────────────────────────────────────────────

    def _answered(self, what: str) -> None:
        """Note an answer. Whether sending works again is known only by the next hint to be sent.

        So after silence any answer will do; a poll that fails stands, since it is asked again, and
        a refusal does for a while: nobody may send here any more.
        """
        before, now = bool(self._failing), trio.current_time()
        for asked, (refused, at) in list(self._failing.items()):
            stands = asked == "receive" or (refused and now - at < REFUSED_S)
            if asked == what or not stands:
                del self._failing[asked]
        if before and not self._failing:
            sqs_up.set(1)
            log.info("sqs answers")

    def _failed(self, what: str, why: str, *, refused: bool) -> HelperUnavailable:
        sqs_faults_total.labels(what).inc()
        if not self._failing:
            sqs_up.set(0)
            log.warning("sqs unavailable", asked=what, detail=why)
        self._failing[what] = refused, trio.current_time()
        return HelperUnavailable(why)


async def ask(once: Callable[[], Coroutine[Any, Any, T]], wall_s: float, tries: int = 1) -> T:
    """Ask; all that is no answer ends as `CouldNotAsk` here, since nobody may wait for it by then.

    On the loop.
    """
    from botocore.exceptions import ClientError

    try:
        return await aws.ask(once, wall_s=wall_s, tries=tries)
    except ClientError as error:  # an answer such as "there is no such queue"
        raise CouldNotAsk(told(error)) from error
    except (KeyError, TypeError, ValueError, AttributeError) as error:  # an answer of nonsense
        raise Away(f"no answer of SQS: {told(error)}") from error


async def look_at_both(client: Any, url: str) -> Depths:  # noqa: ANN401  # the driver has no types
    """Return how much lies in a queue, and in the one where its dead letters go; on the loop."""
    waiting, dead_arn = await look(client, url)
    if dead_arn is None:
        return Depths(waiting, None)
    *_, account, name = dead_arn.split(":")
    answer = await client.get_queue_url(QueueName=name, QueueOwnerAWSAccountId=account)
    dead, _ = await look(client, str(answer["QueueUrl"]))
    return Depths(waiting, dead)


async def look(client: Any, url: str) -> tuple[int, str | None]:  # noqa: ANN401  # the driver has no types
    """Return how many messages are there, and where its dead letters go, as an ARN."""
    answer = await client.get_queue_attributes(QueueUrl=url, AttributeNames=[COUNT, REDRIVE])
    said = answer.get("Attributes", {})
    found = re.search(r'"deadLetterTargetArn" *: *"([^"]+)"', str(said.get(REDRIVE, "")))
    return int(said[COUNT]), found[1] if found else None


def _rows(answer: Mapping[str, Any], name: str) -> list[Mapping[str, Any]]:
    """Return what a list of an answer holds; SQS leaves an empty one out."""
    return [row for row in answer.get(name) or [] if isinstance(row, dict)]


@asynccontextmanager
async def open_queue(config: Config, bridge: Bridge) -> AsyncIterator[SqsQueue | None]:
    """Give the queue for the length of the block; None = there is none in the configuration.

    Raises `SchemaRefused` where it cannot be asked at all, or must not be in production; whether it
    answers is seen later.
    """
    if config.sqs.queue_url is None:
        yield None
        return
    service = service_of(config.sqs.queue_url, config.sqs.endpoint_url, config.s3.region)
    try:
        opened = await bridge.run(partial(aws.open_client, service))
    except CouldNotAsk as error:
        raise SchemaRefused(
            f"The queue {config.sqs.queue_url} cannot be reached: {error.why}.",
            "Correct sqs.queue_url or the AWS settings of this machine: `dpp doctor` looks there.",
        ) from error
    try:
        if config.node.profile == PRODUCTION:
            await bridge.run(partial(assert_fit, service, opened.client))
        yield SqsQueue(bridge, opened.client, config.sqs.queue_url)
    finally:
        with trio.move_on_after(CLOSE_S, shield=True):
            await bridge.run(opened.close)
