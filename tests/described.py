"""Holds each answer of a node against the document: status, media type, headers, body.

The document is made here from the table, as the node makes its own; `test_openapi` compares them.
"""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Any

import jsonschema_rs
import msgspec

from dpp.http.openapi.document import with_document
from dpp.http.routes import ROUTES
from dpp.http.services import Bounds
from dpp.http.table import Table

if TYPE_CHECKING:
    import httpx

# As config/dpp.toml has them.
BOUNDS = Bounds(
    body_max_bytes=1 << 20,
    batch_body_max_bytes=16 << 20,
    wait_max_s=60,
    timebox_s=90,
    timebox_max_s=3600,
    result_max_bytes=64 << 20,
)
EVERY, DOCUMENT = with_document(ROUTES, BOUNDS)
PART = 206
# What any answer of an HTTP server may have, and what the document leaves to the whole service.
UNTOLD = {
    *("date", "content-type", "content-length", "transfer-encoding", "connection", "vary"),
    *("cache-control", "x-content-type-options", "content-security-policy", "referrer-policy"),
    *("x-accel-buffering", "allow", "server"),
}

_table = Table(EVERY)


def check(answer: httpx.Response) -> None:
    """Fail where an answer is not as the document says; paths and methods that it has not pass."""
    found = _table.find(answer.request.url.raw_path.partition(b"?")[0])
    route = found.methods.get(answer.request.method) if found else None
    if route is None:
        return
    told = response(route.path, route.method, answer.status_code)
    where = f"{route.method} {route.path} {answer.status_code}"
    assert told is not None, f"{where} is not in the document: {answer.text[:500]}"
    _check_headers(answer, told, where)
    content = told.get("content")
    if not content:
        assert answer.content == b"", where
        return
    media = answer.headers["content-type"].partition(";")[0]
    assert media in content, f"{where} is {media}"
    if "json" in media and answer.status_code != PART:
        _validator(route.path, route.method, answer.status_code, media).validate(
            msgspec.json.decode(answer.content)
        )


def _check_headers(answer: httpx.Response, told: Any, where: str) -> None:
    headers = {name.lower(): follow(one) for name, one in told.get("headers", {}).items()}
    given = {
        name
        for name in answer.headers
        if name not in UNTOLD and not name.startswith("access-control-")
    }
    needed = {name for name, one in headers.items() if one["required"]}
    assert given <= set(headers), f"{where} has {given - set(headers)}"
    assert needed <= given, f"{where} lacks {needed - given}"
    for name in given:
        value: Any = answer.headers[name]
        value = int(value) if headers[name]["schema"].get("type") == "integer" else value
        assert _header(name).is_valid(value), f"{where}: {name}: {value}"


@cache
def _header(name: str) -> jsonschema_rs.Draft202012Validator:
    named = {told.lower(): one for told, one in DOCUMENT["components"]["headers"].items()}
    return validator(named[name]["schema"])


@cache
def response(path: str, method: str, status: int) -> Any:
    """Return what the document says of an answer; None = nothing."""
    told = DOCUMENT["paths"][path][method.lower()]["responses"].get(str(status))
    return None if told is None else follow(told)


def follow(told: Any) -> Any:
    """Return what a reference stands for; what is none stays."""
    if "$ref" not in told:
        return told
    found: Any = DOCUMENT
    for part in told["$ref"].removeprefix("#/").split("/"):
        found = found[part]
    return found


def validator(schema: Any) -> jsonschema_rs.Draft202012Validator:
    """Return what validates by a schema of the document."""
    whole = {**schema, "components": DOCUMENT["components"]}
    return jsonschema_rs.Draft202012Validator(whole, validate_formats=True)


@cache
def _validator(
    path: str, method: str, status: int, media: str
) -> jsonschema_rs.Draft202012Validator:
    return validator(response(path, method, status)["content"][media]["schema"])
