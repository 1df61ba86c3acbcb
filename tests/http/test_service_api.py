"""What is the same for every route: head checks, keys, methods, headers; and the service itself."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec
import trio
from jsonschema import Draft202012Validator

from dpp.faults import StoreUnavailable
from dpp.http.problems import TYPES, Problem
from dpp.http.readiness import Readiness
from dpp.http.routes import ROUTES
from dpp.version import VERSION
from tests.http.conftest import ORIGIN
from tests.http.server import get
from tests.http.test_runs_api import problem

if TYPE_CHECKING:
    import pytest
    from trio.testing import MockClock

    from tests.http.conftest import Api

RUN = "01234567-89ab-7def-8123-456789abcdef"
ID = re.compile(r"\{[a-z_]+\}")


async def test_service_says_who_it_is_and_that_it_lives(api: Api) -> None:
    root, health = await api.ask("GET", "/"), await api.ask("GET", "/health")

    assert root.json() == {"service": "DPP API", "version": VERSION, "status": "running"}
    assert health.json() == {"status": "healthy", "version": VERSION}


async def test_ready_while_the_database_answers_and_not_while_draining(api: Api) -> None:
    ready = await api.ask("GET", "/readyz")
    api.services.draining.set()
    draining = await api.http.get("/readyz")

    assert (ready.status_code, ready.json()) == (
        200,
        {"status": "ready", "services": {"api": "up", "database": "up"}},
    )
    assert (draining.status_code, draining.json()["status"]) == (503, "not_ready")
    assert draining.json()["draining"] is True


async def test_outage_is_503_and_health_asks_nothing(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await api.tenant()
    await api.ask("GET", "/v1/budget", key)

    async def away(*_args: Any, **_more: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable

    monkeypatch.setattr(api.store, "get_budget", away)
    monkeypatch.setattr(api.services.readiness._database, "_ping", away)
    budget = await api.ask("GET", "/v1/budget", key)
    ready = await api.ask("GET", "/readyz")
    health = await api.ask("GET", "/health")

    assert (budget.status_code, problem(budget)) == (503, "temporary-reduced-capacity")
    assert budget.headers["retry-after"] == "1"
    assert (ready.status_code, ready.json()["services"]["database"]) == (503, "down")
    assert health.status_code == 200


async def test_helper_that_is_away_degrades_and_keeps_no_request_away(api: Api) -> None:
    async def away() -> None:
        await trio.lowlevel.checkpoint()
        raise StoreUnavailable

    object.__setattr__(api.services, "readiness", Readiness(api.store.ping, {"s3": away}))
    ready = await api.ask("GET", "/readyz")

    assert (ready.status_code, ready.json()["status"]) == (200, "degraded")
    assert ready.json()["services"] == {"api": "up", "database": "up", "s3": "down"}
    assert ready.json()["degraded"] == ["s3"]


async def test_helpers_that_hang_are_told_as_down_before_a_health_check_gives_up(
    autojump_clock: MockClock,
) -> None:
    """All together: a check of a second would find no node where one of them hangs on each."""

    async def answers() -> None:
        await trio.lowlevel.checkpoint()

    hangs = trio.sleep_forever
    readiness = Readiness(answers, {"s3": hangs, "redis": answers, "sqs": hangs})
    began_at = trio.current_time()

    assert await readiness.helpers_up() == {"s3": False, "redis": True, "sqs": False}
    assert trio.current_time() - began_at < 1


async def test_bug_is_500_and_says_nothing_of_its_cause(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await api.tenant()

    async def bug(*_args: Any, **_more: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("canary")

    monkeypatch.setattr(api.store, "get_budget", bug)
    answer = await api.ask("GET", "/v1/budget", key, headers={"X-Request-Id": "mine"})

    assert (answer.status_code, problem(answer)) == (500, "internal-error")
    assert answer.json()["request_id"] == "mine"
    assert "canary" not in answer.text


async def test_every_route_asks_for_the_key_and_scope_that_its_row_names(api: Api) -> None:
    nothing = await api.tenant("nothing", scopes=())

    for route in ROUTES:
        path = ID.sub(RUN, route.path)
        headers = {"Content-Type": "application/json"} if route.body else {}
        without = await api.ask(route.method, path, headers=headers)
        wrong = await api.ask(route.method, path, nothing, headers=headers)
        if route.scope is None:
            assert (without.status_code, wrong.status_code) == (200, 200)
        else:
            assert (without.status_code, problem(without)) == (401, "unauthorized")
            assert (wrong.status_code, problem(wrong)) == (403, "forbidden")


async def test_other_methods_are_405_with_allow_and_options_tells_it(api: Api) -> None:
    known = {(ID.sub(RUN, route.path), route.method) for route in ROUTES}
    for route in ROUTES:
        path = ID.sub(RUN, route.path)
        for method in ("PUT", "PATCH", "DELETE", "TRACE", "BREW"):
            if (path, method) in known:
                continue
            answer = await api.ask(method, path)
            assert (answer.status_code, problem(answer)) == (405, "method-not-allowed")
            assert route.method in answer.headers["allow"]
        options = await api.ask("OPTIONS", path)
        assert (options.status_code, options.content) == (204, b"")
        assert route.method in options.headers["allow"]


async def test_options_asks_about_the_server_as_a_whole_too(api: Api) -> None:
    answer = await api.server.ask(b"OPTIONS * HTTP/1.1\r\nHost: dpp\r\n\r\n")

    allowed = "DELETE, GET, HEAD, OPTIONS, PATCH, POST"
    assert (answer.status, answer.headers["allow"]) == (204, allowed)


async def test_answer_that_cannot_be_written_is_500(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def unwritable(*_args: Any) -> Problem:
        await trio.lowlevel.checkpoint()
        return Problem("unauthorized", "half a pair: \ud800")

    monkeypatch.setattr(api.services.keys, "authenticate", unwritable)
    answer = await api.ask("GET", "/v1/budget", headers={"X-Request-Id": "mine"})

    assert (answer.status_code, problem(answer)) == (500, "internal-error")
    assert answer.json()["request_id"] == "mine"
    assert "connection" not in answer.headers


async def test_head_answers_as_get_without_a_body(api: Api) -> None:
    key = await api.tenant()

    for path in ("/", "/health", "/readyz", "/openapi.json", "/v1/budget", "/v1/runs"):
        full, head = await api.ask("GET", path, key), await api.ask("HEAD", path, key)
        assert (head.status_code, head.content) == (200, b"")
        assert head.headers["content-length"] == full.headers["content-length"]


async def test_unknown_paths_are_404_problems(api: Api) -> None:
    paths = (
        "/v1",
        "/v1/none",
        "/v1/runs/",
        "/none",
        "/docs/none",
        "/admin/v1/tenants",
        "/metrics",
        "//x",
    )

    for path in paths:
        answer = await api.server.ask(get(path))
        document = msgspec.json.decode(answer.body)
        assert (answer.status, document["type"]) == (404, "https://dpp.dev/problems/not-found")
        assert document["request_id"] == answer.headers["x-request-id"]
        assert answer.headers["content-type"] == "application/problem+json"


async def test_every_answer_is_dressed_whatever_its_status(api: Api) -> None:
    key = await api.tenant()
    allowed = {"Origin": ORIGIN, "X-Request-Id": "mine-1"}
    answers = [
        await api.ask("GET", "/health", headers=allowed),
        await api.ask("GET", "/none", headers=allowed),
        await api.ask("GET", "/v1/none", headers=allowed),
        await api.ask("GET", "/v1/budget", headers=allowed),
        await api.ask("DELETE", "/v1/budget", headers=allowed),
        await api.ask("GET", "/v1/runs?limit=0", key, headers=allowed),
        await api.ask("OPTIONS", "/v1/runs", headers=allowed),
        await api.ask("GET", "/" + "x" * 9000, headers=allowed),
    ]

    assert [answer.status_code for answer in answers] == [200, 404, 404, 401, 405, 422, 204, 414]
    for answer in answers[:-1]:  # of the last one no header was read
        assert answer.headers["access-control-allow-origin"] == ORIGIN
        assert answer.headers["x-request-id"] == "mine-1"
    for answer in answers:
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "origin" in answer.headers["vary"]
        assert "server" not in answer.headers


async def test_preflight_is_answered_for_allowed_origins_alone(api: Api) -> None:
    asked = {"Access-Control-Request-Method": "POST"}

    ours = await api.ask("OPTIONS", "/v1/runs", headers={**asked, "Origin": ORIGIN})
    other = await api.ask(
        "OPTIONS", "/v1/runs", headers={**asked, "Origin": "https://evil.example"}
    )

    assert "POST" in ours.headers["access-control-allow-methods"]
    assert "idempotency-key" in ours.headers["access-control-allow-headers"]
    assert not [name for name in other.headers if name.startswith("access-control")]


async def test_key_in_the_query_or_in_other_schemes_opens_nothing(api: Api) -> None:
    key = await api.tenant()
    answers = [
        await api.ask("GET", f"/v1/budget?api_key={key}"),
        await api.ask("GET", "/v1/budget", headers={"Authorization": f"Basic {key}"}),
        await api.ask("GET", "/v1/budget", headers={"X-Api-Key": key}),
        await api.ask("POST", "/v1/budget", key, headers={"X-HTTP-Method-Override": "GET"}),
    ]

    assert [answer.status_code for answer in answers] == [401, 401, 401, 405]


async def test_budget_and_ledger_show_the_same_money(api: Api) -> None:
    key = await api.tenant()
    for _ in range(3):
        await api.submit(key, max_cost_usd="1.5")
    path = (await api.submit(key, max_cost_usd="2")).headers["location"]
    await api.ask("POST", f"{path}:cancel", key)
    seen: list[dict[str, Any]] = []
    cursor = ""

    while True:
        page = (await api.ask("GET", f"/v1/transfers?limit=2{cursor}", key)).json()
        seen += page["items"]
        if page["next_cursor"] is None:
            break
        cursor = f"&cursor={page['next_cursor']}"

    assert [line["seq"] for line in seen] == [6, 5, 4, 3, 2, 1]
    assert [line["kind"] for line in seen] == [
        *("void", "reserve", "reserve", "reserve", "reserve", "deposit"),
    ]
    assert seen[0] | {"created_at": ""} == {
        "transfer_id": "tr_6",
        "seq": 6,
        "kind": "void",
        "amount_usd": "2.00",
        "cost_usd": "0.00",
        "returned_usd": "2.00",
        "run_id": path.rpartition("/")[2],
        "reference": None,
        "reason": None,
        "created_at": "",
    }
    assert (seen[-1]["amount_usd"], seen[-1]["reference"]) == ("10.00", "first")


async def test_document_is_valid_and_describes_what_is_answered(api: Api) -> None:
    key = await api.tenant()
    document = (await api.ask("GET", "/openapi.json")).json()
    schemas = document["components"]["schemas"]

    def check(name: str, value: Any) -> None:
        schema = {"$ref": f"#/components/schemas/{name}", "components": {"schemas": schemas}}
        Draft202012Validator(schema).validate(value)

    run = (await api.submit(key)).json()
    batch = {
        "runs": [{"pack_type": "echo", "inputs": {}, "max_cost_usd": "1", "idempotency_key": "k"}]
    }
    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    check("RunView", run)
    check("RunView", (await api.ask("POST", run["links"]["cancel"], key)).json())
    check("RunList", (await api.ask("GET", "/v1/runs", key)).json())
    check("BudgetView", (await api.ask("GET", "/v1/budget", key)).json())
    check("TransferList", (await api.ask("GET", "/v1/transfers", key)).json())
    check("BatchRequest", batch)
    check("BatchAnswer", (await api.ask("POST", "/v1/runs:batch", key, json=batch)).json())
    check("ServiceView", (await api.ask("GET", "/")).json())
    check("HealthView", (await api.ask("GET", "/health")).json())
    check("ReadyView", (await api.ask("GET", "/readyz")).json())
    check("NotFoundProblem", (await api.ask("GET", "/v1/none")).json())
    check("InvalidRequestProblem", (await api.ask("GET", "/v1/runs?limit=0", key)).json())


async def test_document_names_every_route_and_its_references_resolve(api: Api) -> None:
    document = (await api.ask("GET", "/openapi.json")).json()
    schemas = document["components"]["schemas"]
    named = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }
    operations = [one for methods in document["paths"].values() for one in methods.values()]

    assert document["openapi"] == "3.1.0"
    assert named == {(route.method, route.path) for route in ROUTES} | {("GET", "/openapi.json")}
    assert len({one["operationId"] for one in operations}) == len(operations)
    for reference in _references(document):
        kind, name = reference.removeprefix("#/components/").split("/")
        assert name in document["components"][kind]
    assert all(set(route.problems) <= set(TYPES) for route in ROUTES)
    for name in ("SubmitRequest", "BatchSubmission", "BatchRequest"):
        assert schemas[name]["additionalProperties"] is False


def _references(value: Any) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [found for inner in value.values() for found in _references(inner)]
    if isinstance(value, list):
        return [found for inner in value for found in _references(inner)]
    return []
