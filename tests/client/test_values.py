"""What comes back as values: exact money, times with zones, what is new ignored."""

from __future__ import annotations

import json
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

import pytest
from attrs.exceptions import FrozenInstanceError

from dpp.client import (
    AsyncClient,
    BadAnswer,
    Client,
    ClientError,
    Forbidden,
    InternalError,
    InvalidRequest,
    Misconfigured,
    NotAUrl,
    PackNotAllowed,
    QuotaExceeded,
    Run,
    TenantFrozen,
    Unavailable,
)
from dpp.client.faults import ApiProblem, Problem, api_problem
from dpp.client.values import Malformed
from tests.cli.peers import Says, peer
from tests.client.conftest import KEY, RUN, Ask

IANA = "https://iana.org/assignments/http-problem-types#"


def listed(*items: dict[str, Any], cursor: str | None = None) -> Says:
    return Says(200, json.dumps({"items": items, "next_cursor": cursor, "later": 1}))


def test_money_is_exact_and_times_have_their_zone() -> None:
    run = Run.of({**RUN, "finished_at": "2026-01-01T01:00:00.000001+01:00"})

    assert run.cost.max_usd == Decimal("0.10")
    assert f"{run.cost.max_usd} {run.cost.actual_usd}" == "0.10 0.05"
    assert run.created_at == datetime(2026, 1, 1, tzinfo=UTC)
    assert run.finished_at == datetime(2026, 1, 1, 0, 0, 0, 1, tzinfo=UTC)


def test_what_a_later_server_adds_is_ignored_and_still_to_be_had() -> None:
    run = Run.of({**RUN, "status": "PAUSED", "cost": {**RUN["cost"], "tax_usd": "0.01"}})

    assert (run.status, run.ended) == ("PAUSED", False)
    assert run.document["a_later_server_adds"] == ["this"]
    with pytest.raises(FrozenInstanceError):
        run.status = "COMPLETED"  # type: ignore[misc]


@pytest.mark.parametrize(
    "wrong",
    [
        {"cost": {"max_usd": 0.1, "held_usd": "0.00"}},
        {"cost": {"max_usd": "much", "held_usd": "0.00"}},
        {"cost": {"max_usd": "NaN", "held_usd": "0.00"}},
        {"cost": None},
        {"created_at": "2026-01-01T00:00:00"},
        {"created_at": 5},
        {"created_at": "soon"},
        {"run_id": None, "created_at": None},
    ],
    ids=repr,
)
def test_what_is_no_run_is_not_taken_for_one(wrong: dict[str, Any]) -> None:
    with pytest.raises(Malformed):
        Run.of({**RUN, **wrong})


def test_lists_are_read_page_after_page_as_they_are_taken(ask: Ask) -> None:
    first = listed({**RUN, "run_id": "a"}, {**RUN, "run_id": "b"}, cursor="c+/=")
    with peer([first, listed({**RUN, "run_id": "c"})]) as server:
        found = ask(
            server.url,
            lambda client: client.runs(
                status="COMPLETED", created_after=datetime(2026, 1, 1, tzinfo=UTC)
            ),
        )

    assert [run.run_id for run in found] == ["a", "b", "c"]
    query = "status=COMPLETED&created_after=2026-01-01T00%3A00%3A00Z"
    assert [asked.path for asked in server.asked] == [
        f"/v1/runs?limit=200&{query}",
        f"/v1/runs?limit=200&cursor=c%2B%2F%3D&{query}",
    ]


def test_a_list_that_is_not_read_to_its_end_asks_no_further() -> None:
    with peer([listed(RUN, cursor="c")]) as server, Client(server.url, KEY) as client:
        found = client.runs()
        before = len(server.asked)
        next(found)

    assert (before, len(server.asked)) == (0, 1)


def test_one_page_can_be_asked_for(ask: Ask) -> None:
    with peer([listed(RUN, cursor="c")]) as server:
        page = ask(server.url, lambda client: client.runs_page(limit=1, cursor="b"))

    assert ([run.run_id for run in page.items], page.next_cursor) == (["r1"], "c")
    assert server.asked[0].path == "/v1/runs?limit=1&cursor=b"


