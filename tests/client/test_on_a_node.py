"""The client on real nodes: every endpoint, in every shell, and what a kill leaves of a wait."""

from __future__ import annotations

import csv
import json
import threading
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import httpx
import jsonschema
import pytest

from dpp.client import (
    BudgetExceeded,
    Client,
    Forbidden,
    IdempotencyKeyReused,
    InvalidRequest,
    MaxCostRefused,
    NotFound,
    PackUnknown,
    QuotaExceeded,
    Retries,
    Run,
    RunNotFinished,
    Submission,
    Unauthorized,
    verify_webhook,
)
from tests.cli.peers import Says, peer
from tests.client.conftest import Ask
from tests.conftest import StartNode
from tests.node_process import NodeProcess

FULL_S = 60.0
BIG = "x" * 200_000  # past what a row of an ending holds
EVENTS = ["run.completed", "run.failed"]


class Use(Protocol):
    """Use a client of one tenant."""

    def __call__(self, use: Callable[[Any], Any], **options: Any) -> Any: ...


@pytest.fixture
def key(served_node: NodeProcess) -> str:
    return served_node.tenant(f"client-{uuid.uuid4().hex[:12]}")


@pytest.fixture
def use(ask: Ask, served_node: NodeProcess, key: str) -> Use:
    return partial(ask, served_node.url, api_key=key)


def bought(use: Use, inputs: dict[str, Any] | None = None, **options: Any) -> Run:
    run = use(lambda c: c.submit("echo", inputs or {}, "0.10", wait=FULL_S, **options))
    assert isinstance(run, Run)
    return run


def test_a_run_is_bought_and_waited_for(use: Use) -> None:
    run = bought(use, {"message": "hi", "cost_usd": "0.05"}, metadata={"order": "7"})

    assert (run.status, run.result, dict(run.metadata)) == (
        "COMPLETED",
        {"message": "hi"},
        {"order": "7"},
    )
    assert (run.cost.actual_usd, run.cost.held_usd) == (Decimal("0.05"), Decimal("0.00"))
    assert use(lambda c: c.run(run.run_id)).document == run.document
    assert use(lambda c: c.wait(run.run_id, 5)).ended


def test_options_of_a_submission_are_taken(use: Use) -> None:
    later = datetime.now(UTC) + timedelta(days=1)  # noqa: TID251 - far enough from any clock
    run = use(
        lambda c: c.submit(
            "echo",
            {},
            Decimal("0.10"),
            idempotency_key="order-7",
            run_at=later,
            start_before=later + timedelta(days=1),
            priority=0,
            timebox_s=5,
        )
    )
    canceled = use(lambda c: c.cancel(run.run_id))
    again = use(lambda c: c.cancel(run.run_id))

    assert (run.status, run.idempotency_key, run.expires_at) == (
        "QUEUED",
        "order-7",
        later + timedelta(days=1),
    )
    assert (canceled.run_id, again.status) == (run.run_id, "CANCELED")


def test_what_the_server_refuses_is_raised_by_its_meaning(use: Use, served_node: Any) -> None:
    def submit(
        pack: str = "echo", inputs: Any = None, most: str = "0.10", key: str | None = None
    ) -> Any:
        return use(lambda c: c.submit(pack, inputs or {}, most, idempotency_key=key))

    submit(key="once")

    with pytest.raises(IdempotencyKeyReused):
        submit(most="0.20", key="once")
    with pytest.raises(PackUnknown):
        submit("nonsense")
    with pytest.raises(MaxCostRefused):
        submit("decision", {"question": "?"}, most="0.000001")
    with pytest.raises(InvalidRequest) as invalid:
        submit(inputs={"cost_usd": 1, "nonsense": 1})
    with pytest.raises(BudgetExceeded) as poor:
        submit(most="10.01")
    with pytest.raises(NotFound):
        use(lambda c: c.run(str(uuid.uuid4())))
    with pytest.raises(Unauthorized):
        use(lambda c: c.budget(), api_key="dpp_live_nonsense")

    assert {error.pointer for error in invalid.value.errors} == {
        "/inputs/cost_usd",
        "/inputs/nonsense",
    }
    assert poor.value.required_usd == Decimal("10.01")


def test_a_key_without_the_scope_may_not(served_node: NodeProcess, ask: Ask) -> None:
    name = f"client-{uuid.uuid4().hex[:12]}"
    served_node.tenant(name)
    reader = served_node.new_key(name, scopes=["runs:read"])

    with pytest.raises(Forbidden):
        ask(served_node.url, lambda c: c.budget(), api_key=reader)


def test_a_rate_that_is_used_up_says_for_how_long(served_node: NodeProcess, ask: Ask) -> None:
    key = served_node.tenant(f"client-{uuid.uuid4().hex[:12]}", plan="reader")

    def read() -> None:
        ask(served_node.url, lambda c: c.budget(), api_key=key, retries=Retries(attempts=1))

    def read_on() -> None:
        for _ in range(6):
            read()

    with pytest.raises(QuotaExceeded) as refused:
        read_on()

    assert refused.value.retry_after_s is not None
    assert refused.value.retry_after_s >= 1


