"""The document that a real node serves: valid, complete, and true of what it answers.

Every answer that `tests.node_client.Client` gets, in any test, is held against it: `described`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from openapi_spec_validator import OpenAPIV31SpecValidator

from dpp.http.openapi import events, refusals
from dpp.http.openapi.notes import LINKS, NOTES, PARAMETERS, STATUSES
from dpp.http.openapi.operations import EVENT_TYPES
from dpp.http.problems import TYPES
from dpp.http.routes import ROUTES, Route
from dpp.http.views.encoding import SCHEMAS
from dpp.money import Micros
from dpp.runs import ErrorCode, payer
from dpp.webhooks import EVENTS, payload
from tests import described
from tests.node_client import Client, submission
from tests.node_process import NodeProcess

UNKNOWN = "018f0000-0000-7000-8000-000000000000"
TEXT = {"text/csv", "text/event-stream"}
GUIDE = (Path(__file__).parents[3] / "docs" / "api.md").read_text(encoding="utf-8")
COSTS = Micros(1), Micros(0)  # an operator decides by the cost


@pytest.fixture(scope="module")
def document(served_node: NodeProcess) -> Any:
    return httpx.get(f"{served_node.url}/openapi.json", trust_env=False).json()


def operations(document: Any) -> dict[tuple[str, str], Any]:
    return {
        (method.upper(), path): operation
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
    }


def nodes(value: Any) -> Iterator[Any]:
    """Yield every object of the document."""
    if isinstance(value, dict):
        yield value
    for inner in value.values() if isinstance(value, dict) else value:
        if isinstance(inner, dict | list):
            yield from nodes(inner)


def contents(route: Route) -> Iterator[tuple[int, str, Any]]:
    """Yield all that a row may answer: status, media type, what is said of it."""
    for status in described.DOCUMENT["paths"][route.path][route.method.lower()]["responses"]:
        told = described.response(route.path, route.method, int(status))
        for media, content in told.get("content", {}).items():
            yield int(status), media, content


def examples(told: Any) -> list[Any]:
    """Return the examples of a parameter, a header or a media type."""
    named = [one["value"] for one in told.get("examples", {}).values()]
    return [*named, *([told["example"]] if "example" in told else [])]


def test_document_is_valid_by_openapis_own_schema(document: Any) -> None:
    assert [error.message for error in OpenAPIV31SpecValidator(document).iter_errors()] == []


def test_why_a_run_failed_and_who_pays_are_listed_in_the_document_and_in_the_guide(
    document: Any,
) -> None:
    told = document["components"]["schemas"]["ErrorView"]["properties"]
    row = re.compile(r"^\| `([a-z_]+)` \|.*\| `(tenant|platform)`(.*) \|.*\|$", re.MULTILINE)
    rows = row.findall(GUIDE)
    payers = {code: [payer(code, cost) for cost in COSTS] for code in ErrorCode}

    assert set(told["code"]["enum"]) == set(ErrorCode)
    assert set(told["payer"]["enum"]) == {who for both in payers.values() for who in both}
    assert {code: who for code, who, _ in rows} == {code: both[0] for code, both in payers.items()}
    assert {code for code, _, by_cost in rows if by_cost} == {
        code for code, both in payers.items() if both[0] != both[1]
    }


def test_what_a_node_serves_is_what_answers_are_held_against(document: Any) -> None:
    assert document == json.loads(json.dumps(described.DOCUMENT))


def test_document_lists_exactly_the_routes_and_the_events(document: Any) -> None:
    rows = {(route.method, route.path) for route in ROUTES}

    assert document["openapi"] == "3.1.0"
    assert set(operations(document)) == rows | {("GET", "/openapi.json")}
    assert set(document["webhooks"]) == set(EVENTS)
    told = [*operations(document).values(), *(one["post"] for one in document["webhooks"].values())]
    ids = [operation["operationId"] for operation in told]
    assert len({*ids}) == len(ids)


def test_words_are_there_for_what_is_there_and_for_nothing_else(document: Any) -> None:
    ids = {operation["operationId"] for operation in operations(document).values()}
    answers = {(row.handler.__name__, status) for row in described.EVERY for status in row.answers}
    named = {
        one["name"]
        for operation in operations(document).values()
        for one in operation["parameters"]
        if "$ref" not in one and one["in"] != "header"
    }

    assert set(NOTES) == ids
    assert set(PARAMETERS) == named
    assert set(refusals.TOLD) == set(TYPES)
    assert set(refusals.MEMBERS) == {one for kind in TYPES.values() for one in kind.members}
    assert set(STATUSES) <= answers
    assert set(LINKS) <= answers
    assert set(EVENT_TYPES.values()) <= set(document["components"]["schemas"])


def test_every_reference_leads_somewhere_and_every_schema_is_one(document: Any) -> None:
    for node in nodes(document):
        if isinstance(node.get("$ref"), str):
            assert described.follow(node), node
    for name in document["components"]["schemas"]:
        described.validator({"$ref": SCHEMAS + name})
    used = {node["$ref"] for node in nodes(document) if isinstance(node.get("$ref"), str)}
    for kind in ("responses", "parameters", "headers"):
        parts = {f"#/components/{kind}/{name}" for name in document["components"][kind]}
        assert parts <= used


def test_every_problem_type_has_a_schema_that_takes_its_example_and_no_other(document: Any) -> None:
    named = {name: refusals.schema_name(name) for name in TYPES}

    assert {name for name in document["components"]["schemas"] if name.endswith("Problem")} == set(
        named.values()
    )
    for name, schema in named.items():
        validator = described.validator({"$ref": SCHEMAS + schema})
        taken = [other for other in TYPES if validator.is_valid(refusals.example(other))]
        assert taken == [name]


@pytest.mark.parametrize("route", described.EVERY, ids=lambda one: one.handler.__name__)
def test_an_operation_says_all_that_its_row_does(document: Any, route: Route) -> None:
    operation = operations(document)[route.method, route.path]
    parameters = [described.follow(one) for one in operation["parameters"]]
    names = {one["name"] for one in parameters}

    assert operation["summary"] == route.summary
    assert operation["description"]
    assert set(operation["tags"]) <= {one["name"] for one in document["tags"]}
    assert operation.get("security", []) == ([{"key": [route.scope]}] if route.scope else [])
    assert {one["name"] for one in parameters if one["in"] == "path"} == {
        *re.findall(r"{(\w+)}", route.path)
    }
    assert set(route.query) <= names
    assert ("Idempotency-Key" in names) is route.needs_key
    assert all(one["description"] and "example" in one for one in parameters)
    media = operation["requestBody"]["content"] if route.body else {}
    assert set(media) == set(route.body.media_types if route.body else ())
    statuses = {TYPES[name].status for name in route.problems} | set(route.answers)
    assert {int(status) for status in operation["responses"]} == statuses


@pytest.mark.parametrize("route", described.EVERY, ids=lambda one: one.handler.__name__)
def test_every_answer_has_headers_and_an_example_for_each_media_type(route: Route) -> None:
    told = list(contents(route))
    problems = {
        name
        for _, media, content in told
        if media == refusals.MEDIA
        for name in content["examples"]
    }

    assert problems == set(route.problems)
    for status, kind in route.answers.items():
        media = {one for code, one, _ in told if code == status and one != refusals.MEDIA}
        assert media == (set() if kind is None else set(route.offers))
    for _, _, content in told:
        assert examples(content)
    for status in (*route.answers, *(TYPES[name].status for name in route.problems)):
        answer = described.response(route.path, route.method, status)
        assert "X-Request-Id" in answer["headers"]
        assert answer["description"]


@pytest.mark.parametrize("route", described.EVERY, ids=lambda one: one.handler.__name__)
def test_every_example_is_valid_by_its_schema(document: Any, route: Route) -> None:
    operation = operations(document)[route.method, route.path]
    bodies = operation.get("requestBody", {}).get("content", {})
    for told in (
        *(described.follow(one) for one in operation["parameters"]),
        *(content for _, _, content in contents(route) if "schema" in content),
        *bodies.values(),
    ):
        for example in examples(told):
            described.validator(told["schema"]).validate(example)
    for example in examples(bodies.get("application/x-ndjson", {})):
        for line in example.splitlines():
            described.validator({"$ref": f"{SCHEMAS}BatchSubmission"}).validate(json.loads(line))


def test_the_examples_of_a_stream_are_of_its_events(document: Any) -> None:
    told = described.response("/v1/runs/{run_id}/events", "GET", 200)
    content = told["content"]["text/event-stream"]

    blocks = [block.splitlines() for block in content["example"].split("\n\n") if "data:" in block]

    assert {lines[0].removeprefix("event: ") for lines in blocks} >= {"status", "charge"}
    for event, _, data in blocks:
        schema = content["x-event-data"][event.removeprefix("event: ")]
        described.validator(schema).validate(json.loads(data.removeprefix("data: ")))


def test_headers_have_examples_that_are_valid(document: Any) -> None:
    for header in document["components"]["headers"].values():
        described.validator(header["schema"]).validate(header["example"])


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_is_described_as_it_is_sent(document: Any, event: str) -> None:
    told = document["webhooks"][event]["post"]["requestBody"]["content"]["application/json"]
    sent = json.loads(payload(events.due(event)))

    validator = described.validator(told["schema"])

    assert examples(told) == [sent]
    validator.validate(sent)
    assert not validator.is_valid({**sent, "type": "run.other"})
    data = "ToldLow" if event == "budget.low" else "ToldRun"
    assert set(sent["data"]) == set(document["components"]["schemas"][data]["properties"])


async def test_links_lead_from_a_run_to_all_that_can_be_asked_of_it(
    document: Any, acme: Client
) -> None:
    run = await acme.submitted()
    await acme.ended(run["run_id"])
    links = described.response("/v1/runs", "POST", 201)["links"]
    paths = {one["operationId"]: key for key, one in operations(document).items()}

    followed = {}
    for link in links.values():
        method, path = paths[link["operationId"]]
        assert link["parameters"] == {"run_id": "$response.body#/run_id"}
        answer = await acme.ask(method, path.replace("{run_id}", run["run_id"]))
        followed[link["operationId"]] = answer.status_code

    assert followed == dict.fromkeys(
        ("get_run", "cancel_run", "get_result", "stream_events", "get_receipt"), 200
    )


async def test_every_operation_answers_as_the_document_says(acme: Client) -> None:
    """`Client` looks at each answer: here is one success at least of every operation."""
    ask = acme.ask
    run = await acme.ended((await acme.submitted())["run_id"])
    url = {"url": "https://hooks.example.com/", "events": ["run.expired"]}
    webhook = (await ask("POST", "/v1/webhooks", json=url)).json()
    key = (await ask("POST", "/v1/keys", json={"scopes": ["keys:write"]})).json()
    own, hook = f"/v1/runs/{run['run_id']}", f"/v1/webhooks/{webhook['webhook_id']}"
    batch = {"runs": [submission(idempotency_key="m"), {}]}
    asked: list[tuple[str, str, Any]] = [
        *(("GET", path, None) for path in ("/", "/health", "/readyz", "/openapi.json")),
        *(("GET", path, None) for path in ("/v1/runs", "/v1/packs", "/v1/budget", "/v1/usage")),
        *(("GET", path, None) for path in ("/v1/transfers", "/v1/keys", "/v1/webhooks")),
        *(("GET", own + path, None) for path in ("", "/result", "/receipt", "/events")),
        ("POST", f"{own}:cancel", None),
        ("POST", "/v1/runs:batch", batch),
        ("POST", "/v1/quotes", submission()),
        ("POST", f"/v1/keys/{key['key_id']}:rotate", {"overlap_s": 60}),
        ("DELETE", f"/v1/keys/{key['key_id']}", None),
        ("GET", hook, None),
        ("PATCH", hook, {"status": "enabled"}),
        ("POST", f"{hook}:rotate", None),
        ("GET", f"{hook}/deliveries", None),
        ("DELETE", hook, None),
    ]
    for method, path, body in asked:
        answer = await ask(method, path, **({} if body is None else {"json": body}))
        assert answer.is_success, (method, path, answer.text)
    csv = await ask("GET", "/v1/transfers", headers={"Accept": "text/csv"})
    part = await ask("GET", f"{own}/result", headers={"Range": "bytes=0-3"})
    tag = (await ask("GET", own)).headers["etag"]
    same = await ask("GET", own, headers={"If-None-Match": tag})

    assert csv.headers["content-type"].startswith("text/csv")
    assert (part.status_code, same.status_code) == (206, 304)


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"status_code": 418}, "is not in the document"),
        ({"headers": {"x-request-id": "a", "x-new": "1"}}, "has {'x-new'}"),
        ({"headers": {}}, "lacks {'x-request-id'}"),
        ({"headers": {"x-request-id": "a", "content-type": "text/html"}}, "is text/html"),
        ({"json": {"service": "DPP API", "version": "1"}}, "is a required property"),
    ],
)
def test_an_answer_that_is_not_as_described_is_found(change: dict[str, Any], why: str) -> None:
    good: dict[str, Any] = {
        "status_code": 200,
        "headers": {"x-request-id": "a"},
        "json": {"service": "DPP API", "version": "1", "status": "running"},
        "request": httpx.Request("GET", "http://node/"),
    }
    described.check(httpx.Response(**good))

    with pytest.raises((AssertionError, ValueError), match=why):
        described.check(httpx.Response(**{**good, **change}))


@pytest.mark.parametrize(
    ("member", "good", "bad"),
    [
        (
            "max_cost_usd",
            ["1", "0.000125", "1000000", "1000000.00", "0.10", None],
            ["1e3", "-1", ".5", "01", 1, "0", "0.00", "1000000.01", "1000001"],
        ),
        ("priority", [0, 9], [-1, 10, "5", None]),
        ("timebox_s", [1, 3600, None], [0, "1", 3601]),
        ("inputs", [{}], [[], None, "x"]),
        ("pack_type", ["echo"], ["", 1, "x" * 65]),
        ("run_at", [None], ["tomorrow", 1, "2030-01-31T09:30:00"]),
        ("metadata", [{"a": "b"}, {}, None], [{"a": 1}, [], {"": "b"}]),
        ("more", [], [1]),
    ],
)
async def test_schema_of_a_submission_allows_what_the_node_allows(
    shared: Client, member: str, good: list[Any], bad: list[Any]
) -> None:
    validator = described.validator({"$ref": f"{SCHEMAS}QuoteRequest"})

    for value in (*good, *bad):
        body = submission(**{member: value})
        told = validator.is_valid(body)
        answer = (await shared.ask("POST", "/v1/quotes", json=body)).json()
        refused = [one["pointer"] for one in answer.get("errors", ())]
        assert told is (value in good)
        assert (f"/{member}" in refused) is not told
