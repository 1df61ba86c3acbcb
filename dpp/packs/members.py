"""What is wrong with which member of a JSON document: cattrs errors as JSON pointers (RFC 6901).

A client chooses the names in its document and how much of it is wrong. So a name is cut where it
becomes a part of a pointer, and errors are yielded one by one: who asks takes `first_errors`.
"""

from collections.abc import Iterable, Iterator
from heapq import nsmallest
from itertools import islice

from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)

from dpp.pricing import InputError

ERRORS_MAX = 100  # enough to repair a document by; a wrong matrix would list every cell
NAME_MAX = 64  # characters of a name that are said back: a long one would stand in each error
MORE = "and more errors"


def first_errors(errors: Iterable[InputError], at: str) -> list[InputError]:
    """Return a bounded list of `errors`, which is read no further; the last says that it is cut."""
    first = list(islice(errors, ERRORS_MAX + 1))
    if len(first) > ERRORS_MAX:
        first[ERRORS_MAX - 1 :] = [InputError(at, MORE)]
    return first


def member_errors(error: BaseException, at: str, unknown: str) -> Iterator[InputError]:
    """Yield the leaves of what cattrs raised, each with its place; `unknown` is for extra members.

    Raises what is no fault of the document but of our types.
    """
    at += _place(error)
    if isinstance(error, BaseValidationError):
        for inner in error.exceptions:
            yield from member_errors(inner, at, unknown)
    elif isinstance(error, ForbiddenExtraKeysError):
        for name in nsmallest(ERRORS_MAX + 1, error.extra_fields):
            yield InputError(f"{at}/{escape(name)}", unknown)
    elif isinstance(error, KeyError):
        yield InputError(at, "is required")
    elif isinstance(error, ValueError):
        yield InputError(at, str(error))
    else:
        raise error


def escape(part: str | int) -> str:
    """Return a part of a pointer as it is written; a long name is cut."""
    if isinstance(part, str) and len(part) > NAME_MAX:
        part = part[:NAME_MAX] + "…"
    return str(part).replace("~", "~0").replace("/", "~1")


def _place(error: BaseException) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, AttributeValidationNote):
            return f"/{escape(note.name)}"
        if isinstance(note, IterableValidationNote):
            return f"/{escape(note.index)}"
    return ""
