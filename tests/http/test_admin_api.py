"""The management listener: metrics, the admin API by token, and hypercorn under guard."""

from __future__ import annotations

import secrets
import socket
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from attrs import define
from structlog.testing import capture_logs

from dpp import keys, logs, metrics
from dpp.faults import StoreUnavailable
from dpp.http import cursors, guarded, listener, management
from dpp.http.admin.app import FAILURES_A_MINUTE, admin_app
from dpp.http.admin.desk import Desk
from dpp.keys import SCOPES
from dpp.live import Live
from tests.conftest import PLANS
from tests.fake_blobs import FakeBlobs
from tests.http.server import Wire, get, request
from tests.http.test_bad_http import REFUSED
from tests.http.test_connection import drip
from tests.node_process import NO_TLS
from tests.store.examples import DOLLAR
from tests.store.steps import make_tenant, settle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dpp.store.postgres import PostgresStore

TOKEN = "a-token-of-the-operators"


@define
class Admin:
    """A running management listener."""

    address: tuple[str, int]
    http: httpx.AsyncClient
    stopping: trio.Event

    async def ask(self, method: str, path: str, token: str = TOKEN, **more: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {token}", **more.pop("headers", {})}
        return await self.http.request(method, path, headers=headers, **more)

    async def post(self, path: str, **body: Any) -> httpx.Response:
        return await self.ask("POST", f"/admin/v1{path}", json=body)

    async def get(self, path: str) -> httpx.Response:
        return await self.ask("GET", f"/admin/v1{path}")

    @asynccontextmanager
    async def connect(self) -> AsyncIterator[Wire]:
        async with await trio.open_tcp_stream(*self.address) as stream:
            yield Wire(stream)


@pytest.fixture
async def admin(store: PostgresStore) -> AsyncIterator[Admin]:
    """Run the management listener on the test's store."""
    app = admin_app(Desk(store, FakeBlobs(), Live(PLANS), secrets.token_bytes), TOKEN)
    stopping = trio.Event()
    with trio.fail_after(60):
        async with trio.open_nursery() as handlers:
            sockets = listener.bind("127.0.0.1", 0)
            serve = partial(management.serve, app, sockets, handlers, stopping)
            (address,) = await handlers.start(serve)
            url = "http://{}:{}".format(*address)
            async with httpx.AsyncClient(
                base_url=url, timeout=30, trust_env=False, verify=NO_TLS
            ) as http:
                yield Admin(address, http, stopping)
            stopping.set()


def problem(answer: httpx.Response) -> str:
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == answer.status_code
    assert document["request_id"] == answer.headers["x-request-id"]
    return f"{answer.status_code} {document['type'].rpartition('/')[2].rpartition('#')[2]}"


async def test_tenant_is_made_with_a_key_that_works_and_its_first_money(
    admin: Admin, store: PostgresStore
) -> None:
    made = await admin.post("/tenants", tenant_id="acme", plan="basic", deposit_usd="10.00")
    shown = await admin.get("/tenants/acme")
    tenant = made.json()
    presented = keys.parse(tenant["api_key"])

    assert made.status_code == 201
    assert set(tenant) == {
        *("tenant_id", "plan", "suspended", "frozen", "created_at", "key_id", "api_key", "budget"),
    }
    assert tenant["budget"] == {
        "deposited_usd": "10.00",
        "available_usd": "10.00",
        "held_usd": "0.00",
        "spent_usd": "0.00",
        "currency": "USD",
    }
    assert made.headers["cache-control"] == "no-store"
    assert presented is not None
    stored = await store.find_key(presented.key_id)
    assert stored is not None
    assert stored.secret_sha256 == presented.secret_sha256
    assert stored.scopes == SCOPES
    assert shown.json() == {
        name: value for name, value in tenant.items() if name not in ("api_key", "key_id")
    }


@pytest.fixture
def _info_is_logged() -> Iterator[None]:
    logs.configure("INFO")
    yield
    logs.configure("WARNING")


@pytest.mark.usefixtures("_info_is_logged")
async def test_each_change_of_a_tenant_is_one_line_of_who_and_why(admin: Admin) -> None:
    await admin.post("/tenants", tenant_id="acme", plan="basic")
    by = {"operator": "ann", "reason": "unpaid"}

    with capture_logs() as lines:
        await admin.post("/tenants/acme:suspend", **by)
        await admin.post("/tenants/acme:resume", **by)
        await admin.post("/tenants/acme/plan", plan="unlimited", **by)
        await admin.post("/tenants/acme/adjusts", amount_usd="1", reference="r", **by)

    told = [line for line in lines if line.get("tenant_id") == "acme"]
    assert [line["event"] for line in told] == [
        "tenant suspended",
        "tenant resumed",
        "plan changed",
        "adjust",
    ]
    assert {(line["operator"], line["reason"]) for line in told} == {("ann", "unpaid")}


async def test_wrong_token_is_told_of_the_token_not_of_a_key(admin: Admin) -> None:
    refused = await admin.ask("GET", "/admin/v1/tenants", token="x" * 43)

    assert problem(refused) == "401 unauthorized"
    assert "admin token" in refused.json()["detail"]


async def test_tenant_that_exists_is_409_and_stays_as_it_is(admin: Admin) -> None:
    await admin.post("/tenants", tenant_id="acme", plan="basic", deposit_usd="10.00")

    again = await admin.post("/tenants", tenant_id="acme", plan="unlimited", deposit_usd="5.00")

    assert problem(again) == "409 tenant-exists"
    assert (await admin.get("/tenants/acme")).json()["plan"] == "basic"
    assert (await admin.get("/tenants/acme")).json()["budget"]["deposited_usd"] == "10.00"


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"tenant_id": "Acme", "plan": "basic"}, "/tenant_id"),
        ({"tenant_id": "x" * 64, "plan": "basic"}, "/tenant_id"),
        ({"tenant_id": "a\n", "plan": "basic"}, "/tenant_id"),
        ({"tenant_id": "acme", "plan": "none"}, "/plan"),
        ({"tenant_id": "acme"}, "/plan"),
        ({"tenant_id": "acme", "plan": "basic", "deposit_usd": "-1"}, "/deposit_usd"),
        ({"tenant_id": "acme", "plan": "basic", "deposit_usd": 10}, "/deposit_usd"),
        ({"tenant_id": "acme", "plan": "basic", "other": 1}, "/other"),
        ({"tenant_id": "acme", "plan": "basic", "operator": "a\0b"}, ""),
    ],
)
async def test_bad_tenant_is_refused_by_name(
    admin: Admin, body: dict[str, Any], pointer: str
) -> None:
    answer = await admin.post("/tenants", **body)

    if pointer:
        assert problem(answer) == "422 invalid-request"
        assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    else:
        assert problem(answer) == "400 malformed-json"
    assert (await admin.get("/tenants")).json()["items"] == []