def test_a_batch_is_bought_and_bought_again_for_nothing(use: Use) -> None:
    many = [
        Submission(pack_type="echo", max_cost="0.01", idempotency_key=f"b{n}") for n in range(3)
    ]
    wrong = Submission(pack_type="nonsense", max_cost="0.01")

    first = use(lambda c: c.submit_batch([*many, wrong]))
    again = use(lambda c: c.submit_batch(many))

    assert [item.replayed for item in first + again] == [False] * 4 + [True] * 3
    assert [item.get().run_id for item in first[:3]] == [item.get().run_id for item in again]
    with pytest.raises(PackUnknown):
        first[3].get()


def test_runs_are_listed_and_filtered(use: Use) -> None:
    many = [
        Submission(pack_type="echo", max_cost="0.01", idempotency_key=f"b{n}") for n in range(250)
    ]
    made = [item.get().run_id for item in use(lambda c: c.submit_batch(many))]

    assert [run.run_id for run in use(lambda c: c.runs())] == made[::-1]
    assert [run.run_id for run in use(lambda c: c.runs(idempotency_key="b7"))] == [made[7]]
    assert use(lambda c: c.runs(pack_type="decision")) == []
    assert use(lambda c: c.runs(created_before=datetime(2020, 1, 1, tzinfo=UTC))) == []


def test_a_large_result_is_verified_in_memory_and_in_a_file(use: Use, tmp_path: Path) -> None:
    run = bought(use, {"message": BIG})

    result = use(lambda c: c.result(run.run_id))
    saved = use(lambda c: c.download_result(run.run_id, tmp_path / "result.json"))

    assert run.result is None
    assert result.json() == {"message": BIG}
    assert (tmp_path / "result.json").read_bytes() == result.content
    assert result.sha256 == saved.sha256 == run.result_sha256
    assert saved.media_type.startswith("application/json")


def test_a_receipt_and_a_result_come_after_the_end(use: Use) -> None:
    running = use(lambda c: c.submit("echo", {"sleep_s": 60}, "0.10")).run_id
    for ask in (lambda c: c.result(running), lambda c: c.receipt(running)):
        with pytest.raises(RunNotFinished):
            use(ask)
    use(lambda c: c.cancel(running))
    paid = bought(use, {"cost_usd": "0.05"})

    void = use(lambda c: c.wait(running, FULL_S)) and use(lambda c: c.receipt(running))
    receipt = use(lambda c: c.receipt(paid.run_id))

    assert (void.status, void.cost_usd, void.returned_usd) == ("CANCELED", 0, Decimal("0.10"))
    assert (receipt.reserved_usd, receipt.cost_usd, receipt.returned_usd) == (
        Decimal("0.10"),
        Decimal("0.05"),
        Decimal("0.05"),
    )
    assert receipt.result_sha256 == paid.result_sha256
    ledger = {line.transfer_id: line.kind for line in use(lambda c: c.transfers())}
    assert ledger[receipt.transfer_ids.resolution] == "settle"
    assert ledger[receipt.transfer_ids.reserve] == "reserve"


def test_events_are_told_to_the_end_and_from_any_of_them(use: Use) -> None:
    run = use(lambda c: c.submit("echo", {"cost_usd": "0.05", "sleep_s": 0.2}, "0.10"))

    told = use(lambda c: c.stream_events(run.run_id))
    rest = use(lambda c: c.stream_events(run.run_id, told[0].event_id))

    assert [one.status for one in told if one.kind == "status"] == [
        "QUEUED",
        "PROCESSING",
        "COMPLETED",
    ]
    assert [one.usd("amount_usd") for one in told if one.kind == "charge"] == [Decimal("0.05")]
    assert rest == told[1:]
    with pytest.raises(InvalidRequest):
        use(lambda c: c.stream_events(run.run_id, "nonsense"))
    with pytest.raises(NotFound):
        use(lambda c: c.stream_events(str(uuid.uuid4())))


def test_money_adds_up(use: Use) -> None:
    run = bought(use, {"cost_usd": "0.05"})

    budget, usage = use(lambda c: c.budget()), use(lambda c: c.usage())
    ledger = use(lambda c: c.transfers())
    table = list(csv.DictReader(use(lambda c: c.transfers_csv())))

    assert budget.deposited_usd == budget.available_usd + budget.held_usd + budget.spent_usd
    assert (budget.spent_usd, usage.totals.cost_usd) == (Decimal("0.05"), Decimal("0.05"))
    assert [(line.kind, line.amount_usd, line.run_id) for line in ledger][-1][:2] == (
        "deposit",
        Decimal("10.00"),
    )
    assert {row["transfer_id"]: row["run_id"] for row in table} == {
        line.transfer_id: line.run_id or "" for line in ledger
    }
    assert run.run_id in {row["run_id"] for row in table}