@pytest.mark.parametrize("answer", [Says(200, '{"items": {}}'), Says(200, '{"items": [1]}')])
def test_what_is_no_list_is_not_taken_for_one(ask: Ask, answer: Says) -> None:
    with peer([answer]) as server, pytest.raises(BadAnswer):
        ask(server.url, lambda client: client.runs())


def test_the_ledger_as_csv_keeps_its_lines(ask: Ask) -> None:
    content = 'transfer_id,reason\ntr_1,"two\nlines €"\r\ntr_2,end'
    says = Says(200, content, {"Content-Type": "text/csv; charset=utf-8"})
    with peer([says]) as server:
        lines = ask(server.url, lambda client: client.transfers_csv())

    assert server.asked[0].headers["Accept"] == "text/csv"
    assert "".join(lines) == content
    assert lines[:2] == ["transfer_id,reason\n", 'tr_1,"two\n']


def test_days_and_sums_are_typed(ask: Ask) -> None:
    sums = {"runs": 2, "completed": 1, "failed": 1, "cost_usd": "0.05", "reserved_usd": "0.20"}
    document = {
        "first_day": "2026-01-01",
        "last_day": "2026-01-01",
        "items": [{"day": "2026-01-01", **sums}],
        "totals": sums,
    }
    with peer([Says(200, json.dumps(document))]) as server:
        usage = ask(server.url, lambda client: client.usage(date(2026, 1, 1), "2026-01-01"))

    assert server.asked[0].path == "/v1/usage?from=2026-01-01&to=2026-01-01"
    assert (usage.items[0].day, usage.totals.cost_usd) == (date(2026, 1, 1), Decimal("0.05"))


@pytest.mark.parametrize(
    ("kind", "status", "error"),
    [
        ("https://dpp.dev/problems/pack-not-allowed", 403, PackNotAllowed),
        ("https://dpp.dev/problems/tenant-frozen", 403, TenantFrozen),
        (IANA + "quota-exceeded", 429, QuotaExceeded),
        (IANA + "temporary-reduced-capacity", 503, Unavailable),
        ("https://dpp.dev/problems/of-a-later-server", 403, Forbidden),
        ("about:blank", 422, InvalidRequest),
        ("about:blank", 501, InternalError),
        ("about:blank", 418, ApiProblem),
    ],
)
def test_a_problem_is_raised_by_its_meaning(kind: str, status: int, error: type) -> None:
    assert type(api_problem(Problem(kind, "", status))) is error


@pytest.mark.parametrize("client", [Client, AsyncClient])
@pytest.mark.parametrize(
    ("url", "key", "error"),
    [
        (None, KEY, Misconfigured),
        ("http://h", None, Misconfigured),
        ("http://h", "kéy", Misconfigured),
        ("http://h", "key\n", Misconfigured),
        ("localhost:8080", KEY, NotAUrl),
        ("ftp://h", KEY, NotAUrl),
    ],
)
def test_a_client_that_could_not_ask_is_not_made(
    client: Any, url: str | None, key: str | None, error: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("DPP_URL", raising=False)
    monkeypatch.delenv("DPP_API_KEY", raising=False)

    with pytest.raises(error) as wrong:
        client(url, key)

    assert isinstance(wrong.value, ClientError)
    assert key is None or key not in str(wrong.value)


def test_url_and_key_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    with peer([Says(200, json.dumps(RUN))]) as server:
        monkeypatch.setenv("DPP_URL", f"{server.url}/below/")
        monkeypatch.setenv("DPP_API_KEY", KEY)
        with Client() as client:
            client.run("a/b")

    assert server.asked[0].path == "/below/v1/runs/a%2Fb"
    assert server.asked[0].headers["Authorization"] == f"Bearer {KEY}"


def test_no_repr_shows_a_key() -> None:
    with Client("http://h", KEY) as client:
        assert KEY not in repr(client) + repr(vars(client))
