"""AWS: how a service of it is reached, and asked until there is an answer or none is to be had.

Credentials come from the default chain and nowhere else: there is no setting for a key. A service
on this very machine is a stand-in for tests and gets test credentials, so that nobody's real ones
are sent to it. All of this runs in the bridge's thread. The driver's own retries are off: how often
and how long is decided here, and a try that takes longer is ended by closing its connection.
"""

from __future__ import annotations

import asyncio
import random
from contextlib import AsyncExitStack, asynccontextmanager
from typing import TYPE_CHECKING, Any, Final, TypeVar
from urllib.parse import urlsplit

from attrs import field, frozen

from dpp.blobs import Away, CouldNotAsk
from dpp.diagnosis.aws import Credentials, Endpoint
from dpp.diagnosis.checks import Unknown
from dpp.faults import told
from dpp.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

T = TypeVar("T")

TEST_KEY: Final = "test"  # id and secret, as stand-ins for AWS expect them
STAND_IN_REGION: Final = "us-east-1"  # no stand-in minds; the driver wants one
CONNECT_S: Final = 3.0  # a handshake with a region on the other side of the world takes under one
SILENCE_S: Final = 10.0  # of a peer in the middle of an answer: S3 begins its own within one
CONNECTIONS_MAX: Final = (
    64  # over what is asked at once (`s3_blobs.Lane`), so that nobody waits here
)
TRIES_MAX: Final = 4
PAUSE_S: Final = 0.1  # before the second try, then twice as long, jittered: S3 asks to back off

# What a service says when it wants to be asked again, beside all of 5xx; the rest of 4xx will stay
# as it is.
AGAIN: Final = frozenset(
    {
        "BadDigest",  # what arrived is not what was sent
        "ConditionalRequestConflict",  # another PUT of the same key is under way
        "IncompleteBody",
        "OperationAborted",
        "RequestTimeout",
        "Throttling",
        "ThrottlingException",
        "XAmzContentSHA256Mismatch",
    }
)


@frozen
class Service:
    """A service and where it is; None: what the usual AWS settings say."""

    name: str
    region: str | None = None
    endpoint_url: str | None = None
    silence_s: float = SILENCE_S  # after which an answer is given up

    @property
    def on_this_machine(self) -> bool:
        """Say whether this is a stand-in on this machine."""
        url = self.endpoint_url
        return url is not None and is_loopback(urlsplit(url).hostname or "")


@asynccontextmanager
async def client_of(service: Service) -> AsyncIterator[Any]:
    """Give the driver's client of a service. Raises `CouldNotAsk`."""
    from botocore.exceptions import BotoCoreError

    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(_made(service))
        except BotoCoreError as error:  # no region, a profile that is none: nothing was asked
            raise CouldNotAsk(told(error)) from error
        yield client


def _made(service: Service) -> Any:  # noqa: ANN401  # the driver has no types
    import aioboto3
    from aiobotocore.config import AioConfig

    keys: dict[str, str] = {}
    if service.on_this_machine:
        keys = {"aws_access_key_id": TEST_KEY, "aws_secret_access_key": TEST_KEY}
    config = AioConfig(
        connect_timeout=CONNECT_S,
        read_timeout=service.silence_s,
        retries={"total_max_attempts": 1},
        max_pool_connections=CONNECTIONS_MAX,
        proxies={} if service.on_this_machine else None,
        signature_version="s3v4" if service.name == "s3" else None,
        # What has a checksum gets it from us; the driver's own would cut the body into chunks.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path"} if service.endpoint_url else None,
    )
    region = service.region or (STAND_IN_REGION if service.on_this_machine else None)
    return aioboto3.Session().client(
        service.name, region_name=region, endpoint_url=service.endpoint_url, config=config, **keys
    )


@frozen
class Opened:
    """A client that lives as long as the node does; `close` it on the same loop."""

    client: Any
    stack: AsyncExitStack = field(repr=False)

    async def close(self) -> None:
        """Close its connections."""
        await self.stack.aclose()


