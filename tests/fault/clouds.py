"""What a storm does to S3 and SQS: each kind of fault by itself, for a share of the requests.

They are made in the proxies that all nodes ask through, so they have no node of their own. What the
proxies count is what was really met: a fault that came while nobody asked is none.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import trio
from attrs import frozen

from tests.aws.proxy import Fault, Proxy

if TYPE_CHECKING:
    from random import Random

    from tests.aws.cloud import Cloud

SHARE = 0.5  # of the requests: a try in sixteen meets four faults in a row, and gives up
LASTS_S = (1.5, 4.0)  # up to the length of a lease
MET_S, LOOK_S = 6.0, 0.1  # longer, until each of its faults was met; between two looks


@frozen
class Trouble:
    """A name, and what the proxy does meanwhile; no faults: it refuses all."""

    name: str
    faults: tuple[Fault, ...] = ()


TROUBLES = (
    Trouble("throttled", (Fault.SLOW_DOWN,)),
    Trouble("fails", (Fault.INTERNAL,)),
    Trouble("reset in the middle", (Fault.CUT, Fault.REFUSED)),
    Trouble("done, its answer lost", (Fault.REPLY_LOST,)),
    Trouble("wrong bytes", (Fault.WRONG, Fault.GARBLED)),
    Trouble("done twice", (Fault.TWICE,)),
    Trouble("late, out of order", (Fault.LATE,)),
    Trouble("down"),
)
NAMES = tuple(f"{service} {one.name}" for service in ("s3", "sqs") for one in TROUBLES)


async def trouble(proxy: Proxy, one: Trouble, dice: Random) -> int:
    """Let it happen for a while; returns how many requests met it."""
    before, made = met(proxy), proxy.made.copy()
    proxy.away = not one.faults
    proxy.storm(SHARE if one.faults else 0.0, *one.faults)

    def has_come() -> bool:
        each = all(proxy.made[fault] > made[fault] for fault in one.faults)
        return each and met(proxy) > before

    try:
        await trio.sleep(dice.uniform(*LASTS_S))
        until = trio.current_time() + MET_S
        while not has_come() and trio.current_time() < until:  # noqa: ASYNC110 - nobody tells
            await trio.sleep(LOOK_S)
    finally:
        proxy.away = False
        proxy.storm(0.0)
    return met(proxy) - before


def met(proxy: Proxy) -> int:
    """Count the requests that met any trouble so far."""
    return proxy.made.total() + proxy.refused


def deck(cloud: Cloud, dice: Random) -> Iterator[tuple[str, Proxy, Trouble]]:
    """Deal every trouble of both services, in any order, again and again."""
    every = [
        (f"{service} {one.name}", proxy, one)
        for service, proxy in (("s3", cloud.s3), ("sqs", cloud.sqs))
        for one in TROUBLES
    ]
    while True:
        yield from dice.sample(every, len(every))
