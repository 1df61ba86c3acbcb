"""The pace of a peer that takes an answer: how long the next bytes may wait for it.

A peer that takes nothing for `send_s` is gone. One that always takes a little just before could
hold an answer for as long as it likes; so what it is slower than `rate` adds up over the whole
answer, and once that comes to `send_s` it is let go too. While there is nothing to take it catches
up: a stream may be silent for ever, and the peer's delays of an hour ago count no more.

Pure: moments, seconds and bytes in, moments out.
"""


class Pace:
    """One answer's: `begin` before bytes are sent, `end` once the peer has taken them."""

    __slots__ = ("_began_at", "_behind_s", "_ended_at", "_granted_s", "_rate", "_send_s")

    def __init__(self, send_s: float, rate: float) -> None:
        """`rate`: bytes a second."""
        self._send_s = send_s
        self._rate = rate
        self._behind_s = 0.0
        self._granted_s = 0.0
        self._began_at = 0.0
        self._ended_at = 0.0

    def begin(self, now: float, size: int, sharing: int = 1) -> float:
        """Return by when so many bytes must be taken; `sharing`: answers that the rate is for."""
        self._behind_s = max(0.0, self._behind_s - (now - self._ended_at))
        self._granted_s = size * sharing / self._rate
        self._began_at = now
        return now + min(self._send_s, self._send_s + self._granted_s - self._behind_s)

    def end(self, now: float) -> None:
        """Note that the peer has taken what was begun."""
        took_s = now - self._began_at
        self._behind_s = max(0.0, self._behind_s + took_s - self._granted_s)
        self._ended_at = now
