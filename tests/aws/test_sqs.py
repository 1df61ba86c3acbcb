"""The queue of hints at a stand-in for AWS: what is answered, and what comes of what breaks."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any
from uuid import UUID

import pytest
import trio
from structlog.testing import capture_logs

from dpp.actors.messenger import Messenger
from dpp.actors.poller import Poller
from dpp.config import load
from dpp.faults import HelperUnavailable
from dpp.messages import RECEIVES_MAX, Depths, decode
from dpp.store import aws
from dpp.store.place import SchemaRefused
from dpp.store.sqs import SqsQueue, open_queue, service_of
from tests.aws.post import POISON, SOON_S, Post, asks
from tests.aws.proxy import Fault
from tests.cli.peers import Asked, Says, peer
from tests.node_client import LOOK_S
from tests.store.steps import create, make_tenant, settle

if TYPE_CHECKING:
    from trio.testing import MockClock

    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore

RUNS = [UUID(int=n) for n in range(100)]


async def test_a_hint_is_sent_taken_out_and_deleted(post: Post) -> None:
    assert await post.queue.send(RUNS[:10]) == 10
    post.queue.visibility_s, taken = 60, [*await post.queue.receive()]
    while len(taken) < 10:
        taken += await post.queue.receive()
    await post.queue.delete(taken)

    assert {decode(one.body) for one in taken} == set(RUNS[:10])
    post.queue.wait_s = 0
    assert await post.queue.depths() == Depths(0, 0)
    assert await post.queue.receive() == []


async def test_what_is_not_deleted_three_times_is_a_dead_letter(post: Post) -> None:
    await post.put("no hint")
    post.queue.visibility_s, post.queue.wait_s, seen = 0, 0, 0
    with trio.fail_after(SOON_S):
        while (await post.queue.depths()).dead == 0:
            seen += len(await post.queue.receive())

    assert seen == RECEIVES_MAX
    assert await post.queue.depths() == Depths(0, 1)
    assert await post.bodies(post.dead_url) == ["no hint"]


async def test_a_queue_without_dead_letters_says_so(post: Post) -> None:
    await post.ask("set_queue_attributes", QueueUrl=post.url, Attributes={"RedrivePolicy": ""})

    assert await post.queue.depths() == Depths(0, None)


@pytest.mark.parametrize(
    ("keys", "endpoint", "word"),
    [("AKIACANARY", "", "static keys"), ("", "http://sqs.example.com", "is not encrypted")],
)
async def test_production_refuses_a_queue_by_written_keys_or_in_the_clear(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch, keys: str, endpoint: str, word: str
) -> None:
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", keys)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", keys)
    given = {
        "DPP_NODE__PROFILE": "production",
        "SQS_QUEUE_URL": "https://sqs.eu-west-1.amazonaws.com/1/runs",
        "SQS_ENDPOINT_URL": endpoint,
    }

    with pytest.raises(SchemaRefused, match=word):
        async with open_queue(load({}, given, None), bridge):
            pass


BROKEN = (
    Fault.SLOW_DOWN,
    Fault.INTERNAL,
    Fault.REFUSED,
    Fault.REPLY_LOST,
    Fault.CUT,
    Fault.WRONG,
    Fault.TWICE,
)


async def test_whatever_breaks_every_question_ends_by_an_answer_or_helper_unavailable(
    post: Post,
) -> None:
    post.queue.wait_s, asked = 0, Counter[str]()
    post.proxy.storm(0.5, *BROKEN)
    for n in range(40):
        for question in (
            partial(post.queue.send, RUNS[n : n + 2]),
            post.queue.receive,
            post.queue.depths,
            post.queue.probe,
        ):
            try:
                await question()
                asked["answered"] += 1
            except HelperUnavailable:
                asked["not"] += 1
    post.proxy.storm(0.0)
    await post.queue.receive()
    await post.queue.send(RUNS[:1])
    await post.queue.depths()

    assert min(asked.values()) >= 20, asked
    assert set(post.proxy.made) == set(BROKEN)
    await post.queue.probe()


async def test_nonsense_that_comes_when_nobody_waits_any_more_is_no_bug(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it is was only seen by whoever waited: an hour's storm had one that had gone."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "nobody")
    go_on = threading.Event()

    def late(_: Asked) -> Says:
        assert go_on.wait(SOON_S)
        return Says(200, "{}")

    with peer([late]) as one, capture_logs() as lines:
        url = f"{one.url}/1/runs"
        opened = await bridge.run(partial(aws.open_client, service_of(url, None, "eu-west-1")))
        queue = SqsQueue(bridge, opened.client, url)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(queue.depths)
            while not one.asked:  # noqa: ASYNC110 - another thread notes it
                await trio.sleep(LOOK_S)
            nursery.cancel_scope.cancel()
        go_on.set()
        while bridge._in_flight:  # noqa: ASYNC110 - nobody waits for it
            await trio.sleep(LOOK_S)
        assert lines == []
        with pytest.raises(HelperUnavailable, match="no answer of SQS"):
            await queue.depths()
        await bridge.run(opened.close)


async def test_a_refusal_is_believed_for_a_minute_where_nobody_asks_again(
    mock_clock: MockClock,
) -> None:
    queue = SqsQueue(bridge=None, client=None, url="")
    queue._failed("send", "there is no such queue", refused=True)
    standing = []
    for s in (1, 58, 2):
        mock_clock.jump(s)
        queue._answered("probe")
        standing.append(list(queue._failing))
    await trio.lowlevel.checkpoint()

    assert standing == [["send"], ["send"], []]


async def test_readiness_follows_what_is_asked_and_what_is_refused(post: Post) -> None:
    async def is_up() -> bool:
        try:
            await post.queue.probe()
        except HelperUnavailable:
            return False
        return True

    async def fails(question: Callable[[], Any]) -> None:
        with pytest.raises(HelperUnavailable):
            await question()

    assert await is_up()
    post.proxy.away = True
    await fails(partial(post.queue.send, RUNS[:1]))
    assert not await is_up()
    post.proxy.away = False
    assert await is_up()  # that sending works again is seen by the next hint
    post.proxy.plan.append(Fault.REFUSED)
    await fails(post.queue.receive)
    assert not await is_up()  # nothing is heard
    await post.queue.receive()
    assert await is_up()


STORM = (Fault.TWICE, Fault.TWICE, Fault.REPLY_LOST, Fault.SLOW_DOWN, Fault.CUT)


async def test_through_a_storm_runs_are_heard_of_poison_dies_and_nothing_is_left(
    post: Post, store: PostgresStore
) -> None:
    await make_tenant(store, deposit=100_000_000)
    heard: list[str] = []
    poller = Poller(queue=post.queue, store=store, heard=heard.append, full=lambda: False)
    messenger = Messenger(post.queue)
    post.proxy.applies = asks("MessageBatch", "ReceiveMessage")
    runs = {await settle(store)}
    for body in POISON:
        await post.put(body)
    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(poller.run)
        nursery.start_soon(messenger.run)
        post.proxy.storm(0.3, *STORM)
        for _ in range(30):
            runs.add((await create(store)).run_id)
            for run_id in sorted(runs)[-2:]:
                messenger.admitted(run_id)
            await trio.sleep(0.02)
        post.proxy.storm(0.0)
        await post.until_lie(0)
        nursery.cancel_scope.cancel()

    dead = await post.bodies(post.dead_url)
    assert set(heard) == {"acme"}
    assert set(POISON) <= set(dead)
    # A hint whose deletion was lost three times may be dead as well; it was heard.
    assert {decode(one) for one in dead if one not in POISON} <= runs