async def test_tenants_are_listed_by_name_page_by_page(admin: Admin) -> None:
    for name in ("c", "a", "b"):
        await admin.post("/tenants", tenant_id=name, plan="basic")

    first = (await admin.get("/tenants?limit=2")).json()
    second = (await admin.get(f"/tenants?limit=2&cursor={first['next_cursor']}")).json()

    assert [tenant["tenant_id"] for tenant in first["items"]] == ["a", "b"]
    assert [tenant["tenant_id"] for tenant in second["items"]] == ["c"]
    assert second["next_cursor"] is None
    assert problem(await admin.get("/tenants?cursor=x")) == "422 invalid-request"
    assert problem(await admin.get("/tenants?limit=0")) == "422 invalid-request"


async def test_plan_suspension_and_resumption(admin: Admin) -> None:
    await admin.post("/tenants", tenant_id="acme", plan="basic")

    plan = await admin.post("/tenants/acme/plan", plan="unlimited", operator="me", reason="asked")
    suspended = await admin.post("/tenants/acme:suspend", reason="unpaid")
    resumed = await admin.post("/tenants/acme:resume")

    assert plan.json()["plan"] == "unlimited"
    assert (suspended.json()["suspended"], resumed.json()["suspended"]) == (True, False)
    assert problem(await admin.post("/tenants/acme/plan", plan="none")) == "422 invalid-request"


