"""Strict reading of a pack's inputs: attrs types in, a value or its errors at once out.

A pack states its inputs as frozen attrs classes; bounds stand in `Annotated[…, Meta(…)]`, from
which the JSON Schema is made too. Unknown members are refused, and nothing is converted
(`strict`). Errors carry a JSON pointer into the submission and never repeat what was sent. Inputs
that are wrong everywhere cost no more than right ones: reading them ends after `ERRORS_MAX` errors.
"""

from collections.abc import Iterable
from typing import Annotated, TypeAlias, TypeVar

from cattrs.errors import BaseValidationError
from msgspec import Meta

from dpp.packs.members import ERRORS_MAX, escape, first_errors, member_errors
from dpp.packs.strict import Wrong, make_converter
from dpp.pricing import InputError, InputsInvalid

__all__ = ["ERRORS_MAX", "Json", "invalid", "pointer", "structure"]

Inputs = TypeVar("Inputs")

NOT_A_MEMBER = "is not a member of these inputs"

# Any JSON value, taken as it is.
Json: TypeAlias = Annotated[object, Meta(extra_json_schema={"description": "any JSON value"})]

_converter = make_converter()


def structure(inputs: object, kind: type[Inputs]) -> Inputs | InputsInvalid:
    """Return `inputs` as a `kind`, or what is wrong with them."""
    try:
        return _converter.structure(inputs, kind)
    except (BaseValidationError, Wrong) as error:
        return invalid(member_errors(error, "/inputs", NOT_A_MEMBER))


def invalid(errors: Iterable[InputError]) -> InputsInvalid:
    """Make one bounded answer of `errors`: past `ERRORS_MAX` they are not even looked for."""
    first = first_errors(errors, "/inputs")
    assert first
    return InputsInvalid(tuple(first))


def pointer(*parts: str | int) -> str:
    """Return the JSON pointer (RFC 6901) to a member of the inputs."""
    return "".join(f"/{escape(part)}" for part in ("inputs", *parts))
