"""The document that a real node serves: valid, complete, and true of what it answers."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from jsonschema import Draft202012Validator

from dpp.http.problems import TYPES
from dpp.http.routes import ROUTES
from tests.node_client import Client, submission
from tests.node_process import NodeProcess

UNKNOWN = "018f0000-0000-7000-8000-000000000000"


@pytest.fixture(scope="module")
def document(served_node: NodeProcess) -> Any:
    return httpx.get(f"{served_node.url}/openapi.json", trust_env=False).json()


def operations(document: Any) -> dict[tuple[str, str], Any]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def references(value: Any) -> set[str]:
    if isinstance(value, dict):
        own = {value["$ref"]} if isinstance(value.get("$ref"), str) else set()
        return own.union(*(references(inner) for inner in value.values()))
    if isinstance(value, list):
        return set().union(*(references(inner) for inner in value))
    return set()


def check(document: Any, schema: Any, value: Any) -> None:
    """Validate a value against a schema of the document."""
    Draft202012Validator({**schema, "components": document["components"]}).validate(value)


def test_document_lists_exactly_the_routes(document: Any) -> None:
    rows = {(route.method, route.path) for route in ROUTES}

    assert document["openapi"] == "3.1.0"
    assert set(operations(document)) == rows | {("GET", "/openapi.json")}
    ids = [operation["operationId"] for operation in operations(document).values()]
    assert len({*ids}) == len(ids)


def test_schemas_are_valid_and_every_reference_leads_somewhere(document: Any) -> None:
    schemas = document["components"]["schemas"]

    for schema in schemas.values():
        Draft202012Validator.check_schema(schema)
    named = {reference.removeprefix("#/components/schemas/") for reference in references(document)}
    assert named <= set(schemas)


def test_every_operation_names_its_key_its_parameters_and_its_problems(document: Any) -> None:
    for route in ROUTES:
        operation = operations(document)[route.method, route.path]
        names = {one["name"] for one in operation.get("parameters", ())}
        assert operation.get("security", []) == ([{"key": [route.scope]}] if route.scope else [])
        assert ("run_id" in names) is ("{run_id}" in route.path)
        assert ("Idempotency-Key" in names) is route.needs_key
        assert ("requestBody" in operation) is (route.body is not None)
        statuses = {TYPES[name].status for name in route.problems} | set(route.answers)
        assert {int(status) for status in operation["responses"]} == statuses


async def test_what_is_answered_is_as_the_document_says(document: Any, acme: Client) -> None:
    run = await acme.submitted(inputs={"sleep_s": 600})
    failed = await acme.ended((await acme.submitted(inputs={"fail": True}))["run_id"])
    own = f"/v1/runs/{run['run_id']}"
    asked: list[tuple[str, str, str, dict[str, Any]]] = [
        (
            "POST",
            "/v1/runs",
            "/v1/runs",
            {"json": submission(), "headers": {"Idempotency-Key": "k"}},
        ),
        ("POST", "/v1/runs", "/v1/runs", {"json": submission()}),
        ("POST", "/v1/runs", "/v1/runs", {"json": {}, "headers": {"Idempotency-Key": "l"}}),
        (
            "POST",
            "/v1/runs",
            "/v1/runs",
            {"json": submission(pack_type="x"), "headers": {"Idempotency-Key": "l"}},
        ),
        (
            "POST",
            "/v1/runs",
            "/v1/runs",
            {"json": submission(max_cost_usd="11"), "headers": {"Idempotency-Key": "l"}},
        ),
        (
            "POST",
            "/v1/runs",
            "/v1/runs",
            {"json": submission(priority=1), "headers": {"Idempotency-Key": "k"}},
        ),
        (
            "POST",
            "/v1/runs:batch",
            "/v1/runs:batch",
            {"json": {"runs": [submission(idempotency_key="m"), {}]}},
        ),
        ("GET", "/v1/runs", "/v1/runs", {}),
        ("GET", "/v1/runs", "/v1/runs", {"params": {"limit": 0}}),
        ("GET", "/v1/runs/{run_id}", own, {}),
        ("GET", "/v1/runs/{run_id}", f"/v1/runs/{failed['run_id']}", {}),
        ("GET", "/v1/runs/{run_id}", f"/v1/runs/{UNKNOWN}", {}),
        ("GET", "/v1/runs/{run_id}", own, {"headers": {"Authorization": "Bearer x"}}),
        ("POST", "/v1/runs/{run_id}:cancel", f"{own}:cancel", {}),
        ("POST", "/v1/runs/{run_id}:cancel", f"/v1/runs/{failed['run_id']}:cancel", {}),
        ("GET", "/v1/budget", "/v1/budget", {}),
        ("GET", "/v1/transfers", "/v1/transfers", {}),
        ("GET", "/", "/", {}),
        ("GET", "/health", "/health", {}),
        ("GET", "/readyz", "/readyz", {}),
        ("GET", "/openapi.json", "/openapi.json", {}),
    ]
    seen = set()
    for method, path, url, more in asked:
        answer = await acme.ask(method, url, **more)
        told = operations(document)[method, path]["responses"][str(answer.status_code)]
        media = answer.headers["content-type"]
        check(document, told["content"][media]["schema"], answer.json())
        seen.add((method, path))
    await acme.ended(run["run_id"])

    assert seen == set(operations(document)), "every operation was tried"


@pytest.mark.parametrize(
    ("member", "good", "bad"),
    [
        ("max_cost_usd", ["1", "0.000125", "1000000"], ["1e3", "-1", ".5", "01", 1, None]),
        ("priority", [0, 9], [-1, 10, "5", None]),
        ("timebox_s", [1, 3600], [0, "1"]),
        ("inputs", [{}], [[], None, "x"]),
        ("pack_type", ["echo"], ["", 1, "x" * 65]),
        ("more", [], [1]),
    ],
)
def test_schema_of_a_submission_allows_what_the_node_allows(
    document: Any, member: str, good: list[Any], bad: list[Any]
) -> None:
    schema = document["components"]["schemas"]["SubmitRequest"]
    validator = Draft202012Validator({**schema, "components": document["components"]})

    assert [value for value in good if not validator.is_valid(submission(**{member: value}))] == []
    assert [value for value in bad if validator.is_valid(submission(**{member: value}))] == []
