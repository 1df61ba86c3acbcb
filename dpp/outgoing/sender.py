"""One request to a URL that a tenant named: vetted, bounded, and never followed anywhere.

Its name is resolved once, every address is vetted, and the connection goes to one of them with SNI
and Host of the name. No redirect is followed, no proxy or other word of the environment is heeded,
nothing is decompressed. All of it, the name included, has `SEND_S`; of an answer `ANSWER_MAX` bytes
are read. A connection serves one request: the next one is vetted anew. Nothing of what comes back
is logged here.
"""

import socket
import ssl
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final, TypeAlias

import httpcore
import trio
from attrs import field, frozen

from dpp import egress
from dpp.egress import Refused, Rules, Target
from dpp.outgoing.pinned import Allowance, AnswerCut, OwnListener, Pinned

BODY_S: Final = 1.0  # for what comes behind a status, so that who is polite sees no reset
SEND_S: Final = 10.0  # what a receiver may take: it should take the event, and work on it later
ANSWER_MAX: Final = 64 * 1024  # bytes: an answer to an event has nothing to say
# Names that are looked up at once. A look-up that hangs keeps its thread longer than we wait, so
# they have threads of their own, and what they can take away is other look-ups.
RESOLVING_MAX: Final = 32

Resolve: TypeAlias = Callable[[str, int], Awaitable[Sequence[str]]]


@frozen
class Answered:
    """What came back: the status, and as much of the body as was read."""

    status: int
    body: bytes = field(default=b"", repr=False)


@frozen
class Unanswered:
    """Nothing came back that counts; `why`, in a few words of ours."""

    why: str


Outcome: TypeAlias = Answered | Unanswered


class SystemResolver:
    """Asks the system for the addresses of a name, in a thread."""

    def __init__(self) -> None:
        self._threads = trio.CapacityLimiter(RESOLVING_MAX)

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        """Return the addresses; raises `OSError`."""

        def ask() -> list[str]:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            return [str(entry[4][0]) for entry in found]

        return await trio.to_thread.run_sync(ask, abandon_on_cancel=True, limiter=self._threads)


@frozen
class Sender:
    """Who sends; made once, since reading the certificates of authorities takes a while."""

    rules: Rules
    resolve: Resolve = field(factory=SystemResolver)
    tls: ssl.SSLContext = field(factory=httpcore.default_ssl_context)
    send_s: float = SEND_S
    body_s: float = BODY_S

    async def post(self, url: str, headers: Mapping[str, str], body: bytes) -> Outcome:
        """Send; whatever goes wrong is an outcome."""
        await trio.lowlevel.checkpoint()
        target = egress.read(url, self.rules)
        if isinstance(target, Refused):
            return Unanswered(f"refused: the URL {target.why}")
        heard: list[int] = []
        with trio.move_on_after(self.send_s):
            return await self._send(target, headers, body, heard)
        # An answer that says its status and then does not end has said what counts.
        return Answered(heard[0]) if heard else Unanswered("timeout")

    async def _send(
        self, target: Target, headers: Mapping[str, str], body: bytes, heard: list[int]
    ) -> Outcome:
        """Resolve, vet, connect, ask; the status is put into `heard` as soon as it is known."""
        try:
            found = await self._addresses(target)
        except (OSError, UnicodeError):
            return Unanswered("name not found")  # noqa: ASYNC910 - it was asked
        addresses = egress.vet(target, found, self.rules)
        if isinstance(addresses, Refused):
            return Unanswered(f"refused: {addresses.why}")
        backend = Pinned(addresses, self.rules, Allowance(ANSWER_MAX))
        try:
            return await self._ask(backend, target, headers, body, heard)
        except AnswerCut:
            return Answered(heard[0]) if heard else Unanswered("answer too long")
        except OwnListener:
            return Unanswered("refused: it is this node itself")
        except httpcore.ConnectTimeout:
            return Unanswered("timeout")
        except (httpcore.ConnectError, ssl.SSLError) as error:
            return Unanswered("TLS failed" if _is_tls(error) else "no connection")
        except (httpcore.NetworkError, httpcore.ProtocolError, OSError):
            return Answered(heard[0]) if heard else Unanswered("connection lost")

    async def _addresses(self, target: Target) -> Sequence[str]:
        if target.address is not None:
            await trio.lowlevel.checkpoint()
            return [target.host]
        return await self.resolve(target.host, target.port)

    async def _ask(
        self,
        backend: Pinned,
        target: Target,
        headers: Mapping[str, str],
        body: bytes,
        heard: list[int],
    ) -> Answered:
        url = httpcore.URL(
            scheme=target.scheme, host=target.host, port=target.port, target=target.path
        )
        named = [("Host", target.netloc), ("Connection", "close"), *headers.items()]
        connection = httpcore.AsyncHTTPConnection(
            url.origin, ssl_context=self.tls, network_backend=backend
        )
        async with (
            connection,
            connection.stream("POST", url, headers=named, content=body) as response,
        ):
            heard.append(response.status)
            # The status says it all. Who sends the rest never must not hold a place meanwhile.
            with trio.move_on_after(self.body_s):
                return Answered(response.status, await response.aread())
            return Answered(response.status)


def _is_tls(error: BaseException) -> bool:
    """Say whether TLS was what failed: httpcore tells it as a connection that could not be made."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return True
        cause = cause.__cause__ or cause.__context__
    return False
