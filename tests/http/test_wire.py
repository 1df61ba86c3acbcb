"""What comes in: envelopes, idempotency keys, query strings."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import pytest

from dpp.http import cursors
from dpp.http.problems import Problem
from dpp.http.requests import Day, Moment, Whole, Words, read_values
from dpp.http.wire import KEY_PATTERN, BatchSubmission, SubmitRequest, is_key, parse_key, read
from dpp.packs.members import ERRORS_MAX, MORE, NAME_MAX
from dpp.pricing import InputError

GOOD = {"pack_type": "echo", "inputs": {}, "max_cost_usd": "1.00"}
BAD_MONEY: list[Any] = [
    *("-1", "-0", "0", "0.00", "0.0000001", "1e3", "1E-7", "NaN", "Infinity", " 1", "1 ", "+1"),
    *("1,00", ".5", "5.", "1" * 400, "9223372036854.775807", "9223372036854.775808", "1000000.01"),
    *("1000001", "01", "1_0", "\uff11", "", 1, 1.5, True, None, [], {}),
]


@pytest.mark.parametrize("amount", BAD_MONEY)
def test_money_is_a_string_of_one_grammar(amount: Any) -> None:
    errors = read({**GOOD, "max_cost_usd": amount}, SubmitRequest)

    assert isinstance(errors, list)
    assert [error.pointer for error in errors] == ["/max_cost_usd"]


@pytest.mark.parametrize("amount", ["1", "1.0", "0.000001", "1000000", "999999.999999"])
def test_money_may_have_up_to_six_decimals(amount: str) -> None:
    submission = read({**GOOD, "max_cost_usd": amount}, SubmitRequest)

    assert isinstance(submission, SubmitRequest)
    assert submission.max_cost_usd == amount


def test_all_errors_come_at_once_each_with_its_pointer() -> None:
    errors = read(
        {
            "inputs": [],
            "max_cost_usd": 1,
            "priority": 10,
            "timebox_s": 0,
            "a/b~c": 1,
            "tenant_id": 2,
        },
        SubmitRequest,
    )

    assert isinstance(errors, list)
    assert {error.pointer for error in errors} == {
        "/pack_type",
        "/inputs",
        "/max_cost_usd",
        "/priority",
        "/timebox_s",
        "/a~1b~0c",
        "/tenant_id",
    }
    assert InputError("/pack_type", "is required") in errors
    assert InputError("/tenant_id", "is not a member of this request") in errors


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("pack_type", ""),
        ("pack_type", "x" * 65),
        ("pack_type", 5),
        ("inputs", None),
        ("inputs", "{}"),
        ("priority", -1),
        ("priority", True),
        ("priority", 1.0),
        ("priority", "5"),
        ("timebox_s", -1),
        ("timebox_s", 1.5),
        ("metadata", []),
        ("run_at", "soon"),
        ("webhook", None),
        ("status", "COMPLETED"),
    ],
)
def test_wrong_and_unknown_members_are_named(member: str, value: Any) -> None:
    errors = read({**GOOD, member: value}, SubmitRequest)

    assert isinstance(errors, list)
    assert [error.pointer for error in errors] == [f"/{member}"]


def test_what_was_sent_is_never_repeated() -> None:
    errors = read({**GOOD, "max_cost_usd": "canary", "priority": "canary"}, SubmitRequest)

    assert "canary" not in str(errors)


def test_errors_are_bounded_in_number_and_length() -> None:
    sent = {**GOOD, **{f"{n}" + "x" * 10_000: 1 for n in range(1000)}}

    errors = read(sent, SubmitRequest)

    assert isinstance(errors, list)
    assert len(errors) == ERRORS_MAX
    assert errors[-1] == InputError("", MORE)
    assert all(len(error.pointer) < 2 * NAME_MAX for error in errors)


def test_batch_submission_holds_its_key() -> None:
    submission = read({**GOOD, "idempotency_key": "k"}, BatchSubmission)

    assert isinstance(submission, BatchSubmission)
    assert submission.idempotency_key == "k"


@pytest.mark.parametrize(
    ("lines", "key"),
    [
        ([b"abc"], "abc"),
        ([b'"abc"'], "abc"),
        ([b"ABC"], "ABC"),
        ([b"x" * 255], "x" * 255),
        ([b'"' + b"x" * 255 + b'"'], "x" * 255),
        ([b"../../%0d%0a'DROP{{$(x)}}!#~"], "../../%0d%0a'DROP{{$(x)}}!#~"),
    ],
)
def test_idempotency_key_is_bare_or_a_quoted_string(lines: list[bytes], key: str) -> None:
    assert parse_key(lines) == key
    assert is_key(key)


@pytest.mark.parametrize(
    "lines",
    [
        [],
        [b""],
        [b'""'],
        [b'"'],
        [b"a", b"a"],
        [b"a", b"b"],
        [b'"abc'],
        [b'abc"'],
        [b'a"b'],
        [b'"a"b"'],
        [b'"a";p=1'],
        [b"a, b"],
        [b"a,b"],
        [b"a;b"],
        [b"a\\b"],
        [b"a b"],
        [b"a\tb"],
        [b"\x7f"],
        [b"\xe9"],
        ["é".encode()],
        ["🔑".encode()],
        [b"x" * 256],
        [b"x" * 10_000],
    ],
)
def test_anything_else_is_no_idempotency_key(lines: list[bytes]) -> None:
    assert parse_key(lines) is None
    if len(lines) == 1 and lines[0][:1] != b'"':
        assert not is_key(lines[0].decode("latin-1"))


@pytest.mark.parametrize("key", [None, 5, True, [], {}, '"quoted"', "line\n"])
def test_key_in_a_batch_is_text_without_quotes(key: object) -> None:
    assert not is_key(key)


QUERY = {"limit": Whole(1, 200, default=20), "cursor": Words(8)}


@pytest.mark.parametrize("limit", ["0", "-1", "201", "1000000000", "", "a", "1.0", "+1", "\u0661"])
def test_limit_is_a_whole_number_within_bounds(limit: str) -> None:
    problem = read_values(f"limit={limit}".encode(), QUERY) if limit.isascii() else None
    problem = problem or read_values(b"limit=%D9%A1", QUERY)

    assert isinstance(problem, Problem)
    assert problem.members["errors"] == [
        {"pointer": "/query/limit", "message": "must be a whole number from 1 to 200"}
    ]


def test_query_errors_come_all_at_once() -> None:
    problem = read_values(b"limit=0&limit=1&cursor=&other=1", QUERY)

    assert isinstance(problem, Problem)
    assert [error["pointer"] for error in problem.members["errors"]] == [
        "/query/limit",
        "/query/limit",
        "/query/cursor",
        "/query/other",
    ]


@pytest.mark.parametrize("query", [b"limit=%ff", b"&".join([b"a=1"] * 100), "limit=é".encode()])
def test_what_is_no_query_string_is_one_problem(query: bytes) -> None:
    problem = read_values(query, QUERY)

    assert isinstance(problem, Problem)
    assert problem.name == "invalid-request"


@pytest.mark.parametrize("key", [b"%00", b"a%0d%0ab", b"%C3%A9", b"a%20b", b"%22a%22", b"a" * 256])
def test_text_with_a_pattern_is_all_of_it(key: bytes) -> None:
    problem = read_values(b"key=" + key, {"key": Words(255, KEY_PATTERN)})

    assert isinstance(problem, Problem)
    assert [error["pointer"] for error in problem.members["errors"]] == ["/query/key"]
    assert read_values(b"key=a-b", {"key": Words(255, KEY_PATTERN)}) == {"key": "a-b"}


def test_query_has_defaults() -> None:
    assert read_values(b"", QUERY) == {"limit": 20, "cursor": None}
    assert read_values(b"cursor=a%20b&limit=3", QUERY) == {"limit": 3, "cursor": "a b"}


def test_cursor_is_read_back_by_its_list_and_tenant_alone() -> None:
    cursor = cursors.make("runs", "acme", "position")

    assert cursors.read("runs", "acme", cursor) == "position"
    assert cursors.read("runs", "other", cursor) is None
    assert cursors.read("transfers", "acme", cursor) is None


@pytest.mark.parametrize("cursor", ["", "x", "AAAA", "é", "=" * 7, "x" * 128, "cG9zLjEyMzQ1Njc4"])
def test_forged_cursor_is_told(cursor: str) -> None:
    assert cursors.read("runs", "acme", cursor) is None


PERIOD = {"from": Day(), "after": Moment()}


def test_days_and_moments_are_read_as_utc() -> None:
    query = b"from=2024-02-29&after=2026-07-01T01:30:00.5%2B02:00"

    assert read_values(query, PERIOD) == {
        "from": date(2024, 2, 29),
        "after": datetime(2026, 6, 30, 23, 30, 0, 500_000, tzinfo=UTC),
    }
    assert read_values(b"", PERIOD) == {"from": None, "after": None}


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-7-1", "20260701", "2026-W27-3", "2026-13-01", "2025-02-29", "0000-01-01"),
        *("2026-07-01T00:00:00Z", "2026-07-01%20", "%EF%BC%92026-07-01", "-026-07-01", "today"),
    ],
)
def test_what_is_no_day_is_said_to_be_none(text: str) -> None:
    problem = read_values(f"from={text}".encode(), PERIOD)

    assert isinstance(problem, Problem)
    (error,) = problem.members["errors"]
    assert error == {"pointer": "/query/from", "message": "must be a date such as 2026-07-01"}


@pytest.mark.parametrize(
    "text",
    [
        *("", "2026-07-01", "2026-07-01T12:00:00", "2026-07-01 12:00:00Z", "1782907200"),
        *("2026-07-01T24:00:01Z", "2026-07-01T12:00:60Z", "2026-02-30T12:00:00Z", "now"),
        *("0001-01-01T00:00:00%2B01:00", "9999-12-31T23:59:59-01:00", "2026-07-01T12:00:00+02:00"),
    ],
)
def test_what_is_no_moment_is_said_to_be_none(text: str) -> None:
    problem = read_values(f"after={text}".encode(), PERIOD)

    assert isinstance(problem, Problem)
    (error,) = problem.members["errors"]
    assert error["pointer"] == "/query/after"
    assert "2026-07-01T12:00:00Z" in error["message"]
    assert "%2B" in error["message"]
