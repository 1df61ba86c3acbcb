"""Messages: what a queue carries for each new run, a hint to look at its row.

The table is the queue. A message that is lost, late, doubled, out of order or made up costs latency
or a question: who takes one out reads the row, and goes by that. So it names the run and no more.
"""

import json
import re
from typing import Final
from uuid import UUID

from attrs import frozen

VERSION: Final = 1
CHARS_MAX: Final = 1000  # of a message that is read; ours have 57, a later version may add to it
RECEIVES_MAX: Final = 3  # of a message that names no run; then it is a dead letter

_RUN: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@frozen
class Message:
    """A message as it was taken out, and the receipt by which it is deleted."""

    body: str
    receipt: str


@frozen
class Sighting:
    """A run whose row was read: whose it is, and whether it could be claimed at that moment."""

    run_id: UUID
    tenant_id: str
    waits: bool


@frozen
class Depths:
    """About how many messages wait to be taken out, and how many are dead letters.

    `dead` is None where the queue has no dead-letter queue.
    """

    waiting: int
    dead: int | None


def encode(run_id: UUID) -> str:
    """Return the message for a run."""
    return json.dumps({"v": VERSION, "run_id": str(run_id)}, separators=(",", ":"))


def decode(body: str) -> UUID | None:
    """Return the run that a message names; None = it is no message of ours, whoever sent it."""
    if len(body) > CHARS_MAX:
        return None
    try:
        said = json.loads(body)
    except (ValueError, RecursionError):
        return None
    match said:
        case {"v": int(version), "run_id": str(run_id)} if version is not True:
            known = version == VERSION and _RUN.fullmatch(run_id)
            return UUID(run_id) if known else None
    return None
