"""Two tenants and every route of the table: what is another's is as if it were not there.

A new route is tried by itself; one with an id of a new kind, or with a body, fails here until
`THINGS` says how a tenant comes by such a thing, and `BODIES` what is sent.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import pytest

from dpp.http.routes import ROUTES
from tests.http.api.conftest import NewTenant
from tests.node_client import Client, problem, until

if TYPE_CHECKING:
    import httpx

    from dpp.http.routes import Route

Thing: TypeAlias = Callable[[Client, dict[str, str]], Awaitable[str]]

WITH_ID: Final = [route for route in ROUTES if "{" in route.path]
LISTS: Final = [
    route for route in ROUTES if route.scope and route.method == "GET" and "{" not in route.path
]
UNKNOWN: Final = {
    "key_id": "0" * 12,
    "run_id": "018f0000-0000-7000-8000-000000000000",
    "webhook_id": "018f0000-0000-7000-8000-000000000000",
    "delivery_id": "018f0000-0000-4000-8000-000000000000",
}
BODIES: Final[dict[tuple[str, str], dict[str, Any]]] = {
    ("POST", "/v1/keys/{key_id}:rotate"): {"overlap_s": 0},
    ("PATCH", "/v1/webhooks/{webhook_id}"): {"events": ["run.failed"]},
}
OWN_HEADERS: Final = {"date", "x-request-id"}  # of each answer


async def make_run(client: Client, _: dict[str, str]) -> str:
    """Make a run with a result."""
    run = await client.submitted(inputs={"message": "secret"}, metadata={"mine": "secret"})
    return str((await client.ended(run["run_id"]))["run_id"])


async def make_key(client: Client, _: dict[str, str]) -> str:
    """Make a key that may do nothing much, so that anybody's could rotate it."""
    answer = await client.ask("POST", "/v1/keys", json={"scopes": ["keys:write"]})
    return str(answer.json()["key_id"])


async def make_webhook(client: Client, _: dict[str, str]) -> str:
    """Make a webhook to where nobody is."""
    body = {"url": "https://nobody.invalid/hook", "events": ["run.completed"]}
    return str((await client.ask("POST", "/v1/webhooks", json=body)).json()["webhook_id"])


async def make_delivery(client: Client, ids: dict[str, str]) -> str:
    """Let a run end whose webhook is told of it."""
    await make_run(client, ids)

    async def delivery() -> Any:
        return (await client.get(f"/v1/webhooks/{ids['webhook_id']}/deliveries"))["items"]

    return str((await until(delivery))[0]["delivery_id"])


THINGS: Final[dict[str, Thing]] = {
    "run_id": make_run,
    "key_id": make_key,
    "webhook_id": make_webhook,
    "delivery_id": make_delivery,
}


def names_of(route: Route) -> list[str]:
    """Return the parameters of a path, in order."""
    return re.findall(r"\{([a-z_]+)\}", route.path)


async def things(client: Client, names: list[str]) -> dict[str, str]:
    """Make what a path names; what is inside of another thing is made in it."""
    ids: dict[str, str] = {}
    for name in names:
        ids[name] = await THINGS[name](client, ids)
    return ids


async def ask(client: Client, route: Route, ids: dict[str, str]) -> httpx.Response:
    body = {} if route.body is None else {"json": BODIES[route.method, route.path]}
    return await client.ask(route.method, route.path.format_map(ids), **body)


async def picture(client: Client) -> Any:
    """Return all that a tenant has, but for what moves by itself."""
    keys = (await client.get("/v1/keys", ended="true"))["items"]
    webhooks = (await client.get("/v1/webhooks"))["items"]
    return [{**key, "last_used_at": None} for key in keys], webhooks, await client.books()


def told(answer: httpx.Response) -> tuple[Any, ...]:
    """Return an answer without what names the request itself."""
    document = {**answer.json(), "instance": "", "request_id": ""}
    headers = {name: v for name, v in answer.headers.items() if name not in OWN_HEADERS}
    headers.pop("content-length")  # of the instance, whose ids have the same length or not
    return answer.status_code, document, headers


@pytest.mark.parametrize("route", WITH_ID, ids=lambda route: f"{route.method} {route.path}")
async def test_another_tenants_ids_are_like_unknown_ones(
    acme: Client, new_tenant: NewTenant, route: Route
) -> None:
    other, names = await new_tenant(), names_of(route)
    theirs, own = await things(acme, names), await things(other, names[:-1])
    unknown = {name: UNKNOWN[name] for name in names}
    before = await picture(acme)

    whole = [await ask(other, route, ids) for ids in (theirs, unknown)]
    inside = [await ask(other, route, {**ids, **own}) for ids in (theirs, unknown)]
    after = await picture(acme)
    mine = await ask(acme, route, theirs)

    assert [problem(answer) for answer in (*whole, *inside)] == ["not-found"] * 4
    assert told(whole[0]) == told(whole[1])
    assert told(inside[0]) == told(inside[1])
    assert before == after
    assert mine.status_code != 404, mine.text  # so it was there to be found


@pytest.mark.parametrize("route", LISTS, ids=lambda route: route.path)
async def test_no_list_shows_anything_of_another_tenant(
    acme: Client, new_tenant: NewTenant, route: Route
) -> None:
    other = await new_tenant()
    before = await ask(other, route, {})

    ids = await things(acme, [*THINGS])
    after = await ask(other, route, {})

    assert (before.status_code, after.status_code) == (200, 200)
    assert [name for name, value in ids.items() if value in after.text] == []
    assert "secret" not in after.text
    assert acme.name not in after.text
