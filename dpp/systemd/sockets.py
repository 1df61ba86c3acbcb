"""Sockets that systemd opened and hands over (sd_listen_fds(3)).

They go on listening while no node runs: whoever connects across a restart waits in the kernel's
queue and is not refused. Each has a name, `FileDescriptorName=` of its unit, that says whose it is.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Final

from dpp.store.refusal import StartRefused

if TYPE_CHECKING:
    from collections.abc import MutableMapping

PID, FDS, NAMES = "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES"
FIRST: Final = 3  # descriptor: SD_LISTEN_FDS_START
HTTP, MANAGEMENT = "http", "management"
REMEDY: Final = (
    f"Hand over listening TCP sockets (ListenStream=HOST:PORT), with FileDescriptorName={HTTP} for "
    f"the API or {MANAGEMENT} for metrics and the admin API; systemd/dpp.socket is one."
)


def inherited(environ: MutableMapping[str, str], pid: int) -> dict[str, list[socket.socket]]:
    """Return the sockets for this process by their names, and take the variables out.

    They are closed when it executes another program. Raises `StartRefused` for what is none.
    """
    meant, count, names = (environ.pop(name, "") for name in (PID, FDS, NAMES))
    if meant != str(pid):  # for a parent of ours, or for nobody
        return {}
    given: dict[str, list[socket.socket]] = {}
    for descriptor, name in _named(count, names):
        given.setdefault(name, []).append(_listening(descriptor, name))
    return given


def _named(count: str, names: str) -> list[tuple[int, str]]:
    """Pair descriptors with their names; both come from systemd, which never gives nonsense."""
    each = names.split(":")
    if not count.isdigit() or int(count) != len(each):
        raise StartRefused(f"{FDS} is {count!r}, and {NAMES} {names!r}.", REMEDY)
    return [(FIRST + n, name) for n, name in enumerate(each)]


def _listening(descriptor: int, name: str) -> socket.socket:
    if name not in {HTTP, MANAGEMENT}:
        raise StartRefused(f"A socket of the name {name!r} was handed over.", REMEDY)
    try:
        sock = socket.socket(fileno=descriptor)
    except OSError as error:
        what = f"Descriptor {descriptor} ({name}) is no socket: {error.strerror}."
        raise StartRefused(what, REMEDY) from error
    sock.set_inheritable(False)
    listens = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    if not listens or sock.family not in {socket.AF_INET, socket.AF_INET6}:
        sock.close()
        raise StartRefused(f"Descriptor {descriptor} ({name}) is no TCP listener.", REMEDY)
    return sock
