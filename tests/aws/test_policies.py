"""The shipped policies of IAM allow what DPP asks of AWS, and nothing that it never asks."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
from aiobotocore.client import AioBaseClient

from dpp.blobs import Linked, PutConflict
from dpp.store import bucket_parts, provisions, queue_parts
from dpp.store.s3_objects import PREFIX
from tests.aws.policies import Need, allows, grants, needs, queue_needs, statements
from tests.store.blob_contract import collect, new_key, new_label, put

if TYPE_CHECKING:
    from tests.aws.conftest import S3
    from tests.aws.post import Post

Call = tuple[str, dict[str, Any]]


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[Call]:
    """Remember each operation of the driver, and what was said with it."""
    made: list[Call] = []
    ask = AioBaseClient._make_api_call

    async def note(self: Any, operation: str, said: dict[str, Any]) -> Any:
        made.append((operation, said))
        return await ask(self, operation, said)

    monkeypatch.setattr(AioBaseClient, "_make_api_call", note)
    return made


def assert_fits(policy: str, bucket: str, made: list[Call]) -> None:
    """Each call is allowed, and each grant is used by one."""
    needed = {need for operation, said in made for need in needs(operation, said)}
    assert_equal(grants(statements(policy, bucket)), needed)


def assert_fits_queue(policy: str, queue_url: str, made: list[Call]) -> None:
    """Say the same of a queue's policy."""
    arn = f"arn:aws:sqs:us-east-1:123456789012:{queue_url.rpartition('/')[2]}"
    needed = {need for operation, said in made for need in queue_needs(operation, said)}
    assert_equal(grants(statements(policy, arn, "QUEUE_ARN")), needed)


def assert_equal(granted: list[Need], needed: set[Need]) -> None:
    assert [need for need in needed if not any(allows(one, need) for one in granted)] == []
    assert [one for one in granted if not any(allows(one, need) for need in needed)] == []


async def test_a_node_may_do_what_it_does_and_no_more(depot: S3, calls: list[Call]) -> None:
    """A life of the store: first use, every verb, a collection, readiness; a client's own GET."""
    calls.clear()  # the depot's own
    blobs, key, lost = depot.elsewhere(), new_key(), new_key()
    await blobs.identify(None)
    there = await put(blobs, key)
    await put(blobs, lost)
    assert isinstance(await blobs.put(key, new_label(), b"another"), PutConflict)
    for ask in (blobs.look, blobs.read, blobs.check):
        await ask(key)
    await blobs.piece(key, there, 0, 1)
    assert isinstance(await blobs.link(key, "GET"), Linked)
    calls.append(("GetObject", {"Bucket": depot.other, "Key": PREFIX + key.name}))  # by the link
    await blobs.ping()
    depot.proxy.ages[PREFIX + lost.name] = 10 * 86_400
    assert (await collect(blobs, key)).deleted == 1

    assert {operation for operation, _ in calls} == {
        "GetObject",
        "HeadObject",
        "PutObject",
        "ListObjectsV2",
        "DeleteObjects",
    }
    assert_fits("node.json", depot.other, calls)


async def test_who_makes_the_bucket_may_do_what_that_takes_and_no_more(
    depot: S3, calls: list[Call]
) -> None:
    wanted = bucket_parts.Wanted(f"{depot.bucket}-made", 30)
    parts = bucket_parts.parts_of(depot.client, wanted)
    calls.clear()

    for _ in range(2):
        await depot.bridge.run(partial(provisions.provide, parts))

    assert_fits("bootstrap.json", wanted.name, calls)


async def test_a_node_may_do_with_its_queue_what_it_does_and_no_more(
    post: Post, calls: list[Call]
) -> None:
    """A life of the queue: a hint in and out, the depths, readiness."""
    calls.clear()  # the post's own
    await post.queue.send([UUID(int=1)])
    await post.queue.delete(await post.queue.receive())
    await post.queue.depths()
    await post.queue.probe()

    assert_fits_queue("node-sqs.json", post.url, calls)


async def test_who_makes_the_queue_may_do_what_that_takes_and_no_more(
    post: Post, calls: list[Call]
) -> None:
    url = f"{post.url}-made"
    parts = queue_parts.parts_of(post.client, url)
    calls.clear()

    for _ in range(2):
        await post.bridge.run(partial(provisions.provide, parts))

    assert_fits_queue("bootstrap-sqs.json", url, calls)


def test_the_policy_for_a_key_of_kms_names_what_s3_asks_it_for() -> None:
    """S3 asks KMS in the caller's name: a data key for each PUT, its decryption for each GET."""
    granted = grants(statements("node-kms.json", ""))

    assert granted == [
        Need("kms:GenerateDataKey", "KMS_KEY_ARN"),
        Need("kms:Decrypt", "KMS_KEY_ARN"),
    ]
