"""The items of a batch's body: `{"runs": […]}`, or one submission a line.

A body is cut into its items first, and each is read for itself, within the bounds of one
submission. What spoils the whole body is one problem; what spoils an item is that item's.
"""

from typing import Final, TypeAlias

from dpp.http.bench import Bench
from dpp.http.cutting import ArrayCut, LineCut, Span
from dpp.http.decoder import NotJson, decode_object
from dpp.http.problems import Problem, invalid
from dpp.http.wire import NOT_A_MEMBER
from dpp.packs.members import escape, first_errors
from dpp.pricing import InputError

ITEMS_MAX: Final = 1000
REST_MAX: Final = 256 * 1024  # bytes: the commas and white space of a thousand items are a few KiB
BRACKETS_MAX: Final = 1_000_000  # arrays and objects, under 1 s to walk: a thousand in each item

HOW_MANY: Final = f"must be an array of 1 to {ITEMS_MAX} submissions"

Item: TypeAlias = Span | Problem  # where it stands in the body, or what is wrong with it already


async def cut_lines(bench: Bench, body: bytes) -> list[Item] | Problem:
    """Return a submission a line; an empty one does not count."""
    cut = LineCut(body, pieces_max=ITEMS_MAX)
    await bench.each(_nothing, cut.run())
    if not 0 < len(cut.pieces) <= ITEMS_MAX:
        return invalid([InputError("", f"must have 1 to {ITEMS_MAX} lines")])
    return [*cut.pieces]


async def cut_array(bench: Bench, body: bytes) -> list[Item] | Problem:
    """Return the submissions of `{"runs": […]}`."""
    cut = ArrayCut(body, pieces_max=ITEMS_MAX, rest_max=REST_MAX, brackets_max=BRACKETS_MAX)
    await bench.each(_nothing, cut.run())
    return await bench.once(lambda: read_array(cut))


def read_array(cut: ArrayCut) -> list[Item] | Problem:
    """Return the items of a body that was cut, in order."""
    if len(cut.pieces) > ITEMS_MAX:
        return invalid([InputError("/runs", HOW_MANY)])
    if cut.brackets > BRACKETS_MAX:
        detail = f"more than {BRACKETS_MAX} arrays and objects in one batch"
        return Problem("malformed-json", detail)
    if len(cut.rest) > REST_MAX:
        detail = f"around its submissions a batch may have at most {REST_MAX} bytes"
        return Problem("payload-too-large", detail)
    batch = decode_object(cut.rest)
    if isinstance(batch, NotJson):
        return Problem("malformed-json", batch.detail)
    runs = batch.get("runs")
    errors = [InputError(f"/{escape(name)}", NOT_A_MEMBER) for name in batch if name != "runs"]
    if not isinstance(runs, list) or not 0 < len(runs) <= ITEMS_MAX:
        errors.append(InputError("/runs", HOW_MANY if "runs" in batch else "is required"))
    if errors:
        return invalid(first_errors(errors, ""))
    assert isinstance(runs, list)
    pieces = iter(cut.pieces)  # one for each object: there is nothing else on their level
    return [next(pieces) if isinstance(item, dict) else NO_OBJECT for item in runs]


NO_OBJECT: Final = invalid([InputError("", "must be an object")])


def _nothing(_: None) -> None:
    pass
