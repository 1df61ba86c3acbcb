"""The client for trio and asyncio: it does the steps of an operation one after the other.

Cancelling is safe at every step: what was sent stays sent, and a submit asked again under its
idempotency key finds the run that there is.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Generator
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

import anyio
import anyio.lowlevel
import anyio.to_thread
import httpx
from attrs import define, field

from dpp.client import books, connection, events, results, submissions
from dpp.client import keys as key_operations
from dpp.client import runs as run_operations
from dpp.client import webhooks as webhook_operations
from dpp.client.auth import Renewed
from dpp.client.connection import OnRetry, Settings
from dpp.client.faults import ClientError
from dpp.client.files import Download
from dpp.client.retries import Retries
from dpp.client.steps import (
    Ask,
    Context,
    Done,
    Forget,
    Item,
    Items,
    Keep,
    Now,
    Open,
    Pause,
    Play,
    Read,
    Reply,
    Request,
    Shut,
    Step,
    Steps,
)
from dpp.client.values import Saved

T = TypeVar("T")
P = ParamSpec("P")

HANG_UP_S = 2.0  # to close a connection, also where we are being cancelled


@define(eq=False)
class Wire:
    """The connections of a client, on the loop that opened it."""

    settings: Settings
    transport: httpx.AsyncBaseTransport | None = None
    _http: httpx.AsyncClient = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._http = httpx.AsyncClient(transport=self.transport, **self.settings.client)

    async def send(self, request: Request, *, stream: bool) -> httpx.Response:
        """Send a request; raises what its failure means."""
        try:
            built = self._http.build_request(**self.settings.request(request))
            auth = self.settings.auth_of(request)
            return await self._http.send(built, stream=stream, auth=auth)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise connection.fault_of(error, self.settings.url) from error

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()
        if isinstance(self.settings.auth, Renewed):
            self.settings.auth.end()


class Course(Generic[T]):
    """An operation under way, and the answer that it holds open."""

    def __init__(
        self,
        wire: Wire,
        steps: Generator[Step | Item[Any], Any, T],
        download: Download | None = None,
    ) -> None:
        self._wire, self._play, self._download = wire, Play(steps), download
        self._open: httpx.Response | None = None
        self._pieces: AsyncIterator[bytes] | None = None

    async def advance(self) -> Item[Any] | Done[T]:
        """Do steps until there is an item, or the end."""
        await anyio.lowlevel.checkpoint()  # items of one page need no other
        step = self._play.go()
        while not isinstance(step, Item | Done):
            try:
                came = await self._perform(step)
            except ClientError as failure:
                step = self._play.fail(failure)
            else:
                step = self._play.go(came)
        return step

    async def close(self) -> None:
        """Let go of what is open; an operation that is not done stays undone."""
        self._play.close()
        await self._shut()

    async def _perform(self, step: Step) -> object:
        await anyio.lowlevel.checkpoint()
        match step:
            case Ask(request):
                answer = await self._wire.send(request, stream=False)
                return connection.reply_of(answer, answer.content)
            case Open(request):
                return await self._begin(request)
            case Read():
                return await self._read()
            case Shut():
                await self._shut()
            case Keep() | Forget():
                assert self._download is not None
                await anyio.to_thread.run_sync(self._download.do, step)
            case Pause(seconds):
                await anyio.sleep(seconds)
            case Now():
                return anyio.current_time()
        return None

    async def _begin(self, request: Request) -> Reply:
        """Open an answer; of one that is not good there is nothing to wait for: read it all."""
        await self._shut()
        answer = await self._wire.send(request, stream=True)
        self._open, self._pieces = answer, answer.aiter_bytes()
        if answer.is_success:
            return connection.reply_of(answer, b"")
        content = b""
        while piece := await self._read():
            content += piece
        await self._shut()
        return connection.reply_of(answer, content)

    async def _read(self) -> bytes:
        assert self._pieces is not None
        try:
            return await anext(self._pieces, b"")
        except httpx.RequestError as error:
            raise connection.fault_of(error, self._wire.settings.url) from error

    async def _shut(self) -> None:
        await anyio.lowlevel.checkpoint()
        answer, pieces = self._open, self._pieces
        self._open = self._pieces = None
        if isinstance(pieces, AsyncGenerator):
            await pieces.aclose()
        if answer is not None:
            await answer.aclose()


class Connected:
    """The base of the clients: a context manager around one pool of connections."""

    def __init__(
        self,
        settings: Settings,
        context: Context,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._context, self._wire = context, Wire(settings, transport)

    async def __aenter__(self) -> Self:
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(HANG_UP_S, shield=True):
            await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._wire.close()

    async def _do(self, steps: Steps[T], download: Download | None = None) -> T:
        """Run an operation to its end; returns what it returns."""
        course: Course[T] = Course(self._wire, steps, download)
        try:
            item = await course.advance()
            assert isinstance(item, Done), "an operation of many values is iterated"
            return item.value
        finally:
            with anyio.move_on_after(HANG_UP_S, shield=True):
                await course.close()


class AsyncStream(Generic[T]):
    """Values one after the other, asked for as they are taken.

    Who leaves before its end closes it; as a context manager it closes itself.
    """

    def __init__(self, wire: Wire, items: Items[T]) -> None:
        self._course = Course(wire, items)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        try:
            item = await self._course.advance()
        except BaseException:
            with anyio.move_on_after(HANG_UP_S, shield=True):
                await self.close()
            raise
        if isinstance(item, Done):
            await self.close()
            raise StopAsyncIteration
        value: T = item.value
        return value

    async def __aenter__(self) -> Self:
        await anyio.lowlevel.checkpoint()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        with anyio.move_on_after(HANG_UP_S, shield=True):
            await self.close()

    async def close(self) -> None:
        """Hang up."""
        await self._course.close()


def does(
    operation: Callable[Concatenate[Context, P], Steps[T]],
) -> Callable[Concatenate[Connected, P], Coroutine[Any, Any, T]]:
    """Make a method of an operation: it returns what the operation returns."""

    @wraps(operation)
    async def method(self: Connected, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self._do(operation(self._context, *args, **kwargs))

    return method


def gives(
    operation: Callable[Concatenate[Context, P], Items[T]],
) -> Callable[Concatenate[Connected, P], AsyncStream[T]]:
    """Make a method of an operation of many values: it returns an iterator over them."""

    @wraps(operation)
    def method(self: Connected, /, *args: P.args, **kwargs: P.kwargs) -> AsyncStream[T]:
        return AsyncStream(self._wire, operation(self._context, *args, **kwargs))

    return method


class AsyncClient(Connected):
    """A tenant's client.

    `base_url` and `api_key`: else DPP_URL and DPP_API_KEY. `timeout`: of one answer, in seconds or
    as httpx takes it; waits add to it. `transport`: httpx's, for proxies, certificates and tests.
    `on_retry` is called with what went wrong and the seconds until it is asked again.
    """

    def __init__(
        self,
        base_url: str | None = None,
        api_key: str | httpx.Auth | None = None,
        *,
        retries: Retries | None = None,
        timeout: httpx.Timeout | float | None = connection.TIMEOUT,
        transport: httpx.AsyncBaseTransport | None = None,
        on_retry: OnRetry | None = None,
    ) -> None:
        settings = Settings.of(base_url, api_key, timeout)
        super().__init__(settings, connection.context(retries, on_retry), transport)

    submit = does(submissions.submit)
    submit_batch = does(submissions.submit_batch)
    run = does(run_operations.run)
    wait = does(run_operations.wait)
    watch = gives(run_operations.watch)
    cancel = does(run_operations.cancel)
    runs = gives(run_operations.runs)
    runs_page = does(run_operations.runs_page)
    stream_events = gives(events.stream_events)
    result = does(results.result)
    receipt = does(results.receipt)

    budget = does(books.budget)
    transfers = gives(books.transfers)
    transfers_csv = gives(books.transfers_csv)
    usage = does(books.usage)
    quote = does(books.quote)
    packs = does(books.packs)

    create_webhook = does(webhook_operations.create_webhook)
    webhooks = gives(webhook_operations.webhooks)
    webhook = does(webhook_operations.webhook)
    update_webhook = does(webhook_operations.update_webhook)
    delete_webhook = does(webhook_operations.delete_webhook)
    rotate_webhook = does(webhook_operations.rotate_webhook)
    deliveries = gives(webhook_operations.deliveries)
    replay_delivery = does(webhook_operations.replay_delivery)

    keys = gives(key_operations.keys)
    create_key = does(key_operations.create_key)
    rotate_key = does(key_operations.rotate_key)
    revoke_key = does(key_operations.revoke_key)

    async def download_result(self, run_id: str, path: str | Path) -> Saved:
        """Write the result of a run to a file, which is there only once all of it is verified."""
        in_thread = anyio.to_thread.run_sync
        download = await in_thread(Download, Path(path))
        try:
            saved = await self._do(results.saved(self._context, run_id), download)
            await in_thread(download.finish)
        except BaseException:
            download.drop()
            raise
        return saved
