"""Findings over the admin API: listed, shown, resolved, and every refusal a problem of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from tests.http.test_admin_api import Admin, admin, problem
from tests.store.contract import seen
from tests.store.examples import DOLLAR
from tests.store.steps import begin, end_one, make_tenant, take_lease

if TYPE_CHECKING:
    from dpp.claims import Claimed
    from dpp.store.postgres import PostgresStore

__all__ = ["admin"]  # the fixture

NOWHERE = "7d5be967-c017-43aa-b4a0-f327ae9289ff"
WHY = {"operator": "ann", "reason": "the pack's log says so"}


async def set_aside(store: PostgresStore) -> Claimed:
    await make_tenant(store)
    claimed = await begin(store, await take_lease(store))
    await store.quarantine_run(seen(claimed), {"why": "refused"})
    return claimed


async def the_finding(admin: Admin) -> dict[str, Any]:
    (finding,) = (await admin.get("/findings")).json()["items"]
    return finding


async def test_a_finding_is_listed_shown_and_resolved(admin: Admin, store: PostgresStore) -> None:
    claimed = await set_aside(store)
    finding = await the_finding(admin)
    path = f"/findings/{finding['finding_id']}"

    shown = (await admin.get(path)).json()
    answers = [
        await admin.post(f"{path}:resolve", how="settle", cost_usd="0.05", **WHY) for _ in range(2)
    ]

    assert shown == finding
    assert (finding["subject"], finding["tenant_id"]) == (str(claimed.fence.run_id), "acme")
    assert (finding["evidence"], finding["resolution"]) == ({"why": "refused"}, None)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].json() == answers[1].json()
    assert answers[0].json()["tenant_frozen"] is False
    assert answers[0].json()["finding"]["resolution"] == {
        "how": "settle",
        "cost_micros": 50_000,
        "live_row": "as it was",
        **WHY,
    }
    assert (await admin.get("/findings")).json()["items"] == []
    assert (await admin.get(path)).json() == answers[0].json()["finding"]
    assert (await store.get_budget("acme")).spent == 50_000


async def test_a_finding_that_was_resolved_otherwise(admin: Admin, store: PostgresStore) -> None:
    await set_aside(store)
    path = f"/findings/{(await the_finding(admin))['finding_id']}:resolve"
    await admin.post(path, how="void", **WHY)

    answer = await admin.post(path, how="settle", cost_usd="0.05", **WHY)

    assert problem(answer) == "409 finding-resolved"


async def test_a_run_that_ended_is_shown_as_it_ended(admin: Admin, store: PostgresStore) -> None:
    await make_tenant(store)
    claimed = await begin(store, await take_lease(store))
    await end_one(store, claimed)
    await store.open_finding("object_not_verified", str(claimed.fence.run_id), "acme", {})
    path = f"/findings/{(await the_finding(admin))['finding_id']}:resolve"

    answer = await admin.post(path, how="void", **WHY)

    assert problem(answer) == "409 run-ended"
    assert answer.json()["run_status"] == "COMPLETED"
    assert answer.json()["actual_usd"] == "0.10"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ({"how": "refold"}, "409 resolution-unfit"),
        ({"how": "accept"}, "409 resolution-unfit"),
        ({"how": "settle"}, "422 invalid-request"),
        ({"how": "settle", "cost_usd": "0"}, "422 invalid-request"),
        ({"how": "settle", "cost_usd": "1.000001"}, "422 invalid-request"),
        ({"how": "void", "cost_usd": "1"}, "422 invalid-request"),
        ({"how": "forget"}, "422 invalid-request"),
        ({}, "422 invalid-request"),
        ({"how": "void", "reason": " "}, "422 invalid-request"),
    ],
)
async def test_what_is_refused_changes_nothing(
    admin: Admin, store: PostgresStore, body: dict[str, str], expected: str
) -> None:
    await set_aside(store)
    finding = await the_finding(admin)

    answer = await admin.post(f"/findings/{finding['finding_id']}:resolve", **{**WHY, **body})

    assert problem(answer) == expected
    assert await the_finding(admin) == finding
    assert (await store.get_budget("acme")).held == DOLLAR


async def test_a_reason_must_be_given(admin: Admin, store: PostgresStore) -> None:
    await set_aside(store)
    path = f"/findings/{(await the_finding(admin))['finding_id']}:resolve"

    assert problem(await admin.post(path, how="void")) == "422 invalid-request"


@pytest.mark.parametrize("name", ["none", NOWHERE, NOWHERE.upper()])
async def test_a_finding_that_is_not_there(admin: Admin, name: str) -> None:
    answers = [
        await admin.get(f"/findings/{name}"),
        await admin.post(f"/findings/{name}:resolve", how="void", **WHY),
    ]

    assert [problem(answer) for answer in answers] == ["404 not-found"] * 2
