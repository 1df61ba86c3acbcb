"""Submissions and batches: what is sent, what is split, what is asked again under the same keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import pytest

from dpp.client import (
    ApiProblem,
    BudgetExceeded,
    ClientError,
    Misconfigured,
    QuotaExceeded,
    Submission,
    TransportError,
    Unauthorized,
    Unavailable,
    submissions,
)
from tests.cli.peers import Asked, Says, peer
from tests.client.conftest import RUN, Ask, in_threads, problem, run

NOON = datetime(2026, 1, 1, 13, 0, tzinfo=timezone(timedelta(hours=1)))


def answered(item: dict[str, Any]) -> dict[str, Any]:
    key = item["idempotency_key"]
    return {"status": 201, "run": {**RUN, "run_id": key, "idempotency_key": key}, "replayed": False}


def refused(status: int, name: str, **members: Any) -> dict[str, Any]:
    return {"status": status, "problem": json.loads(problem(status, name=name, **members).body)}


def sent(asked: Asked) -> list[dict[str, Any]]:
    runs: list[dict[str, Any]] = json.loads(asked.body)["runs"]
    return runs


def all_bought(asked: Asked) -> Says:
    return Says(200, json.dumps({"items": [answered(item) for item in sent(asked)]}))


def echo(key: str | None = None, **members: Any) -> Submission:
    return Submission(pack_type="echo", max_cost="0.10", idempotency_key=key, **members)


def test_all_that_was_given_is_sent_and_nothing_else() -> None:
    with peer([run()]) as server:
        in_threads(
            server.url,
            lambda client: client.submit(
                "echo",
                {"x": 1},
                Decimal("1E-6"),
                idempotency_key="order-1",
                timebox_s=5,
                priority=0,
                run_at=NOON,
                start_before="2026-01-02T00:00:00Z",
                metadata={"customer": "7"},
                webhook_url="https://h/x",
            ),
        )

    (asked,) = server.asked
    assert asked.headers["Idempotency-Key"] == "order-1"
    assert asked.headers["Authorization"] == "Bearer dpp_live_key"
    assert json.loads(asked.body) == {
        "pack_type": "echo",
        "inputs": {"x": 1},
        "max_cost_usd": "0.000001",
        "timebox_s": 5,
        "priority": 0,
        "run_at": "2026-01-01T12:00:00Z",
        "start_before": "2026-01-02T00:00:00Z",
        "metadata": {"customer": "7"},
        "webhook_url": "https://h/x",
    }


@pytest.mark.parametrize(
    ("money", "text"), [("0.10", "0.10"), (1, "1"), (Decimal("0.10"), "0.10"), (Decimal(3), "3")]
)
def test_money_is_sent_exactly(money: Any, text: str) -> None:
    assert Submission(pack_type="echo", max_cost=money).document()["max_cost_usd"] == text


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_cost": 0.1},
        {"max_cost": True},
        {"idempotency_key": "two words"},
        {"idempotency_key": ""},
        {"idempotency_key": "é"},
        {"idempotency_key": "a\nb"},
        {"idempotency_key": "x" * 256},
        {"run_at": datetime(2026, 1, 1)},  # noqa: DTZ001 - that is what is wrong
    ],
    ids=repr,
)
def test_what_cannot_be_sent_is_refused_before_anything_is_asked(
    ask: Ask, wrong: dict[str, Any]
) -> None:
    with peer([run()]) as server, pytest.raises(Misconfigured):
        ask(server.url, lambda client: client.submit("echo", {}, **{"max_cost": "1", **wrong}))

    assert server.asked == []


def test_a_submit_that_waits_asks_so_and_goes_on_waiting(ask: Ask) -> None:
    queued, ended = run(status="QUEUED"), Says(200, json.dumps(RUN))
    with peer([queued, ended]) as server:
        got = ask(server.url, lambda client: client.submit("echo", {}, "1", wait=90))

    submitted, looked = server.asked
    assert got.status == "COMPLETED"
    assert submitted.headers["Prefer"] == "wait=60"
    assert (looked.method, looked.path) == ("GET", "/v1/runs/r1?wait=30")


def test_a_submit_that_waited_long_enough_returns_the_run_as_it_is(ask: Ask) -> None:
    with peer([run(status="QUEUED")]) as server:
        got = ask(server.url, lambda client: client.submit("echo", {}, "1", wait=0.3))

    assert got.status == "QUEUED"
    assert server.asked[0].headers["Prefer"] == "wait=1"


def test_a_batch_is_answered_in_order_over_several_requests(ask: Ask) -> None:
    with peer([all_bought]) as server:
        many = [echo(f"k{n}") for n in range(2001)]
        items = ask(server.url, lambda client: client.submit_batch(many))

    assert [len(sent(asked)) for asked in server.asked] == [1000, 1000, 1]
    assert [item.run.run_id for item in items] == [f"k{n}" for n in range(2001)]


def test_a_batch_is_also_split_by_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(submissions, "BATCH_BYTES_MAX", 1000)
    with peer([all_bought]) as server:
        many = [
            echo(f"k{n}", inputs={"x": "y" * size}) for n, size in enumerate([10, 700, 700, 2000])
        ]
        items = in_threads(server.url, lambda client: client.submit_batch(many))

    assert [[one["idempotency_key"] for one in sent(asked)] for asked in server.asked] == [
        ["k0", "k1"],
        ["k2"],
        ["k3"],
    ]
    assert [item.idempotency_key for item in items] == ["k0", "k1", "k2", "k3"]


def test_an_empty_batch_asks_nothing(ask: Ask) -> None:
    with peer([all_bought]) as server:
        assert ask(server.url, lambda client: client.submit_batch([])) == []

    assert server.asked == []


def test_only_items_without_room_are_asked_again_and_under_the_same_keys(ask: Ask) -> None:
    def first(asked: Asked) -> Says:
        full, poor = (
            refused(503, "temporary-reduced-capacity"),
            refused(402, "budget-exceeded"),
        )
        one = sent(asked)[0]
        return Says(200, json.dumps({"items": [answered(one), full, poor, full]}))

    with peer([first, all_bought]) as server:
        items = ask(server.url, lambda client: client.submit_batch([echo() for _ in range(4)]))

    tried, again = ([one["idempotency_key"] for one in sent(asked)] for asked in server.asked)
    assert again == [tried[1], tried[3]]
    assert [item.idempotency_key for item in items] == tried
    assert [item.run is not None for item in items] == [True, True, False, True]
    with pytest.raises(BudgetExceeded):
        items[2].get()


def test_items_without_room_keep_saying_so_once_the_tries_are_used_up(ask: Ask) -> None:
    def full(asked: Asked) -> Says:
        items = [refused(503, "temporary-reduced-capacity") for _ in sent(asked)]
        return Says(200, json.dumps({"items": items}))

    with peer([full]) as server:
        items = ask(server.url, lambda client: client.submit_batch([echo(), echo()]))

    assert [type(item.error) for item in items] == [Unavailable] * 2
    assert len(server.asked) == 8


def test_items_without_room_are_asked_again_when_the_last_of_them_may_come() -> None:
    pauses: list[float] = []

    def first(asked: Asked) -> Says:
        items = [refused(503, "temporary-reduced-capacity", retry_after_s=n) for n in (0, 1)]
        return Says(200, json.dumps({"items": items}))

    with peer([first, all_bought]) as server:
        items = in_threads(
            server.url,
            lambda client: client.submit_batch([echo(), echo()]),
            on_retry=lambda _error, pause_s: pauses.append(pause_s),
        )

    assert [item.run is not None for item in items] == [True, True]
    assert [pause_s >= 1 for pause_s in pauses] == [True]


def test_items_that_a_rate_refuses_say_when_to_come_back(ask: Ask) -> None:
    def first(asked: Asked) -> Says:
        late = refused(429, "quota-exceeded", retry_after_s=42)
        bare = refused(429, "quota-exceeded", retry_after_s="soon")
        return Says(200, json.dumps({"items": [late, bare]}))

    with peer([first]) as server:
        items = ask(server.url, lambda client: client.submit_batch([echo(), echo()]))

    assert [type(item.error) for item in items] == [QuotaExceeded] * 2
    assert [getattr(item.error, "retry_after_s", 0) for item in items] == [42, None]
    assert len(server.asked) == 1


def test_a_lost_answer_to_a_batch_is_asked_for_under_the_same_keys(ask: Ask) -> None:
    with peer([Says(None), problem(503, "0"), all_bought]) as server:
        items = ask(server.url, lambda client: client.submit_batch([echo(), echo()]))

    assert len({asked.body for asked in server.asked}) == 1
    assert all(item.run is not None for item in items)


def test_a_batch_that_is_refused_as_a_whole_is_raised(ask: Ask) -> None:
    with peer([problem(401, name="unauthorized")]) as server, pytest.raises(Unauthorized):
        ask(server.url, lambda client: client.submit_batch([echo()]))


@pytest.mark.parametrize(
    ("ill", "error", "requests"),
    [(Says(None), TransportError, 1 + 8), (problem(401), ApiProblem, 3)],
    ids=["silence", "a revoked key"],
)
def test_no_run_that_was_bought_is_forgotten_over_a_later_failure(
    ask: Ask, ill: Says, error: type[ClientError], requests: int
) -> None:
    with peer([all_bought, ill]) as server:
        many = [echo(f"k{n}") for n in range(2001)]
        items = ask(server.url, lambda client: client.submit_batch(many))

    assert [item.idempotency_key for item in items] == [f"k{n}" for n in range(2001)]
    assert all(item.run is not None for item in items[:1000])
    assert all(isinstance(item.error, error) for item in items[1000:])
    assert len(server.asked) == requests


def test_a_time_is_sent_in_utc() -> None:
    document = echo(run_at=NOON.astimezone(UTC)).document()

    assert document["run_at"] == "2026-01-01T12:00:00Z"
