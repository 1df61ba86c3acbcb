"""Webhooks of a real node whose receiver misbehaves, and of one that dies around each boundary.

An event arrives at least once, under one id, with a signature that its receiver can check, and
never before the transaction that ended its run is committed: the receiver asks the database itself.
A kill takes a seeded few of the places; `DPP_FAILPOINTS=all` takes every one.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from attrs import define, field

from dpp.failpoints import KILLED, MOMENTS
from dpp.webhooks import BREAKER_FAILURES, EVENTS
from tests import receiver as acts
from tests.fault.test_failpoints import nothing_lives, ready_or_ended, slice_of
from tests.node_client import Client, connected, until
from tests.receiver import Received, Receiver, receiving

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books
    from tests.node_process import NodeProcess

BooksOf = Callable[["NodeProcess"], "Books"]
LOOPBACK = "[webhooks]\nallow_loopback = true\n"
AROUND_A_SEND = [
    *(f"{name}.{moment}" for name in ("claim_deliveries", "mark_deliveries") for moment in MOMENTS),
    "courier.before_post",
    "courier.after_post",
]
ONCE_IT_WAS_SENT = {"courier.after_post", *(f"mark_deliveries.{moment}" for moment in MOMENTS)}
# Soon, but not while the node that is told to stop still looks.
SOON = """
update dpp.webhook_deliveries set next_at = now() + interval '2 s'
 where status = 'pending' returning 1
"""
DUE = "update dpp.webhook_deliveries set next_at = now() where status = 'pending' returning 1"
COMMITTED = """
select count(*) from dpp.endings e join dpp.webhook_deliveries d on d.run_id = e.run_id
 where d.delivery_id = $1::uuid
