"""Strict reading of a pack's inputs: attrs types in, a value or all errors at once out.

A pack states its inputs as frozen attrs classes; bounds stand in `Annotated[…, Meta(…)]`, from
which the JSON Schema is made too. Unknown members are refused, and nothing is converted
(`strict`). Errors carry a JSON pointer into the submission and never repeat what was sent.
"""

from collections.abc import Iterator
from typing import Annotated, TypeAlias, TypeVar

from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from msgspec import Meta

from dpp.packs.strict import Wrong, make_converter
from dpp.pricing import InputError, InputsInvalid

Inputs = TypeVar("Inputs")

ERRORS_MAX = 100  # enough to repair a submission by; a wrong matrix would list every cell

# Any JSON value, taken as it is.
Json: TypeAlias = Annotated[object, Meta(extra_json_schema={"description": "any JSON value"})]

_converter = make_converter()


def structure(inputs: object, kind: type[Inputs]) -> Inputs | InputsInvalid:
    """Return `inputs` as a `kind`, or everything that is wrong with them."""
    try:
        return _converter.structure(inputs, kind)
    except (BaseValidationError, Wrong) as error:
        errors = list(_errors(error, "/inputs"))
    return invalid(errors)


def invalid(errors: list[InputError]) -> InputsInvalid:
    """Make one bounded answer of all `errors`: past `ERRORS_MAX` the last one counts the rest."""
    assert errors
    if len(errors) > ERRORS_MAX:
        more = len(errors) - ERRORS_MAX + 1
        errors = [*errors[: ERRORS_MAX - 1], InputError("/inputs", f"and {more} more errors")]
    return InputsInvalid(tuple(errors))


def pointer(*parts: str | int) -> str:
    """Return the JSON pointer (RFC 6901) to a member of the inputs."""
    return "".join(f"/{_escape(part)}" for part in ("inputs", *parts))


def _escape(part: str | int) -> str:
    return str(part).replace("~", "~0").replace("/", "~1")


def _errors(error: BaseException, at: str) -> Iterator[InputError]:
    """Yield the leaves of what cattrs raised, each with its place."""
    at += _place(error)
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from _errors(inner, at)
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(error.extra_fields):
            yield InputError(f"{at}/{_escape(name)}", "is not a member of these inputs")
    elif isinstance(error, KeyError):
        yield InputError(at, "is required")
    elif isinstance(error, ValueError):
        yield InputError(at, str(error))
    else:
        raise error  # a bug in a pack's types, not in what was sent


def _place(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f"/{_escape(note.name)}"
        if isinstance(note, IterableValidationNote):
            return f"/{_escape(note.index)}"
    return ""
