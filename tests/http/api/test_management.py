"""The management listener of a real node: the admin API behind its token, and what is not there."""

from __future__ import annotations

import json
from typing import Any

import httpx
import pytest

from dpp.resources import sql_dir
from tests.http.api.conftest import NewTenant
from tests.node_client import Client, name_of
from tests.node_process import NO_TLS, NodeProcess, new_name

pytestmark = pytest.mark.parametrize("served_node", ["actor"], indirect=True, scope="session")

PATHS = ["/admin/v1/tenants", "/admin/v1/audit", "/admin/v1/findings", "/admin/v1/nodes"]
UNKNOWN = "018f0000-0000-7000-8000-000000000000"


def ask(node: NodeProcess, path: str, token: str | None, method: str = "GET") -> httpx.Response:
    """Ask the management listener with any token."""
    headers = {} if token is None else {"Authorization": token}
    return httpx.request(
        method,
        node.management_url + path,
        headers=headers,
        trust_env=False,
        timeout=30,
        verify=NO_TLS,
    )


def test_tenant_is_made_shown_changed_and_listed(served_node: NodeProcess) -> None:
    name = new_name()
    body = {"tenant_id": name, "plan": "basic", "deposit_usd": "10.00", "operator": "test"}

    made = served_node.ask_admin("POST", "/admin/v1/tenants", body)
    shown = served_node.admin("GET", f"/admin/v1/tenants/{name}")
    changed = served_node.admin("POST", f"/admin/v1/tenants/{name}/plan", {"plan": "pro"})
    listed: list[Any] = []
    query = "?limit=200"
    while query:
        page = served_node.admin("GET", f"/admin/v1/tenants{query}")
        listed += page["items"]
        query = f"?limit=200&cursor={page['next_cursor']}" if page["next_cursor"] else ""
    served_node.keys.append(made.json()["api_key"])

    assert made.status_code == 201
    assert made.json() == {
        **shown,
        "key_id": made.json()["key_id"],
        "api_key": made.json()["api_key"],
    }
    assert (shown["tenant_id"], shown["plan"], shown["suspended"]) == (name, "basic", False)
    assert shown["budget"]["available_usd"] == "10.00"
    assert changed == {**shown, "plan": "pro"}
    assert changed in listed
    assert [one["tenant_id"] for one in listed] == sorted(one["tenant_id"] for one in listed)


def test_tenant_that_exists_is_409_and_stays(served_node: NodeProcess) -> None:
    name = new_name()
    served_node.tenant(name)

    again = served_node.ask_admin(
        "POST", "/admin/v1/tenants", {"tenant_id": name, "plan": "pro", "deposit_usd": "5.00"}
    )

    assert (again.status_code, name_of(again.json())) == (409, "tenant-exists")
    shown = served_node.admin("GET", f"/admin/v1/tenants/{name}")
    assert (shown["plan"], shown["budget"]["deposited_usd"]) == ("unlimited", "10.00")


@pytest.mark.parametrize("name", ["", "A", "-a", "a b", "a/b", "é", "a" * 64, "..", None, 1])
def test_name_that_is_none_is_422(served_node: NodeProcess, name: Any) -> None:
    answer = served_node.ask_admin(
        "POST", "/admin/v1/tenants", {"tenant_id": name, "plan": "basic"}
    )

    assert (answer.status_code, name_of(answer.json())) == (422, "invalid-request")
    assert [error["pointer"] for error in answer.json()["errors"]] == ["/tenant_id"]


