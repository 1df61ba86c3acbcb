"""The schemas of the types, as msgspec makes them, and exact where a type cannot say it all."""

import inspect
from collections.abc import Collection
from typing import Any, Final, TypeAlias

import attrs
import msgspec

from dpp import moments
from dpp.http.keys import KEY_ID
from dpp.http.requests import Day, Kind, Moment, Words
from dpp.http.services import Bounds
from dpp.http.views.encoding import SCHEMAS
from dpp.http.wire import REQUEST_TYPES
from dpp.keys import SCOPES

Json: TypeAlias = dict[str, Any]

_UUID: Final = "^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$"
_PATHS: Final = {"key_id": {"type": "string", "pattern": f"^{KEY_ID}$"}}


def components(kinds: Collection[type], bounds: Bounds) -> Json:
    """Return the schema of each type by its name, and of those that they are made of."""
    ordered = sorted(kinds, key=lambda kind: kind.__name__)
    _, schemas = msgspec.json.schema_components(ordered, ref_template=f"{SCHEMAS}{{name}}")
    for schema in schemas.values():
        if "description" in schema:
            schema["description"] = inspect.cleandoc(schema["description"])
    for kind in REQUEST_TYPES:  # unknown members are refused
        schemas[kind.__name__]["additionalProperties"] = False
        _bound(schemas[kind.__name__]["properties"], bounds)
    return schemas


def _bound(properties: Json, bounds: Bounds) -> None:
    """Say what this node bounds, and what msgspec takes from the type instead."""
    if "timebox_s" in properties:
        number = properties["timebox_s"]["anyOf"][0]
        number["maximum"] = bounds.timebox_max_s
    if "scopes" in properties:
        properties["scopes"]["items"] = {"enum": list(SCOPES)}


def of(kind: type) -> Json:
    """Return the schema of a type: a reference, or anything."""
    if kind is object:  # any JSON
        return {}
    return {"$ref": SCHEMAS + kind.__name__} if attrs.has(kind) else {"type": "object"}


def of_path(name: str) -> Json:
    """Return the schema of a parameter of a path."""
    return _PATHS.get(name, {"type": "string", "format": "uuid", "pattern": _UUID})


def of_query(kind: Kind) -> Json:
    """Return the schema of a parameter of a query."""
    if isinstance(kind, Day):
        return {"type": "string", "format": "date"}
    if isinstance(kind, Moment):
        return {"type": "string", "format": "date-time", "pattern": moments.PATTERN}
    if isinstance(kind, Words):
        pattern = {} if kind.pattern is None else {"pattern": kind.pattern}
        return {"type": "string", "minLength": 1, "maxLength": kind.chars_max, **pattern}
    return {
        "type": "integer",
        "minimum": kind.least,
        "maximum": kind.most,
        "default": kind.default,
    }
