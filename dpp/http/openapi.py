"""The OpenAPI 3.1 document, made from the table and the types that validate and answer.

Nothing of it is written by hand but words. It is made once, at start, and served as a row of its
own beside those that it describes.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from dpp.http.answers import Answer
from dpp.http.media import JSON, NDJSON
from dpp.http.problems import TYPES, Problem, ProblemType
from dpp.http.requests import Parameters, Request, Whole, Words
from dpp.http.routes import Route
from dpp.http.services import Services
from dpp.http.views import SCHEMAS, BatchRefusal, BatchRun, ProblemView
from dpp.http.wire import KEY_PATTERN, REQUEST_TYPES
from dpp.version import VERSION

Json: TypeAlias = dict[str, Any]

PROBLEM_MEDIA: Final = "application/problem+json"
KEY_HEADER: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "required": True,
    "description": "Names this submission: sent again with the same key, it is the same run.",
    "schema": {"type": "string", "pattern": KEY_PATTERN, "minLength": 1, "maxLength": 255},
    "example": "order-4711",
}
MEMBERS: Final[Mapping[str, Json]] = {
    "errors": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"pointer": {"type": "string"}, "message": {"type": "string"}},
            "required": ["pointer", "message"],
        },
    },
    "allowed": {"type": "array", "items": {"type": "string"}},
    "violated-policies": {"type": "array", "items": {"type": "string"}},
    "available_usd": {"type": "string"},
    "required_usd": {"type": "string"},
    "limit_usd": {"type": "string"},
    "cost_usd": {"type": "string"},
    "refunded_usd": {"type": "string"},
    "left_usd": {"type": "string"},
    "run_status": {"type": "string"},
    "actual_usd": {"type": "string"},
}
_PATH_PARAMETER: Final = re.compile(r"\{([a-z_]+)\}")


def with_document(routes: Sequence[Route]) -> tuple[Route, ...]:
    """Return the rows and one more, which serves the document of all of them."""
    told: list[bytes] = []

    async def get_openapi(_services: Services, _request: Request) -> Answer | Problem:
        return Answer(200, told[0])

    last = Route(
        method="GET",
        path="/openapi.json",
        handler=get_openapi,
        summary="This document",
        answers={200: dict[str, Any]},
    )
    told.append(msgspec.json.encode(document((*routes, last))))
    return (*routes, last)


def document(routes: Sequence[Route]) -> Json:
    """Return the document that describes these rows."""
    types = {kind for route in routes for kind in _types(route)} | {
        ProblemView,
        BatchRun,
        BatchRefusal,
    }
    ordered = sorted(types, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=f"{SCHEMAS}{{name}}")
    for kind in REQUEST_TYPES:  # unknown members are refused
        schemas[kind.__name__]["additionalProperties"] = False
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DPP API",
            "version": VERSION,
            "summary": "Paid runs: reserved, executed, settled exactly once.",
        },
        "paths": paths,
        "components": {
            "schemas": {**schemas, **{_name(name): _problem(name) for name in TYPES}},
            "securitySchemes": {"key": {"type": "http", "scheme": "bearer"}},
        },
    }


def operation(route: Route) -> Json:
    """Return one operation."""
    told: Json = {
        "operationId": route.handler.__name__,
        "summary": route.summary,
        "responses": {**_answers(route.answers), **_problems(route)},
    }
    parameters = [*_path_parameters(route.path), *_query(route.query)]
    if route.needs_key:
        parameters.append(KEY_HEADER)
    if parameters:
        told["parameters"] = parameters
    if route.scope is not None:
        told["security"] = [{"key": [route.scope]}]
    if route.body is not None:
        told["requestBody"] = {
            "required": True,
            "content": {media: _body(route.body.type, media) for media in route.body.media_types},
        }
    return told


def _answers(answers: Mapping[int, type | None]) -> Json:
    return {
        str(status): {"description": HTTPStatus(status).phrase}
        | ({} if kind is None else {"content": {JSON: {"schema": _schema(kind)}}})
        for status, kind in answers.items()
    }


def _problems(route: Route) -> Json:
    """Return the problems by status; types that share one are alternatives."""
    by_status: dict[int, list[str]] = {}
    for name in route.problems:
        by_status.setdefault(TYPES[name].status, []).append(name)
    told: Json = {}
    for status, names in sorted(by_status.items()):
        refs = [_ref(_name(name)) for name in names]
        content = {PROBLEM_MEDIA: {"schema": refs[0] if len(refs) == 1 else {"oneOf": refs}}}
        answer = route.answers.get(status)
        if answer is not None:
            content[JSON] = {"schema": _schema(answer)}
        told[str(status)] = {"description": ", ".join(names), "content": content}
    return told


def _problem(name: str) -> Json:
    """Return the schema of a problem type."""
    kind: ProblemType = TYPES[name]
    own: Json = {
        "type": {"const": kind.base + name},
        "status": {"const": kind.status},
        "title": {"const": kind.title},
        **{member: MEMBERS[member] for member in kind.members},
    }
    required = list(kind.members)
    return {"allOf": [_ref("ProblemView"), {"properties": own, "required": required}]}


def _query(parameters: Parameters) -> list[Json]:
    return [
        {"name": name, "in": "query", "schema": _parameter(kind)}
        for name, kind in parameters.items()
    ]


def _parameter(kind: Whole | Words) -> Json:
    if isinstance(kind, Words):
        pattern = {} if kind.pattern is None else {"pattern": kind.pattern}
        return {"type": "string", "minLength": 1, "maxLength": kind.chars_max, **pattern}
    return {
        "type": "integer",
        "minimum": kind.least,
        "maximum": kind.most,
        "default": kind.default,
    }


def _path_parameters(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAMETER.findall(path)
    ]


def _body(kind: type, media: str) -> Json:
    if media == NDJSON:
        return {"schema": {"type": "string", "description": "One submission a line."}}
    return {"schema": _schema(kind)}


def _types(route: Route) -> Iterable[type]:
    """Return the attrs types of a row."""
    bodies = [route.body.type] if route.body else []
    return [kind for kind in (*bodies, *route.answers.values()) if kind and attrs.has(kind)]


def _schema(kind: type) -> Json:
    return _ref(kind.__name__) if attrs.has(kind) else {"type": "object"}


def _ref(name: str) -> Json:
    return {"$ref": SCHEMAS + name}


def _name(problem: str) -> str:
    """Return the name of a problem's schema: `not-found` → `NotFoundProblem`."""
    return "".join(word.capitalize() for word in problem.split("-")) + "Problem"