async def test_reference_books_once_and_withdrawals_stop_at_what_is_there(
    served_node: NodeProcess, acme: Client
) -> None:
    path = f"/admin/v1/tenants/{acme.name}"
    deposit = {"amount_usd": "5.00", "reference": "inv-1", "reason": "paid"}

    first, again = [served_node.admin("POST", f"{path}/deposits", deposit) for _ in range(2)]
    other = served_node.ask_admin("POST", f"{path}/deposits", {**deposit, "amount_usd": "6.00"})
    kind = served_node.ask_admin("POST", f"{path}/withdrawals", deposit)
    over = served_node.ask_admin(
        "POST", f"{path}/withdrawals", {"amount_usd": "15.000001", "reference": "out"}
    )
    all_of_it = served_node.admin(
        "POST", f"{path}/withdrawals", {"amount_usd": "15.00", "reference": "out"}
    )

    assert first == again
    assert first["budget"]["deposited_usd"] == "15.00"
    assert [(a.status_code, name_of(a.json())) for a in (other, kind)] == [
        (422, "reference-reused")
    ] * 2
    assert (over.status_code, name_of(over.json())) == (402, "budget-exceeded")
    assert all_of_it["budget"]["deposited_usd"] == "0.00"
    assert await acme.get("/v1/budget") == all_of_it["budget"]
    assert len((await acme.get("/v1/transfers"))["items"]) == 3


async def test_suspended_tenant_reads_and_submits_again_after_it_is_resumed(
    served_node: NodeProcess, new_tenant: NewTenant
) -> None:
    client = await new_tenant()
    path = f"/admin/v1/tenants/{client.name}"

    served_node.admin("POST", f"{path}:suspend", {"reason": "unpaid"})
    refused, read = await client.submit(), await client.ask("GET", "/v1/budget")
    served_node.admin("POST", f"{path}:resume", {})
    admitted = await client.submit()

    assert [answer.status_code for answer in (refused, read, admitted)] == [403, 200, 201]


def test_keys_are_made_shown_once_and_listed_without_their_secret(served_node: NodeProcess) -> None:
    name = new_name()
    served_node.tenant(name)
    key = served_node.new_key(name, scopes=["runs:read"], expires_in_s=60)

    listed = served_node.ask_admin("GET", f"/admin/v1/tenants/{name}/keys")

    assert key not in listed.text
    newest = listed.json()["items"][0]
    assert (newest["scopes"], newest["expires_at"] is not None) == (["runs:read"], True)


async def test_refunds_come_to_what_the_run_cost_and_no_more(
    served_node: NodeProcess, acme: Client, new_tenant: NewTenant
) -> None:
    other = await new_tenant()
    made = await acme.submitted(max_cost_usd="0.10", inputs={"cost_usd": "0.05"})
    run = await acme.ended(made["run_id"])
    path = f"/admin/v1/tenants/{acme.name}/refunds"
    refund = {"run_id": run["run_id"], "amount_usd": "0.04", "reference": "b-1", "reason": "late"}

    first, again = [served_node.admin("POST", path, refund) for _ in range(2)]
    refused = [
        served_node.ask_admin("POST", where, {**refund, **changed})
        for where, changed in (
            (path, {"amount_usd": "0.03"}),
            (path, {"run_id": UNKNOWN}),
            (path, {"reference": "b-2"}),
            (path, {"reference": "b-2", "run_id": UNKNOWN}),
            (path.replace(acme.name, other.name), {}),
        )
    ]
    rest = served_node.admin("POST", path, {**refund, "amount_usd": "0.01", "reference": "b-2"})

    assert first == again
    assert first["budget"]["spent_usd"] == "0.01"
    assert rest["budget"] == await acme.get("/v1/budget")
    assert (rest["budget"]["available_usd"], rest["budget"]["spent_usd"]) == ("10.00", "0.00")
    assert [(one.status_code, name_of(one.json())) for one in refused] == [
        (422, "reference-reused"),
        (422, "reference-reused"),
        (422, "refund-too-high"),
        (404, "not-found"),
        (404, "not-found"),
    ]
    assert await acme.run(run["run_id"]) == run
    found = served_node.admin("GET", f"/admin/v1/runs/{run['run_id']}")
    assert found == {"run_id": run["run_id"], "tenant_id": acme.name}
    for unknown in (UNKNOWN, "nothing", "%00"):
        assert served_node.ask_admin("GET", f"/admin/v1/runs/{unknown}").status_code == 404


