"""Where a node listens: sockets that it binds, or that systemd hands over."""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import TYPE_CHECKING

from attrs import frozen

from dpp.http import listener
from dpp.logs import get_logger
from dpp.systemd.sockets import HTTP, MANAGEMENT
from dpp.urls import Address

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from dpp.config import Config


log = get_logger(__name__)


@frozen
class Sockets:
    """Where the node will listen."""

    public: list[socket.socket]
    management: list[socket.socket]


@contextmanager
def bound(config: Config, given: Mapping[str, list[socket.socket]]) -> Iterator[Sockets]:
    """Take both ports, before a database is made and migrated for a node that cannot have them.

    Connections are refused until they can be answered; on sockets that were `given` they wait.
    """
    with (
        listening(config.http.listen, given.get(HTTP), "http.listen") as public,
        listening(config.management.listen, given.get(MANAGEMENT), "management.listen") as inside,
    ):
        yield Sockets(public, inside)


@contextmanager
def listening(
    configured: Address, given: list[socket.socket] | None, key: str
) -> Iterator[list[socket.socket]]:
    """Give the sockets that systemd handed over, or bind the address that is configured."""
    if given is None:
        with listener.bound(configured.host, configured.port) as sockets:
            yield sockets
        return
    with listener.adopted(given) as sockets:
        addresses = [str(Address(*sock.getsockname()[:2])) for sock in sockets]
        log.info("listening on sockets from systemd", addresses=addresses, instead_of=key)
        yield sockets
