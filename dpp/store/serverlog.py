"""What the embedded PostgreSQL writes to stderr, as lines of DPP's own log.

A server in trouble can write without end, so lines are bounded in length and in rate; what was left
out is counted and said. The last lines are kept: they tell why a start was refused.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio
from attrs import Factory, define

if TYPE_CHECKING:
    from structlog.typing import FilteringBoundLogger

LINE_MAX_BYTES = 2000
LINES_MAX, REFILL_PER_S = 100, 10  # a crash and its recovery take about 40 lines
KEPT = 20
# What a connection is told while a server starts, recovers or stops: that is no error of anybody's.
NOT_YET = "FATAL:  the database system is "
LEVELS = {"WARNING": "warning", "ERROR": "error", "FATAL": "error", "PANIC": "critical"}


@define
class Lines:
    """Bytes in, whole lines out, each at most LINE_MAX_BYTES long."""

    _rest: bytes = b""

    def feed(self, chunk: bytes) -> list[str]:
        """Return the lines that `chunk` completes."""
        *whole, self._rest = (self._rest + chunk).split(b"\n")
        if len(self._rest) > LINE_MAX_BYTES:
            whole, self._rest = [*whole, self._rest], b""
        return [line[:LINE_MAX_BYTES].decode("utf-8", "replace") for line in whole if line]


@define
class Allowance:
    """A token bucket; `left_out` counts what it refused since it last said yes."""

    _tokens: float = LINES_MAX
    _at: float = 0.0
    left_out: int = 0

    def take(self, now: float) -> bool:
        """Tell whether one more line may go out."""
        self._tokens = min(LINES_MAX, self._tokens + (now - self._at) * REFILL_PER_S)
        self._at = now
        if self._tokens < 1:
            self.left_out += 1
            return False
        self._tokens -= 1
        return True


@define
class ServerLog:
    """The log of one embedded server, over all its restarts."""

    logger: FilteringBoundLogger
    _allowance: Allowance = Factory(Allowance)
    last: deque[str] = Factory(lambda: deque(maxlen=KEPT))

    async def follow(self, stderr: trio.abc.ReceiveStream, reading: trio.CancelScope) -> None:
        """Log what comes until all who hold the pipe are gone, or `reading` ends."""
        lines = Lines()
        with reading:
            async for chunk in stderr:
                for line in lines.feed(bytes(chunk)):
                    self.last.append(line)
                    self._log(line)
        await stderr.aclose()

    def _log(self, line: str) -> None:
        if not self._allowance.take(trio.current_time()):
            return
        left_out, self._allowance.left_out = self._allowance.left_out, 0
        if left_out:
            self.logger.warning("postgres lines left out", lines=left_out)
        expected = line.startswith(NOT_YET)
        level = "info" if expected else LEVELS.get(line.partition(":")[0], "info")
        getattr(self.logger, level)("postgres", line=line)
