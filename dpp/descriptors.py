"""File descriptors: as many as the connections that the node says it takes.

systemd and login shells start programs with 1,024 of them, and allow more (`ulimit -Hn`): each
connection takes one. A node that runs out takes no more connections, and cannot open its own files.
"""

import resource

from dpp.logs import get_logger

# The database's connections, results being read and written, the log, the embedded server's pipes.
OWN = 256

log = get_logger(__name__)


def make_room(connections: int) -> None:
    """Raise this process's limit as far as it needs; say what is lacking where it may not."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = connections + OWN
    if is_enough(soft, wanted):
        return
    granted = wanted if is_enough(hard, wanted) else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (granted, hard))
    if granted < wanted:
        log.warning("too few file descriptors", wanted=wanted, granted=granted)


def is_enough(limit: int, wanted: int) -> bool:
    """Say whether a limit allows so many."""
    return limit == resource.RLIM_INFINITY or limit >= wanted
