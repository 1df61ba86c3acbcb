"""What is wrong with which member of a JSON document: cattrs errors as JSON pointers (RFC 6901)."""

from collections.abc import Iterator

from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)

from dpp.pricing import InputError

NAME_MAX = 64  # characters of an unknown member's name that are said back


def member_errors(error: BaseException, at: str, unknown: str) -> Iterator[InputError]:
    """Yield the leaves of what cattrs raised, each with its place; `unknown` is for extra members.

    Raises what is no fault of the document but of our types.
    """
    at += _place(error)
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from member_errors(inner, at, unknown)
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in sorted(error.extra_fields):
            yield InputError(f"{at}/{escape(name[:NAME_MAX])}", unknown)
    elif isinstance(error, KeyError):
        yield InputError(at, "is required")
    elif isinstance(error, ValueError):
        yield InputError(at, str(error))
    else:
        raise error


def escape(part: str | int) -> str:
    """Return a part of a pointer as it is written."""
    return str(part).replace("~", "~0").replace("/", "~1")


def _place(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f"/{escape(note.name)}"
        if isinstance(note, IterableValidationNote):
            return f"/{escape(note.index)}"
    return ""
