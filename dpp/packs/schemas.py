"""What a pack takes and gives, as JSON Schema (2020-12), made from its types.

A schema says what types and bounds say. What a `Check` adds, or a pack's `quote` finds among
several members, it cannot: inputs that it accepts may still be refused, those that it refuses are.
"""

from functools import cache
from typing import Any, Final, TypeAlias

import msgspec

Schema: TypeAlias = dict[str, Any]

DIALECT: Final = "https://json-schema.org/draft/2020-12/schema"


class NoSchema(TypeError):
    """A pack's type is none of JSON's."""


@cache  # a pack's types are what they are, and every list of packs asks
def input_schema(kind: type) -> Schema:
    """Return what inputs of this kind may be; unknown members are refused everywhere."""
    schema = _schema(kind)
    for definition in schema.get("$defs", {}).values():
        if "properties" in definition:
            definition["additionalProperties"] = False
    return schema


@cache
def output_schema(kind: type) -> Schema:
    """Return what a result of this kind is."""
    return _schema(kind)


def _schema(kind: type) -> Schema:
    if kind is object:  # a pack that looks at its inputs itself, or gives whatever it has
        return {"$schema": DIALECT}
    try:
        return {"$schema": DIALECT, **msgspec.json.schema(kind)}
    except TypeError as error:
        message = f"{kind.__name__} has no JSON Schema: {error}"
        raise NoSchema(message) from error