async def test_keys_are_made_listed_and_revoked(admin: Admin) -> None:
    first = (await admin.post("/tenants", tenant_id="acme", plan="basic")).json()["key_id"]

    made = await admin.post(
        "/tenants/acme/keys", scopes=["runs:read"], expires_in_s=600, spend_limit_usd="5.00"
    )
    revoked = await admin.post(f"/tenants/acme/keys/{first}:revoke")
    again = await admin.post(f"/tenants/acme/keys/{first}:revoke")
    alive = (await admin.get("/tenants/acme/keys")).json()["items"]
    listed = (await admin.get("/tenants/acme/keys?ended=true")).json()["items"]

    assert made.status_code == 201
    assert made.json()["scopes"] == ["runs:read"]
    assert made.json()["expires_at"] is not None
    assert revoked.json() == again.json() == {"key_id": first, "revoked": True}
    assert (made.json()["spend_limit_usd"], made.json()["spent_usd"]) == ("5.00", "0.00")
    assert [key["key_id"] for key in alive] == [made.json()["key_id"]]
    assert [(key["key_id"], key["revoked"]) for key in listed] == [
        (made.json()["key_id"], False),
        (first, True),
    ]
    assert "api_key" not in listed[0]
    assert problem(await admin.post("/tenants/acme/keys", scopes=["all"])) == "422 invalid-request"
    assert problem(await admin.post("/tenants/acme/keys/none:revoke")) == "404 not-found"


async def test_operator_rotates_a_key_which_goes_on_for_the_overlap(
    admin: Admin, store: PostgresStore
) -> None:
    first = (await admin.post("/tenants", tenant_id="acme", plan="basic")).json()["key_id"]

    rotated = await admin.post(f"/tenants/acme/keys/{first}:rotate", overlap_s=60, operator="me")
    at_once = await admin.post(f"/tenants/acme/keys/{rotated.json()['key_id']}:rotate", overlap_s=0)
    again = await admin.post(f"/tenants/acme/keys/{rotated.json()['key_id']}:rotate")

    presented = keys.parse(rotated.json()["api_key"])
    assert presented is not None
    assert (rotated.status_code, at_once.status_code) == (201, 201)
    assert rotated.headers["cache-control"] == "no-store"
    assert rotated.json()["key_id"] == presented.key_id
    assert rotated.json()["created_by"] == f"rotation:{first}"
    assert rotated.json()["expires_at"] is None
    old = rotated.json()["replaces"]
    assert (old["key_id"], old["created_by"], old["ended"]) == (first, "admin", False)
    assert 0 < await left_s(store, first) <= 60
    assert at_once.json()["replaces"]["ended"] is True
    assert problem(again) == "404 not-found"


async def left_s(store: PostgresStore, key_id: str) -> float:
    """Return how many seconds a key has left, by the database's clock."""
    key = await store.find_key(key_id)
    assert key is not None
    assert key.expires_in_s is not None
    return key.expires_in_s


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"expires_in_s": 60, "expires_at": "2100-01-01T00:00:00Z"}, "/expires_in_s"),
        ({"expires_at": "2020-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2100-01-01"}, "/expires_at"),
        ({"expires_in_s": 0}, "/expires_in_s"),
        ({"expires_in_s": 315_360_001}, "/expires_in_s"),
        ({"spend_limit_usd": "0"}, "/spend_limit_usd"),
        ({"spend_limit_usd": 5}, "/spend_limit_usd"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["all"]}, "/scopes"),
        ({"scopes": ["runs:read", "runs:read"]}, "/scopes"),
    ],
)
async def test_key_that_cannot_be_is_told_why(
    admin: Admin, body: dict[str, Any], pointer: str
) -> None:
    await admin.post("/tenants", tenant_id="acme", plan="basic")

    answer = await admin.post("/tenants/acme/keys", **body)

    assert problem(answer) == "422 invalid-request"
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]
    assert len((await admin.get("/tenants/acme/keys")).json()["items"]) == 1


async def test_keys_are_listed_page_by_page(admin: Admin) -> None:
    await admin.post("/tenants", tenant_id="acme", plan="basic")
    made = [(await admin.post("/tenants/acme/keys")).json()["key_id"] for _ in range(4)]

    first = (await admin.get("/tenants/acme/keys?limit=3")).json()
    rest = (await admin.get(f"/tenants/acme/keys?limit=3&cursor={first['next_cursor']}")).json()

    assert [key["key_id"] for key in first["items"]] == made[:0:-1]
    assert rest["items"][0]["key_id"] == made[0]
    assert (len(rest["items"]), rest["next_cursor"]) == (2, None)
    assert problem(await admin.get("/tenants/acme/keys?ended=yes")) == "422 invalid-request"
    assert problem(await admin.get("/tenants/acme/keys?cursor=x")) == "422 invalid-request"


