"""Lines that say the same of the same actor again and again: an outage is one, not ten a second."""

import time
from typing import Final, TypeAlias

from attrs import define, field
from structlog import DropEvent
from structlog.typing import EventDict

# Every actor says these once a second, or more often, for as long as a store is away.
OFTEN: Final = frozenset({
    "store unavailable",
    "result store unavailable",
    "heartbeat unanswered",
})  # fmt: skip
EVERY_S: Final = 10.0  # of each actor: an outage is still seen to go on
KEPT_MAX: Final = 1000  # lines that are remembered; the details of one may be new each time

Key: TypeAlias = tuple[str, str, str]


@define(eq=False)
class Repeats:
    """Lets the first line pass, and then one in `EVERY_S` that tells how many it stands for."""

    _last_at: dict[Key, float] = field(factory=dict)
    _dropped: dict[Key, int] = field(factory=dict)

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        if event["event"] not in OFTEN:
            return event
        key = (event["event"], str(event.get("actor", "")), str(event.get("detail", "")))
        now = time.monotonic()  # noqa: TID251 - the bridge's thread logs too
        if now - self._last_at.get(key, -EVERY_S) < EVERY_S:
            self._dropped[key] = self._dropped.get(key, 0) + 1
            raise DropEvent
        if len(self._last_at) >= KEPT_MAX:
            self._last_at.clear()
            self._dropped.clear()
        self._last_at[key] = now
        dropped = self._dropped.pop(key, 0)
        if dropped:
            event["repeated"] = dropped
        return event
