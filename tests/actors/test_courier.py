"""The courier on a virtual clock: what is claimed, sent, marked and tried again, and when."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

import pytest
import trio
from attrs import define, field
from standardwebhooks import Webhook as Signer
from trio.testing import MockClock

from dpp import failpoints, metrics
from dpp.actors import courier as module
from dpp.actors.courier import (
    HOLD_S,
    IDLE_S,
    IN_FLIGHT_MAX,
    PER_ENDPOINT,
    PER_TENANT,
    Courier,
)
from dpp.actors.supervisor import supervise
from dpp.faults import StoreUnavailable
from dpp.outgoing.sender import SEND_S, Answered, Outcome, Unanswered
from dpp.webhooks import (
    ATTEMPTS_MAX,
    BREAKER_FAILURES,
    BREAKER_S,
    ENDPOINTS_MAX,
    JITTER,
    RETRY_S,
    RUN_EVENTS,
    SLOW_S,
    Delivery,
    NewWebhook,
    Webhook,
    WebhookChange,
)
from tests.actors.world import PLANS, World, asked
from tests.fake_faults import Fault
from tests.fake_store import FakeStore, trio_now
from tests.fake_webhooks import DeliveryRow
from tests.store.examples import run_id

URL = "https://hooks.example.com/"
SECRET = b"s" * 32
HOUR_S = 3_600
LONG_S = 5 * HOLD_S  # longer than anything that could still come
SOON_S = 2 * IDLE_S  # a poll, and what it starts


@define(eq=False)
class Sent:
    """One attempt as the receiver saw it."""

    at: float
    url: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["webhook-id"]


@define(eq=False)
class Scene:
    """A store, a courier on it, and the world that it sends to."""

    store: FakeStore
    courier: Courier = field(init=False)
    sent: list[Sent] = field(factory=list)
    answers: dict[str, list[Outcome]] = field(factory=dict)  # by URL; else 204
    takes_s: float = 0.05
    slow: dict[str, float] = field(factory=dict)  # by URL; else takes_s
    on_their_way: dict[str, int] = field(factory=dict)
    most: dict[str, int] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        self.courier = Courier(store=self.store, post=self.post)

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Take it, as slowly as a receiver does, and answer what is next for this URL."""
        self.sent.append(Sent(trio.current_time(), url, headers, body))
        self.on_their_way[url] = self.on_their_way.get(url, 0) + 1
        self.most[url] = max(self.most.get(url, 0), self.on_their_way[url])
        try:
            await trio.sleep(self.slow.get(url, self.takes_s))
        finally:
            self.on_their_way[url] -= 1
        answers = self.answers.get(url, [])
        return (answers.pop(0) if len(answers) > 1 else answers[0]) if answers else Answered(204)

    async def endpoint(self, url: str = URL, tenant_id: str = "acme") -> Webhook:
        new = NewWebhook(
            webhook_id=run_id(),
            tenant_id=tenant_id,
            url=url,
            events=RUN_EVENTS,
            secret=SECRET,
        )
        made = await self.store.create_webhook(new)
        assert isinstance(made, Webhook)
        return made

    async def events(self, count: int = 1, tenant_id: str = "acme") -> None:
        """Have runs end."""
        batch = [asked(tenant_id) for _ in range(count)]
        await self.store.submit_runs(batch, wait=True)
        for one in batch:
            await self.store.cancel_run(tenant_id, one.run_id)

    async def tenant(self, name: str, endpoints: int) -> list[str]:
        """Make a tenant with so many endpoints; returns their URLs."""
        if name != "acme":
            await World(self.store).tenant(name)
        urls = [f"https://{n}.{name}.example.com/" for n in range(endpoints)]
        for url in urls:
            await self.endpoint(url, name)
        return urls

    def rows(self) -> list[DeliveryRow]:
        return [*self.store.rows.mail.deliveries.values()]

    def statuses(self) -> list[str]:
        return [row.status for row in self.rows()]

    async def at_rest(self) -> None:
        """Wait until nothing is pending."""
        while "pending" in self.statuses():  # noqa: ASYNC110
            await trio.sleep(0.1)


@asynccontextmanager
async def scene() -> AsyncIterator[Scene]:
    store = FakeStore(PLANS)
    await World(store).tenant()
    yield Scene(store)


