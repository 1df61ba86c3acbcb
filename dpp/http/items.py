"""The items of a batch's body: `{"runs": […]}`, or one submission a line.

Pure, so that a large body can be read in a thread. What spoils the whole body is one problem; what
spoils an item is that item's.
"""

from typing import Final, TypeAlias

from dpp.http.decoder import (
    DEPTH_MAX,
    NODES_MAX,
    TOO_MANY,
    NotJson,
    Object,
    count_nodes,
    decode_object,
    measure,
    parse,
)
from dpp.http.problems import Problem, invalid
from dpp.http.wire import NOT_A_MEMBER
from dpp.pricing import InputError

ITEMS_MAX: Final = 1000

Item: TypeAlias = Object | Problem  # decoded, or what is wrong with it already


def read_lines(body: bytes) -> list[Item] | Problem:
    """Return a submission a line. A bad line spoils only itself, an empty one does not count."""
    lines = [line for line in body.split(b"\n") if line.strip(b" \t\r")]
    if not 0 < len(lines) <= ITEMS_MAX:
        return invalid([InputError("", f"must have 1 to {ITEMS_MAX} lines")])
    return [_whole(decode_object(line)) for line in lines]


def read_array(body: bytes) -> list[Item] | Problem:
    """Return the submissions of `{"runs": […]}`."""
    nodes = measure(body, nodes_max=ITEMS_MAX * NODES_MAX, depth_max=DEPTH_MAX + 2)
    batch = nodes if isinstance(nodes, NotJson) else parse(body)
    if isinstance(batch, NotJson):
        return Problem("malformed-json", batch.detail)
    items = batch.get("runs")
    errors = [InputError(f"/{name[:64]}", NOT_A_MEMBER) for name in batch if name != "runs"]
    if not isinstance(items, list) or not 0 < len(items) <= ITEMS_MAX:
        what = f"must be an array of 1 to {ITEMS_MAX} submissions"
        errors.append(InputError("/runs", what if "runs" in batch else "is required"))
    if errors:
        return invalid(errors)
    assert isinstance(items, list)
    assert isinstance(nodes, int)
    return [_checked(item, count=nodes > NODES_MAX) for item in items]


def _checked(item: object, *, count: bool) -> Item:
    if not isinstance(item, dict):
        return invalid([InputError("", "must be an object")])
    return _whole(TOO_MANY if count and count_nodes(item) > NODES_MAX else item)


def _whole(decoded: Object | NotJson) -> Item:
    if isinstance(decoded, NotJson):
        return Problem("malformed-json", decoded.detail)
    return decoded
