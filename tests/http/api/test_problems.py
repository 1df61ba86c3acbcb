"""Every type of problem that exists, provoked on a real node, with the form that it must have."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

import httpx
import pytest
import trio

from dpp.http.problems import TYPES
from dpp.keyring import KEYS_MAX
from tests.http.api.conftest import NewTenant, Untouched
from tests.node_books import Books
from tests.node_client import Client, send_raw, submission
from tests.node_process import NodeProcess

UNKNOWN = "/v1/runs/018f0000-0000-7000-8000-000000000000"
SET = "update dpp.tenants set {} = now() where tenant_id = $1 returning 1"
PRUNED = """
insert into dpp.spent_keys
select $1, idempotency_key, gen_random_uuid(), fingerprint, now(), now() from dpp.submissions
 where tenant_id = $2 returning 1
"""
# The append-only triggers let nobody do this but a superuser who turns them off.
LATE = (
    "set session_replication_role = replica;"
    "update dpp.submissions set result_days = -1 where run_id = '{}'"
)
JSON = {"Content-Type": "application/json"}
WEBHOOK = {"url": "https://hooks.example.com/", "events": ["run.expired"]}
REFUND = {"amount_usd": "0.03", "reference": "back", "reason": "a test"}


class World:
    """What a problem may need to come about."""

    def __init__(
        self, node: NodeProcess, acme: Client, new_tenant: NewTenant, books: Books
    ) -> None:
        self.node, self.acme, self.new_tenant, self.books = node, acme, new_tenant, books

    def admin(self, path: str, body: object) -> httpx.Response:
        return self.node.ask_admin("POST", f"/admin/v1/tenants{path}", body)

    async def raw(self, data: bytes) -> httpx.Response:
        """Send bytes that no client would; returns the answer."""
        head, _, body = (await send_raw(self.node.url, data)).partition(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")
        pairs = [
            (name, value.strip()) for name, _, value in (line.partition(":") for line in lines)
        ]
        return httpx.Response(int(first.split(" ")[1]), headers=pairs, content=body)


Provoke: TypeAlias = Callable[[World], Awaitable[httpx.Response]]
PROVOKED: dict[str, tuple[int, Provoke]] = {}
# What a working node does not answer: a bug's, and an outage's, in tests/node/test_outage.py.
ELSEWHERE = {
    "internal-error",
    "temporary-reduced-capacity",
    *(
        "run-ended",
        "finding-resolved",
        "resolution-refused",
        "resolution-unfit",
    ),  # of findings, which good books have none
}


def provokes(name: str, status: int) -> Callable[[Provoke], Provoke]:
    """Put a way to provoke a problem into the table."""

    def put(how: Provoke) -> Provoke:
        PROVOKED[name] = status, how
        return how

    return put


@provokes("malformed-http", 400)
async def _(world: World) -> httpx.Response:
    return await world.raw(b"GET / HTTP/1.1\r\nHost: dpp\r\nX: a\r\n b\r\n\r\n")


@provokes("expectation-failed", 417)
async def _(world: World) -> httpx.Response:
    return await world.raw(b"GET / HTTP/1.1\r\nHost: dpp\r\nExpect: 200-maybe\r\n\r\n")


@provokes("malformed-json", 400)
async def _(world: World) -> httpx.Response:
    headers = {**JSON, "Idempotency-Key": "k"}
    return await world.acme.ask("POST", "/v1/runs", content=b"{", headers=headers)


@provokes("idempotency-key-missing", 400)
async def _(world: World) -> httpx.Response:
    return await world.acme.ask("POST", "/v1/runs", json=submission())


@provokes("idempotency-key-invalid", 400)
async def _(world: World) -> httpx.Response:
    return await world.acme.submit(idempotency_key="a b")


@provokes("unauthorized", 401)
async def _(world: World) -> httpx.Response:
    return await world.acme.as_nobody().submit()


@provokes("budget-exceeded", 402)
async def _(world: World) -> httpx.Response:
    return await world.acme.submit(max_cost_usd="10.000001")


@provokes("spend-limit-exceeded", 402)
async def _(world: World) -> httpx.Response:
    capped = await world.new_tenant(plan="thrifty")
    held = await capped.submit(max_cost_usd="0.02", inputs={"sleep_s": 5})
    assert held.status_code == 201
    return await capped.submit(max_cost_usd="0.02")


@provokes("run-expired", 410)
async def _(world: World) -> httpx.Response:
    first, other = await world.new_tenant(), await world.new_tenant()
    await first.submitted(idempotency_key="old")
    await world.books.rows(PRUNED, other.name, first.name)
    return await other.submit(idempotency_key="old")


@provokes("forbidden", 403)
async def _(world: World) -> httpx.Response:
    key = world.node.new_key(world.acme.name, scopes=["runs:read"])
    return await Client(world.acme.http, key).submit()


@provokes("pack-not-allowed", 403)
async def _(world: World) -> httpx.Response:
    picky = await world.new_tenant(plan="picky")
    assert (await picky.submit()).status_code == 201
    return await picky.submit(pack_type="decision", inputs={"question": "?"}, max_cost_usd="1")


@provokes("tenant-suspended", 403)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    world.admin(f"/{other.name}:suspend", {})
    return await other.submit()


@provokes("tenant-frozen", 403)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    await world.books.rows(SET.format("frozen_at"), other.name)
    return await other.submit()


@provokes("not-found", 404)
async def _(world: World) -> httpx.Response:
    return await world.acme.ask("GET", UNKNOWN)


@provokes("method-not-allowed", 405)
async def _(world: World) -> httpx.Response:
    return await world.acme.ask("DELETE", "/v1/runs")


@provokes("not-acceptable", 406)
async def _(world: World) -> httpx.Response:
    return await world.acme.submit(headers={"Accept": "text/html"})


@provokes("request-timeout", 408)
async def _(world: World) -> httpx.Response:
    return await world.raw(b"GET / HTTP/1.1\r\nHost: dpp\r\n")  # and nothing more


@provokes("tenant-exists", 409)
async def _(world: World) -> httpx.Response:
    await trio.lowlevel.checkpoint()
    return world.admin("", {"tenant_id": world.acme.name, "plan": "basic"})


@provokes("run-not-finished", 409)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    run = await other.submitted(inputs={"sleep_s": 600})
    return await other.ask("GET", run["links"]["result"])


@provokes("result-expired", 410)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    run = await other.ended((await other.submitted())["run_id"])
    await world.books.execute(LATE.format(run["run_id"]))
    return await other.ask("GET", run["links"]["result"])


@provokes("range-not-satisfiable", 416)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    run = await other.ended((await other.submitted())["run_id"])
    return await other.ask("GET", run["links"]["result"], headers={"Range": "bytes=99-"})


@provokes("key-limit-reached", 409)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    for _n in range(KEYS_MAX - 1):
        answer = await other.ask("POST", "/v1/keys", json={"scopes": ["runs:read"]})
        assert answer.status_code == 201
    return await other.ask("POST", "/v1/keys", json={"scopes": ["runs:read"]})


@provokes("webhook-limit-reached", 409)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    for _ in range(20):
        assert (await other.ask("POST", "/v1/webhooks", json=WEBHOOK)).status_code == 201
    return await other.ask("POST", "/v1/webhooks", json=WEBHOOK)


@provokes("webhook-disabled", 409)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    hook = (await other.ask("POST", "/v1/webhooks", json=WEBHOOK)).json()
    path = f"/v1/webhooks/{hook['webhook_id']}"
    assert (await other.ask("PATCH", path, json={"status": "disabled"})).status_code == 200
    return await other.ask("POST", f"{path}/deliveries/{hook['webhook_id']}:replay")


@provokes("payload-too-large", 413)
async def _(world: World) -> httpx.Response:
    return await world.acme.submit(inputs={"message": "x" * (1 << 20)})


@provokes("uri-too-long", 414)
async def _(world: World) -> httpx.Response:
    return await world.acme.ask("GET", "/v1/runs/" + "a" * 9000)


@provokes("unsupported-media-type", 415)
async def _(world: World) -> httpx.Response:
    return await world.acme.submit(headers={"Content-Type": "text/plain"})


@provokes("invalid-request", 422)
async def _(world: World) -> httpx.Response:
    return await world.acme.submit(max_cost_usd=1)


@provokes("idempotency-key-reused", 422)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    await other.submitted(idempotency_key="k")
    return await other.submit(idempotency_key="k", priority=1)


@provokes("reference-reused", 422)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    path = f"/{other.name}/deposits"
    assert world.admin(path, {"amount_usd": "1.00", "reference": "r"}).status_code == 200
    return world.admin(path, {"amount_usd": "2.00", "reference": "r"})


@provokes("refund-too-high", 422)
async def _(world: World) -> httpx.Response:
    other = await world.new_tenant()
    run = await other.submitted(max_cost_usd="0.10", inputs={"cost_usd": "0.05"})
    await other.ended(run["run_id"])
    body = {**REFUND, "run_id": run["run_id"]}
    assert world.admin(f"/{other.name}/refunds", body).status_code == 200
    return world.admin(f"/{other.name}/refunds", {**body, "reference": "again"})


@provokes("max-cost-too-low", 422)
async def _(world: World) -> httpx.Response:
    inputs = {"question": "?", "options": ["a", "b"]}
    return await world.acme.submit(pack_type="decision", inputs=inputs, max_cost_usd="0.0099")


@provokes("max-cost-too-high", 422)
async def _(world: World) -> httpx.Response:
    return await (await world.new_tenant(plan="small")).submit(max_cost_usd="0.500001")


@provokes("pack-unknown", 422)
async def _(world: World) -> httpx.Response:
    return await world.acme.submit(pack_type="nothing")


@provokes("quota-exceeded", 429)
async def _(world: World) -> httpx.Response:
    reader = await world.new_tenant(plan="reader")
    answers = [await reader.ask("GET", "/v1/budget") for _ in range(6)]
    assert [answer.status_code for answer in answers[:5]] == [200] * 5
    return answers[5]


@provokes("headers-too-large", 431)
async def _(world: World) -> httpx.Response:
    return await world.acme.ask("GET", "/", headers={"X-Large": "x" * 17_000})


def test_every_type_of_problem_is_provoked_or_known_to_be_elsewhere() -> None:
    assert {*PROVOKED} | ELSEWHERE == {*TYPES}
    assert {name: status for name, (status, _) in PROVOKED.items()} == {
        name: kind.status for name, kind in TYPES.items() if name not in ELSEWHERE
    }


@pytest.mark.parametrize("name", sorted(PROVOKED))
async def test_problem_has_its_type_status_and_members_and_nothing_is_written(
    served_node: NodeProcess,
    acme: Client,
    new_tenant: NewTenant,
    books: Books,
    untouched: Untouched,
    name: str,
) -> None:
    status, provoke = PROVOKED[name]
    async with untouched(acme):
        answer = await provoke(World(served_node, acme, new_tenant, books))

    document: dict[str, Any] = json.loads(answer.content)
    assert answer.status_code == document["status"] == status, document
    assert document["type"] == TYPES[name].base + name
    assert document["title"] == TYPES[name].title
    assert set(document) == {
        *("type", "title", "status", "detail", "instance", "request_id"),
        *TYPES[name].members,
    }
    assert document["detail"]
    assert document["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    for word in ("Traceback", "asyncpg", "dpp/", ".py"):
        assert word not in answer.text


@pytest.mark.parametrize(
    ("name", "members"),
    [
        ("budget-exceeded", {"available_usd": "10.00", "required_usd": "10.000001"}),
        (
            "refund-too-high",
            {"cost_usd": "0.05", "refunded_usd": "0.03", "left_usd": "0.02"},
        ),
        ("max-cost-too-low", {"required_usd": "0.01"}),
        ("max-cost-too-high", {"limit_usd": "0.50"}),
        ("pack-unknown", {"allowed": ["decision", "echo"]}),
        ("pack-not-allowed", {"allowed": ["echo"]}),
        ("quota-exceeded", {"violated-policies": ["read"]}),
        ("webhook-limit-reached", {"webhooks_max": 20}),
    ],
)
async def test_members_say_what_a_client_needs_to_go_on(
    served_node: NodeProcess,
    acme: Client,
    new_tenant: NewTenant,
    books: Books,
    name: str,
    members: dict[str, Any],
) -> None:
    answer = await PROVOKED[name][1](World(served_node, acme, new_tenant, books))

    document = answer.json()
    assert {member: document[member] for member in members} == members


async def test_what_is_wrong_in_many_ways_is_told_in_the_order_of_the_contract(
    served_node: NodeProcess, new_tenant: NewTenant
) -> None:
    """Take away one fault after another: the next in order is the answer."""
    client = await new_tenant(plan="picky", deposit_usd="0.01")
    served_node.admin("POST", f"/admin/v1/tenants/{client.name}:suspend", {})
    read_only = Client(client.http, served_node.new_key(client.name, scopes=["runs:read"]))
    wrong: dict[str, Any] = {
        "pack_type": "nothing",
        "inputs": {"sleep_s": -1},
        "max_cost_usd": "0.004",
    }

    async def told(who: Client, method: str = "POST", **more: Any) -> str:
        answer = await who.ask(method, "/v1/runs", **more)
        return str(answer.json()["type"].rpartition("/")[2].rpartition("#")[2])

    body = json.dumps({**wrong, "more": 1}).encode()
    keyed = {"Idempotency-Key": "k"}
    order = [
        await told(client.as_nobody(), "PUT", content=b"{"),
        await told(client.as_nobody(), content=b"{", headers={"Accept": "image/png"}),
        await told(client.as_nobody(), content=b"{"),
        await told(client.as_nobody(), content=b"{", headers=JSON),
        await told(read_only, content=b"{", headers=JSON),
        await told(client, content=b"{", headers=JSON),
        await told(client, content=b"{", headers={**JSON, **keyed}),
        await told(client, content=body, headers={**JSON, **keyed}),
        await told(client, json=wrong, headers=keyed),
    ]
    served_node.admin("POST", f"/admin/v1/tenants/{client.name}:resume", {})
    order += [
        await told(client, json=wrong, headers=keyed),
        await told(client, json={**wrong, "pack_type": "decision"}, headers=keyed),
        await told(client, json={**wrong, "pack_type": "echo"}, headers=keyed),
        await told(client, json={**wrong, "pack_type": "echo", "inputs": {}}, headers=keyed),
        await told(client, json=submission(max_cost_usd="0.02"), headers=keyed),
    ]

    assert order == [
        "method-not-allowed",
        "not-acceptable",
        "unsupported-media-type",
        "unauthorized",
        "forbidden",
        "idempotency-key-missing",
        "malformed-json",
        "invalid-request",  # the envelope
        "tenant-suspended",
        "pack-unknown",
        "pack-not-allowed",
        "invalid-request",  # the inputs
        "max-cost-too-low",
        "budget-exceeded",
    ]
    assert (await client.submit(idempotency_key="k")).status_code == 201


@pytest.mark.parametrize("state", ["suspended", "frozen"])
async def test_replay_is_answered_whatever_became_of_the_tenant(
    served_node: NodeProcess, new_tenant: NewTenant, books: Books, state: str
) -> None:
    client = await new_tenant()
    run = await client.submitted(idempotency_key="k", inputs={"message": 1})
    waiting = await client.submitted(inputs={"sleep_s": 0.2})
    await books.rows(SET.format(f"{state}_at"), client.name)

    again = await client.submit(idempotency_key="k", inputs={"message": 1})
    new = await client.submit(inputs={"message": 1})
    accepted = await client.ended(waiting["run_id"])

    assert (again.status_code, again.json()["run_id"]) == (201, run["run_id"])
    assert new.status_code == 403
    assert accepted["status"] == "COMPLETED"  # accepted runs go on
