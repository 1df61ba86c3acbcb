"""The small parts: windows, traces, request ids, origins, media types, paths, problems."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, get_args
from uuid import UUID

import http_sf
import pytest
import trio

from dpp.admission import (
    Admission,
    Created,
    Exists,
    ExistsWithDifferentRequest,
    InsufficientBudget,
    KeyDead,
    MaxCostTooHigh,
    MaxCostTooLow,
    NoSubmits,
    PackNotAllowed,
    PlanUnknown,
    Pruned,
    QueueFull,
    RateLimited,
    TenantFrozen,
    TenantSuspended,
    Window,
)
from dpp.http import problems
from dpp.http.answers import request_id
from dpp.http.cors import allowing
from dpp.http.limits import Windows, window_headers
from dpp.http.media import CSV, JSON, NDJSON, preferred, refuse_accept, refuse_content
from dpp.http.refusals import QUEUE_RETRY_S, Refusal, problem_of
from dpp.http.routes import ROUTES
from dpp.http.table import Table
from dpp.http.tracing import trace_id
from dpp.money import Micros
from dpp.packs.members import ERRORS_MAX
from dpp.pricing import InputError, InputsInvalid, PackUnknown
from dpp.spending import SpendLimited

if TYPE_CHECKING:
    from trio.testing import MockClock

TRACE = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


async def test_window_starts_with_the_first_and_ends_a_minute_later(
    autojump_clock: MockClock,
) -> None:
    windows = Windows()
    await trio.sleep(30)

    assert windows.take("acme", 2) == (True, Window(2, 1, 60))
    await trio.sleep(20.5)
    assert windows.take("acme", 2) == (True, Window(2, 0, 40))
    assert windows.take("acme", 2) == (False, Window(2, 0, 40))
    assert windows.take("other", 2) == (True, Window(2, 1, 60))
    await trio.sleep(39.5)
    assert windows.take("acme", 2) == (True, Window(2, 1, 60))


async def test_windows_are_bounded_and_forget_the_oldest(autojump_clock: MockClock) -> None:
    windows = Windows(names_max=2)
    for name in ("a", "b", "c"):
        windows.count(name)

    assert windows.look("a", 5).remaining == 5
    assert windows.look("c", 5).remaining == 4


def test_window_headers_are_structured_fields() -> None:
    headers = dict(window_headers("submit", Window(100, 87, 12)))

    assert headers[b"ratelimit-policy"] == b'"submit";q=100;w=60'
    assert headers[b"ratelimit"] == b'"submit";r=87;t=12'
    assert http_sf.parse(headers[b"ratelimit"], tltype="list") == [("submit", {"r": 87, "t": 12})]
    assert window_headers("submit", None) == ()


def test_valid_traceparent_goes_on() -> None:
    assert trace_id([TRACE]) == "0af7651916cd43dd8448eb211c80319c"
    assert trace_id([TRACE.replace(b"00-", b"01-", 1) + b"-more"]) == trace_id([TRACE])


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [TRACE, TRACE],
        [TRACE.upper()],
        [TRACE + b"-more"],
        [TRACE.replace(b"00-", b"ff-", 1)],
        [b"00-" + b"0" * 32 + b"-b7ad6b7169203331-01"],
        [b"00-0af7651916cd43dd8448eb211c80319c-" + b"0" * 16 + b"-01"],
        [b"nonsense"],
    ],
)
def test_else_a_trace_starts_here(lines: list[bytes]) -> None:
    made = trace_id(lines)

    assert len(made) == 32
    assert made != trace_id(lines)
    assert made != "0af7651916cd43dd8448eb211c80319c"


def test_request_id_is_echoed_where_it_is_safe() -> None:
    assert request_id([b"a-B.9_~"]) == "a-B.9_~"
    for unsafe in ([], [b""], [b"a b"], [b"a\x00"], [b"x" * 129], [b"<script>"], [b"a", b"b"]):
        assert len(request_id(unsafe)) == 32


def test_only_allowed_origins_are_told() -> None:
    cors = allowing(("https://app.example.com",))

    assert dict(cors.headers(b"https://app.example.com"))[b"access-control-allow-origin"] == (
        b"https://app.example.com"
    )
    for other in (None, b"https://evil.example.com", b"null", b"https://app.example.com.evil"):
        assert cors.headers(other) == ((b"vary", b"origin"),)
    assert allowing(()).headers(b"https://app.example.com") == ()
    assert dict(allowing(("*",)).headers(b"x"))[b"access-control-allow-origin"] == b"*"


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/json",
        b"Application/JSON; charset=UTF-8",
        b'application/json;charset="utf-8"',
        b"application/x-ndjson",
    ],
)
def test_json_is_taken(content_type: bytes) -> None:
    assert refuse_content([content_type], [], ("application/json", NDJSON)) is None


@pytest.mark.parametrize(
    ("content_types", "encodings"),
    [
        ([], []),
        ([b""], []),
        ([b"text/plain"], []),
        ([b"multipart/form-data; boundary=x"], []),
        ([b"application/x-www-form-urlencoded"], []),
        ([b"application/json; charset=utf-16"], []),
        ([b"application/json, text/plain"], []),
        ([b"application/json", b"application/json"], []),
        ([b"application/jsonx"], []),
        ([NDJSON.encode()], []),
        ([b"application/json"], [b"gzip"]),
        ([b"application/json"], [b"deflate"]),
        ([b"application/json"], [b"br"]),
        ([b"application/json"], [b"identity", b"gzip"]),
    ],
)
def test_other_bodies_are_415(content_types: list[bytes], encodings: list[bytes]) -> None:
    problem = refuse_content(content_types, encodings, ("application/json",))

    assert problem is not None
    assert problem.name == "unsupported-media-type"


@pytest.mark.parametrize(
    "accepts",
    [
        [],
        [b"*/*"],
        [b"application/json"],
        [b"text/html, application/*;q=0.8"],
        [b"text/html", b"application/json"],
        [b"text/csv, */*;q=0.1"],
    ],
)
def test_client_that_takes_json_is_answered(accepts: list[bytes]) -> None:
    assert refuse_accept(accepts) is None


@pytest.mark.parametrize("accepts", [[b"text/html"], [b"text/csv"], [b"application/json;q=0"]])
def test_client_that_does_not_is_406(accepts: list[bytes]) -> None:
    problem = refuse_accept(accepts)

    assert problem is not None
    assert problem.name == "not-acceptable"


@pytest.mark.parametrize(
    ("path", "route", "params"),
    [
        (b"/v1/runs", "/v1/runs", {}),
        (b"/v1/runs:batch", "/v1/runs:batch", {}),
        (b"/v1/runs%3Abatch", "/v1/runs:batch", {}),
        (b"/v1/runs/abc", "/v1/runs/{run_id}", {"run_id": "abc"}),
        (b"/v1/runs/abc:cancel", "/v1/runs/{run_id}:cancel", {"run_id": "abc"}),
        (b"/v1/runs/abc%3acancel", "/v1/runs/{run_id}:cancel", {"run_id": "abc"}),
        (b"/v1/runs/..", "/v1/runs/{run_id}", {"run_id": ".."}),
        (b"/v1/runs/%2e%2e", "/v1/runs/{run_id}", {"run_id": ".."}),
    ],
)
def test_path_finds_its_row(path: bytes, route: str, params: dict[str, str]) -> None:
    found = Table(ROUTES).find(path)

    assert found is not None
    assert {row.path for row in found.methods.values()} == {route}
    assert found.params == params


@pytest.mark.parametrize(
    "path",
    [
        *(
            b"",
            b"//",
            b"/v1",
            b"/v1/",
            b"/v1/runs/",
            b"/V1/runs",
            b"/v1/runs//",
            b"/v1//runs",
        ),
        *(
            b"/v1/runs/a/b",
            b"/v1/runs/a%2fb",
            b"/v1%2fruns",
            b"/v1/runs/:cancel",
            b"/v1/runs:other",
        ),
        *(b"/v1/runs/a:b:cancel", b"/health/", b"/v1/runs/../budget", b"/v1/budget;x=1"),
    ],
)
def test_other_paths_find_none(path: bytes) -> None:
    assert Table(ROUTES).find(path) is None


def test_route_inventory_is_this() -> None:
    assert {(route.method, route.path, route.scope) for route in ROUTES} == {
        ("POST", "/v1/runs", "runs:write"),
        ("POST", "/v1/runs:batch", "runs:write"),
        ("GET", "/v1/runs", "runs:read"),
        ("GET", "/v1/runs/{run_id}", "runs:read"),
        ("GET", "/v1/runs/{run_id}/result", "runs:read"),
        ("GET", "/v1/runs/{run_id}/receipt", "runs:read"),
        ("GET", "/v1/runs/{run_id}/events", "runs:read"),
        ("POST", "/v1/runs/{run_id}:cancel", "runs:write"),
        ("POST", "/v1/quotes", "runs:write"),
        ("GET", "/v1/packs", "runs:read"),
        ("GET", "/v1/budget", "budget:read"),
        ("GET", "/v1/transfers", "budget:read"),
        ("GET", "/v1/keys", "keys:write"),
        ("POST", "/v1/keys", "keys:write"),
        ("POST", "/v1/keys/{key_id}:rotate", "keys:write"),
        ("DELETE", "/v1/keys/{key_id}", "keys:write"),
        ("GET", "/v1/usage", "budget:read"),
        ("POST", "/v1/webhooks", "webhooks:write"),
        ("GET", "/v1/webhooks", "webhooks:write"),
        ("GET", "/v1/webhooks/{webhook_id}", "webhooks:write"),
        ("PATCH", "/v1/webhooks/{webhook_id}", "webhooks:write"),
        ("DELETE", "/v1/webhooks/{webhook_id}", "webhooks:write"),
        ("POST", "/v1/webhooks/{webhook_id}:rotate", "webhooks:write"),
        ("GET", "/v1/webhooks/{webhook_id}/deliveries", "webhooks:write"),
        ("POST", "/v1/webhooks/{webhook_id}/deliveries/{delivery_id}:replay", "webhooks:write"),
        ("GET", "/", None),
        ("GET", "/health", None),
        ("GET", "/readyz", None),
    }


def test_allow_names_all_methods_of_a_path() -> None:
    found = Table(ROUTES).find(b"/v1/runs")

    assert found is not None
    assert found.allow == b"GET, HEAD, OPTIONS, POST"


REFUSALS: dict[Refusal, tuple[str, int]] = {
    ExistsWithDifferentRequest(): ("idempotency-key-reused", 422),
    KeyDead(): ("unauthorized", 401),
    TenantSuspended(): ("tenant-suspended", 403),
    TenantFrozen(): ("tenant-frozen", 403),
    NoSubmits(30): ("temporary-reduced-capacity", 503),
    PlanUnknown("gold"): ("temporary-reduced-capacity", 503),
    PackUnknown(("echo",)): ("pack-unknown", 422),
    PackNotAllowed(("echo",)): ("pack-not-allowed", 403),
    InputsInvalid((InputError("/inputs/x", "is wrong"),)): ("invalid-request", 422),
    MaxCostTooLow(Micros(5000)): ("max-cost-too-low", 422),
    MaxCostTooHigh(Micros(5000)): ("max-cost-too-high", 422),
    RateLimited(Window(10, 0, 42)): ("quota-exceeded", 429),
    QueueFull(100): ("quota-exceeded", 429),
    SpendLimited("day", Micros(1), datetime(2026, 1, 2, tzinfo=UTC)): ("spend-limit-exceeded", 402),
    InsufficientBudget(Micros(1), Micros(2)): ("budget-exceeded", 402),
    Pruned(UUID(int=7)): ("run-expired", 410),
}


def test_every_refusal_is_listed_here() -> None:
    said = {type(refusal) for refusal in REFUSALS}

    assert said == set(get_args(Admission)) - {Created, Exists}


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: type(refusal).__name__)
def test_refusal_becomes_its_problem_with_all_its_members(refusal: Refusal) -> None:
    name, status = REFUSALS[refusal]

    problem = problem_of(refusal)
    document = problems.document(problem, instance="/v1/runs", request_id="r")

    assert (problem.name, document["status"]) == (name, status)
    assert set(document) == {
        *("type", "title", "status", "detail", "instance", "request_id"),
        *problem.type.members,
    }


@pytest.mark.parametrize(
    ("refusal", "words"),
    [
        (PackUnknown(("decision", "echo")), "this tenant may run decision, echo"),
        (PackNotAllowed(()), "this tenant may run none"),
        (
            TenantSuspended(),
            "new submissions are refused until an operator resumes it; accepted runs go on",
        ),
    ],
)
def test_refusal_says_what_is_wrong_and_not_only_what_would_do(
    refusal: Refusal, words: str
) -> None:
    assert problem_of(refusal).detail == words


def test_rate_refusal_says_exactly_when_to_come_back() -> None:
    headers = dict(problem_of(RateLimited(Window(10, 0, 42))).headers)

    assert headers[b"retry-after"] == b"42"
    assert headers[b"ratelimit"] == b'"submit";r=0;t=42'
    assert problem_of(RateLimited(Window(10, 0, 42))).members == {
        "violated-policies": ["submit"],
        "retry_after_s": 42,
    }
    assert problem_of(QueueFull(3)).members == {
        "violated-policies": ["queued_runs"],
        "retry_after_s": QUEUE_RETRY_S,
    }


def test_problem_of_bad_input_is_bounded_whoever_says_it() -> None:
    errors = [InputError("/" + "x" * 100_000, "y" * 100_000) for _ in range(10_000)]

    told = problems.invalid(errors).members["errors"]

    assert len(told) == ERRORS_MAX
    assert len(str(told)) < 2 * ERRORS_MAX * (problems.TEXT_MAX + 50)


@pytest.mark.parametrize(
    ("accepts", "best"),
    [
        ([], JSON),
        ([b""], JSON),
        ([b"*/*"], JSON),
        ([b"text/csv"], CSV),
        ([b"TEXT/CSV"], CSV),
        ([b"text/*;q=0.9", b"application/json;q=0.8"], CSV),
        ([b"text/csv;q=0.8, application/json;q=0.9"], JSON),
        ([b"text/*, text/csv;q=0.1, application/json;q=0.5"], JSON),  # the exact range counts
        ([b"*/*;q=0.5, text/csv; q = 0.6"], CSV),
        ([b"text/csv;q=0"], JSON),
        ([b"text/csv;q=0, text/*"], JSON),
        ([b"text/csv;q=nonsense, application/json;q=0.9"], CSV),
        ([b"application/problem+json"], JSON),
    ],
)
def test_of_what_is_offered_the_client_gets_what_it_likes_most(
    accepts: list[bytes], best: str
) -> None:
    assert preferred(accepts, (JSON, CSV)) == best
