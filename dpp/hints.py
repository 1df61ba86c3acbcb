"""Hints: what one node tells the others, so that they need not find it out by polling.

Nothing here is ever taken for true: who hears of a run looks at its row, who hears of a key asks
for it again. A hint that is lost, late, doubled or made up costs latency or a question. So what
cannot be read is left out, and what is collected is bounded.

A *bulletin* is all that happened on a node since its last one, as one small JSON message. What a
later version adds to it is passed over.
"""

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final, TypeAlias, TypeVar
from uuid import UUID

from attrs import define, field, frozen

from dpp.keys import KEY_ID_CHARS

VERSION: Final = 1
BYTES_MAX: Final = 1 << 18  # of a message that is read: the fullest bulletin has 212,000
EACH_MAX: Final = 1000  # names of a kind in a bulletin: a third of a second of a busy node
WAITING_MAX: Final = 4 * EACH_MAX  # of a kind, not yet told; what comes then is lost

_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_KEY: Final = re.compile(rf"[0-9A-Za-z]{{{KEY_ID_CHARS}}}")
_SENDER: Final = re.compile(r"[0-9a-f]{16}")

T = TypeVar("T")
UsedUp: TypeAlias = tuple[int, int]


@frozen
class Bulletin:
    """What happened on a node.

    `queued`: tenants with more due runs than the node takes. `runs`: they ended, or something else
    is new of them. `keys`: API keys that may have ended. `used_up`: tenants whose submits of this
    minute are used up: their limit, and until when, in milliseconds since 1970 by the database.
    """

    queued: tuple[str, ...] = ()
    runs: tuple[UUID, ...] = ()
    keys: tuple[str, ...] = ()
    used_up: Mapping[str, UsedUp] = field(factory=dict)


@define
class News:
    """What is not yet told, each thing once."""

    queued: dict[str, None] = field(factory=dict)
    runs: dict[UUID, None] = field(factory=dict)
    keys: dict[str, None] = field(factory=dict)
    used_up: dict[str, UsedUp] = field(factory=dict)

    def __bool__(self) -> bool:
        return bool(self.queued or self.runs or self.keys or self.used_up)

    def take(self) -> Bulletin:
        """Take out as much as a bulletin holds."""
        return Bulletin(
            tuple(_first(self.queued)),
            tuple(_first(self.runs)),
            tuple(_first(self.keys)),
            _first(self.used_up),
        )


def add(waiting: dict[T, Any], name: T, value: UsedUp | None = None) -> bool:
    """Add to what is not yet told; False = there is no room."""
    if len(waiting) >= WAITING_MAX and name not in waiting:
        return False
    waiting[name] = value
    return True


def _first(waiting: dict[T, Any]) -> dict[T, Any]:
    if len(waiting) <= EACH_MAX:
        taken = dict(waiting)
        waiting.clear()
        return taken
    return {name: waiting.pop(name) for name in list(waiting)[:EACH_MAX]}


def encode(bulletin: Bulletin, sender: str) -> bytes:
    """Return the message. `sender` (16 hexadecimal digits): who hears itself knows it by that."""
    said: dict[str, Any] = {"v": VERSION, "from": sender}
    if bulletin.queued:
        said["queued"] = bulletin.queued
    if bulletin.runs:
        said["runs"] = [run_id.hex for run_id in bulletin.runs]
    if bulletin.keys:
        said["keys"] = bulletin.keys
    if bulletin.used_up:
        said["used_up"] = bulletin.used_up
    return json.dumps(said, separators=(",", ":")).encode()


def decode(message: bytes) -> tuple[str, Bulletin] | None:
    """Return who says it and what; None = it is no bulletin, whoever sent it."""
    if len(message) > BYTES_MAX:
        return None
    try:
        said = json.loads(message)
        if said["v"] != VERSION or not _SENDER.fullmatch(said["from"]):
            return None
        return said["from"], Bulletin(
            queued=_read(said.get("queued", ()), _tenant),
            runs=_read(said.get("runs", ()), UUID),
            keys=_read(said.get("keys", ()), _key),
            used_up={
                _tenant(name): _used_up(told) for name, told in _pairs(said.get("used_up", {}))
            },
        )
    except (ValueError, TypeError, KeyError, AttributeError, IndexError, RecursionError):
        return None  # what json, UUID and the readers below raise on what they do not know


def _read(names: object, read: Callable[[str], T]) -> tuple[T, ...]:
    if not isinstance(names, list | tuple) or len(names) > EACH_MAX:
        raise ValueError
    return tuple(read(name) for name in names)


def _pairs(said: object) -> Iterable[tuple[object, object]]:
    if not isinstance(said, dict) or len(said) > EACH_MAX:
        raise ValueError
    return said.items()


def _tenant(name: object) -> str:
    return _matching(_TENANT, name)


def _key(name: object) -> str:
    return _matching(_KEY, name)


def _matching(pattern: re.Pattern[str], name: object) -> str:
    if not isinstance(name, str) or not pattern.fullmatch(name):
        raise ValueError
    return name


def _used_up(told: object) -> UsedUp:
    match told:
        case [int(limit), int(until_ms)] if 0 < limit < 1 << 53 and 0 <= until_ms < 1 << 53:
            return limit, until_ms
    raise ValueError
