"""The client for threads: it does the steps of an operation one after the other.

A `Client` may be used by several threads at once; a `Stream` belongs to one.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator
from functools import wraps
from pathlib import Path
from types import TracebackType
from typing import Any, Concatenate, Generic, ParamSpec, Self, TypeVar

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


@define(eq=False)
class Wire:
    """The connections of a client, and what ends its pauses."""

    settings: Settings
    transport: httpx.BaseTransport | None = None
    closed: threading.Event = field(factory=threading.Event, init=False)
    _http: httpx.Client = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._http = httpx.Client(transport=self.transport, **self.settings.client)

    def send(self, request: Request, *, stream: bool) -> httpx.Response:
        """Send a request; raises what its failure means."""
        try:
            built = self._http.build_request(**self.settings.request(request))
            auth = self.settings.auth_of(request)
            return self._http.send(built, stream=stream, auth=auth)
        except (httpx.RequestError, httpx.InvalidURL) as error:
            raise connection.fault_of(error, self.settings.url) from error

    def close(self) -> None:
        """Close the connections, and end the pauses of other threads."""
        self.closed.set()
        self._http.close()
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
        self._pieces: Iterator[bytes] = iter(())

    def advance(self) -> Item[Any] | Done[T]:
        """Do steps until there is an item, or the end."""
        step = self._play.go()
        while not isinstance(step, Item | Done):
            try:
                came = self._perform(step)
            except ClientError as failure:
                step = self._play.fail(failure)
            else:
                step = self._play.go(came)
        return step

    def close(self) -> None:
        """Let go of what is open; an operation that is not done stays undone."""
        self._play.close()
        self._shut()

    def _perform(self, step: Step) -> object:
        match step:
            case Ask(request):
                answer = self._wire.send(request, stream=False)
                return connection.reply_of(answer, answer.content)
            case Open(request):
                return self._begin(request)
            case Read():
                return self._read()
            case Shut():
                self._shut()
            case Keep() | Forget():
                assert self._download is not None
                self._download.do(step)
            case Pause(seconds):
                self._wire.closed.wait(seconds)
            case Now():
                return time.monotonic()  # noqa: TID251 - threads have no clock of a loop
        return None

    def _begin(self, request: Request) -> Reply:
        """Open an answer; of one that is not good there is nothing to wait for: read it all."""
        self._shut()
        answer = self._wire.send(request, stream=True)
        self._open, self._pieces = answer, answer.iter_bytes()
        if answer.is_success:
            return connection.reply_of(answer, b"")
        content = b"".join(iter(self._read, b""))
        self._shut()
        return connection.reply_of(answer, content)

    def _read(self) -> bytes:
        try:
            return next(self._pieces, b"")
        except httpx.RequestError as error:
            raise connection.fault_of(error, self._wire.settings.url) from error

    def _shut(self) -> None:
        if self._open is not None:
            self._open.close()
            self._open = None


class Connected:
    """The base of the clients: a context manager around one pool of connections."""

    def __init__(
        self, settings: Settings, context: Context, transport: httpx.BaseTransport | None = None
    ) -> None:
        self._context, self._wire = context, Wire(settings, transport)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections, and end the pauses of other threads."""
        self._wire.close()

    def _do(self, steps: Steps[T], download: Download | None = None) -> T:
        """Run an operation to its end; returns what it returns."""
        course: Course[T] = Course(self._wire, steps, download)
        try:
            item = course.advance()
            assert isinstance(item, Done), "an operation of many values is iterated"
            return item.value
        finally:
            course.close()


class Stream(Generic[T]):
    """Values one after the other, asked for as they are taken.

    Who leaves before its end closes it; as a context manager it closes itself.
    """

    def __init__(self, wire: Wire, items: Items[T]) -> None:
        self._course = Course(wire, items)

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> T:
        try:
            item = self._course.advance()
        except BaseException:
            self.close()
            raise
        if isinstance(item, Done):
            self.close()
            raise StopIteration
        value: T = item.value
        return value

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Hang up."""
        self._course.close()


def does(
    operation: Callable[Concatenate[Context, P], Steps[T]],
) -> Callable[Concatenate[Connected, P], T]:
    """Make a method of an operation: it returns what the operation returns."""

    @wraps(operation)
    def method(self: Connected, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return self._do(operation(self._context, *args, **kwargs))

    return method


def gives(
    operation: Callable[Concatenate[Context, P], Items[T]],
) -> Callable[Concatenate[Connected, P], Stream[T]]:
    """Make a method of an operation of many values: it returns an iterator over them."""

    @wraps(operation)
    def method(self: Connected, /, *args: P.args, **kwargs: P.kwargs) -> Stream[T]:
        return Stream(self._wire, operation(self._context, *args, **kwargs))

    return method


class Client(Connected):
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
        transport: httpx.BaseTransport | None = None,
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

    def download_result(self, run_id: str, path: str | Path) -> Saved:
        """Write the result of a run to a file, which is there only once all of it is verified."""
        download = Download(Path(path))
        try:
            saved = self._do(results.saved(self._context, run_id), download)
            download.finish()
        except BaseException:
            download.drop()
            raise
        return saved