async def test_adjusts_correct_a_budget_either_way_down_to_what_is_available(
    served_node: NodeProcess, acme: Client
) -> None:
    path = f"/admin/v1/tenants/{acme.name}/adjusts"
    more = {"amount_usd": "+2.50", "reference": "a-1", "reason": "lost"}
    less = {"amount_usd": "-12.50", "reference": "a-2", "reason": "booked twice"}

    first, again = [served_node.admin("POST", path, more) for _ in range(2)]
    other = served_node.ask_admin("POST", path, {**more, "amount_usd": "-2.50"})
    over = served_node.ask_admin("POST", path, {**less, "amount_usd": "-12.500001"})
    all_of_it = served_node.admin("POST", path, less)

    assert first == again
    assert first["budget"]["deposited_usd"] == first["budget"]["available_usd"] == "12.50"
    assert (other.status_code, name_of(other.json())) == (422, "reference-reused")
    assert (over.status_code, name_of(over.json())) == (402, "budget-exceeded")
    told = {name: over.json()[name] for name in ("available_usd", "required_usd")}
    assert told == {"available_usd": "12.50", "required_usd": "12.500001"}
    assert all_of_it["budget"] == await acme.get("/v1/budget")
    assert all_of_it["budget"]["deposited_usd"] == "0.00"


GOOD = {"run_id": UNKNOWN, "amount_usd": "1", "reference": "r", "reason": "why"}


@pytest.mark.parametrize(
    ("way", "changed", "pointers"),
    [
        ("refunds", {"reason": None}, ["/reason"]),
        ("refunds", {"reason": ""}, ["/reason"]),
        ("refunds", {"reason": " "}, ["/reason"]),
        ("refunds", {"reason": "a\nb"}, ["/reason"]),
        ("refunds", {"reason": "x" * 501}, ["/reason"]),
        ("refunds", {"run_id": "nothing"}, ["/run_id"]),
        ("refunds", {"run_id": UNKNOWN.upper().replace("0", "A")}, ["/run_id"]),
        ("refunds", {"run_id": None}, ["/run_id"]),
        ("refunds", {"run_id": 1, "amount_usd": "-1"}, ["/amount_usd", "/run_id"]),
        ("refunds", {"amount_usd": "0"}, ["/amount_usd"]),
        ("refunds", {"more": 1}, ["/more"]),
        ("adjusts", {"run_id": UNKNOWN}, ["/run_id"]),
        ("adjusts", {"reason": None}, ["/reason"]),
        ("adjusts", {"reason": "\u2003"}, ["/reason"]),
        *(
            ("adjusts", {"amount_usd": amount}, ["/amount_usd"])
            for amount in ("0", "-0.00", "--1", "1e3", "-1000000.01", -1, None, "", "\u22121")
        ),
        ("deposits", {"amount_usd": "+1"}, ["/amount_usd"]),
    ],
)
async def test_bad_refund_or_adjust_is_refused_by_name(
    served_node: NodeProcess, acme: Client, way: str, changed: dict[str, Any], pointers: list[str]
) -> None:
    good = GOOD if way == "refunds" else {name: GOOD[name] for name in GOOD if name != "run_id"}
    before = await acme.books()

    body = {**good, **changed}
    answer = served_node.ask_admin("POST", f"/admin/v1/tenants/{acme.name}/{way}", body)

    assert (answer.status_code, name_of(answer.json())) == (422, "invalid-request")
    assert sorted(error["pointer"] for error in answer.json()["errors"]) == pointers
    assert await acme.books() == before


def test_refund_and_adjust_without_a_reason_are_refused(served_node: NodeProcess) -> None:
    name = new_name()
    served_node.tenant(name)
    for way, members in (("refunds", ("run_id",)), ("adjusts", ())):
        body = {member: GOOD[member] for member in ("amount_usd", "reference", *members)}

        answer = served_node.ask_admin("POST", f"/admin/v1/tenants/{name}/{way}", body)

        assert [error["pointer"] for error in answer.json()["errors"]] == ["/reason"]


