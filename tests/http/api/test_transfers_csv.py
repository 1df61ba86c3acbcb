"""The whole ledger as CSV: every line, in the order and with the columns of the contract."""

from __future__ import annotations

import csv
import io
from typing import Any

import httpx
import pytest

from tests.http.api.conftest import NewTenant
from tests.node_client import Client, submission
from tests.node_process import NodeProcess

HEADER = "transfer_id,seq,kind,amount_usd,cost_usd,returned_usd,run_id,reference,reason,created_at"
AS_CSV = {"Accept": "text/csv"}
ACTIVE = ["=1+1", "+1", "-1", "@SUM(A1)", "'=1", "\uff1d1"]


def rows_of(answer: httpx.Response) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(answer.text, newline="")))


async def all_lines(client: Client) -> list[dict[str, Any]]:
    """Return the ledger from the JSON pages."""
    found: list[dict[str, Any]] = []
    params: dict[str, Any] = {"limit": 200}
    while True:
        page = await client.get("/v1/transfers", **params)
        found += page["items"]
        if page["next_cursor"] is None:
            return found
        params["cursor"] = page["next_cursor"]


async def test_file_is_the_ledger_of_the_pages(acme: Client) -> None:
    for inputs in ({"cost_usd": "0.005"}, {"fail": True}):
        await acme.ended((await acme.submitted(inputs=inputs))["run_id"])

    answer = await acme.ask("GET", "/v1/transfers", headers=AS_CSV)

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/csv; charset=utf-8; header=present"
    assert answer.headers["content-disposition"] == (
        f'attachment; filename="transfers-{acme.name}.csv"'
    )
    assert answer.headers["vary"].lower().split(", ")[0] == "accept"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["transfer-encoding"] == "chunked"
    assert answer.text.startswith(HEADER + "\r\n")
    assert answer.text.endswith("\r\n")
    assert answer.text.count("\r\n") == answer.text.count("\n")
    lines = await all_lines(acme)
    assert [line["seq"] for line in lines] == [5, 4, 3, 2, 1]
    assert rows_of(answer) == [
        {name: "" if value is None else str(value) for name, value in line.items()}
        for line in lines
    ]


async def test_more_than_a_page_is_whole_newest_first_and_each_line_once(
    new_tenant: NewTenant,
) -> None:
    client = await new_tenant()
    for body in ("a", "b"):
        runs = [submission(max_cost_usd="0.005", idempotency_key=f"{body}{n}") for n in range(600)]
        await client.batch(runs)

    answer = await client.ask("GET", "/v1/transfers", headers=AS_CSV)
    seqs = [int(row["seq"]) for row in rows_of(answer)]

    assert len(seqs) >= 1201  # the deposit and the reserves; those that have ended meanwhile too
    assert seqs == [*range(len(seqs), 0, -1)]


async def test_what_people_wrote_is_no_formula_and_comes_back(
    served_node: NodeProcess, acme: Client
) -> None:
    texts = [*ACTIVE, 'a "quoted", text', "plain", "a=b"]
    for n, text in enumerate(texts):
        body = {"amount_usd": "-0.01", "reference": f"r{n}", "reason": text}
        told = served_node.ask_admin("POST", f"/admin/v1/tenants/{acme.name}/adjusts", body)
        assert told.status_code == 200, told.text

    answer = await acme.ask("GET", "/v1/transfers", headers=AS_CSV)
    rows = [row for row in reversed(rows_of(answer)) if row["kind"] == "adjust"]

    assert [row["reason"] for row in rows] == [
        *(f"'{text}" for text in ACTIVE),
        *texts[len(ACTIVE) :],
    ]
    assert [row["reason"].removeprefix("'") for row in rows] == texts
    assert {row["amount_usd"] for row in rows} == {"-0.01"}  # a number stays one


@pytest.mark.parametrize(
    ("accept", "media"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json, text/csv", "application/json"),
        ("text/csv;q=0.5, application/json;q=0.4", "text/csv"),
        ("text/*", "text/csv"),
        ("text/csv, */*;q=0.1", "text/csv"),
        ("text/csv;q=0, */*", "application/json"),
        ("application/*;q=0.2, text/csv;q=0.1", "application/json"),
    ],
)
async def test_client_says_which_form_it_likes(
    shared: Client, accept: str | None, media: str
) -> None:
    headers = {} if accept is None else {"Accept": accept}

    answer = await shared.ask("GET", "/v1/transfers", headers=headers)

    assert answer.status_code == 200
    assert answer.headers["content-type"].partition(";")[0] == media
    assert "accept" in answer.headers["vary"].lower()


async def test_other_forms_are_not_made(shared: Client) -> None:
    answer = await shared.ask("GET", "/v1/transfers", headers={"Accept": "text/html"})
    budget = await shared.ask("GET", "/v1/budget", headers=AS_CSV)

    assert (answer.status_code, budget.status_code) == (406, 406)


@pytest.mark.parametrize("params", [{"limit": 5}, {"cursor": "x"}, {"more": 1}])
async def test_file_is_whole_so_it_takes_no_page(shared: Client, params: dict[str, Any]) -> None:
    answer = await shared.ask("GET", "/v1/transfers", params=params, headers=AS_CSV)

    assert answer.status_code == 422


async def test_head_has_no_file(shared: Client) -> None:
    answer = await shared.ask("HEAD", "/v1/transfers", headers=AS_CSV)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"].startswith("text/csv")
