"""What a network and a busy service do to the S3 store: it may say that it cannot be asked."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what runs in the bridge's thread
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

import pytest
import trio

from dpp.blobs import (
    Archived,
    Away,
    Collected,
    Content,
    CouldNotAsk,
    Found,
    Linked,
    Missing,
    NotVerified,
    PutConflict,
    Stored,
)
from dpp.store import aws, s3_blobs
from dpp.store.s3_blobs import Lane, S3Blobs
from dpp.store.s3_objects import PREFIX, STORE_ID, Bucket
from tests.aws.proxy import Fault
from tests.store.blob_contract import BODY, at_once, collect, described, new_key, new_label, put

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from tests.aws.conftest import S3

T = TypeVar("T")

BROKEN = (
    Fault.SLOW_DOWN,
    Fault.INTERNAL,
    Fault.REFUSED,
    Fault.REPLY_LOST,
    Fault.CUT,
    Fault.TWICE,
    Fault.GARBLED,
)
SMALL = b'{"best":"a"}' * 100


@pytest.fixture(autouse=True)
def _no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aws, "PAUSE_S", 0.0)


async def insist(ask: Callable[[], Awaitable[T]]) -> T:
    """Ask as the executor does: again, while the store is only away."""
    while True:
        try:
            return await ask()
        except Away:
            await trio.lowlevel.checkpoint()


# ── puts ─────────────────────────────────────────────────────────────────────────────────────────


async def test_in_a_storm_each_put_is_stored_once_and_none_conflicts_with_itself(
    depot: S3,
) -> None:
    """Answers that are lost, and requests that come twice, meet our own object."""
    keys = [new_key(lease_epoch=n + 1) for n in range(100)]
    labels = [new_label(cost=n) for n in range(100)]
    depot.proxy.storm(0.45, *BROKEN)

    puts = [partial(depot.blobs.put, *one, SMALL) for one in zip(keys, labels, strict=True)]
    stored = await at_once([partial(insist, one) for one in puts])

    depot.proxy.storm(0.0)
    wanted = [described(key, label, SMALL) for key, label in zip(keys, labels, strict=True)]
    assert stored == [Stored(one) for one in wanted]
    assert [await depot.blobs.read(key) for key in keys[::10]] == [
        Content(one, SMALL) for one in wanted[::10]
    ]
    assert min(depot.proxy.made[fault] for fault in BROKEN) >= 10
    assert depot.proxy.made.total() >= 150


@pytest.mark.parametrize("fault", [Fault.REPLY_LOST, Fault.INTERNAL, Fault.TWICE])
async def test_a_put_whose_answer_was_lost_finds_its_own_object(depot: S3, fault: Fault) -> None:
    key, label = new_key(), new_label()
    depot.proxy.applies = lambda request: request.method == "PUT"
    depot.proxy.plan.append(fault)

    stored = await depot.blobs.put(key, label, BODY)

    assert stored == Stored(described(key, label, BODY))


async def test_a_put_whose_answer_was_lost_conflicts_with_another_result(depot: S3) -> None:
    """The epoch was given twice, after a restore: the attempt goes back, and its next has a key."""
    key = new_key()
    first = await put(depot.blobs, key)
    depot.proxy.applies = lambda request: request.method == "PUT"
    depot.proxy.plan.append(Fault.REPLY_LOST)

    assert await depot.blobs.put(key, new_label(), b"another") == PutConflict(first)


# ── reads ────────────────────────────────────────────────────────────────────────────────────────


async def test_in_a_storm_wrong_bytes_are_never_given_nor_held_against_the_object(
    depot: S3,
) -> None:
    keys = [new_key(lease_epoch=n + 1) for n in range(20)]
    metadata = [await put(depot.blobs, key, SMALL) for key in keys]
    depot.proxy.storm(0.4, *BROKEN, *[Fault.WRONG] * 5)

    async def read(n: int) -> Any:
        try:
            return await depot.blobs.read(keys[n % 20])
        except CouldNotAsk:
            return None

    answers = await at_once([partial(read, n) for n in range(100)])

    for n, answer in enumerate(answers):
        assert answer in (None, Content(metadata[n % 20], SMALL)), n
    assert sum(answer is not None for answer in answers) >= 20
    assert depot.proxy.made[Fault.WRONG] >= 50


async def test_bytes_that_were_read_wrong_once_are_read_again(depot: S3) -> None:
    key = new_key()
    there = await put(depot.blobs, key)
    is_body = lambda one: one.method == "GET" and one.key.startswith(PREFIX)  # noqa: E731
    depot.proxy.applies = is_body
    depot.proxy.plan.append(Fault.WRONG)

    assert await depot.blobs.read(key) == Content(there, BODY)

    depot.proxy.plan.extend([Fault.WRONG, Fault.WRONG])
    with pytest.raises(Away, match="was not the same"):
        await depot.blobs.look(key)


@pytest.mark.parametrize("known", [True, False])
async def test_an_id_that_was_read_wrong_once_is_no_other_one(depot: S3, *, known: bool) -> None:
    """A node would not start, or tell the database an id that no store has."""
    depot.proxy.applies = lambda one: one.key == STORE_ID
    depot.proxy.plan.append(Fault.WRONG)
    blobs = depot.another()

    with pytest.raises(Away, match="was read twice, and was not the same"):
        await blobs.identify(depot.store_id if known else None)

    assert await blobs.identify(depot.store_id if known else None) == depot.store_id


async def test_what_is_no_id_twice_is_none(depot: S3) -> None:
    await depot.ask("put_object", Key=STORE_ID, Body=b"an operator's")

    with pytest.raises(CouldNotAsk, match="which is no id") as fault:
        await depot.another().identify(depot.store_id)

    assert not isinstance(fault.value, Away)


async def test_a_body_that_ends_too_soon_is_no_answer(depot: S3) -> None:
    key = new_key()
    there = await put(depot.blobs, key)
    depot.proxy.applies = lambda one: one.method == "GET" and one.key.startswith(PREFIX)
    depot.proxy.plan.extend([Fault.CUT] * aws.TRIES_MAX)

    with pytest.raises(Away):
        await depot.blobs.look(key)

    assert await depot.blobs.look(key) == Found(there)


async def test_a_silent_service_is_given_up_after_its_wall(
    depot: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(s3_blobs, "REPLY_S", 0.05)
    key = new_key()
    depot.proxy.plan.extend([Fault.SILENT] * aws.TRIES_MAX)

    with pytest.raises(Away):
        await depot.blobs.look(key)

    monkeypatch.undo()
    assert await depot.blobs.look(key) == Missing()


# ── how often, and how many ──────────────────────────────────────────────────────────────────────


async def test_who_is_told_to_slow_down_asks_so_many_times_and_no_more(depot: S3) -> None:
    before = len(depot.proxy.seen)
    depot.proxy.plan.extend([Fault.SLOW_DOWN] * 100)

    with pytest.raises(Away, match="SlowDown"):
        await depot.blobs.look(new_key())

    assert len(depot.proxy.seen) - before == aws.TRIES_MAX


async def test_who_is_forbidden_does_not_ask_again(depot: S3) -> None:
    """It is a policy that lacks something: no answer "missing", and no patience either."""
    before = len(depot.proxy.seen)
    depot.proxy.plan.append(Fault.FORBIDDEN)

    with pytest.raises(CouldNotAsk, match="AccessDenied") as fault:
        await depot.blobs.look(new_key())

    assert not isinstance(fault.value, Away)
    assert len(depot.proxy.seen) - before == 1


async def test_a_lane_that_is_full_starts_nothing(depot: S3) -> None:
    ran: list[int] = []

    async def operation() -> None:
        ran.append(1)
        await asyncio.sleep(0)

    async def crowd() -> Counter[str]:
        lane = Lane(1, 2)
        asked = [lane.run(operation) for _ in range(5)]
        ended = await asyncio.gather(*asked, return_exceptions=True)
        return Counter(type(one).__name__ for one in ended)

    assert await depot.bridge.run(crowd) == {"NoneType": 3, "Away": 2}
    assert len(ran) == 3


async def test_ping_says_whether_the_right_store_answers(depot: S3) -> None:
    await depot.blobs.ping()
    depot.proxy.plan.append(Fault.SLOW_DOWN)
    with pytest.raises(Away):
        await depot.blobs.ping()
    await depot.swap_id()
    with pytest.raises(CouldNotAsk, match="and should have"):
        await depot.blobs.ping()


# ── links ────────────────────────────────────────────────────────────────────────────────────────


async def test_a_link_is_given_after_a_look_and_only_to_the_attempts_object(depot: S3) -> None:
    key, other = new_key(), new_key()
    there = await put(depot.blobs, key)
    await depot.misplace(key, other)

    link = await depot.blobs.link(key, "GET")

    assert isinstance(link, Linked)
    assert link.metadata == there
    assert "X-Amz-Expires=600" in link.url
    assert link.url not in repr(link)
    assert [one.method for one in depot.proxy.seen[-1:]] == ["HEAD"]
    assert isinstance(await depot.blobs.link(other, "GET"), NotVerified)
    assert await depot.blobs.link(new_key(), "GET") == Missing()


async def test_missing_is_believed_only_from_the_right_store(depot: S3) -> None:
    await depot.swap_id()

    with pytest.raises(CouldNotAsk, match="and should have"):
        await depot.blobs.link(new_key(), "GET")


async def test_an_archived_object_is_there_and_has_no_link(depot: S3) -> None:
    key = new_key()
    there = await put(depot.blobs, key)
    await depot.archive(key)

    assert await depot.blobs.link(key, "GET") == Archived(there)
    assert await depot.blobs.check(key) == Found(there)
    with pytest.raises(CouldNotAsk, match="restore it"):
        await depot.blobs.look(key)


# ── encryption, collecting ───────────────────────────────────────────────────────────────────────


async def test_results_are_encrypted_with_the_key_of_kms_that_is_named(depot: S3) -> None:
    bucket = Bucket(depot.client, depot.bucket, "alias/results")
    blobs = S3Blobs(depot.bridge, bucket)
    await blobs.identify(depot.store_id)
    key = new_key()

    await put(blobs, key)

    stored = await depot.ask("head_object", Key=PREFIX + key.name)
    assert stored["ServerSideEncryption"] == "aws:kms"
    assert stored["SSEKMSKeyId"].endswith("alias/results")


async def test_what_is_not_ours_is_left_alone(depot: S3) -> None:
    key = new_key()
    await put(depot.blobs, key)
    await depot.ask("put_object", Key=PREFIX + "notes.txt", Body=b"an operator's")
    await depot.ask("put_object", Key="backup/1", Body=b"an operator's")
    for name in (PREFIX + key.name, PREFIX + "notes.txt", "backup/1"):
        depot.proxy.ages[name] = 10 * 86_400

    collected = await collect(depot.blobs)

    assert collected == Collected(looked=2, deleted=1, torn=0, refused=0, after=None)
    left = await depot.ask("list_objects_v2")
    names = [one["Key"] for one in left["Contents"]]
    assert names == ["backup/1", "dpp-store-id", PREFIX + "notes.txt"]
