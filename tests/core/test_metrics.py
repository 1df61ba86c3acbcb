"""Metrics: every series is there from the start, described, and bounded in its labels."""

from __future__ import annotations

import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from dpp import metrics

TENANT_LABELS = {"tenant", "tenant_id", "run_id", "path", "key_id"}


def series() -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    text = metrics.render().decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_declared_series_stand_at_zero() -> None:
    metrics.declare(actors=["some-actor"], verbs=["some_verb"], packs=["some-pack"])

    now = series()

    for name in (
        "dpp_commits_unknown_total",
        "dpp_store_unavailable_total",
        "dpp_zombie_writes_refused_total",
        "dpp_commit_seconds_count",
    ):
        assert now[name, (("verb", "some_verb"),)] == 0
    for name in ("actor_restarts_total", "dpp_batch_size_count"):
        assert now[name, (("actor", "some-actor"),)] == 0
    for status in metrics.STATUSES:
        labels = (("pack", "some-pack"), ("status", status))
        assert now["dpp_runs_ended_total", labels] == 0
    for name in ("dpp_claims_total", "dpp_commits_refused_total"):
        assert (name, ()) in now


def test_the_age_of_a_loops_last_success_is_counted_from_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = 100.0
    monkeypatch.setattr(metrics, "_now", lambda: clock)
    metrics.declare(loops={"some-loop": 7.0})
    name = ("dpp_loop_last_success_age_seconds", (("loop", "some-loop"),))

    clock = 107.0
    assert series()[name] == 7
    assert series()["dpp_loop_pause_seconds", (("loop", "some-loop"),)] == 7
    metrics.succeeded("some-loop")
    clock = 108.0
    assert series()[name] == 1


def test_every_metric_is_described_and_none_is_labelled_with_what_grows() -> None:
    for family in metrics.REGISTRY.collect():
        assert re.fullmatch(r".{10,}\.", family.documentation)
        for sample in family.samples:
            # The one exception: tenants that the configuration names, a hundred at most.
            allowed = {"tenant_id"} if family.name == "dpp_budget_balance_usd" else set()
            assert not (sample.labels.keys() & TENANT_LABELS) - allowed


def test_what_a_client_makes_up_is_no_label() -> None:
    metrics.observe_request("GET", "/v1/runs/{run_id}", 200, 0.01)
    metrics.observe_request("BREW", None, 1234, 0.01)

    now = series()

    known = (("method", "GET"), ("route", "/v1/runs/{run_id}"), ("status", "200"))
    assert now["http_requests_total", known] == 1
    other = (("method", "other"), ("route", "other"), ("status", "other"))
    assert now["http_requests_total", other] == 1
    assert not any("BREW" in str(labels) for _, labels in now)


def test_log_lines_are_counted_by_severity_and_by_what_an_operator_must_do() -> None:
    metrics.declare(reconcile_types=["no_receipt_audit"])
    before = series()

    metrics.log_entries.count("CRITICAL", "no_receipt_audit")
    metrics.log_entries.count("CRITICAL", "somebody's words")
    metrics.log_entries.count("INFO", "")

    def risen(severity: str, kind: str) -> float:
        name = ("log_entries", (("reconcile_type", kind), ("severity", severity)))
        return series()[name] - before[name]

    assert risen("CRITICAL", "no_receipt_audit") == risen("CRITICAL", "other") == 1
    assert risen("INFO", "") == 1
    assert risen("ERROR", "") == 0
    assert b"\nlog_entries{" in metrics.render()  # under exactly this name


def test_a_request_whose_client_asked_to_wait_says_nothing_of_our_time() -> None:
    metrics.observe_request("GET", "/v1/runs/{run_id}", 200, 30.0, held=True)

    name = "http_request_duration_seconds_count"
    labels = (("held", "yes"), ("route", "/v1/runs/{run_id}"))
    assert series()[name, labels] == 1


def test_age_of_a_loop_is_asked_when_it_is_read() -> None:
    metrics.last_success_age_seconds.labels("some-loop").set_function(lambda: 4.5)

    assert series()["dpp_loop_last_success_age_seconds", (("loop", "some-loop"),)] == 4.5
