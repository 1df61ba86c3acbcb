"""Usage by UTC day, as the fold of what ended."""

from __future__ import annotations

from datetime import date, timedelta
from typing import Any

import pytest

from tests.http.api.conftest import NewTenant
from tests.node_books import Books
from tests.node_client import Client, problem
from tests.node_process import NodeProcess

DAY = timedelta(days=1)
EMPTY = {"runs": 0, "completed": 0, "failed": 0, "cost_usd": "0.00", "reserved_usd": "0.00"}


async def test_day_is_the_fold_of_what_ended_on_it(acme: Client, books: Books) -> None:
    for inputs in ({"cost_usd": "0.05"}, {"cost_usd": "0.02", "fail": True}, {}):
        await acme.ended((await acme.submitted(inputs=inputs, max_cost_usd="0.10"))["run_id"])
    asleep = await acme.submitted(inputs={"sleep_s": 600}, max_cost_usd="0.10")
    await acme.until_status(asleep["run_id"], "PROCESSING")
    open_ = await acme.get("/v1/usage")
    await acme.cancel(asleep["run_id"])
    await acme.ended(asleep["run_id"])

    usage = await acme.get("/v1/usage")
    busy = [day for day in usage["items"] if day["runs"]]  # two, should midnight pass meanwhile

    counts, amounts = ("runs", "completed", "failed"), ("cost_usd", "reserved_usd")
    assert [usage["totals"][name] for name in counts] == [4, 2, 1]
    assert [usage["totals"][name] for name in amounts] == ["0.07", "0.40"]
    assert open_["totals"]["runs"] == 3  # what has not ended is of no day yet
    assert usage["currency"] == "USD"
    assert {day["day"] for day in busy} == {
        str(row["day"])
        for row in await books.rows(
            "select distinct (finished_at at time zone 'UTC')::date as day "
            "from dpp.endings where tenant_id = $1",
            acme.name,
        )
    }
    assert sum(day["runs"] for day in busy) == 4


async def test_without_dates_it_is_the_last_thirty_days(acme: Client, books: Books) -> None:
    usage = await acme.get("/v1/usage")
    today = await books.value("select (now() at time zone 'UTC')::date")
    first, last = date.fromisoformat(usage["first_day"]), date.fromisoformat(usage["last_day"])

    assert last in {today, today - DAY}
    assert [day["day"] for day in usage["items"]] == [
        (first + n * DAY).isoformat() for n in range(30)
    ]
    assert last == first + 29 * DAY
    assert all({**day, "day": None} == {**EMPTY, "day": None} for day in usage["items"])
    assert usage["totals"] == EMPTY


async def test_period_has_both_of_its_ends_and_no_more(acme: Client) -> None:
    run = await acme.ended((await acme.submitted(inputs={"cost_usd": "0.01"}))["run_id"])
    day = date.fromisoformat(run["finished_at"][:10])
    asked = {
        "it": (day, day),
        "around": (day - DAY, day + DAY),
        "before": (day - 3 * DAY, day - DAY),
        "after": (day + DAY, day + 3 * DAY),
    }

    told = {
        name: await acme.get("/v1/usage", **{"from": str(first), "to": str(last)})
        for name, (first, last) in asked.items()
    }
    thirty = await acme.get("/v1/usage", to="2024-03-01")

    assert {name: usage["totals"]["runs"] for name, usage in told.items()} == {
        "it": 1,
        "around": 1,
        "before": 0,
        "after": 0,
    }
    assert [(one["day"], one["runs"]) for one in told["around"]["items"]] == [
        (str(day - DAY), 0),
        (str(day), 1),
        (str(day + DAY), 0),
    ]
    assert (thirty["first_day"], thirty["last_day"]) == ("2024-02-01", "2024-03-01")


async def test_a_year_is_answered_and_a_day_more_is_not(shared: Client) -> None:
    year = await shared.get("/v1/usage", **{"from": "2023-06-01", "to": "2024-05-31"})
    more = await shared.ask("GET", "/v1/usage", params={"from": "2023-05-31", "to": "2024-05-31"})

    assert len(year["items"]) == 366
    assert more.status_code == 422
    (error,) = more.json()["errors"]
    assert error["pointer"] == "/query/from"
    assert "366" in error["message"]


@pytest.mark.parametrize(
    "params",
    [
        {"from": "2024-03-02", "to": "2024-03-01"},
        {"from": "2024-01-01"},  # up to today it is more than a year
        {"from": "2999-01-01"},  # after today
        {"from": "yesterday"},
        {"to": "2024-13-01"},
        {"to": "2024-02-30"},
        {"from": "20240101", "to": "20240102"},
        {"from": "2024-01-01T00:00:00Z"},
        {"from": ["2024-03-01", "2024-03-02"]},
        {"day": "2024-03-01"},
        {"from": "0001-01-01", "to": "9999-12-31"},
    ],
)
async def test_wrong_periods_are_refused(shared: Client, params: dict[str, Any]) -> None:
    answer = await shared.ask("GET", "/v1/usage", params=params)

    assert answer.status_code == 422
    assert answer.json()["type"].endswith("/invalid-request")


@pytest.mark.parametrize(
    "params", [{"from": "0001-01-01"}, {"to": "9999-12-31", "from": "2026-01-01"}]
)
async def test_a_period_to_an_end_of_the_calendar_is_too_long_for_whoever_has_runs(
    acme: Client, params: dict[str, Any]
) -> None:
    await acme.ended((await acme.submitted())["run_id"])

    answer = await acme.ask("GET", "/v1/usage", params=params)

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")


async def test_the_ends_of_the_calendar_are_days_like_others(shared: Client) -> None:
    first = await shared.get("/v1/usage", to="0001-01-05")
    last = await shared.get("/v1/usage", **{"from": "9999-12-30", "to": "9999-12-31"})

    assert (first["first_day"], len(first["items"])) == ("0001-01-01", 5)
    assert [day["day"] for day in last["items"]] == ["9999-12-30", "9999-12-31"]


async def test_usage_is_the_tenants_own_and_needs_its_scope(
    served_node: NodeProcess, acme: Client, new_tenant: NewTenant
) -> None:
    other = await new_tenant()
    await acme.ended((await acme.submitted())["run_id"])
    runs_only = Client(acme.http, served_node.new_key(acme.name, scopes=["runs:read"]))

    assert (await other.get("/v1/usage"))["totals"] == EMPTY
    assert (await runs_only.ask("GET", "/v1/usage")).status_code == 403
    assert (await acme.as_nobody().ask("GET", "/v1/usage")).status_code == 401
