"""What is made at AWS for DPP, part by part: looked at first, and written only where it differs.

So it may be asked again at any time, and again after it was cut short anywhere. Each service has a
module that lists its parts, in the order in which they need each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from enum import StrEnum
from typing import Any

from attrs import frozen

from dpp.store.aws import Service, ask, client_of

WALL_S = 20.0  # a bucket is made in a few seconds; nobody waits for it but an operator


class Outcome(StrEnum):
    """What became of a part."""

    MADE = "made"
    KEPT = "as it was"


@frozen
class Part:
    """A part of a resource: whether it is as it should be, and how it becomes so."""

    resource: str
    name: str
    is_there: Callable[[], Awaitable[bool]]
    make: Callable[[], Awaitable[object]]


@frozen
class Provided:
    """A part, and what became of it."""

    resource: str
    part: str
    outcome: Outcome


async def provide(parts: Sequence[Part]) -> list[Provided]:
    """Make what is missing, in order; raises `CouldNotAsk` at the first that AWS refuses."""
    done: list[Provided] = []
    for part in parts:
        if await ask(part.is_there, wall_s=WALL_S):
            outcome = Outcome.KEPT
        else:
            await ask(part.make, wall_s=WALL_S)
            outcome = Outcome.MADE
        done.append(Provided(part.resource, part.name, outcome))
    return done


async def make(service: Service, parts_of: Callable[[Any], Sequence[Part]]) -> list[Provided]:
    """Make what is missing of a service."""
    async with client_of(service) as client:
        return await provide(parts_of(client))
