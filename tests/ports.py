"""Ports for servers that must be told theirs, or that come back on it.

They lie below those that the kernel gives to whoever names none: one of these may go to anybody's
connection between a look and a start, or while a server is down.
"""

from __future__ import annotations

import errno
import random
import socket

FIRST, LAST = 20_000, 32_767  # /proc/sys/net/ipv4/ip_local_port_range begins at 32,768
TRIES = 100


def free_port() -> int:
    """Return a port that nobody has now, and that nobody gets by chance."""
    for port in random.SystemRandom().sample(range(FIRST, LAST + 1), TRIES):
        try:
            with socket.socket() as one:
                one.bind(("127.0.0.1", port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return port
    raise AssertionError(TRIES)
