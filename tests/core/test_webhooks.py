"""What is told, how it is signed, when it is tried again, and when an endpoint is left alone."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook as Verifier
from standardwebhooks import WebhookVerificationError

from dpp.webhooks import (
    ATTEMPTS_MAX,
    BREAKER_FAILURES,
    BREAKER_S,
    EVENTS,
    JITTER,
    PAYLOAD_MAX,
    RETRY_S,
    SLOW_S,
    Attempted,
    Breaker,
    Due,
    EndedRun,
    headers,
    judge,
    payload,
    retry_s,
    secret_text,
    wrong_events,
)

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)
RUN = UUID(int=7)
SECRET, OLD = b"\x01" * 32, b"\x02" * 32
ENDED = EndedRun(
    status="COMPLETED",
    pack_type="decision",
    idempotency_key="order-4711",
    attempt=2,
    created_at=NOW - timedelta(minutes=5),
    started_at=NOW - timedelta(minutes=1),
    finished_at=NOW,
    max_cost=1_000_000,
    actual_cost=52_500,
    error_code=None,
    result_sha256=b"\xab" * 32,
    metadata='{"order":"4711"}',
    trace_id="0" * 31 + "1",
)
DUE = Due(
    delivery_id=UUID(int=1),
    tenant_id="acme",
    webhook_id=UUID(int=2),
    event="run.completed",
    run_id=RUN,
    attempts=1,
    created_at=NOW,
    now=NOW,
    url="https://hooks.example.com/",
    is_detour=False,
    secrets=(SECRET,),
    run=ENDED,
)


def told(due: Due) -> Any:
    return json.loads(payload(due))


def test_an_event_says_what_became_of_the_run_and_where_to_find_more() -> None:
    assert told(DUE) == {
        "type": "run.completed",
        "timestamp": "2026-03-01T12:00:00Z",
        "data": {
            "run_id": str(RUN),
            "status": "COMPLETED",
            "pack_type": "decision",
            "idempotency_key": "order-4711",
            "attempt": 2,
            "created_at": "2026-03-01T11:55:00Z",
            "started_at": "2026-03-01T11:59:00Z",
            "finished_at": "2026-03-01T12:00:00Z",
            "cost": {
                "max_usd": "1.00",
                "actual_usd": "0.0525",
                "returned_usd": "0.9475",
                "currency": "USD",
            },
            "error": None,
            "result_sha256": "ab" * 32,
            "trace_id": "0" * 31 + "1",
            "links": {
                "self": f"/v1/runs/{RUN}",
                "result": f"/v1/runs/{RUN}/result",
                "receipt": f"/v1/runs/{RUN}/receipt",
            },
            "metadata": {"order": "4711"},
        },
    }


def test_a_run_that_failed_says_why_in_a_word_and_has_no_result() -> None:
    failed = evolve(ENDED, status="FAILED", error_code="timebox", result_sha256=None, metadata=None)

    data = told(evolve(DUE, event="run.failed", run=failed))["data"]

    assert data["error"] == {"code": "timebox"}
    assert data["links"]["result"] is data["result_sha256"] is None
    assert data["metadata"] == {}


def test_the_bytes_are_the_same_at_each_attempt() -> None:
    later = evolve(DUE, attempts=9, now=NOW + timedelta(days=2), secrets=(OLD,), url="https://x.de")

    assert payload(later) == payload(DUE)


def test_a_low_budget_says_which_threshold_and_what_is_left_in_decimals() -> None:
    was = {
        "threshold_percent": 80,
        "deposited_micros": 10_000_000,
        "available_micros": 1_999_999,
        "held_micros": 1,
        "spent_micros": 8_000_000,
    }

    event = told(evolve(DUE, event="budget.low", detail=json.dumps(was)))

    assert event["type"] == "budget.low"
    assert event["data"] == {
        "threshold_percent": 80,
        "budget": {
            "deposited_usd": "10.00",
            "available_usd": "1.999999",
            "held_usd": "0.000001",
            "spent_usd": "8.00",
            "currency": "USD",
        },
        "run_id": str(RUN),
    }


@pytest.mark.parametrize(
    ("character", "fits"),
    [("x", True), ('"', True), ("\U0001f600", False), ("\u2028", False), ("\x01", False)],
)
def test_a_payload_is_thin_whatever_a_tenant_wrote_into_its_metadata(
    character: str, *, fits: bool
) -> None:
    most = {f"{n:02}" + character * 62: character * 512 for n in range(16)}
    run = evolve(ENDED, metadata=json.dumps(most, ensure_ascii=False), idempotency_key="k" * 255)

    body = payload(evolve(DUE, run=run))

    assert len(body) < PAYLOAD_MAX
    assert json.loads(body)["data"]["metadata"] == (most if fits else None)


def test_a_signature_is_what_the_library_of_receivers_takes() -> None:
    body = payload(DUE)
    at = int(datetime.now(UTC).timestamp())  # noqa: TID251 - the library compares it with the clock

    sent = headers(DUE, at, body)

    Verifier(secret_text(SECRET)).verify(body, sent)
    assert sent["webhook-id"] == str(DUE.delivery_id)
    assert sent["webhook-timestamp"] == str(at)
    for other in (body + b" ", body.replace(b"0.0525", b"0.0524")):
        with pytest.raises(WebhookVerificationError):
            Verifier(secret_text(SECRET)).verify(other, sent)
    with pytest.raises(WebhookVerificationError):
        Verifier(secret_text(OLD)).verify(body, sent)
    with pytest.raises(WebhookVerificationError):
        Verifier(secret_text(SECRET)).verify(body, {**sent, "webhook-timestamp": str(at + 1)})
    with pytest.raises(WebhookVerificationError):
        Verifier(secret_text(SECRET)).verify(body, {**sent, "webhook-id": "another"})


def test_during_a_rotation_a_receiver_may_have_either_secret() -> None:
    body = payload(DUE)
    at = int(datetime.now(UTC).timestamp())  # noqa: TID251 - the same

    sent = headers(evolve(DUE, secrets=(SECRET, OLD)), at, body)

    assert len(sent["webhook-signature"].split(" ")) == 2
    for secret in (SECRET, OLD):
        Verifier(secret_text(secret)).verify(body, sent)


def test_a_secret_is_shown_as_the_standard_has_it_and_nowhere_else() -> None:
    assert secret_text(b"\x00" * 32) == "whsec_" + "A" * 43 + "="
    assert repr(SECRET) not in repr(DUE)
    assert len(headers(DUE, 0, b"{}")) == 5


@pytest.mark.parametrize("status", [200, 201, 202, 204, 299])
def test_2xx_is_a_delivery(status: int) -> None:
    mark = judge(DUE, status, None, 0.5)

    assert (mark.delivered, mark.retry_s, mark.error, mark.outcome) == (
        True,
        None,
        None,
        "delivered",
    )


@pytest.mark.parametrize("status", [100, 199, 300, 301, 302, 304, 400, 404, 409, 429, 500, 503])
def test_everything_else_that_is_answered_is_tried_again(status: int) -> None:
    mark = judge(DUE, status, None, 0.5)

    assert (mark.delivered, mark.retry_s, mark.response_status) == (False, RETRY_S[0], status)
    assert (mark.error, mark.outcome) == (f"HTTP {status}", "retried")


def test_410_ends_it_and_is_the_endpoints_word_where_it_is_the_endpoints_url() -> None:
    gone, detour = judge(DUE, 410, None, 0.5), judge(evolve(DUE, is_detour=True), 410, None, 0.5)

    assert (gone.is_gone, gone.retry_s, gone.outcome) == (True, None, "gone")
    assert (detour.is_gone, detour.retry_s, detour.outcome) == (False, None, "failed")


def test_the_schedule_is_three_days_and_a_bit() -> None:
    three_days_s = 3 * 86_400

    assert ATTEMPTS_MAX == 10
    assert three_days_s < sum(RETRY_S) * (1 - JITTER) + 60_000
    assert three_days_s < sum(RETRY_S) < three_days_s + 6 * 3600
    assert list(RETRY_S) == sorted(RETRY_S)
    assert retry_s(ATTEMPTS_MAX, 0.5) is retry_s(ATTEMPTS_MAX + 1, 0.5) is None
    assert judge(evolve(DUE, attempts=ATTEMPTS_MAX), 500, None, 0.5).outcome == "failed"


@given(st.integers(1, ATTEMPTS_MAX - 1), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_jittered_around_its_place_in_the_schedule(attempts: int, dice: float) -> None:
    pause = retry_s(attempts, dice)

    assert pause is not None
    usual = RETRY_S[attempts - 1]
    assert usual * (1 - JITTER) <= pause <= usual * (1 + JITTER)


def test_a_breaker_opens_after_some_failures_in_a_row_and_no_others() -> None:
    breaker = Breaker()
    for _ in range(BREAKER_FAILURES - 1):
        breaker = breaker.after(delivered=False, took_s=0, now=0)
    assert breaker.room(0, 10) == 10
    assert breaker.after(delivered=True, took_s=SLOW_S, now=0) == Breaker()

    breaker = breaker.after(delivered=False, took_s=0, now=5)

    assert breaker.room(5, 10) == 0
    assert breaker.room(5 + BREAKER_S - 1, 10) == 0


def test_half_open_one_at_a_time_tries_and_decides() -> None:
    at = BREAKER_S
    breaker = Breaker(BREAKER_FAILURES, at)

    assert breaker.room(at, 10) == 1
    assert breaker.after(delivered=True, took_s=0, now=at).room(at, 10) == 10
    again = breaker.after(delivered=False, took_s=0, now=at)
    assert (again.room(at, 10), again.room(at + BREAKER_S, 10)) == (0, 1)


def test_one_that_is_slow_again_and_again_has_one_at_a_time_and_no_pause() -> None:
    breaker = Breaker()
    for n in range(BREAKER_FAILURES):
        assert breaker.room(n, 10) == 10
        breaker = breaker.after(delivered=True, took_s=SLOW_S + 0.1, now=n)

    assert breaker.room(BREAKER_FAILURES - 1, 10) == 1
    assert breaker.after(delivered=True, took_s=SLOW_S + 0.1, now=20).room(20, 10) == 1
    assert breaker.after(delivered=False, took_s=SLOW_S + 0.1, now=20).room(20, 10) == 0
    assert breaker.after(delivered=True, took_s=SLOW_S, now=20) == Breaker()


@pytest.mark.parametrize(
    ("events", "right"),
    [
        (EVENTS, True),
        (("run.failed",), True),
        ((), False),
        (("run.failed", "run.failed"), False),
        (("run.started",), False),
    ],
)
def test_events_are_some_of_those_that_there_are(events: tuple[str, ...], *, right: bool) -> None:
    assert (wrong_events(events) is None) is right


def test_an_outcome_is_a_word_for_the_metric() -> None:
    mark = Attempted(
        delivery_id=RUN,
        webhook_id=RUN,
        tenant_id="acme",
        attempts=1,
        delivered=False,
        url="",
        retry_s=1.0,
    )

    assert mark.outcome == "retried"
    assert evolve(mark, retry_s=None).outcome == "failed"