"""
OUTBOX = "select count(*) from dpp.webhook_deliveries"
ENDED = "select count(*) from dpp.endings"


@define(eq=False)
class Post:
    """A node, a tenant of it, and a receiver that it was told of."""

    node: NodeProcess
    books: Books
    client: Client
    receiver: Receiver
    hook: dict[str, Any] = field(factory=dict)

    async def register(self, *, events: Sequence[str] = EVENTS, **members: Any) -> None:
        body = {"url": self.receiver.url(), "events": [*events], **members}
        answer = await self.client.ask("POST", "/v1/webhooks", json=body)
        assert answer.status_code == 201, answer.text
        self.hook = answer.json()

    async def run(self, **members: Any) -> str:
        """Have a run that ends; returns its id."""
        run = await self.client.submitted(**members)
        return str((await self.client.ended(run["run_id"]))["run_id"])

    async def log(self) -> list[dict[str, Any]]:
        page = await self.client.get(f"/v1/webhooks/{self.hook['webhook_id']}/deliveries")
        items: list[dict[str, Any]] = page["items"]
        return items

    async def logged(self, status: str, count: int = 1) -> list[dict[str, Any]]:
        """Wait until so many deliveries have this status."""

        async def look() -> list[dict[str, Any]] | None:
            found = [one for one in await self.log() if one["status"] == status]
            return found if len(found) >= count else None

        return await until(look)

    async def hurry(self) -> None:
        """Let the pauses be over: whatever waits is due."""
        await self.books.rows(DUE)


def verified(received: Sequence[Received], *secrets: str) -> set[str]:
    """Check every signature by each secret; returns the ids."""
    for one in received:
        for secret in secrets:
            one.verify(secret)
    return {one.id for one in received}


@pytest.fixture
async def post(fresh_node: StartNode, books_of: BooksOf) -> AsyncIterator[Post]:
    """A node that may send to this machine."""
    node = fresh_node(LOOPBACK)
    key = node.tenant("acme", "100.00")
    async with receiving() as receiver, connected(node.url, key, "acme") as client:
        yield Post(node, books_of(node), client, receiver)


async def test_every_ending_is_told_and_is_committed_when_it_is(post: Post) -> None:
    """The receiver looks into the database while the event is in its hands."""
    there: list[int] = []

    async def look(connection: acts.Connection) -> None:
        there.append(await post.books.value(COMMITTED, post.receiver.received[-1].id))
        await acts.OK(connection)

    post.receiver.usually = look
    await post.register()
    completed = await post.run(inputs={"cost_usd": "0.002"}, metadata={"order": "4711"})
    failed = await post.run(inputs={"fail": True})
    canceled = (await post.client.submitted(inputs={"sleep_s": 600}))["run_id"]
    await post.client.cancel(canceled)

    received = await post.receiver.until(3)

    told = {(one.event["type"], one.event["data"]["run_id"]) for one in received}
    assert told == {
        ("run.completed", completed),
        ("run.failed", failed),
        ("run.canceled", canceled),
    }
    assert len(verified(received, post.hook["secret"])) == 3
    first = next(one.event for one in received if one.event["type"] == "run.completed")
    assert first["data"]["cost"]["actual_usd"] == "0.002"
    assert first["data"]["metadata"] == {"order": "4711"}
    await post.logged("delivered", 3)
    assert there == [1, 1, 1]
    assert len(post.receiver.received) == 3


async def test_an_event_comes_within_a_second_of_its_runs_end(post: Post) -> None:
    await post.register()
    await post.run()
    await post.receiver.until(1)
    run_id = await post.run()

    await post.receiver.until(2)

    ask = "select extract(epoch from finished_at)::float8 from dpp.endings where run_id = $1::uuid"
    ended_at = await post.books.value(ask, run_id)
    took_s = post.receiver.received[-1].at - ended_at
    print(f"from the end to the receiver: {took_s:.3f} s")
    assert 0 < took_s < 5  # a busy machine; the rest of it is measured, not promised


@pytest.mark.parametrize("fault", ["500", "lost", "redirect", "cut"])
async def test_what_was_not_acknowledged_comes_again_under_the_same_id(
    post: Post, fault: str
) -> None:
    behave = {
        "500": acts.say(500),
        "lost": acts.lose,
        "redirect": acts.say(307, b"", ("Location", post.receiver.url("/elsewhere"))),
        "cut": acts.babble,
    }[fault]
    post.receiver.script.append(behave)
    await post.register()
    await post.run()
    await post.receiver.until(1)
    await until(partial(marked, post))

    await post.hurry()
    first, second = await post.receiver.until(2)
    await post.logged("delivered")

    assert (first.id, first.body, first.target) == (second.id, second.body, "/hook")
    assert verified([first, second], post.hook["secret"]) == {first.id}
    assert int(second.headers["webhook-timestamp"]) >= int(first.headers["webhook-timestamp"])


async def marked(post: Post) -> bool:
    """Say whether what became of each attempt is written down."""
    return all(one["error"] or one["status"] != "pending" for one in await post.log())


async def test_a_receiver_that_was_away_gets_everything_when_it_is_back(post: Post) -> None:
    async with receiving() as gone:
        pass
    await post.register(url=gone.url())
    runs = {await post.run() for _ in range(3)}
    await until(partial(marked, post))
    assert {one["error"] for one in await post.log()} == {"no connection"}

    async with receiving(port=gone.port) as back:
        await post.hurry()
        received = await back.until(3)
        await post.logged("delivered", 3)

    assert {one.event["data"]["run_id"] for one in received} == runs
    verified(received, post.hook["secret"])


async def test_a_rotation_leaves_no_receiver_in_the_lurch(post: Post) -> None:
    await post.register()
    old = post.hook["secret"]
    rotated = await post.client.ask("POST", f"/v1/webhooks/{post.hook['webhook_id']}:rotate")
    new = rotated.json()["secret"]
    await post.run()

    received = await post.receiver.until(1)

    verified(received, old, new)
    passed = "update dpp.webhooks set previous_until = now() returning 1"
    await post.books.rows(passed)
    await post.run()
    (_, last) = await post.receiver.until(2)
    last.verify(new)
    assert len(last.headers["webhook-signature"].split(" ")) == 1


async def test_410_disables_and_a_replay_after_that_is_the_same_event(post: Post) -> None:
    post.receiver.script.append(acts.say(410))
    await post.register()
    path = f"/v1/webhooks/{post.hook['webhook_id']}"
    await post.run()
    (failed,) = await post.logged("failed")
    assert failed["response_status"] == 410
    assert (await post.client.get(path))["status"] == "disabled"
    await post.run()

    replay = f"{path}/deliveries/{failed['delivery_id']}:replay"
    assert (await post.client.ask("POST", replay)).status_code == 409
    await post.client.ask("PATCH", path, json={"status": "enabled"})
    assert (await post.client.ask("POST", replay)).status_code == 202

    first, second = await post.receiver.until(2)
    assert (first.id, first.body) == (second.id, second.body)
    await post.logged("delivered")
    assert len(await post.log()) == 1  # nothing was written while it was disabled


async def test_a_receiver_that_is_down_is_left_alone_and_the_other_is_served(post: Post) -> None:
    async with receiving(acts.say(503)) as down:
        await post.register(url=down.url())
        first = post.hook
        await post.register()
        for _ in range(30):
            await post.run()

        await post.logged("delivered", 30)

        await trio.sleep(1)  # time to try the other one more often than its breaker allows
        assert BREAKER_FAILURES <= len(down.received) < 30
    post.hook = first
    tried = [one for one in await post.log() if one["attempts"]]
    assert len(tried) == len({*down.ids()}) < 30


async def test_slow_and_endless_answers_hold_up_nobody_else(post: Post) -> None:
    async with receiving(acts.hang) as slow:
        await post.register(url=slow.url())
        await post.register()

        await post.run()

        await slow.until(1)
        await post.receiver.until(1, within_s=5)


async def test_a_budget_that_runs_low_is_told(post: Post) -> None:
    key = post.node.tenant("poor", "0.10")
    async with connected(post.node.url, key, "poor") as client:
        poor = Post(post.node, post.books, client, post.receiver)
        await poor.register(events=["budget.low"])

        await poor.run(max_cost_usd="0.06", inputs={"cost_usd": "0.06"})

        (one,) = await post.receiver.until(1)
        verified([one], poor.hook["secret"])
        assert one.event["data"]["threshold_percent"] == 50
        assert one.event["data"]["budget"]["available_usd"] == "0.04"


async def test_a_run_may_have_its_own_url_below_the_same_origin(post: Post) -> None:
    await post.register()

    await post.run(webhook_url=post.receiver.url("/order/4711"))
    await post.run()

    received = await post.receiver.until(2)
    assert [one.target for one in received] == ["/order/4711", "/hook"]


# ── where nothing may go ─────────────────────────────────────────────────────────────────────────


async def test_the_nodes_own_listeners_are_refused_even_where_loopback_is_allowed(
    post: Post,
) -> None:
    for url in (post.node.url, post.node.management_url):
        body = {"url": f"{url}/admin/v1/tenants", "events": ["run.failed"]}
        answer = await post.client.ask("POST", "/v1/webhooks", json=body)
        assert answer.status_code == 422
        # And where somebody put it into the row all the same.
        await post.register()
        change = "update dpp.webhooks set url = $1 where webhook_id = $2::uuid returning 1"
        await post.books.rows(change, body["url"], post.hook["webhook_id"])
        await post.run()
        await until(partial(marked, post))
        (one, *_) = await post.log()
        assert one["error"].startswith("refused")
        assert one["response_status"] is None
        path = f"/v1/webhooks/{post.hook['webhook_id']}"
        await post.client.ask("DELETE", path)


async def test_a_node_that_may_not_sends_nothing_to_this_machine(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    key = node.tenant("acme", "100.00")
    async with receiving() as receiver, connected(node.url, key, "acme") as client:
        post = Post(node, books_of(node), client, receiver)
        answer = await client.ask(
            "POST", "/v1/webhooks", json={"url": receiver.url(), "events": ["run.failed"]}
        )
        assert answer.status_code == 422
        await post.register(url="https://hooks.invalid/")
        change = "update dpp.webhooks set url = $1 returning 1"
        await post.books.rows(change, receiver.url())
        await post.run()
        await until(partial(marked, post))

        assert receiver.connections == 0
        assert (await post.log())[0]["error"].startswith("refused")


# ── the node dies ────────────────────────────────────────────────────────────────────────────────


async def start(post: Post, *failpoints: str) -> bool:
    """Start the node that was stopped, with these places armed; False = it died at once."""
    listed = ", ".join(f'"{one}"' for one in failpoints)
    post.node.config = f"{LOOPBACK}[testing]\nfailpoints = [{listed}]\n"
    post.node.launch()
    return await trio.to_thread.run_sync(ready_or_ended, post.node)


async def died(post: Post) -> None:
    """Wait for the node to have been killed."""
    assert await trio.to_thread.run_sync(post.node.wait_ended) == KILLED


@asynccontextmanager
async def restarted(post: Post) -> AsyncIterator[Post]:
    """Start it in order; it listens elsewhere."""
    assert await start(post)
    async with connected(post.node.url, post.client.key, "acme") as client:
        yield Post(post.node, post.books, client, post.receiver, post.hook)


@pytest.mark.timeout(400)  # all places, on a busy machine
async def test_killed_at_any_place_around_a_send_the_event_arrives(post: Post) -> None:
    await post.register()
    for point in slice_of(AROUND_A_SEND, 2):
        before = len(post.receiver.received)
        post.receiver.script.append(acts.say(500))
        async with _again(post) as now:
            await now.run()
            await now.receiver.until(before + 1)
            await until(partial(marked, now))
            await now.books.rows(SOON)
            assert now.node.terminate() == 0

        await start(post, f"{point}:exit")
        await died(post)

        seen = before + 1 + (point in ONCE_IT_WAS_SENT)
        assert len(post.receiver.received) == seen, point
        async with restarted(post) as now:
            await now.hurry()
            await until(partial(all_delivered, now))
            assert len(now.receiver.received) == seen + (point != "mark_deliveries.after_commit")
            mine = now.receiver.received[before:]
            assert len(verified(mine, post.hook["secret"])) == 1, point
            assert len({one.body for one in mine}) == 1
            assert await now.books.value(OUTBOX) == await now.books.value(ENDED)
            assert now.node.terminate() == 0
    async with restarted(post) as now:
        await now.books.judge()


@pytest.mark.timeout(400)  # the same
async def test_killed_at_any_place_of_a_settlement_nothing_is_told_that_is_not_so(
    post: Post,
) -> None:
    """Before the commit nobody hears of it; after it everybody does, once."""
    await post.register()
    assert post.node.terminate() == 0
    told = 0
    for moment in MOMENTS:
        assert await start(post, f"settle.{moment}:exit")
        async with connected(post.node.url, post.client.key) as client:
            with suppress(httpx.TransportError):  # it may be dead before it has answered
                await client.submit(inputs={"sleep_s": 0.2})
            await died(post)
        assert len(post.receiver.received) == told, moment

        async with restarted(post) as now:
            await until(partial(nothing_lives, now.books))
            told += 1
            received = await now.receiver.until(told)
            assert len(verified(received, post.hook["secret"])) == told
            assert await now.books.value(OUTBOX) == await now.books.value(ENDED) == told
            await now.books.judge()
            assert now.node.terminate() == 0
    assert len(post.receiver.received) == told


async def test_a_node_that_is_told_to_stop_empties_its_outbox_first(post: Post) -> None:
    await post.register()
    runs = [(await post.client.submitted(inputs={"sleep_s": 2}))["run_id"] for _ in range(10)]
    await until(partial(at_work, post, len(runs)))

    assert await trio.to_thread.run_sync(post.node.terminate) == 0

    assert {one.event["data"]["run_id"] for one in post.receiver.received} == {*runs}
    assert len(post.receiver.received) == len(runs)


async def test_a_node_that_is_told_to_stop_waits_for_no_slow_receiver(post: Post) -> None:
    post.receiver.usually = acts.hang
    await post.register()
    await post.run()
    await post.receiver.until(1)
    began_at = trio.current_time()

    assert await trio.to_thread.run_sync(post.node.terminate) == 0

    assert trio.current_time() - began_at < 8  # two seconds, and what a busy machine adds
    post.receiver.usually = acts.OK
    async with restarted(post) as now:
        await now.hurry()
        first, second = await now.receiver.until(2)
        assert first.id == second.id
        await now.logged("delivered")


@asynccontextmanager
async def _again(post: Post) -> AsyncIterator[Post]:
    """Go on with the node, started if it is not."""
    if post.node.running:
        yield post
    else:
        async with restarted(post) as now:
            yield now


async def at_work(post: Post, count: int) -> bool:
    """Say whether so many runs are at work, or have been."""
    working = "select count(*) from dpp.live_runs where lease_id is not null"
    return bool(await post.books.value(working) + await post.books.value(ENDED) == count)


async def all_delivered(post: Post) -> bool:
    """Say whether nothing waits."""
    return {one["status"] for one in await post.log()} == {"delivered"}