@asynccontextmanager
async def delivering() -> AsyncIterator[Scene]:
    """Run the courier meanwhile, supervised as in a node."""
    async with scene() as one, trio.open_nursery() as nursery:
        nursery.start_soon(supervise, "courier", one.courier.run)
        yield one
        nursery.cancel_scope.cancel()


def counted(outcome: str) -> float:
    series = metrics.webhook_deliveries_total.labels(outcome)
    return float(series._value.get())


async def test_an_event_is_sent_soon_and_once(autojump_clock: MockClock) -> None:
    async with delivering() as one:
        hook = await one.endpoint()
        before = counted("delivered")

        await one.events()
        await trio.sleep(SOON_S)
        await trio.sleep(LONG_S)

        (sent,) = one.sent
        (row,) = one.rows()
        assert (sent.url, sent.id) == (hook.url, str(row.delivery_id))
        assert (row.status, row.response_status, row.attempts) == ("delivered", 204, 1)
        assert counted("delivered") - before == 1


async def test_a_ring_sends_at_once(autojump_clock: MockClock) -> None:
    async with delivering() as one:
        await one.endpoint()
        await trio.sleep(10)  # it sleeps
        await one.events()
        rung_at = trio.current_time()

        one.courier.ring()
        await trio.sleep(0.2)

        assert [sent.at - rung_at < 0.2 for sent in one.sent] == [True]


async def test_a_lost_ring_costs_no_more_than_a_poll(autojump_clock: MockClock) -> None:
    async with delivering() as one:
        await one.endpoint()
        await trio.sleep(10)
        await one.events()
        ended_at = trio.current_time()

        await trio.sleep(SOON_S)

        assert [sent.at - ended_at <= IDLE_S + module.GAP_S for sent in one.sent] == [True]


