"""Connections to vetted addresses, for httpcore: whatever host it asks for, they go there.

The answer is counted as it comes off the wire, before anything reads it: head, interim answers and
body together. Nothing here resolves a name.
"""

import ipaddress
import ssl
from collections.abc import Iterable, Sequence
from typing import Any, Final

import httpcore
from attrs import define, field, frozen

from dpp import egress
from dpp.egress import Address, Rules

TRIES_MAX: Final = 3  # addresses of a name: a machine of theirs may be down
CONNECT_S: Final = 3.0  # each: a handshake of TCP that takes longer is lost

_TRIO: Final = httpcore.TrioBackend()


class AnswerCut(Exception):
    """The answer is longer than it may be; the rest is not read."""


class OwnListener(Exception):
    """The connection ended at this node itself; nothing was sent."""


@define(eq=False)
class Allowance:
    """How many bytes of an answer may still come."""

    left: int


class Counted(httpcore.AsyncNetworkStream):
    """A stream that reads up to a number of bytes; with TLS, those inside it."""

    def __init__(self, stream: httpcore.AsyncNetworkStream, allowance: Allowance) -> None:
        self._stream = stream
        self._allowance = allowance

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109
        """Read what is allowed; raises `AnswerCut` past that."""
        data = await self._stream.read(min(max_bytes, self._allowance.left + 1), timeout)
        self._allowance.left -= len(data)
        if self._allowance.left < 0:
            raise AnswerCut
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109
        """Write all of it."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close it."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109
    ) -> httpcore.AsyncNetworkStream:
        """Begin TLS under the name that was asked for."""
        inner = await self._stream.start_tls(ssl_context, server_hostname, timeout)
        return Counted(inner, self._allowance)

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's own
        """Tell what the stream below tells."""
        return self._stream.get_extra_info(info)


@frozen
class Pinned(httpcore.AsyncNetworkBackend):
    """Connects to one of these addresses, in order."""

    addresses: Sequence[Address]
    rules: Rules
    allowance: Allowance = field(eq=False)

    async def connect_tcp(
        self,
        host: str,  # noqa: ARG002 - it was resolved and vetted before
        port: int,
        timeout: float | None = None,  # noqa: ARG002, ASYNC109 - the sender's scope bounds it all
        local_address: str | None = None,  # noqa: ARG002 - any
        socket_options: Iterable[Any] | None = None,  # noqa: ARG002 - trio's
    ) -> httpcore.AsyncNetworkStream:
        """Return a connection; the last address's fault where none can be had."""
        assert self.addresses
        fault: Exception | None = None
        for address in self.addresses[:TRIES_MAX]:
            try:
                stream = await _TRIO.connect_tcp(str(address), port, CONNECT_S)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                fault = error
                continue
            local = ipaddress.ip_address(stream.get_extra_info("client_addr")[0])
            if egress.is_own(address, local, port, self.rules):
                await stream.aclose()
                raise OwnListener
            return Counted(stream, self.allowance)  # noqa: ASYNC910 - it connected
        assert fault is not None
        raise fault
