"""One operation of the document, made from its row of the table."""

import re
from http import HTTPStatus
from typing import Any, Final, TypeAlias

from dpp.http.media import JSON, NDJSON
from dpp.http.openapi import examples, headers, refusals, schemas
from dpp.http.openapi.notes import LINKS, NOTES, PARAMETERS, STATUSES
from dpp.http.problems import TYPES
from dpp.http.requests import Kind
from dpp.http.routes import Route
from dpp.http.services import Bounds
from dpp.http.views.encoding import SCHEMAS

Json: TypeAlias = dict[str, Any]

EVENT_TYPES: Final = {
    "status": "StatusEvent",
    "progress": "ProgressEvent",
    "charge": "ChargeEvent",
}
_PATH_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")
_PART: Final = 206
_STREAM: Final = "text/event-stream"


def operation(route: Route, bounds: Bounds) -> Json:
    """Return one operation."""
    name = route.handler.__name__
    tag, description = NOTES[name]
    told: Json = {
        "operationId": name,
        "summary": route.summary,
        "description": description,
        "tags": [tag],
        "parameters": [
            *(_path(one) for one in _PATH_PARAMETER.findall(route.path)),
            *(_query(one, kind, bounds) for one, kind in route.query.items()),
            *headers.sent(route),
        ],
        "responses": _responses(route),
    }
    if route.scope is not None:
        told["security"] = [{"key": [route.scope]}]
    if route.body is not None:
        content = {media: _body(route, route.body.type, media) for media in route.body.media_types}
        told["requestBody"] = {"required": True, "content": content}
    return told


# ── what is sent ─────────────────────────────────────────────────────────────────────────────────


def _path(name: str) -> Json:
    return {**_parameter(name), "in": "path", "required": True, "schema": schemas.of_path(name)}


def _query(name: str, kind: Kind, bounds: Bounds) -> Json:
    schema = schemas.of_query(kind)
    if name == "wait":
        schema["maximum"] = bounds.wait_max_s
    return {**_parameter(name), "in": "query", "required": False, "schema": schema}


def _parameter(name: str) -> Json:
    description, example = PARAMETERS[name]
    return {"name": name, "description": description, "example": example}


def _body(route: Route, kind: type, media: str) -> Json:
    if media == NDJSON:
        schema = {"type": "string", "description": "One BatchSubmission a line."}
        return {"schema": schema, "examples": {"two": {"value": examples.LINES}}}
    return {
        "schema": schemas.of(kind),
        "examples": _values(examples.sent(route.handler.__name__)),
    }


# ── what is answered ─────────────────────────────────────────────────────────────────────────────


def _responses(route: Route) -> Json:
    """Return all answers by status; of problems that have a status for themselves a reference."""
    told = {status: _answer(route, status, kind) for status, kind in route.answers.items()}
    for status, names in problems_by_status(route).items():
        if status in told:
            shared = refusal(names)
            told[status]["content"].update(shared["content"])
            told[status]["headers"].update(
                {name: _maybe(name) for name in shared["headers"] if name != "X-Request-Id"}
            )
        else:
            told[status] = {"$ref": f"#/components/responses/{response_name(names)}"}
    return {str(status): told[status] for status in sorted(told)}


def problems_by_status(route: Route) -> dict[int, tuple[str, ...]]:
    """Return the problems of a row by status; types that share one are alternatives."""
    by_status: dict[int, tuple[str, ...]] = {}
    for name in sorted(route.problems):
        status = TYPES[name].status
        by_status[status] = (*by_status.get(status, ()), name)
    return by_status


def response_name(names: tuple[str, ...]) -> str:
    """Return the name of the response that these problems share."""
    return ".".join(names)


def refusal(names: tuple[str, ...]) -> Json:
    """Return the response that is one of these problems."""
    return {
        "description": " ".join(dict.fromkeys(refusals.TOLD[name].meaning for name in names)),
        "headers": headers.of_problem(TYPES[names[0]].status),
        "content": refusals.content(names),
    }


def _answer(route: Route, status: int, kind: type | None) -> Json:
    name = route.handler.__name__
    told: Json = {
        "description": STATUSES.get((name, status), HTTPStatus(status).phrase),
        "headers": headers.of_success(route, status),
    }
    if kind is not None:
        told["content"] = {media: _content(route, status, kind, media) for media in route.offers}
    if (name, status) in LINKS:
        told["links"] = {
            target: {"operationId": target, "parameters": dict(parameters)}
            for target, parameters in LINKS[name, status].items()
        }
    return told


def _content(route: Route, status: int, kind: type, media: str) -> Json:
    """Return what an answer is: an object as JSON, else text; a part of JSON is neither."""
    if status == _PART:
        return {"example": examples.PART}
    if media != JSON:
        told: Json = {"schema": {"type": "string"}, "example": examples.TEXTS[media]}
        if media == _STREAM:  # what stands behind `data:`, by the name of the event
            told["x-event-data"] = {
                name: {"$ref": SCHEMAS + schema} for name, schema in EVENT_TYPES.items()
            }
        return told
    named = examples.answered(route.handler.__name__, status, kind)
    return {"schema": schemas.of(kind), "examples": _values(named)}


def _maybe(name: str) -> Json:
    """Return a header that only the problem carries."""
    return {**headers.ANSWERED[name], "required": False}


def _values(named: examples.Named) -> Json:
    return {name: {"value": value} for name, value in named.items()}