async def test_it_is_tried_for_three_days_by_the_schedule_and_then_kept(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        await one.endpoint()
        one.answers[URL] = [Answered(503)]
        await one.events()
        (row,) = one.rows()

        pauses = []
        while row.status == "pending":
            sent = len(one.sent)
            while len(one.sent) == sent or one.courier.busy:  # noqa: ASYNC110
                await trio.sleep(0.1)
            if row.next_at is not None:
                pauses.append((row.next_at - one.store.now()).total_seconds())
                row.next_at = one.store.now()  # the pause is over

        assert len(one.sent) == ATTEMPTS_MAX
        for pause, usual in zip(pauses, RETRY_S, strict=True):
            assert usual * (1 - JITTER) - 1 <= pause <= usual * (1 + JITTER)
        assert (row.response_status, row.error) == (503, "HTTP 503")
        assert len({(sent.id, sent.body) for sent in one.sent}) == 1
        await trio.sleep(LONG_S)
        assert len(one.sent) == ATTEMPTS_MAX


async def test_each_attempt_is_signed_at_its_own_time(autojump_clock: MockClock) -> None:
    async with delivering() as one:
        await one.endpoint()
        one.answers[URL] = [Answered(500), Answered(200)]
        await one.events()

        await one.at_rest()

        stamps = [int(sent.headers["webhook-timestamp"]) for sent in one.sent]
        starts = [int((trio_epoch() + timedelta(seconds=s.at)).timestamp()) for s in one.sent]
        assert stamps == pytest.approx(starts, abs=1)
        assert stamps[1] - stamps[0] >= 4
        assert len({sent.headers["webhook-signature"] for sent in one.sent}) == 2


def signature(sent: Sent) -> str:
    """Return what signs it for a receiver that knows the secret, at the time that it says."""
    at = datetime.fromtimestamp(int(sent.headers["webhook-timestamp"]), UTC)
    assert abs((trio_epoch() + timedelta(seconds=sent.at) - at).total_seconds()) <= 1
    return Signer(SECRET).sign(sent.id, at, sent.body.decode())


def trio_epoch() -> datetime:
    """Return the fake store's time when trio's clock was 0."""
    return trio_now() - timedelta(seconds=trio.current_time())


async def test_410_disables_the_endpoint_and_nothing_more_is_sent(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        hook = await one.endpoint()
        one.answers[URL] = [Answered(410)]
        await one.events()
        await one.at_rest()
        await one.events()
        await trio.sleep(LONG_S)

        assert len(one.sent) == 1
        found = await one.store.get_webhook("acme", hook.webhook_id)
        assert found is not None
        assert found.disabled_reason == "the receiver answered 410"
        # Enabled again and replayed, it is the same event.
        await one.store.change_webhook("acme", hook.webhook_id, WebhookChange(enabled=True))
        one.answers[URL] = [Answered(200)]
        delivery_id = UUID(one.sent[0].id)
        replayed = await one.store.replay_delivery("acme", hook.webhook_id, delivery_id)
        assert isinstance(replayed, Delivery)
        await one.at_rest()
        assert [(s.id, s.body) for s in one.sent] == [(one.sent[0].id, one.sent[0].body)] * 2


async def test_an_endpoint_that_is_down_is_left_alone_and_no_attempt_is_lost_by_that(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        await one.endpoint()
        one.answers[URL] = [Unanswered("no connection")]
        await one.events(100)
        await trio.sleep(BREAKER_S / 2)

        tried = len(one.sent)
        assert BREAKER_FAILURES <= tried < PER_ENDPOINT + BREAKER_FAILURES  # those on their way
        assert sum(row.attempts for row in one.rows()) == tried
        await trio.sleep(BREAKER_S)
        assert len(one.sent) == tried + 1  # half open: one tries
        one.answers[URL] = [Answered(200)]
        await trio.sleep(BREAKER_S + 10)
        assert one.statuses().count("delivered") >= 100 - tried - 1
        assert max(row.attempts for row in one.rows()) <= 2


async def test_a_receiver_that_was_down_for_an_hour_gets_each_event_once_it_is_back(
    autojump_clock: MockClock,
) -> None:
    """Its breaker lets one at a time find out; the others lose no attempt, and none is lost."""
    async with delivering() as one:
        await one.endpoint()
        one.answers[URL] = [Unanswered("no connection")]
        await one.events(40)
        await trio.sleep(HOUR_S / 2)
        await one.events(40)  # of runs that end meanwhile
        await trio.sleep(HOUR_S / 2)
        refused = len(one.sent)
        assert one.statuses() == ["pending"] * 80
        one.answers[URL] = [Answered(204)]
        back_at = trio.current_time()

        await one.at_rest()

        assert one.statuses() == ["delivered"] * 80
        taken = [sent.id for sent in one.sent[refused:]]
        assert sorted(taken) == sorted(str(row.delivery_id) for row in one.rows())  # each, once
        assert len({(sent.id, sent.body) for sent in one.sent}) == 80
        for sent in one.sent:
            assert sent.headers["webhook-signature"] == signature(sent)
        # The longest pause that a failure within the hour can have begun, and a breaker's.
        longest = max(RETRY_S[row.attempts - 2] for row in one.rows() if row.attempts > 1)
        assert max(sent.at for sent in one.sent) <= back_at + longest * (1 + JITTER) + BREAKER_S
        never_tried = [row for row in one.rows() if row.attempts == 1]
        assert never_tried


async def test_one_that_is_down_keeps_nobody_waiting(autojump_clock: MockClock) -> None:
    async with delivering() as one:
        await one.endpoint("https://down.example.com/")
        await one.endpoint("https://up.example.com/")
        one.answers["https://down.example.com/"] = [Unanswered("timeout")]
        one.takes_s = 0.5

        await one.events(60)
        await trio.sleep(10)

        up = [s for s in one.sent if s.url == "https://up.example.com/"]
        assert len(up) == 60


async def test_a_receiver_meets_only_so_many_at_once_and_so_does_the_node(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        names = [f"tenant-{n}" for n in range(IN_FLIGHT_MAX // PER_TENANT)]
        for name in names:
            await one.tenant(name, 6)  # with one more than has room
        one.takes_s = 4.0

        for name in names:
            await one.events(30, name)
        most = 0
        while "pending" in one.statuses():
            await trio.sleep(0.5)
            most = max(most, sum(one.on_their_way.values()))

        assert set(one.most.values()) == {PER_ENDPOINT}
        assert most == IN_FLIGHT_MAX
        assert len(one.sent) == len(names) * 6 * 30


async def test_a_tenant_whose_endpoints_all_hang_leaves_places_to_the_others(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        hanging = await one.tenant("acme", ENDPOINTS_MAX)
        (healthy,) = await one.tenant("other", 1)
        for url in hanging:
            one.slow[url], one.answers[url] = SEND_S, [Unanswered("timeout")]

        await one.events(30)
        await trio.sleep(SOON_S)
        assert sum(one.on_their_way.values()) == PER_TENANT
        await one.events(30, "other")
        await trio.sleep(SOON_S)

        assert sum(one.on_their_way.get(url, 0) for url in hanging) == PER_TENANT
        assert len([sent for sent in one.sent if sent.url == healthy]) == 30


async def test_of_a_tenant_at_its_bound_every_endpoint_has_its_turn(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        urls = await one.tenant("acme", ENDPOINTS_MAX)
        one.takes_s = 1.0

        await one.events(30)
        while len(one.sent) < ENDPOINTS_MAX * PER_ENDPOINT:  # noqa: ASYNC110
            await trio.sleep(0.1)

        assert {sent.url for sent in one.sent} == set(urls)


async def test_one_that_is_slow_and_works_has_its_events_one_by_one_and_each_at_once(
    autojump_clock: MockClock,
) -> None:
    """It loses no attempt and waits for no breaker; when it is quick again it has as many again."""
    async with delivering() as one:
        await one.endpoint()
        one.slow[URL] = SLOW_S + 1
        await one.events(PER_ENDPOINT)
        await trio.sleep(SOON_S)
        assert one.on_their_way == {URL: PER_ENDPOINT}  # nobody knows it yet
        await one.at_rest()
        one.most.clear()

        await one.events(8)
        began_at = trio.current_time()
        await one.at_rest()

        assert one.most == {URL: 1}
        assert trio.current_time() - began_at <= 8 * (one.slow[URL] + IDLE_S)
        assert [(row.status, row.attempts) for row in one.rows()] == [("delivered", 1)] * (
            PER_ENDPOINT + 8
        )
        one.slow.clear()
        await one.events(PER_ENDPOINT + 1)
        await one.at_rest()
        assert one.most == {URL: PER_ENDPOINT}


async def test_more_endpoints_than_places_all_have_their_turn(
    autojump_clock: MockClock,
) -> None:
    """Twice as many slow ones as there are places: whoever had a turn lets the next ones go."""
    async with delivering() as one:
        count = 2 * IN_FLIGHT_MAX // PER_ENDPOINT
        names = [f"tenant-{n}" for n in range(2 * IN_FLIGHT_MAX // PER_TENANT)]
        for name in names:
            await one.tenant(name, count // len(names))
        one.takes_s = SEND_S
        for name in names:
            await one.events(20, name)

        await trio.sleep(2.5 * SEND_S)

        assert len({sent.url for sent in one.sent}) == count


async def test_what_was_sent_is_marked_after_an_outage_and_not_sent_again(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        await one.endpoint()
        one.takes_s = 3.0
        await one.events()
        await trio.sleep(SOON_S)
        assert len(one.sent) == 1

        with one.store.faults.outage():
            await trio.sleep(15)
        await one.at_rest()

        assert one.statuses() == ["delivered"]
        assert len(one.sent) == 1


async def test_a_claim_that_took_effect_unheard_comes_again(autojump_clock: MockClock) -> None:
    async with scene() as one:
        await one.endpoint()
        await one.events()
        lost = Fault(StoreUnavailable("no answer"), after=True)
        one.store.faults.fail("claim_deliveries", lost)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(one.courier.run)
            await one.at_rest()
            nursery.cancel_scope.cancel()

        (row,) = one.rows()
        assert (row.status, row.attempts) == ("delivered", 2)
        assert [sent.at >= HOLD_S for sent in one.sent] == [True]


async def test_a_mark_that_took_effect_unheard_is_asked_again_and_changes_nothing(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        await one.endpoint()
        await one.events()
        one.store.faults.fail("mark_deliveries", Fault(StoreUnavailable("no answer"), after=True))

        await one.at_rest()
        await trio.sleep(2 * HOLD_S)

        assert one.store.faults.calls.count("mark_deliveries") == 2
        assert len(one.sent) == 1


async def test_what_the_store_refuses_to_mark_harms_only_itself(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with delivering() as one:
        restarts = metrics.actor_restarts_total.labels("courier")._value.get()
        await one.endpoint()
        poisoned: list[UUID] = []
        mark = one.store.mark_deliveries

        async def refuse(marks: list[object]) -> list[UUID]:
            if not poisoned:
                poisoned.append(marks[0].delivery_id)  # type: ignore[attr-defined]
            if any(each.delivery_id in poisoned for each in marks):  # type: ignore[attr-defined]
                raise RuntimeError("a constraint says no")
            return await mark(marks)

        monkeypatch.setattr(one.store, "mark_deliveries", refuse)
        await one.events(8)
        await trio.sleep(SOON_S)

        assert sorted(one.statuses()) == ["delivered"] * 7 + ["pending"]
        assert metrics.actor_restarts_total.labels("courier")._value.get() == restarts


async def test_a_bug_in_one_delivery_is_its_own_affair(autojump_clock: MockClock) -> None:
    async with scene() as one, trio.open_nursery() as nursery:
        restarts = metrics.actor_restarts_total.labels("courier")._value.get()
        await one.endpoint()
        await one.events(3)
        broken = one.rows()[0]
        broken.event = "budget.low"  # without what it should say

        nursery.start_soon(supervise, "courier", one.courier.run)
        await trio.sleep(SOON_S)
        nursery.cancel_scope.cancel()

        assert sorted(one.statuses()) == ["delivered", "delivered", "pending"]
        assert broken.error == "internal"
        assert metrics.actor_restarts_total.labels("courier")._value.get() == restarts


async def test_a_crash_forgets_what_was_on_its_way_and_it_comes_again(
    autojump_clock: MockClock,
) -> None:
    async with delivering() as one:
        await one.endpoint()
        one.takes_s = 5.0
        await one.events()
        await trio.sleep(SOON_S)
        one.store.faults.fail("claim_deliveries", Fault(RuntimeError("a bug")))

        await one.at_rest()

        assert len(one.sent) == 2
        assert len({sent.id for sent in one.sent}) == 1
        assert one.sent[1].at - one.sent[0].at >= HOLD_S


async def test_at_the_drain_what_is_due_is_sent_and_then_it_is_over(
    autojump_clock: MockClock,
) -> None:
    async with scene() as one:
        await one.endpoint()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, "courier", one.courier.run)
            await trio.sleep(10)
            await one.events(25)  # by the last runs, just now
            began_at = trio.current_time()

            await one.courier.finish()

            assert trio.current_time() - began_at < module.DRAIN_S
            assert one.statuses() == ["delivered"] * 25
            await one.events()
            await trio.sleep(LONG_S)
        assert len(one.sent) == 25  # it ended: the nursery is empty


async def test_a_drain_waits_for_no_slow_receiver(autojump_clock: MockClock) -> None:
    async with scene() as one:
        await one.endpoint()
        one.takes_s = SEND_S
        await one.events()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(supervise, "courier", one.courier.run)
            await trio.sleep(1)
            with trio.move_on_after(module.DRAIN_S) as drain:
                await one.courier.finish()
            nursery.cancel_scope.cancel()

        assert drain.cancelled_caught
        assert one.statuses() == ["pending"]


async def test_the_age_of_what_is_due_is_shown(autojump_clock: MockClock) -> None:
    async with delivering() as one:
        await one.endpoint()
        one.answers[URL] = [Answered(500)]
        await one.events(20)

        await trio.sleep(BREAKER_S - 5)

        shown = metrics.webhook_pending_age_seconds._value.get()
        assert BREAKER_S / 2 < shown < BREAKER_S


@pytest.mark.parametrize("point", ["courier.before_post", "courier.after_post"])
async def test_a_fault_around_a_send_is_an_attempt(autojump_clock: MockClock, point: str) -> None:
    async with delivering() as one:
        await one.endpoint()
        failpoints.arm([f"{point}:raise"])
        try:
            await one.events()
            await one.at_rest()
        finally:
            failpoints.arm([])

        (row,) = one.rows()
        assert (row.status, row.attempts) == ("delivered", 2)