def test_prices_are_asked_for_and_nothing_is_reserved(use: Use) -> None:
    packs = {pack.pack_type: pack for pack in use(lambda c: c.packs())}
    quote = use(lambda c: c.quote("decision", {"question": "Which?"}, "1.00"))
    least = use(lambda c: c.quote("decision", {"question": "Which?"}))

    jsonschema.validate({"question": "Which?"}, packs["decision"].input_schema)
    assert (quote.pack_type, quote.reserve_usd, quote.binding) == (
        "decision",
        Decimal("1.00"),
        False,
    )
    assert quote.expected_usd.low <= quote.expected_usd.high <= Decimal("1.00")
    assert least.reserve_usd <= quote.reserve_usd
    assert use(lambda c: c.budget()).held_usd == 0


def test_keys_are_made_rotated_and_revoked(use: Use, served_node: NodeProcess) -> None:
    made = use(lambda c: c.create_key(["runs:read"], expires_in_s=600, spend_limit="1.00"))
    turned = use(lambda c: c.rotate_key(made.key_id, overlap_s=0))
    served_node.keys += [made.api_key, turned.api_key]
    use(lambda c: c.revoke_key(turned.key_id))
    use(lambda c: c.revoke_key(turned.key_id))

    known = {one.key_id: one for one in use(lambda c: c.keys())}
    assert made.spend_limit_usd == turned.spend_limit_usd == Decimal("1.00")
    assert turned.scopes == ("runs:read",)
    assert made.api_key not in repr(made)
    assert all(one.api_key is None for one in known.values())
    with pytest.raises(Unauthorized):
        use(lambda c: c.runs(), api_key=turned.api_key)


def test_webhooks_are_kept(use: Use) -> None:
    url = "https://hooks.example.com/dpp"
    made = use(lambda c: c.create_webhook(url, EVENTS))
    changed = use(lambda c: c.update_webhook(made.webhook_id, events=["run.expired"]))
    off = use(lambda c: c.update_webhook(made.webhook_id, status="disabled"))
    turned = use(lambda c: c.rotate_webhook(made.webhook_id))

    (listed,) = use(lambda c: c.webhooks())
    assert listed.document == use(lambda c: c.webhook(made.webhook_id)).document
    assert (listed.events, listed.status, listed.secret) == (("run.expired",), "disabled", None)
    assert (changed.status, off.status) == ("enabled", "disabled")
    assert made.secret not in (None, turned.secret)
    assert use(lambda c: c.deliveries(made.webhook_id)) == []
    use(lambda c: c.delete_webhook(made.webhook_id))
    assert use(lambda c: c.webhooks()) == []


class Latest(httpx.HTTPTransport):
    """Finds the node where it listens now: after a restart that is another port."""

    def __init__(self, node: NodeProcess) -> None:
        super().__init__()
        self.node = node

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        request.url = request.url.copy_with(port=httpx.URL(self.node.url).port)
        return super().handle_request(request)


def test_a_wait_and_a_stream_outlive_a_node_that_was_killed(fresh_node: StartNode) -> None:
    node = fresh_node()
    patient = Retries(attempts=1000)
    ended: dict[str, Any] = {}
    begun = threading.Event()

    with Client(node.url, node.tenant(), transport=Latest(node), retries=patient) as client:
        run = client.submit("echo", {"sleep_s": 3, "cost_usd": "0.05"}, "0.10")

        def listen() -> None:
            told = []
            for event in client.stream_events(run.run_id):
                told.append(event)
                if event.status == "PROCESSING":
                    begun.set()
            ended["events"] = told

        threads = [
            threading.Thread(target=listen),
            threading.Thread(target=lambda: ended.update(run=client.wait(run.run_id, 90))),
        ]
        for thread in threads:
            thread.start()
        assert begun.wait(FULL_S)
        node.kill9()
        node.start()
        for thread in threads:
            thread.join(FULL_S)

        told = ended["events"]
        assert (ended["run"].status, ended["run"].attempt) == ("COMPLETED", 2)
        assert told[-1].status == "COMPLETED"
        assert [one.status for one in told].count("PROCESSING") == 2
        assert len({one.event_id for one in told}) == len(told)
        assert client.budget().spent_usd == Decimal("0.05")


def test_a_webhook_that_is_delivered_is_verified(fresh_node: StartNode) -> None:
    node = fresh_node(env={"DPP_WEBHOOKS__ALLOW_LOOPBACK": "true"})
    came = threading.Event()

    def take(_: object) -> Says:
        came.set()
        return Says(200)

    with (
        peer([take]) as receiver,
        Client(node.url, node.tenant()) as client,
    ):
        hook = client.create_webhook(f"{receiver.url}/dpp", EVENTS)
        run = client.submit("echo", {}, "0.10", metadata={"order": "7"}, wait=FULL_S)
        assert came.wait(FULL_S)
        (asked,) = receiver.asked
        event = verify_webhook(asked.headers, asked.body, hook.secret or "")
        came.clear()
        (delivery,) = client.deliveries(hook.webhook_id)
        again = client.replay_delivery(hook.webhook_id, delivery.delivery_id)
        assert came.wait(FULL_S)

    assert (event.type, event.run_id) == ("run.completed", run.run_id)
    assert event.data["metadata"] == {"order": "7"}
    assert event.event_id == delivery.delivery_id == again.delivery_id
    assert json.loads(receiver.asked[1].body) == json.loads(asked.body)
