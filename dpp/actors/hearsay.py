"""Hearsay: what other nodes tell this one, over Redis. It wakes who would else poll; no more.

A message that is no bulletin is counted and passed over, whoever sent it.
"""

import random
from collections.abc import Callable
from uuid import UUID

import trio
from attrs import frozen

from dpp import hints
from dpp.faults import HelperUnavailable
from dpp.hints import Bulletin
from dpp.metrics import hints_total
from dpp.ports import Channel

AGAIN_S = 1.0  # between two looks whether Redis is there again


@frozen(kw_only=True)
class Hearers:
    """Who on this node hears of what."""

    queued: Callable[[str], object]
    changed: Callable[[UUID], object]
    key_ended: Callable[[str], object]
    used_up: Callable[[str, int, int], object]

    def hear(self, bulletin: Bulletin) -> None:
        """Pass a bulletin on."""
        for tenant_id in bulletin.queued:
            self.queued(tenant_id)
        for run_id in bulletin.runs:
            self.changed(run_id)
        for key_id in bulletin.keys:
            self.key_ended(key_id)
        for tenant_id, (limit, until_ms) in bulletin.used_up.items():
            self.used_up(tenant_id, limit, until_ms)


async def hearsay(channel: Channel, own_name: str, hearers: Hearers) -> None:
    """Hear until cancelled. While Redis is away it is asked about once a second."""
    while True:
        try:
            messages = await channel.hear()
        except HelperUnavailable:
            await trio.sleep(AGAIN_S * random.uniform(0.5, 1.0))
            continue
        for message in messages:
            take(message, own_name, hearers)
            await trio.lowlevel.checkpoint()  # a full one takes some milliseconds


def take(message: bytes, own_name: str, hearers: Hearers) -> None:
    """Read a message and pass it on, unless it is our own."""
    said = hints.decode(message)
    if said is None:
        hints_total.labels("ignored").inc()
    elif said[0] != own_name:
        hints_total.labels("heard").inc()
        hearers.hear(said[1])
