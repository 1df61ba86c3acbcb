"""What both listeners share of hypercorn's trio worker: a connection that is bounded, its settings.

A fault of one connection would end hypercorn's whole server, and its sends wait under a shield for
as long as the peer likes. So DPP accepts and guards by itself, and each connection is hypercorn's
class, extended. That needs names that are private to hypercorn: `check_private_names` asserts them
at start, so that an update is noticed then.
"""

import logging
from typing import Any, Final

import trio
from hypercorn.config import Config
from hypercorn.protocol.h2 import H2Protocol
from hypercorn.protocol.h11 import H11Protocol
from hypercorn.trio.tcp_server import TCPServer

SEND_S: Final = 10.0  # a peer that reads nothing for so long is gone
_PRIVATE: Final = {
    TCPServer: ("_close", "protocol_send"),
    H11Protocol: ("handle", "stream_send"),
    H2Protocol: (
        *("handle", "initiate", "stream_send"),
        *("_close_stream", "_flush", "_handle_events", "_send_data", "_window_updated"),
    ),
}


class Guarded(TCPServer):
    """One connection of hypercorn's whose every wait for the peer ends."""

    stream: Any  # hypercorn's type knows only TLS

    async def send_bounded(self, data: bytes) -> bool:
        """Send within `SEND_S`, also when this is being cancelled; False = the peer is gone.

        Or another task of hypercorn's is still sending: to a peer that reads nothing.
        """
        try:
            with trio.move_on_after(SEND_S, shield=True) as limit:
                await self.stream.send_all(data)
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.BusyResourceError):
            return False
        return not limit.cancelled_caught


def check_private_names() -> None:
    """Assert that hypercorn still is what is extended here."""
    for owner, names in _PRIVATE.items():
        missing = [name for name in names if not hasattr(owner, name)]
        assert not missing, f"hypercorn changed: {owner.__name__} has no {', '.join(missing)}"


def configuration() -> Config:
    """Return hypercorn's configuration as far as both listeners agree on it."""
    config = Config()
    config.include_server_header = False
    config.errorlog = logging.getLogger("hypercorn.error")
    config.accesslog = None
    return config