async def test_money_is_booked_once_per_reference(admin: Admin) -> None:
    await admin.post("/tenants", tenant_id="acme", plan="basic")
    deposit = {"amount_usd": "5.00", "reference": "inv-7"}

    first = await admin.post("/tenants/acme/deposits", **deposit)
    again = await admin.post("/tenants/acme/deposits", **deposit)
    other = await admin.post("/tenants/acme/deposits", amount_usd="6.00", reference="inv-7")
    kind = await admin.post("/tenants/acme/withdrawals", **deposit)
    out = await admin.post("/tenants/acme/withdrawals", amount_usd="2.00", reference="w-1")
    over = await admin.post("/tenants/acme/withdrawals", amount_usd="3.01", reference="w-2")

    assert (first.status_code, first.json()) == (200, again.json())
    assert first.json()["budget"]["available_usd"] == "5.00"
    assert (problem(other), problem(kind)) == ("422 reference-reused", "422 reference-reused")
    assert out.json()["budget"]["deposited_usd"] == "3.00"
    assert problem(over) == "402 budget-exceeded"
    assert over.json()["available_usd"] == "3.00"


async def test_refund_of_a_settled_run_and_adjust_are_booked_once(
    admin: Admin, store: PostgresStore
) -> None:
    await make_tenant(store)
    run_id = str(await settle(store, cost=DOLLAR))
    why = {"operator": "ann", "reason": "it was late"}
    refund = {"run_id": run_id, "amount_usd": "0.40", "reference": "back", **why}
    adjust = {"amount_usd": "-0.40", "reference": "mend", **why}

    back, mend = [
        [await admin.post(f"/tenants/acme/{way}", **body) for _ in range(2)]
        for way, body in (("refunds", refund), ("adjusts", adjust))
    ]
    over = await admin.post("/tenants/acme/refunds", **{**refund, "reference": "more"})
    high = await admin.post(
        "/tenants/acme/refunds", **{**refund, "reference": "most", "amount_usd": "0.21"}
    )

    assert [one.status_code for one in (*back, *mend, over)] == [200] * 5
    assert back[0].json() == back[1].json()
    assert mend[0].json() == mend[1].json()
    assert mend[0].json()["budget"]["deposited_usd"] == "9.60"
    assert problem(high) == "422 refund-too-high"
    assert high.json()["left_usd"] == "0.20"
    lines = await store.list_transfers("acme", before=None, limit=3)
    assert [(one.kind, one.amount, one.reason) for one in lines] == [
        ("refund", 400_000, "it was late"),
        ("adjust", -400_000, "it was late"),
        ("refund", 400_000, "it was late"),
    ]


async def test_unknown_tenant_is_404_everywhere(admin: Admin) -> None:
    answers = [
        await admin.get("/tenants/none"),
        await admin.get("/tenants/none/keys"),
        await admin.post("/tenants/none/keys"),
        await admin.post("/tenants/none/plan", plan="basic"),
        await admin.post("/tenants/none:suspend"),
        await admin.post("/tenants/none/deposits", amount_usd="1", reference="r"),
        await admin.post("/tenants/none/keys/x:revoke"),
    ]

    assert {problem(answer) for answer in answers} == {"404 not-found"}


async def test_books_are_shown(admin: Admin) -> None:
    await admin.post("/tenants", tenant_id="acme", plan="basic", deposit_usd="10.00")

    audit = (await admin.get("/audit")).json()

    assert audit["ok"] is True
    assert audit["findings"] == []
    assert {"name", "claim", "offenders", "accepted"} == set(audit["invariants"][0])
    assert (await admin.get("/findings")).json() == {"items": [], "next_cursor": None}
    assert (await admin.get("/nodes")).json() == {"items": [], "next_cursor": None}


