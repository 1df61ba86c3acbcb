"""The keyring: when each API key was last used, written down at most hourly and in batches.

Handlers only note a use in memory; this loop writes what is due, beside all requests. So a use is
told to an hour, and what a node that died had not written is lost: nothing hangs on it.
"""

import random

import trio
from attrs import define, field

from dpp.metrics import succeeded
from dpp.ports import KeyUses

WRITE_S = 10.0  # between two looks: what a key's first use waits to be seen
HOUR_S = 3600.0  # of one key: a row that is written for every request would be the hottest of all
PAGE = 500  # keys a statement
KEYS_MAX = 10_000  # as many keys in use as the authenticator remembers


@define(eq=False)
class Uses:
    """What one node knows of the use of keys; it outlives outages of the store."""

    _due: dict[str, float] = field(factory=dict)  # key → when it was last used
    _written: dict[str, float] = field(factory=dict)  # key → when this was last written, in order

    def note(self, key_id: str) -> None:
        """Note that a key is used now. Cheap: every request does it."""
        now = trio.current_time()
        if now < self._written.get(key_id, -HOUR_S) + HOUR_S:
            return
        if key_id in self._due or len(self._due) < KEYS_MAX:
            self._due[key_id] = now

    async def write(self, store: KeyUses) -> None:
        """Write what is due, a page at a time; after an outage it is still due."""
        await trio.lowlevel.checkpoint()
        while self._due:
            now = trio.current_time()
            page = dict(list(self._due.items())[:PAGE])
            await store.note_uses({key_id: now - at for key_id, at in page.items()})
            for key_id in page:
                del self._due[key_id]
                self._remember(key_id, now)

    def _remember(self, key_id: str, now: float) -> None:
        self._written.pop(key_id, None)
        if len(self._written) >= KEYS_MAX:
            del self._written[next(iter(self._written))]
        self._written[key_id] = now


async def keyring(store: KeyUses, uses: Uses) -> None:
    """Write for as long as the node lives."""
    while True:
        await trio.sleep(WRITE_S * random.uniform(0.9, 1.1))
        await uses.write(store)
        succeeded("keyring")