async def open_client(service: Service) -> Opened:
    """Open a client for longer than a block lasts. Raises `CouldNotAsk`."""
    stack = AsyncExitStack()
    return Opened(await stack.enter_async_context(client_of(service)), stack)


async def credentials() -> Credentials | Unknown | None:
    """Return what the default chain finds; None = nothing."""
    import aioboto3
    from botocore.exceptions import BotoCoreError

    try:
        found = await aioboto3.Session().get_credentials()
        if found is None:
            return None
        keys = await found.get_frozen_credentials()
    except BotoCoreError as error:
        return Unknown(told(error))
    return Credentials(str(found.method), str(keys.access_key))


async def endpoint_of(service: Service, client: Any) -> Endpoint:  # noqa: ANN401  # the driver has no types
    """Return where the driver asks, whatever setting or variable told it so."""
    url = str(client.meta.endpoint_url)
    given = service.endpoint_url is not None
    return Endpoint(service.name, url, here=await leads_here(url), given=given)


async def leads_here(url: str) -> bool:
    """Say whether a URL leads to this machine, by its host or by what that resolves to."""
    host = urlsplit(url).hostname or ""
    if is_loopback(host):
        return True
    try:
        async with asyncio.timeout(CONNECT_S):
            found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError:  # a name that nobody knows leads nowhere; whoever asks there will say so
        return False
    return any(is_loopback(str(address[0])) for *_, address in found)


async def ask(once: Callable[[], Awaitable[T]], *, wall_s: float, tries: int = TRIES_MAX) -> T:
    """Ask until there is an answer, so many times; each may take `wall_s`.

    `once` may be asked again whatever became of it. Raises `Away` and `CouldNotAsk`; an answer that
    the caller must judge, such as "there is no such key", passes as the driver's `ClientError`.
    """
    pause_s = PAUSE_S
    for left in range(tries - 1, -1, -1):
        try:
            async with asyncio.timeout(wall_s):
                return await once()
        except Exception as error:  # every error is judged, and bugs go on
            fault = judge(error)
            if fault is None:
                raise
            if not isinstance(fault, Away) or not left:
                raise fault from error
        await asyncio.sleep(pause_s * random.uniform(0.5, 1.0))  # noqa: S311  # jitter
        pause_s *= 2
    raise AssertionError


def judge(error: Exception) -> CouldNotAsk | None:
    """Return what an error of the driver means; None = it is an answer, or a bug."""
    import aiohttp
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    if isinstance(error, exceptions.ClientError):
        return _judge_answer(error)
    if isinstance(error, exceptions.ParamValidationError):
        return None
    lost = (
        exceptions.ConnectionError,  # nobody listens, or nobody says so
        exceptions.HTTPClientError,  # a connection that is cut, silence
        exceptions.IncompleteReadError,
        ResponseParserError,  # an answer that is no XML is none
        aiohttp.ClientError,
        OSError,  # and with it TimeoutError: a try that took too long
    )
    if isinstance(error, lost):
        return Away(told(error))
    if isinstance(error, exceptions.BotoCoreError):  # no credentials, no region
        return CouldNotAsk(told(error))
    return None


def _judge_answer(error: Any) -> CouldNotAsk | None:  # noqa: ANN401  # the driver has no types
    code, status = code_of(error), status_of(error)
    if status >= 500 or status == 429 or code in AGAIN:  # noqa: PLR2004  # HTTP's own numbers
        return Away(f"{error.operation_name}: {code} ({status})")
    if status in {404, 409, 412}:  # the caller knows what it means
        return None
    return CouldNotAsk(f"{error.operation_name} is refused: {code} ({status})")


def code_of(error: Any) -> str:  # noqa: ANN401  # the driver has no types
    """Return the word by which the service calls its error; a HEAD has none, then its status."""
    return str(error.response.get("Error", {}).get("Code", ""))


def status_of(error: Any) -> int:  # noqa: ANN401  # the driver has no types
    """Return the HTTP status; 0 = there was none."""
    return int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
