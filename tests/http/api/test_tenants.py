"""Two tenants on one node: on every route, what is another's is as if it were not there."""

from __future__ import annotations

import uuid
from typing import Any

import pytest

from dpp.http.routes import ROUTES
from tests.http.api.conftest import NewTenant
from tests.node_client import Client, problem, until
from tests.node_process import NodeProcess

UNKNOWN = str(uuid.UUID(int=0x018F0000000070008000000000000000))
OF_A_RUN = [route for route in ROUTES if "{run_id}" in route.path]
LISTS = ["/v1/runs", "/v1/transfers"]


def stripped(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out what names the request itself."""
    return {name: document[name] for name in document if name not in {"instance", "request_id"}}


@pytest.mark.parametrize("route", OF_A_RUN, ids=lambda route: f"{route.method} {route.path}")
async def test_another_tenants_run_is_like_an_unknown_one(
    acme: Client, new_tenant: NewTenant, route: Any
) -> None:
    other = await new_tenant()
    running = await acme.submitted(inputs={"sleep_s": 600})
    await acme.until_status(running["run_id"], "PROCESSING")
    ended = await acme.ended((await acme.submitted(inputs={"message": "secret"}))["run_id"])
    before = await acme.books()

    answers = [
        await other.ask(route.method, route.path.replace("{run_id}", run_id))
        for run_id in (running["run_id"], ended["run_id"], UNKNOWN)
    ]
    still = await acme.run(running["run_id"])
    after = await acme.books()
    await acme.cancel(running["run_id"])

    assert [(answer.status_code, problem(answer)) for answer in answers] == [(404, "not-found")] * 3
    assert stripped(answers[0].json()) == stripped(answers[1].json()) == stripped(answers[2].json())
    names = [{*answer.headers} for answer in answers]
    assert names[0] == names[1] == names[2]
    assert "secret" not in answers[1].text
    assert (still["status"], after) == ("PROCESSING", before)


@pytest.mark.parametrize("path", [*LISTS, "/v1/budget"])
async def test_lists_and_budget_show_nothing_of_another_tenant(
    acme: Client, new_tenant: NewTenant, path: str
) -> None:
    other = await new_tenant()
    run = await acme.ended(
        (await acme.submitted(idempotency_key="mine", inputs={"cost_usd": "0.001"}))["run_id"]
    )
    before = await other.ask("GET", path)

    await acme.ended((await acme.submitted(inputs={"cost_usd": "0.002"}))["run_id"])
    after = await other.ask("GET", path)
    by_key = await other.get("/v1/runs", idempotency_key="mine")

    assert before.content == after.content
    assert run["run_id"] not in after.text
    assert by_key["items"] == []


async def test_one_tenants_limits_are_not_anothers(new_tenant: NewTenant) -> None:
    busy, idle = await new_tenant(plan="ten"), await new_tenant(plan="ten")

    used_up = [(await busy.submit()).status_code for _ in range(11)]
    other = await idle.submit()

    assert used_up == [201] * 10 + [429]
    assert other.status_code == 201
    assert other.headers["ratelimit"] == '"submit";r=9;t=60'


@pytest.mark.parametrize(
    "route", [route for route in ROUTES if route.scope], ids=lambda r: f"{r.method} {r.path}"
)
async def test_every_route_asks_for_its_scope_and_no_other(
    acme: Client, served_node: NodeProcess, route: Any
) -> None:
    scopes = {other.scope for other in ROUTES if other.scope}
    path = route.path.replace("{run_id}", UNKNOWN)
    having = Client(acme.http, served_node.new_key(acme.name, scopes=[route.scope]))
    lacking = Client(
        acme.http, served_node.new_key(acme.name, scopes=sorted(scopes - {route.scope}))
    )
    more: dict[str, Any] = {"json": {}} if route.body else {}

    granted = await having.ask(route.method, path, **more)
    refused = await lacking.ask(route.method, path, **more)
    nobody = await acme.as_nobody().ask(route.method, path, **more)

    assert granted.status_code not in {401, 403}
    assert (refused.status_code, problem(refused)) == (403, "forbidden")
    assert (nobody.status_code, problem(nobody)) == (401, "unauthorized")
    assert nobody.headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("path", [route.path for route in ROUTES if not route.scope])
async def test_what_needs_no_key_heeds_none(acme: Client, path: str) -> None:
    answers = [await who.ask("GET", path) for who in (acme, acme.as_nobody())]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert answers[0].content == answers[1].content


async def test_revoked_key_opens_nothing_and_submits_nothing(
    acme: Client, served_node: NodeProcess
) -> None:
    other = Client(acme.http, served_node.new_key(acme.name))
    await other.submitted(idempotency_key="before")
    assert other.key is not None
    key_id = other.key.split("_")[2]

    served_node.admin("POST", f"/admin/v1/tenants/{acme.name}/keys/{key_id}:revoke", {})
    submitted = await other.submit()  # at once: the intake looks again under its lock

    assert (submitted.status_code, problem(submitted)) == (401, "unauthorized")
    assert len((await acme.get("/v1/runs"))["items"]) == 1


async def test_key_that_lives_a_second_is_dead_after_it(
    acme: Client, served_node: NodeProcess
) -> None:
    short = Client(acme.http, served_node.new_key(acme.name, expires_in_s=1))
    first = await short.submit()

    async def refused() -> bool:
        return (await short.ask("GET", "/v1/budget")).status_code == 401

    await until(refused)
    assert first.status_code == 201
    assert (await short.submit()).status_code == 401