async def test_metrics_need_no_token_and_the_rest_does(admin: Admin) -> None:
    shown = await admin.http.get("/metrics")
    answers = [
        await admin.http.get("/admin/v1/tenants"),
        await admin.http.get("/admin/v1/none"),
        await admin.ask("GET", "/admin/v1/tenants", "wrong"),
        await admin.ask("GET", "/admin/v1/tenants", TOKEN + "x"),
        await admin.ask("GET", "/admin/v1/tenants", headers={"Authorization": f"Basic {TOKEN}"}),
    ]

    assert shown.status_code == 200
    assert "http_requests_total" in shown.text
    assert {problem(answer) for answer in answers} == {"401 unauthorized"}
    assert problem(await admin.get("/none")) == "404 not-found"
    assert problem(await admin.ask("DELETE", "/admin/v1/tenants")) == "405 method-not-allowed"


async def test_wrong_tokens_are_limited_and_the_right_one_is_not_locked_out(admin: Admin) -> None:
    wrong = [
        problem(await admin.ask("GET", "/admin/v1/tenants", f"guess-{n}"))
        for n in range(FAILURES_A_MINUTE + 3)
    ]

    assert wrong == ["401 unauthorized"] * FAILURES_A_MINUTE + ["429 quota-exceeded"] * 3
    assert (await admin.get("/tenants")).status_code == 200


async def test_bodies_are_read_as_strictly_as_on_the_public_side(admin: Admin) -> None:
    path, json_type = "/admin/v1/tenants", {"Content-Type": "application/json"}
    twice = b'{"tenant_id": "a", "tenant_id": "b", "plan": "basic"}'
    answers = [
        await admin.ask("POST", path, content=twice, headers=json_type),
        await admin.ask("POST", path, content=b"{}", headers={"Content-Type": "text/plain"}),
        await admin.ask("POST", path, content=b"x" * 100_000, headers=json_type),
        await admin.ask(
            "POST", path, content=b"\x1f\x8b", headers={**json_type, "Content-Encoding": "gzip"}
        ),
    ]

    assert [problem(answer) for answer in answers] == [
        "400 malformed-json",
        "415 unsupported-media-type",
        "413 payload-too-large",
        "415 unsupported-media-type",
    ]


async def test_lost_answer_is_asked_again_under_the_same_identity(
    admin: Admin, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    create = store.create_tenant
    asked = 0

    async def lose_the_first(tenant: Any) -> Any:
        nonlocal asked
        asked += 1
        made = await create(tenant)
        if asked == 1:
            raise StoreUnavailable
        return made

    monkeypatch.setattr(store, "create_tenant", lose_the_first)
    made = await admin.post("/tenants", tenant_id="acme", plan="basic", deposit_usd="1.00")

    assert (made.status_code, asked) == (201, 2)
    presented = keys.parse(made.json()["api_key"])
    assert presented is not None
    assert await store.find_key(presented.key_id) is not None


BROKEN = {
    "HTTP/2 with prior knowledge": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9),
    "upgrade to h2c": get("/metrics", "Upgrade: h2c", "HTTP2-Settings: A", "Connection: Upgrade"),
    "WebSocket with trailing bytes": get(
        "/metrics",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    )
    + b"\x81\x05hello",
    "WebSocket with a non-ASCII protocol": get(
        "/metrics",
        "Connection: Upgrade",
        "Upgrade: websocket",
        "Sec-WebSocket-Version: 13",
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
        "Sec-WebSocket-Protocol: \xe9",
    ),
    "CONNECT": b"CONNECT example.org:443 HTTP/1.1\r\nHost: x\r\n\r\n",
    "bytes of another protocol": bytes(range(256)) * 8,
    "non-ASCII path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n",
    "absolute form": get("http://x:99999/metrics"),
    "asterisk": b"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n",
    "head over the limit": get("/metrics", "X: " + "x" * 40_000),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_no_connection_takes_the_listener_down(admin: Admin, name: str) -> None:
    async with admin.connect() as wire:
        with trio.move_on_after(5):
            await wire.send(BROKEN[name])
            await wire.stream.send_eof()
            answer = await wire.rest()
            assert b" 101 " not in answer.partition(b"\r\n")[0]

    assert (await admin.http.get("/metrics")).status_code == 200


async def test_every_malformed_request_is_answered_400_and_closed(admin: Admin) -> None:
    for name, data in REFUSED.items():
        async with admin.connect() as wire:
            reply = await wire.ask(data)

            assert (reply.status, reply.headers["connection"]) == (400, "close"), name
            assert reply.headers["content-type"] == "application/problem+json"
            assert reply.headers["x-content-type-options"] == "nosniff"
            assert await wire.ended()


@pytest.mark.parametrize("lines", [(), ("Connection: close",), ("Connection: keep-alive",)])
async def test_connection_ends_after_its_one_answer(admin: Admin, lines: tuple[str, ...]) -> None:
    async with admin.connect() as wire:
        reply = await wire.ask(get("/metrics", *lines) + get("/metrics"))

        assert (reply.status, reply.headers["connection"]) == (200, "close")
        assert reply.body.endswith(b"\n")
        assert await wire.ended()


async def test_client_that_stops_sending_is_answered(admin: Admin) -> None:
    async with admin.connect() as wire:
        await wire.send(get("/metrics"))
        await wire.stream.send_eof()

        assert (await wire.reply()).status == 200


async def test_body_in_chunks_is_read_after_the_client_was_told_to_go_on(admin: Admin) -> None:
    lines = (
        f"Authorization: Bearer {TOKEN}",
        "Content-Type: application/json",
        "Transfer-Encoding: chunked",
        "Expect: 100-continue",
    )
    body = b'{"tenant_id": "acme", "plan": "basic"}'

    async with admin.connect() as wire:
        await wire.send(request("POST", "/admin/v1/tenants", *lines))
        told = await wire.until(b"\r\n\r\n")
        made = await wire.ask(b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body))

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert made.status == 201


