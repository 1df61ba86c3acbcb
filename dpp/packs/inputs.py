"""Strict reading of a pack's inputs: attrs types in, a value or all errors at once out.

A pack states its inputs as frozen attrs classes; bounds stand in `Annotated[…, Meta(…)]`, from
which the JSON Schema is made too. Unknown members are refused, and nothing is converted
(`strict`). Errors carry a JSON pointer into the submission and never repeat what was sent.
"""

from typing import Annotated, TypeAlias, TypeVar

from cattrs.errors import BaseValidationError
from msgspec import Meta

from dpp.packs.members import escape, member_errors
from dpp.packs.strict import Wrong, make_converter
from dpp.pricing import InputError, InputsInvalid

Inputs = TypeVar("Inputs")

NOT_A_MEMBER = "is not a member of these inputs"
ERRORS_MAX = 100  # enough to repair a submission by; a wrong matrix would list every cell

# Any JSON value, taken as it is.
Json: TypeAlias = Annotated[object, Meta(extra_json_schema={"description": "any JSON value"})]

_converter = make_converter()


def structure(inputs: object, kind: type[Inputs]) -> Inputs | InputsInvalid:
    """Return `inputs` as a `kind`, or everything that is wrong with them."""
    try:
        return _converter.structure(inputs, kind)
    except (BaseValidationError, Wrong) as error:
        errors = list(member_errors(error, "/inputs", NOT_A_MEMBER))
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
    return "".join(f"/{escape(part)}" for part in ("inputs", *parts))
