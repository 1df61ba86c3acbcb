"""The queue and its parts: made once, kept, brought back where somebody changed them."""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING

import pytest

from dpp.blobs import CouldNotAsk
from dpp.store import queue_parts
from dpp.store.aws import Service
from dpp.store.provisions import Outcome, Provided, make, provide
from dpp.store.sqs import service_of
from tests.aws.proxy import Fault

if TYPE_CHECKING:
    from tests.aws.post import Post

DAY_S = 86_400


async def made(post: Post, url: str) -> dict[Outcome, list[tuple[str, str]]]:
    """Make it; returns what was made and what was kept."""
    parts = queue_parts.parts_of(post.client, url)
    return sorted_out(await post.bridge.run(partial(provide, parts)))


def sorted_out(provided: list[Provided]) -> dict[Outcome, list[tuple[str, str]]]:
    return {
        outcome: [(one.resource, one.part) for one in provided if one.outcome is outcome]
        for outcome in Outcome
    }


async def attributes(post: Post, url: str) -> dict[str, str]:
    told = await post.ask("get_queue_attributes", QueueUrl=url, AttributeNames=["All"])
    return dict(told["Attributes"])


async def test_all_of_it_is_made_once_and_then_kept(post: Post) -> None:
    url = f"{post.url}-a"

    first, second = await made(post, url), await made(post, url)

    assert len(first[Outcome.MADE]) == 5
    assert [part for _, part in first[Outcome.KEPT]] == ["retention"]  # AWS's own is 4 days
    assert (len(second[Outcome.KEPT]), second[Outcome.MADE]) == (6, [])
    queue, dead = await attributes(post, url), await attributes(post, f"{url}-dead")
    assert int(queue["MessageRetentionPeriod"]) == 4 * DAY_S
    assert int(dead["MessageRetentionPeriod"]) == 14 * DAY_S
    assert (queue["VisibilityTimeout"], queue["ReceiveMessageWaitTimeSeconds"]) == ("120", "20")
    policy = json.loads(queue["RedrivePolicy"])
    assert (policy["deadLetterTargetArn"], int(policy["maxReceiveCount"])) == (dead["QueueArn"], 3)


async def test_what_differs_is_mended(post: Post) -> None:
    url = f"{post.url}-b"
    await made(post, url)
    change = partial(post.ask, "set_queue_attributes")
    await change(QueueUrl=url, Attributes={"MessageRetentionPeriod": "60", "RedrivePolicy": ""})

    again = await made(post, url)

    name = url.rpartition("/")[2]
    assert again[Outcome.MADE] == [(name, "retention"), (name, "redrive policy")]
    assert (await made(post, url))[Outcome.MADE] == []


async def test_cut_short_anywhere_it_is_ended_by_asking_again(post: Post) -> None:
    url = f"{post.url}-c"
    service = service_of(url, post.proxy.url, None)
    parts = partial(queue_parts.parts_of, queue_url=url)
    for done in (1, 6, 12):
        post.proxy.plan.extend([None] * done + [Fault.FORBIDDEN])
        with pytest.raises(CouldNotAsk):
            await post.bridge.run(partial(make, service, parts))
        post.proxy.plan.clear()

    post.proxy.storm(0.2, Fault.REPLY_LOST, Fault.INTERNAL)
    await post.bridge.run(partial(make, service, parts))
    post.proxy.storm(0.0)

    assert sorted_out(await post.bridge.run(partial(make, service, parts)))[Outcome.MADE] == []


@pytest.mark.parametrize(
    ("url", "endpoint", "region", "asked"),
    [
        (
            "https://sqs.eu-west-1.amazonaws.com/1/q",
            None,
            "us-east-1",
            ("eu-west-1", "https://sqs.eu-west-1.amazonaws.com"),
        ),
        (
            "https://vpce-1.sqs.us-gov-west-1.vpce.amazonaws.com/1/q",
            None,
            None,
            ("us-gov-west-1", "https://vpce-1.sqs.us-gov-west-1.vpce.amazonaws.com"),
        ),
        (
            "https://sqs.eu-west-1.amazonaws.com/1/q",
            "https://sqs.internal",
            None,
            ("eu-west-1", "https://sqs.internal"),
        ),
        ("http://127.0.0.1:1/1/q", None, "us-east-2", ("us-east-2", "http://127.0.0.1:1")),
        ("http://127.0.0.1:1/1/q", None, None, (None, "http://127.0.0.1:1")),
    ],
)
def test_a_queues_url_says_where_it_is_asked(
    url: str, endpoint: str | None, region: str | None, asked: tuple[str | None, str]
) -> None:
    service = service_of(url, endpoint, region)

    assert isinstance(service, Service)
    assert (service.region, service.endpoint_url) == asked