@pytest.mark.parametrize("way", ["deposits", "withdrawals", "refunds", "adjusts", "plan", "keys"])
def test_unknown_tenant_is_404(served_node: NodeProcess, way: str) -> None:
    body = {
        "refunds": GOOD,
        "adjusts": {"amount_usd": "-1", "reference": "r", "reason": "why"},
        "deposits": {"amount_usd": "1", "reference": "r"},
        "withdrawals": {"amount_usd": "1", "reference": "r"},
        "plan": {"plan": "basic"},
        "keys": {},
    }[way]

    answer = served_node.ask_admin("POST", f"/admin/v1/tenants/nobody/{way}", body)

    assert (answer.status_code, name_of(answer.json())) == (404, "not-found")


@pytest.mark.parametrize("path", PATHS)
def test_admin_api_opens_to_the_token_alone(
    served_node: NodeProcess, path: str, shared_key: str
) -> None:
    token = served_node.admin_token
    wrong = [None, f"Bearer {shared_key}", f"Bearer {token}x", f"Basic {token}"]

    answers = [ask(served_node, path, one) for one in wrong]
    right = ask(served_node, path, f"Bearer {token}")

    # Wrong ones are 429 after some in a minute; a right one always comes in.
    assert {answer.status_code for answer in answers} <= {401, 429}
    assert right.status_code == 200


async def test_nothing_administrative_is_on_the_public_listener(
    served_node: NodeProcess, shared: Client
) -> None:
    headers = {"Authorization": f"Bearer {served_node.admin_token}"}

    answers = [
        await shared.ask("GET", path, headers=headers)
        for path in (*PATHS, "/metrics", "/v1/budget")
    ]

    assert [answer.status_code for answer in answers] == [404] * 5 + [401]


def test_metrics_need_no_token_and_name_no_tenant(served_node: NodeProcess) -> None:
    name = new_name()
    served_node.tenant(name)

    answer = ask(served_node, "/metrics", None)

    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/plain")
    assert "dpp_" in answer.text
    assert name not in answer.text


def test_audit_is_clean_and_names_each_invariant(served_node: NodeProcess) -> None:
    audit = served_node.admin("GET", "/admin/v1/audit")

    assert (audit["ok"], audit["findings"]) == (True, [])
    files = (sql_dir() / "audit").glob("*.sql")
    assert [one["name"] for one in audit["invariants"]] == sorted(file.stem for file in files)
    assert all(not one["offenders"] and one["claim"] for one in audit["invariants"])


def test_living_node_is_listed_by_its_lease(served_node: NodeProcess) -> None:
    nodes = served_node.admin("GET", "/admin/v1/nodes")["items"]

    assert len(nodes) == 1
    # A UUID beside the id of the machine that it was made on.
    assert nodes[0]["node_id"] in (served_node.data_dir / "node_id").read_text()


@pytest.mark.parametrize(
    ("content", "status", "name"),
    [
        (b"{", 400, "malformed-json"),
        (b'{"plan":"pro","plan":"basic"}', 400, "malformed-json"),
        (b"[]", 400, "malformed-json"),
        (b'{"plan":"pro","more":1}', 422, "invalid-request"),
        (b'{"plan":"nothing"}', 422, "invalid-request"),
        (json.dumps({"plan": "pro", "operator": "x" * 65}).encode(), 422, "invalid-request"),
        (b'{"plan":"pro","reason":"a\\u0007b"}', 422, "invalid-request"),
        (b" " * 65_537, 413, "payload-too-large"),
    ],
)
def test_bodies_are_read_as_strictly_as_on_the_public_side(
    served_node: NodeProcess, content: bytes, status: int, name: str
) -> None:
    tenant = new_name()
    served_node.tenant(tenant)
    headers = {
        "Authorization": f"Bearer {served_node.admin_token}",
        "Content-Type": "application/json",
    }

    answer = httpx.post(
        f"{served_node.management_url}/admin/v1/tenants/{tenant}/plan",
        content=content,
        headers=headers,
        trust_env=False,
        verify=NO_TLS,
    )

    assert (answer.status_code, name_of(answer.json())) == (status, name)
    assert served_node.admin("GET", f"/admin/v1/tenants/{tenant}")["plan"] == "unlimited"
