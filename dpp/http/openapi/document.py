"""The OpenAPI 3.1 document: made once, at start, from the table and the types that validate.

Nothing of it is written by hand but words and the values of examples. It is served as a row of its
own beside those that it describes.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from dpp.http.answers import Answer
from dpp.http.events import ChargeEvent, ProgressEvent, StatusEvent
from dpp.http.openapi import events, headers, refusals, schemas
from dpp.http.openapi.notes import ABOUT, TAGS
from dpp.http.openapi.operations import operation, problems_by_status, refusal, response_name
from dpp.http.problems import Problem
from dpp.http.requests import Request
from dpp.http.routes import Route
from dpp.http.services import Bounds, Services
from dpp.http.views.batches import BatchRefusal, BatchRun
from dpp.http.views.problems import ProblemView
from dpp.version import VERSION

Json: TypeAlias = dict[str, Any]

# What no row names as its type: what others are made of, and what stands in streams and webhooks.
_ALSO: Final = (
    *(ProblemView, BatchRun, BatchRefusal),
    *(StatusEvent, ProgressEvent, ChargeEvent),
    *events.TYPES,
)
_KEY: Final = {
    "type": "http",
    "scheme": "bearer",
    "bearerFormat": "dpp_live_…",
    "description": "An API key. The scopes that an operation needs stand beside it.",
}


def with_document(routes: Sequence[Route], bounds: Bounds) -> tuple[tuple[Route, ...], Json]:
    """Return the rows with one more, which serves the document of all of them; and the document."""
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
    every = (*routes, last)
    made = document(every, bounds)
    told.append(msgspec.json.encode(made))
    return every, made


def document(routes: Sequence[Route], bounds: Bounds) -> Json:
    """Return the document that describes these rows."""
    paths: Json = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = operation(route, bounds)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "DPP API",
            "version": VERSION,
            "summary": "Paid runs: reserved, executed, settled exactly once.",
            "description": ABOUT,
            "license": {"name": "Apache 2.0", "identifier": "Apache-2.0"},
        },
        "tags": [{"name": name, "description": words} for name, words in TAGS.items()],
        "paths": paths,
        "webhooks": events.webhooks(),
        "components": {
            "schemas": {
                **schemas.components(_types(routes), bounds),
                **refusals.schemas(),
            },
            "responses": _refusals(routes),
            "parameters": dict(headers.SHARED),
            "headers": dict(headers.ANSWERED),
            "securitySchemes": {"key": _KEY},
        },
    }


def _types(routes: Iterable[Route]) -> set[type]:
    """Return the attrs types of all rows."""
    kinds: set[type] = set(_ALSO)
    for route in routes:
        bodies = [route.body.type] if route.body else []
        named = (*bodies, *route.answers.values())
        kinds.update(kind for kind in named if kind is not None and attrs.has(kind))
    return kinds


def _refusals(routes: Iterable[Route]) -> Json:
    """Return the responses that are problems alone, by the names that rows refer to."""
    return {
        response_name(names): refusal(names)
        for route in routes
        for status, names in problems_by_status(route).items()
        if status not in route.answers
    }
