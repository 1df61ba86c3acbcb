"""The contract of webhooks: endpoints, and the outbox from a commit to the last attempt."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import msgspec
import pytest
from attrs import evolve

from dpp.admission import Created
from dpp.leases import Lapse
from dpp.money import Micros
from dpp.pricing import InputsInvalid
from dpp.runs import ErrorCode, Failure
from dpp.settlement import Completed, FailedByItself, LeaseLost
from dpp.webhooks import (
    ATTEMPTS_MAX,
    BUDGET_LOW,
    ENDPOINTS_MAX,
    EVENTS,
    PREVIOUS_S,
    RUN_EVENTS,
    Attempted,
    Delivery,
    Due,
    NewWebhook,
    TooManyWebhooks,
    Webhook,
    WebhookChange,
    WebhookDisabled,
    WebhookUnknown,
    judge,
    payload,
)
from tests.store.contract import seen
from tests.store.examples import DOLLAR, run_id, submission
from tests.store.steps import (
    begin,
    claim,
    create,
    end_one,
    make_tenant,
    settle,
    submit,
    take_lease,
)

if TYPE_CHECKING:
    from collections.abc import Mapping

    from dpp.ports import Store
    from tests.store.worlds import World

URL = "https://hooks.example.com/dpp"
SECRET, OTHER, THIRD = b"s" * 32, b"o" * 32, b"t" * 32
HOLD_S = 30.0


async def endpoint(
    store: Store,
    tenant_id: str = "acme",
    *,
    events: tuple[str, ...] = RUN_EVENTS,
    secret: bytes = SECRET,
) -> Webhook:
    """Register an endpoint; ids rise from call to call."""
    made = await store.create_webhook(
        NewWebhook(webhook_id=run_id(), tenant_id=tenant_id, url=URL, events=events, secret=secret)
    )
    assert isinstance(made, Webhook)
    return made


async def claimed(
    store: Store,
    *,
    rooms: Mapping[UUID, int] | None = None,
    per_endpoint: int = 10,
    tenant_rooms: Mapping[str, int] | None = None,
    per_tenant: int = 50,
    after: UUID | None = None,
    limit: int = 100,
) -> list[Due]:
    return await store.claim_deliveries(
        rooms=rooms or {},
        per_endpoint=per_endpoint,
        tenant_rooms=tenant_rooms or {},
        per_tenant=per_tenant,
        after=after,
        limit=limit,
        hold_s=HOLD_S,
    )


async def log_of(store: Store, webhook: Webhook) -> list[Delivery]:
    found = await store.list_deliveries(
        webhook.tenant_id, webhook.webhook_id, before=None, limit=100
    )
    assert found is not None
    return found


async def one_of(store: Store, webhook: Webhook) -> Delivery:
    (delivery,) = await log_of(store, webhook)
    return delivery


def answered(due: Due, status: int) -> Attempted:
    return judge(due, status, None, 0.5)


class WebhookContract:
    async def test_an_endpoint_is_shown_as_it_was_made_and_to_its_tenant_alone(
        self, world: World
    ) -> None:
        store = world.store
        for name in ("acme", "other"):
            await make_tenant(store, name)

        made = await endpoint(store, events=("run.failed",))

        assert made == Webhook(
            webhook_id=made.webhook_id,
            tenant_id="acme",
            url=URL,
            events=("run.failed",),
            created_at=world.now,
        )
        assert await store.get_webhook("acme", made.webhook_id) == made
        for tenant_id, webhook_id in (("other", made.webhook_id), ("acme", uuid4())):
            assert await store.get_webhook(tenant_id, webhook_id) is None
            assert await store.rotate_webhook(tenant_id, webhook_id, OTHER) is None
            assert await store.change_webhook(tenant_id, webhook_id, WebhookChange()) is None
            assert await store.delete_webhook(tenant_id, webhook_id) is False
            log = await store.list_deliveries(tenant_id, webhook_id, before=None, limit=1)
            assert log is None
            replayed = await store.replay_delivery(tenant_id, webhook_id, uuid4())
            assert replayed == WebhookUnknown()
        assert await store.get_webhook("acme", made.webhook_id) == made

    async def test_asked_again_under_its_id_it_is_one_endpoint(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        new = NewWebhook(
            webhook_id=run_id(), tenant_id="acme", url=URL, events=EVENTS, secret=SECRET
        )

        first, again = await store.create_webhook(new), await store.create_webhook(new)

        assert first == again
        assert await store.list_webhooks("acme", before=None, limit=10) == [first]

    async def test_a_tenant_has_so_many_endpoints_and_a_deleted_one_makes_room(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        made = [await endpoint(store) for _ in range(ENDPOINTS_MAX)]
        more = NewWebhook(
            webhook_id=run_id(), tenant_id="acme", url=URL, events=EVENTS, secret=SECRET
        )

        assert await store.create_webhook(more) == TooManyWebhooks()
        assert await store.delete_webhook("acme", made[0].webhook_id) is True
        assert isinstance(await store.create_webhook(more), Webhook)
        assert await store.get_webhook("acme", made[0].webhook_id) is None

    async def test_endpoints_are_listed_newest_first_in_pages(self, world: World) -> None:
        store = world.store
        for name in ("acme", "other"):
            await make_tenant(store, name)
        await endpoint(store, "other")
        made = [await endpoint(store) for _ in range(3)]

        first = await store.list_webhooks("acme", before=None, limit=2)
        rest = await store.list_webhooks("acme", before=first[-1].webhook_id, limit=2)

        assert first + rest == made[::-1]

    async def test_what_is_changed_is_what_was_given(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        made = await endpoint(store)

        async def change(**values: Any) -> Webhook:
            changed = await store.change_webhook("acme", made.webhook_id, WebhookChange(**values))
            assert changed is not None
            return changed

        assert await change() == made
        assert (await change(url=f"{URL}/2")).url == f"{URL}/2"
        assert (await change(events=("budget.low",))).events == ("budget.low",)
        off = await change(enabled=False)
        assert (off.status, off.disabled_reason) == ("disabled", "disabled by the tenant")
        assert (await change(enabled=False)) == off
        on = await change(enabled=True)
        assert (on.status, on.url, on.events) == ("enabled", f"{URL}/2", ("budget.low",))

    async def test_an_ending_is_told_to_each_endpoint_that_asked_for_it(self, world: World) -> None:
        store = world.store
        for name in ("acme", "other"):
            await make_tenant(store, name)
        every = await endpoint(store, events=EVENTS)
        failures = await endpoint(store, events=("run.failed", "run.canceled"))
        off = await endpoint(store)
        await store.change_webhook("acme", off.webhook_id, WebhookChange(enabled=False))
        others = await endpoint(store, "other")

        done = await settle(store, cost=DOLLAR // 10)
        attempt = await begin(store, await take_lease(store, "node-2"))
        refused = Failure(ErrorCode.PACK_REFUSED, "no such option")
        await end_one(store, attempt, FailedByItself(refused, Micros(0)))
        queued = await create(store)
        await store.cancel_run("acme", queued.run_id)

        told = {(one.event, one.run_id) for one in await log_of(store, every)}
        assert told == {
            ("run.completed", done),
            ("run.failed", attempt.fence.run_id),
            ("run.canceled", queued.run_id),
        }
        told = {(one.event, one.run_id) for one in await log_of(store, failures)}
        assert told == {
            ("run.failed", attempt.fence.run_id),
            ("run.canceled", queued.run_id),
        }
        assert await log_of(store, off) == []
        assert await log_of(store, others) == []
        (first, *_) = await log_of(store, failures)
        assert (first.status, first.attempts, first.next_at) == ("pending", 0, world.now)

    async def test_a_run_that_did_not_end_is_not_told(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await begin(store, await take_lease(store))
        await create(store)

        assert await log_of(store, hook) == []
        assert await claimed(store) == []

    async def test_an_ending_that_came_too_late_is_not_told(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store, events=EVENTS)
        attempt = await begin(store, await take_lease(store))
        await store.take_back([seen(attempt)], Lapse.LOST)

        assert await end_one(store, attempt) == LeaseLost()

        assert await log_of(store, hook) == []

    async def test_a_claim_brings_all_that_is_sent_and_hides_it_for_a_while(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        done = await settle(store, cost=DOLLAR // 10, max_cost=DOLLAR)

        (due,) = await claimed(store)

        assert (due.webhook_id, due.event, due.run_id) == (hook.webhook_id, "run.completed", done)
        assert (due.attempts, due.url, due.secrets) == (1, URL, (SECRET,))
        assert (due.created_at, due.now) == (world.now, world.now)
        event = msgspec.json.decode(payload(due))
        assert event["type"] == "run.completed"
        assert event["data"]["run_id"] == str(done)
        assert event["data"]["status"] == "COMPLETED"
        assert event["data"]["cost"] == {
            "max_usd": "1.00",
            "actual_usd": "0.10",
            "returned_usd": "0.90",
            "currency": "USD",
        }
        assert await claimed(store) == []
        await world.advance(HOLD_S - 1)
        assert await claimed(store) == []
        await world.advance(2)
        (again,) = await claimed(store)
        assert (again.delivery_id, again.attempts) == (due.delivery_id, 2)
        assert payload(again) == payload(due)

    async def test_a_delivery_is_over_once_it_arrived(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        (due,) = await claimed(store)

        assert await store.mark_deliveries([answered(due, 204)]) == []
        assert await store.mark_deliveries([answered(due, 204)]) == []  # asked again

        told = await one_of(store, hook)
        assert (told.status, told.response_status, told.next_at) == ("delivered", 204, None)
        await world.advance(10 * HOLD_S)
        assert await claimed(store) == []

    async def test_a_failure_is_tried_again_when_its_pause_is_over(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        (due,) = await claimed(store)
        failed = answered(due, 500)
        assert failed.retry_s == 5

        await store.mark_deliveries([failed])

        told = await one_of(store, hook)
        assert (told.status, told.response_status, told.error) == ("pending", 500, "HTTP 500")
        assert told.next_at == world.now + timedelta(seconds=5)
        await world.advance(4)
        assert await claimed(store) == []
        await world.advance(1)
        assert [one.attempts for one in await claimed(store)] == [2]

    async def test_after_the_last_attempt_it_is_failed_and_kept(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        began = world.now
        attempts = 0
        while found := await claimed(store):
            (due,) = found
            attempts += 1
            mark = judge(due, None, "timeout", 0.5)
            await store.mark_deliveries([mark])
            await world.advance((mark.retry_s or 0) + 1)

        told = await one_of(store, hook)
        assert (told.status, told.attempts, told.error) == ("failed", ATTEMPTS_MAX, "timeout")
        assert attempts == ATTEMPTS_MAX
        assert world.now - began > timedelta(days=3)

    async def test_a_delivery_whose_attempts_kill_every_node_ends(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        for n in range(ATTEMPTS_MAX):
            (due,) = await claimed(store)
            assert due.attempts == n + 1
            await world.advance(HOLD_S + 1)

        assert await claimed(store) == []
        told = await one_of(store, hook)
        assert (told.status, told.error) == ("failed", "no attempt was heard of again")

    async def test_a_late_failure_changes_nothing_and_a_late_arrival_counts(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        (first,) = await claimed(store)
        await world.advance(HOLD_S + 1)
        (second,) = await claimed(store)

        await store.mark_deliveries([answered(first, 500)])
        assert (await one_of(store, hook)).response_status is None
        await store.mark_deliveries([answered(first, 200)])
        assert (await one_of(store, hook)).status == "delivered"
        await store.mark_deliveries([answered(second, 500)])
        assert (await one_of(store, hook)).status == "delivered"

    async def test_410_disables_the_endpoint_and_what_waits_for_it_is_not_sent(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        for _ in range(2):
            await settle(store)
        first, _second = await claimed(store, per_endpoint=2)
        await world.advance(HOLD_S + 1)

        gone = await store.mark_deliveries([answered(first, 410)])

        assert gone == [hook.webhook_id]
        found = await store.get_webhook("acme", hook.webhook_id)
        assert found is not None
        assert (found.status, found.disabled_reason) == ("disabled", "the receiver answered 410")
        assert await claimed(store) == []
        told = {one.delivery_id: one for one in await log_of(store, hook)}
        assert {one.status for one in told.values()} == {"failed"}
        assert told[first.delivery_id].response_status == 410
        await settle(store)
        assert len(await log_of(store, hook)) == 2  # nothing is written for it any more

    async def test_410_of_an_address_that_it_has_no_more_disables_nothing(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        (due,) = await claimed(store)
        await store.change_webhook("acme", hook.webhook_id, WebhookChange(url=f"{URL}/new"))

        assert await store.mark_deliveries([answered(due, 410)]) == []
        found = await store.get_webhook("acme", hook.webhook_id)
        assert found is not None
        assert found.status == "enabled"

    @pytest.mark.parametrize("how", ["disabled", "deleted"])
    async def test_what_waits_for_an_endpoint_that_is_off_is_failed_unsent(
        self, world: World, how: str
    ) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        if how == "deleted":
            await store.delete_webhook("acme", hook.webhook_id)
        else:
            await store.change_webhook("acme", hook.webhook_id, WebhookChange(enabled=False))

        assert await claimed(store) == []
        assert await store.due_delivery_age() == 0
        if how == "disabled":
            told = await one_of(store, hook)
            assert (told.status, told.attempts) == ("failed", 0)
            assert told.error == "the endpoint is disabled"

    async def test_what_waits_for_endpoints_that_are_off_takes_no_turn_of_others(
        self, world: World
    ) -> None:
        store = world.store
        for name in ("acme", "other"):
            await make_tenant(store, name)
        off = [await endpoint(store) for _ in range(3)]
        on = await endpoint(store, "other")
        for _ in range(2):
            await settle(store)
        await settle(store, "other")
        for hook in off:
            await store.delete_webhook("acme", hook.webhook_id)

        (due,) = await claimed(store, per_endpoint=2, limit=4)

        assert due.webhook_id == on.webhook_id

    async def test_a_word_that_it_arrived_counts_after_the_last_attempt_was_given_up(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        for _ in range(ATTEMPTS_MAX):
            (due,) = await claimed(store)
            await world.advance(HOLD_S + 1)
        assert await claimed(store) == []
        assert (await one_of(store, hook)).status == "failed"

        await store.mark_deliveries([answered(due, 200)])
        assert (await one_of(store, hook)).status == "delivered"
        await store.mark_deliveries([answered(due, 500)])
        assert (await one_of(store, hook)).status == "delivered"

    async def test_a_delete_that_is_asked_again_is_answered_the_same(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)

        for _ in range(2):
            assert await store.delete_webhook("acme", hook.webhook_id) is True
            assert await store.list_webhooks("acme", before=None, limit=10) == []

    async def test_a_rotation_that_is_asked_again_undoes_no_later_one(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)

        for secret in (OTHER, THIRD, OTHER):
            await store.rotate_webhook("acme", hook.webhook_id, secret)

        (due,) = await claimed(store)
        assert due.secrets == (THIRD, OTHER)

    @pytest.mark.parametrize("first", ["runs", "money"])
    async def test_every_endpoint_of_the_origin_gives_way_to_the_runs_own_url(
        self, world: World, first: str
    ) -> None:
        store = world.store
        await make_tenant(store)
        kinds = {"runs": RUN_EVENTS, "money": ("budget.low",)}
        made = {kind: await endpoint(store, events=kinds[kind]) for kind in sorted(kinds)}
        if first == "runs":
            await store.delete_webhook("acme", made["runs"].webhook_id)
            made["runs"] = await endpoint(store)
        one = evolve(submission(), webhook_url="https://hooks.example.com/order/4711")
        (answer,) = await submit(store, one)
        assert isinstance(answer, Created)

        await end_one(store, *await claim(store, await take_lease(store)))

        (due,) = await claimed(store)
        assert (due.webhook_id, due.url) == (made["runs"].webhook_id, one.webhook_url)
        assert due.is_detour

    @pytest.mark.parametrize("how", ["disabled", "another origin", "the budget's alone"])
    async def test_a_runs_own_url_needs_an_endpoint_that_is_on_and_hears_of_runs(
        self, world: World, how: str
    ) -> None:
        store = world.store
        await make_tenant(store)
        events = ("budget.low",) if how == "the budget's alone" else RUN_EVENTS
        hook = await endpoint(store, events=events)
        if how == "disabled":
            await store.change_webhook("acme", hook.webhook_id, WebhookChange(enabled=False))
        if how == "another origin":
            change = WebhookChange(url="https://moved.example.com/dpp")
            await store.change_webhook("acme", hook.webhook_id, change)

        (answer,) = await submit(
            store, evolve(submission(), webhook_url="https://hooks.example.com/order/4711")
        )

        assert isinstance(answer, InputsInvalid)

    async def test_where_the_endpoint_moved_the_runs_own_url_is_left(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        one = evolve(submission(), webhook_url="https://hooks.example.com/order/4711")
        await submit(store, one)
        moved = "https://moved.example.com/dpp"
        await store.change_webhook("acme", hook.webhook_id, WebhookChange(url=moved))

        await end_one(store, *await claim(store, await take_lease(store)))

        (due,) = await claimed(store)
        assert (due.url, due.is_detour) == (moved, False)

    async def test_a_replay_begins_anew_under_the_same_id(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)
        (due,) = await claimed(store)
        await store.mark_deliveries([answered(due, 410)])
        names = ("acme", hook.webhook_id, due.delivery_id)

        assert await store.replay_delivery(*names) == WebhookDisabled()
        await store.change_webhook("acme", hook.webhook_id, WebhookChange(enabled=True))
        replayed = await store.replay_delivery(*names)

        assert isinstance(replayed, Delivery)
        assert replayed == await one_of(store, hook)
        assert (replayed.status, replayed.attempts, replayed.next_at) == ("pending", 0, world.now)
        (again,) = await claimed(store)
        assert (again.delivery_id, again.attempts) == (due.delivery_id, 1)
        assert payload(again) == payload(due)
        unknown = await store.replay_delivery("acme", hook.webhook_id, uuid4())
        assert unknown == WebhookUnknown()

    async def test_no_delivery_is_replayed_by_way_of_another_endpoint(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook, beside = await endpoint(store), await endpoint(store, events=("run.expired",))
        await settle(store)
        due = await one_of(store, hook)

        answer = await store.replay_delivery("acme", beside.webhook_id, due.delivery_id)

        assert answer == WebhookUnknown()

    async def test_after_a_rotation_both_secrets_sign_for_a_day(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        await settle(store)

        rotated = await store.rotate_webhook("acme", hook.webhook_id, OTHER)
        again = await store.rotate_webhook("acme", hook.webhook_id, OTHER)

        assert rotated is not None
        assert rotated.previous_until == world.now + timedelta(seconds=PREVIOUS_S)
        assert again == rotated
        (due,) = await claimed(store)
        assert due.secrets == (OTHER, SECRET)
        await world.advance(PREVIOUS_S)
        (due,) = await claimed(store)
        assert due.secrets == (OTHER,)
        found = await store.get_webhook("acme", hook.webhook_id)
        assert found is not None
        assert found.previous_until is None

    async def test_each_endpoint_has_its_turn_whatever_waits_for_another(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        first = await endpoint(store)
        for _ in range(4):
            await settle(store)
        second = await endpoint(store)
        await settle(store)

        found = await claimed(store, per_endpoint=2)
        assert sorted(one.webhook_id for one in found) == [first.webhook_id] * 2 + [
            second.webhook_id
        ]
        held = {first.webhook_id: 0}
        assert await claimed(store, rooms=held) == []
        found = await claimed(store, rooms={first.webhook_id: 1})
        assert [one.webhook_id for one in found] == [first.webhook_id]
        assert len(await claimed(store)) == 2

    async def test_a_tenant_at_its_bound_gets_no_more_and_others_do(self, world: World) -> None:
        store = world.store
        hooks = {}
        for name in ("acme", "other"):
            await make_tenant(store, name)
            hooks[name] = [await endpoint(store, name) for _ in range(3)]
            for _ in range(2):
                await settle(store, name)

        found = await claimed(store, per_tenant=3)
        assert sorted(one.webhook_id for one in found) == [
            hook.webhook_id for name in hooks for hook in (hooks[name][0], *hooks[name][:2])
        ]
        assert await claimed(store, tenant_rooms={"acme": 0, "other": 0}) == []
        found = await claimed(store, tenant_rooms={"acme": 0}, per_tenant=1)
        assert [one.webhook_id for one in found] == [hooks["other"][1].webhook_id]
        found = await claimed(store, tenant_rooms={"acme": 2, "other": 9})
        assert Counter(one.tenant_id for one in found) == {"acme": 2, "other": 2}
        last = hooks["acme"][2].webhook_id
        assert [one.webhook_id for one in await claimed(store)] == [last]

    async def test_what_a_tenant_has_no_room_for_keeps_the_next_claim_from_nobody(
        self, world: World
    ) -> None:
        """It may take places of the claim that fills the tenant, and none of the one after it."""
        store = world.store
        await make_tenant(store)
        hooks = [await endpoint(store) for _ in range(2)]
        await settle(store)
        await make_tenant(store, "other")
        others = await endpoint(store, "other")
        await settle(store, "other")

        first = await claimed(store, per_tenant=1, limit=2)
        second = await claimed(store, tenant_rooms={"acme": 0}, limit=2)

        assert [one.webhook_id for one in first] == [hooks[0].webhook_id]
        assert [one.webhook_id for one in second] == [others.webhook_id]
        assert [one.webhook_id for one in await claimed(store)] == [hooks[1].webhook_id]

    async def test_a_claim_goes_on_behind_an_endpoint(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hooks = [await endpoint(store) for _ in range(3)]
        await settle(store)

        found = await claimed(store, after=hooks[0].webhook_id, limit=1)
        assert [one.webhook_id for one in found] == [hooks[1].webhook_id]
        assert await claimed(store, after=hooks[2].webhook_id) == []
        found = await claimed(store)
        assert {one.webhook_id for one in found} == {hooks[0].webhook_id, hooks[2].webhook_id}

    async def test_how_long_something_has_been_due(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await endpoint(store)
        assert await store.due_delivery_age() == 0
        await settle(store)

        await world.advance(7)

        assert await store.due_delivery_age() == 7
        await claimed(store)
        assert await store.due_delivery_age() == 0

    async def test_deliveries_are_listed_newest_first_in_pages(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        for n in range(5):
            await settle(store)
            await world.advance(n % 2)  # some are of one moment

        whole = await log_of(store, hook)
        paged: list[Delivery] = []
        before = None
        while True:
            page = await store.list_deliveries("acme", hook.webhook_id, before=before, limit=2)
            assert page is not None
            if not page:
                break
            paged += page
            before = (page[-1].created_at, page[-1].delivery_id)

        assert paged == whole
        assert len(whole) == 5
        keys = [(one.created_at, one.delivery_id) for one in whole]
        assert keys == sorted(keys, reverse=True)

    async def test_a_budget_that_runs_low_is_told_once_at_each_threshold(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store, deposit=10 * DOLLAR)
        hook = await endpoint(store, events=(BUDGET_LOW,))
        told = []
        for cost in (4, 1, 2, 1, 1):  # 40, 50, 70, 80, 90 percent
            await settle(store, cost=cost * DOLLAR, max_cost=cost * DOLLAR)
            for due in await claimed(store):
                told.append(msgspec.json.decode(payload(due)))
                await store.mark_deliveries([answered(due, 200)])

        assert [event["data"]["threshold_percent"] for event in told] == [50, 80]
        assert [event["type"] for event in told] == [BUDGET_LOW] * 2
        assert told[1]["data"]["budget"] == {
            "deposited_usd": "10.00",
            "available_usd": "2.00",
            "held_usd": "0.00",
            "spent_usd": "8.00",
            "currency": "USD",
        }
        assert len(await log_of(store, hook)) == 2

    async def test_a_run_may_send_its_own_events_elsewhere_below_the_same_origin(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store, events=EVENTS)
        lease = await take_lease(store)
        one = evolve(submission(), webhook_url="https://hooks.example.com/order/4711")
        (answer,) = await submit(store, one)
        assert isinstance(answer, Created)
        (attempt,) = await claim(store, lease)
        await end_one(store, attempt, Completed(b"{}", Micros(1)))

        (due,) = await claimed(store)

        assert (due.webhook_id, due.url) == (hook.webhook_id, one.webhook_url)
        assert due.is_detour
        assert await store.mark_deliveries([answered(due, 410)]) == []  # of that order, not of all
        assert (await one_of(store, hook)).status == "failed"

    async def test_an_event_is_told_once_an_ending_that_is_asked_again(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        hook = await endpoint(store)
        attempt = await begin(store, await take_lease(store))
        outcome = Completed(b"{}", Micros(1))
        await end_one(store, attempt, outcome)
        await end_one(store, attempt, outcome)  # another ending of the same attempt: lost

        assert len(await log_of(store, hook)) == 1
