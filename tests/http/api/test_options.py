"""What a submission may ask beside its pack: when it may run, metadata, a URL of its own."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from tests.http.api.conftest import Untouched
from tests.node_client import Client, problem, until

if TYPE_CHECKING:
    from tests.node_books import Books

ENDPOINT = """
insert into dpp.webhooks
values (gen_random_uuid(), $1, $2, '{run.completed}', 's', null, null, now())
"""


def at(delta: timedelta) -> str:
    """Return a time as a client writes it, by its own clock."""
    return (datetime.now(UTC) + delta).isoformat()  # noqa: TID251


async def test_metadata_is_shown_with_the_run_in_every_answer(acme: Client) -> None:
    metadata = {"order": "4711", "Kunde": "Jürgen \U0001f600", "empty": ""}

    run = await acme.submitted(metadata=metadata, idempotency_key="k")
    again = await acme.submitted(metadata=metadata, idempotency_key="k")
    ended = await acme.ended(run["run_id"])
    listed = (await acme.get("/v1/runs"))["items"]

    assert [one["metadata"] for one in (run, again, ended, *listed)] == [metadata] * 4
    assert again["run_id"] == run["run_id"]


async def test_other_metadata_is_another_request(acme: Client) -> None:
    await acme.submitted(metadata={"order": "1"}, idempotency_key="k")

    answer = await acme.submit(metadata={"order": "2"}, idempotency_key="k")

    assert problem(answer) == "idempotency-key-reused"


@pytest.mark.parametrize(
    ("member", "value"),
    [
        ("metadata", {f"name {n}": "" for n in range(17)}),
        ("metadata", {"": "x"}),
        ("metadata", {"n" * 65: "x"}),
        ("metadata", {"name": "x" * 513}),
        ("metadata", {"name": 1}),
        ("metadata", {"name": None}),
        ("metadata", {"name": {"nested": "x"}}),
        ("metadata", ["name"]),
        ("metadata", "name"),
        ("run_at", "tomorrow"),
        ("run_at", "2026-01-01T00:00:00"),
        ("run_at", "2026-13-01T00:00:00Z"),
        ("run_at", 1_800_000_000),
        ("run_at", timedelta(days=31)),
        ("start_before", timedelta(days=-1)),
        ("start_before", timedelta(days=31)),
        ("webhook_url", "https://nobody.example/registered/this"),
        ("webhook_url", "ftp://shop.example/"),
        ("webhook_url", "https://user:word@shop.example/"),
        ("webhook_url", "https://shop.example/" + "x" * 2048),
        ("webhook_url", ""),
        ("priority", 10),
        ("priority", -1),
        ("timebox_s", 0),
    ],
)
async def test_an_option_that_is_wrong_is_named_and_nothing_is_written(
    acme: Client, untouched: Untouched, member: str, value: Any
) -> None:
    sent = at(value) if isinstance(value, timedelta) else value

    async with untouched(acme):
        answer = await acme.submit(**{member: sent})

    assert problem(answer) == "invalid-request"
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/{member}"]


async def test_a_run_waits_until_its_time_and_expires_after_it(acme: Client) -> None:
    later = await acme.submitted(run_at=at(timedelta(hours=1)))
    soon = await acme.submitted(run_at=at(timedelta(seconds=1)))
    soon = await acme.ended(soon["run_id"])

    assert soon["status"] == "COMPLETED"
    started, created = (datetime.fromisoformat(soon[name]) for name in ("started_at", "created_at"))
    assert started >= created + timedelta(seconds=0.9)
    later = await acme.run(later["run_id"])
    assert later["status"] == "QUEUED"
    expires, created = (
        datetime.fromisoformat(later[name]) for name in ("expires_at", "created_at")
    )
    assert timedelta(days=7, minutes=59) < expires - created < timedelta(days=7, minutes=61)


async def test_a_run_that_did_not_start_in_time_expires_at_no_cost(acme: Client) -> None:
    one = await acme.submitted(
        run_at=at(timedelta(seconds=0.5)), start_before=at(timedelta(seconds=0.6))
    )

    async def over() -> dict[str, Any] | None:
        run = await acme.run(one["run_id"])
        return None if run["status"] in {"QUEUED", "PROCESSING"} else run

    run = await until(over)

    # it starts in its tenth of a second, or it expires: nothing in between
    assert (run["status"], run["cost"]["actual_usd"]) in {
        ("EXPIRED", "0.00"),
        ("COMPLETED", "0.00"),
    }
    budget = await acme.get("/v1/budget")
    assert (budget["held_usd"], budget["available_usd"]) == ("0.00", "10.00")


async def test_a_url_of_its_own_belongs_to_a_registered_origin(acme: Client, books: Books) -> None:
    await books.rows(ENDPOINT, acme.name, "https://shop.example/hook")

    run = await acme.submitted(webhook_url="https://shop.example:443/order/1")

    row = await books.value(
        "select webhook_url from dpp.submissions where tenant_id = $1", acme.name
    )
    assert (run["status"], row) == ("QUEUED", "https://shop.example/order/1")


# ── lists ─────────────────────────────────────────────────────────────────────────────────────────


async def test_a_list_is_filtered_by_status_pack_and_time(acme: Client) -> None:
    done = await acme.ended((await acme.submitted())["run_id"])
    waiting = await acme.submitted(run_at=at(timedelta(hours=1)))

    async def listed(**query: Any) -> list[str]:
        return [run["run_id"] for run in (await acme.get("/v1/runs", **query))["items"]]

    assert await listed(status="COMPLETED") == [done["run_id"]]
    assert await listed(status="QUEUED", pack_type="echo") == [waiting["run_id"]]
    assert await listed(pack_type="decision") == []
    assert await listed(created_before=waiting["created_at"]) == [done["run_id"]]
    assert await listed(created_after=waiting["created_at"]) == [waiting["run_id"]]
    assert await listed(created_after=done["created_at"]) == [waiting["run_id"], done["run_id"]]


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("status", "completed"),
        ("status", "DONE"),
        ("pack_type", ""),
        ("created_after", "yesterday"),
        ("created_before", "2026-01-01"),
        ("colour", "red"),
    ],
)
async def test_a_filter_that_is_wrong_is_named(shared: Client, name: str, value: str) -> None:
    answer = await shared.ask("GET", "/v1/runs", params={name: value})

    assert problem(answer) == "invalid-request"
    assert [error["pointer"] for error in answer.json()["errors"]] == [f"/query/{name}"]