@pytest.mark.parametrize(
    "begun",
    [
        b"GET /metrics HTTP/1.1\r\nHost: x\r\nX: ",
        request("POST", "/metrics", "Content-Length: 60000"),
    ],
)
async def test_slow_request_is_answered_408_however_steadily_it_drips(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr("dpp.http.arrivals.HEAD_S", 0.1)
    monkeypatch.setattr("dpp.http.arrivals.BODY_S", 0.1)

    async with admin.connect() as wire, trio.open_nursery() as nursery:
        nursery.start_soon(drip, wire.stream, begun + b"x" * 10_000)
        reply = await wire.reply()
        nursery.cancel_scope.cancel()

    assert (reply.status, reply.headers["connection"]) == (408, "close")


async def test_silent_connection_is_closed_without_a_word(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dpp.http.arrivals.HEAD_S", 0.1)

    async with admin.connect() as wire:
        assert await wire.ended()


async def test_slow_clients_give_way_to_one_that_asks(admin: Admin) -> None:
    async with AsyncExitStack() as stack:
        slow = []
        for _ in range(management.CONNECTIONS_MAX):
            slow.append(await stack.enter_async_context(admin.connect()))
            await slow[-1].send(b"GET /metrics HTTP/1.1\r\nX")

        for _ in range(3):
            async with admin.connect() as wire:
                assert (await wire.ask(get("/metrics"))).status == 200
        assert await slow[0].ended()
        last = await slow[-1].ask(b": y\r\nHost: dpp\r\n\r\n")

    assert last.status == 200


@asynccontextmanager
async def unread(admin: Admin) -> AsyncIterator[Wire]:
    """Ask for the metrics, and read nothing of them."""
    with trio.socket.socket() as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
        await sock.connect(admin.address)
        stream = trio.SocketStream(sock)
        await stream.send_all(get("/metrics"))
        yield Wire(stream)


@pytest.fixture
def _large_metrics(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have metrics that no kernel takes from us before their reader does."""
    monkeypatch.setattr(metrics, "render", lambda: b"x" * 16_000_000)


@pytest.mark.usefixtures("_large_metrics")
async def test_readers_of_metrics_that_read_nothing_keep_no_operator_out(admin: Admin) -> None:
    async with AsyncExitStack() as stack, trio.open_nursery() as nursery:

        async def come() -> None:
            while True:
                await stack.enter_async_context(unread(admin))
                await trio.sleep(0.005)

        for _ in range(2 * management.CONNECTIONS_MAX):
            await stack.enter_async_context(unread(admin))
        nursery.start_soon(come)
        for _ in range(10):
            with trio.fail_after(2):
                assert (await admin.get("/tenants")).status_code == 200
            await trio.sleep(0.05)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def all_unread(admin: Admin) -> AsyncIterator[None]:
    """Have as many read the metrics as may, all of them in their places, none of them reading."""
    async with AsyncExitStack() as stack:
        for _ in range(management.SCRAPES_MAX):
            wire = await stack.enter_async_context(unread(admin))
            await wire.until(b"200 ")
        yield


@pytest.fixture
def _unread_for_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(management, "UNREAD_S", 600)


@pytest.mark.usefixtures("_large_metrics", "_unread_for_long")
async def test_too_many_readers_of_metrics_are_told_to_come_again(admin: Admin) -> None:
    async with all_unread(admin):
        refused = await admin.http.get("/metrics")

    assert problem(refused) == "503 temporary-reduced-capacity"
    assert int(refused.headers["retry-after"]) > 0


@pytest.mark.usefixtures("_large_metrics")
async def test_reader_of_metrics_that_reads_nothing_gives_way_to_the_next(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "SEND_S", 600)  # else its time would be over
    async with all_unread(admin):
        with trio.fail_after(10):  # the kernel bears them for twice as long
            while (answer := await admin.http.get("/metrics")).status_code != 200:
                assert answer.status_code == 503

    assert len(answer.content) == 16_000_000


async def test_refused_connections_that_are_not_closed_give_way(admin: Admin) -> None:
    async with AsyncExitStack() as stack:
        for _ in range(management.CONNECTIONS_MAX):
            wire = await stack.enter_async_context(admin.connect())
            assert (await wire.ask(b"garbage\r\n\r\n")).status == 400
        assert (await admin.get("/tenants")).status_code == 200


async def test_connection_without_a_whole_request_is_let_go_at_drain(admin: Admin) -> None:
    async with admin.connect() as wire:
        await wire.send(b"GET /metrics HTTP/1.1\r\nX")
        await trio.testing.wait_all_tasks_blocked(0.05)
        admin.stopping.set()

        assert await wire.ended()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/tenants/%00"),
        ("GET", "/tenants/Acme"),
        ("GET", "/tenants/a%00b/keys"),
        ("POST", "/tenants/%00/deposits"),
        ("POST", "/tenants/%00/withdrawals"),
        ("POST", "/tenants/%00/refunds"),
        ("POST", "/tenants/%00/adjusts"),
        ("GET", "/runs/%00"),
        ("GET", "/runs/1"),
        ("POST", "/tenants/%00/keys"),
        ("POST", "/tenants/%00/plan"),
        ("POST", "/tenants/%00:suspend"),
        ("POST", "/tenants/acme/keys/%00:revoke"),
    ],
)
async def test_name_that_nothing_can_have_is_404(admin: Admin, method: str, path: str) -> None:
    await admin.post("/tenants", tenant_id="acme", plan="basic")
    body = {"amount_usd": "1", "reference": "r"} if path.endswith(("its", "als")) else {}

    answer = await admin.ask(method, f"/admin/v1{path}", json=body)

    assert problem(answer) == "404 not-found"


async def test_self_made_cursor_is_no_cursor(admin: Admin) -> None:
    cursor = cursors.make("tenants", "", "a\0b")

    assert problem(await admin.get(f"/tenants?cursor={cursor}")) == "422 invalid-request"


async def test_half_a_surrogate_pair_is_not_json(admin: Admin) -> None:
    body = rb'{"tenant_id": "acme", "plan": "basic", "operator": "\ud800\\\udc00"}'
    headers = {"Content-Type": "application/json"}

    answer = await admin.ask("POST", "/admin/v1/tenants", content=body, headers=headers)

    assert problem(answer) == "400 malformed-json"


async def test_bug_of_a_connection_is_counted_and_ends_it_alone(
    admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    faults = metrics.http_connection_faults_total
    before = faults._value.get()

    async def bug(*_args: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise KeyError("planted")

    monkeypatch.setattr("hypercorn.protocol.h11.H11Protocol.handle", bug)
    async with admin.connect() as wire:
        await wire.send(get("/metrics"))
        assert await wire.ended()
    monkeypatch.undo()

    assert (await admin.http.get("/metrics")).status_code == 200
    assert faults._value.get() == before + 1


def test_renamed_private_parts_of_hypercorn_are_noticed_at_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    guarded.check_private_names()
    monkeypatch.delattr("hypercorn.trio.tcp_server.TCPServer._close")

    with pytest.raises(AssertionError, match="hypercorn changed: TCPServer has no _close"):
        guarded.check_private_names()
