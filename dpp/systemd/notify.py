"""What a node tells systemd: one datagram a message, to the socket that $NOTIFY_SOCKET names.

The messages are those of sd_notify(3), made by pure functions; `Manager` sends them, or nothing
where nobody listens. It never waits and never fails: a manager that cannot be told must not end a
node. The libraries for this (sdnotify, systemd-python) are older than `RELOADING=1` with its time
or need libsystemd; what is left without them is one `sendto`.
"""

from __future__ import annotations

import os
import socket
import time
from typing import TYPE_CHECKING, Final

from attrs import define, field

from dpp.logs import get_logger

if TYPE_CHECKING:
    from collections.abc import MutableMapping

SOCKET: Final = "NOTIFY_SOCKET"
WATCHDOG_USEC, WATCHDOG_PID = "WATCHDOG_USEC", "WATCHDOG_PID"
ALIVE: Final = "WATCHDOG=1"
STATUS_MAX: Final = 200  # of one line in `systemctl status`

log = get_logger(__name__)


def status(text: str) -> str:
    """Say in words what the node does; one line."""
    return f"STATUS={' '.join(text.split())[:STATUS_MAX]}"


def ready(text: str) -> str:
    """Say that the start, or a reload, is over."""
    return f"READY=1\n{status(text)}"


def reloading(monotonic_us: int) -> str:
    """Say that a reload began at this time of CLOCK_MONOTONIC; `ready` ends it."""
    return f"RELOADING=1\nMONOTONIC_USEC={monotonic_us}\n{status('reloading')}"


def extend(limit_s: float) -> str:
    """Ask for this many seconds from now for the start or the stop that goes on."""
    return f"EXTEND_TIMEOUT_USEC={int(limit_s * 1_000_000)}"


def stopping(limit_s: float) -> str:
    """Say that the node drains, and in how many seconds it will be gone at the latest."""
    return f"STOPPING=1\n{extend(limit_s)}\n{status('draining')}"


def address_of(path: str) -> str | None:
    """Return where a value of $NOTIFY_SOCKET leads; None: to no Unix socket."""
    if path.startswith("@"):  # its namespace has no files
        return "\0" + path[1:]
    return path if path.startswith("/") else None


@define(eq=False)
class Manager:
    """Who started this process and wants to hear of it; without `address`, nobody does.

    `watchdog_s`: how long it waits for the next `alive`, where it does.
    """

    address: str | None = None
    watchdog_s: float | None = None
    is_ready: bool = field(default=False, init=False)
    _text: str = field(default="", init=False)  # of the last `ready`
    _failed: bool = field(default=False, init=False)

    @classmethod
    def of(cls, environ: MutableMapping[str, str], pid: int) -> Manager:
        """Read what systemd left in the environment, and take it out: children are not asked."""
        path, usec = environ.pop(SOCKET, ""), environ.pop(WATCHDOG_USEC, "")
        meant = environ.pop(WATCHDOG_PID, "") in {"", str(pid)}
        watched = meant and usec.isascii() and usec.isdigit() and int(usec) > 0
        return cls(address_of(path), int(usec) / 1_000_000 if watched else None)

    @property
    def listens(self) -> bool:
        """Say whether anybody is told."""
        return self.address is not None

    def ready(self, text: str) -> None:
        """Tell that requests may come."""
        self.is_ready, self._text = True, text
        self._send(ready(text))

    def alive(self, limit_s: float) -> None:
        """Tell that the node is well, and that a start which goes on may take `limit_s` more."""
        self._send(ALIVE if self.is_ready else extend(limit_s))

    def reloading(self) -> None:
        """Tell that a reload begins; `reloaded` must follow."""
        now_ns = time.clock_gettime_ns(time.CLOCK_MONOTONIC)
        self._send(reloading(now_ns // 1000))

    def reloaded(self) -> None:
        """Tell that it is over."""
        self._send(ready(self._text))

    def stopping(self, limit_s: float) -> None:
        """Tell that the node drains, and will be gone in `limit_s`."""
        self._send(stopping(limit_s))

    def _send(self, message: str) -> None:
        if self.address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as out:
                out.setblocking(False)  # noqa: FBT003 - the method takes no name
                out.sendto(message.encode(), os.fsencode(self.address))
        except OSError as error:
            if not self._failed:
                log.warning("systemd could not be told", detail=str(error), message=message)
            self._failed = True
        else:
            self._failed = False
