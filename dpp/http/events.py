"""The events of a run: `GET /v1/runs/{run_id}/events`, a stream of server-sent events.

First the backlog behind `Last-Event-ID`, page by page as the client takes it, then what the
watchboard's feed of the run tells: no stream asks the database while it is held. A feed that is
ahead of the backlog when it is joined makes the backlog be read up to there, so nothing is missing;
what both bring is told once. The stream ends with the run, at the drain, in an outage, and where
its client takes too little: it comes back with the last id that it saw.
"""

from collections.abc import AsyncGenerator, Iterable
from typing import Any, Final, Literal, assert_never

import trio
from attrs import define, frozen
from msgspec import UNSET, UnsetType

from dpp import chronicles
from dpp.chronicles import (
    Backlog,
    Became,
    Bookmark,
    Chapter,
    Charged,
    Happening,
    Position,
    Progressed,
)
from dpp.faults import StoreUnavailable
from dpp.http.answers import Header, Streamed
from dpp.http.problems import Problem, invalid
from dpp.http.requests import Request, read_query
from dpp.http.runs import no_such_run, parse_run_id
from dpp.http.services import Services
from dpp.http.views.encoding import USD, encode
from dpp.http.views.runs import ErrorView, StatusText, error_view
from dpp.money import ZERO, show
from dpp.ports import Listening
from dpp.pricing import InputError
from dpp.watches import Watch

EVENT_STREAM: Final = "text/event-stream"
HEARTBEAT_S: Final = 15.0  # of silence: proxies tend to cut after 60, load balancers after 30
PAGE: Final = 500  # events of a backlog read at a time: some 100 KiB in flight a stream
RETRY: Final = b"retry: 1000\n\n"  # ms until a client comes back after the end of a stream
HEARTBEAT: Final = b": still there\n\n"
ID_MAX: Final = 64  # characters of an id that is looked at; the longest has 30

_HEADERS: Final[tuple[Header, ...]] = (
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back until its buffer is full
)


@frozen(slots=False)
class EndCostView:
    """What a run cost."""

    actual_usd: str
    currency: Literal["USD"]


@frozen(slots=False)
class StatusEvent:
    """The run took a status; an end says what it cost, and why it failed."""

    status: StatusText
    attempt: int | None
    cost: EndCostView | UnsetType = UNSET
    error: ErrorView | UnsetType | None = UNSET


@frozen(slots=False)
class ProgressEvent:
    """How far the pack says it is."""

    fraction: float
    note: str


@frozen(slots=False)
class ChargeEvent:
    """What the pack charged, and what its attempt has charged by now."""

    amount_usd: str
    reason: str
    charged_usd: str
    currency: Literal["USD"]


async def stream_events(services: Services, request: Request) -> Streamed | Problem:
    """GET /v1/runs/{run_id}/events."""
    query = read_query(request, {})
    if isinstance(query, Problem):
        return query
    after = last_event_id(request.headers.get(b"last-event-id", []))
    if isinstance(after, Problem):
        return after
    run_id = parse_run_id(request.params["run_id"])
    if run_id is None:
        return no_such_run()
    watch = Watch(request.tenant_id, run_id)
    refused = services.holding.refusal(request.tenant_id)
    if refused is not None:
        return refused
    backlog = await read(services, watch, after)
    if backlog is None:
        return no_such_run()
    if backlog.state.last < after:
        return bad_id("names an event that this run has not had")
    reader = Reader(services, watch, Bookmark(after, backlog.charged))
    return Streamed(200, pieces(reader, backlog), _HEADERS, EVENT_STREAM.encode())


def last_event_id(lines: list[bytes]) -> Position | Problem:
    """Return the position that the client has seen last: the start without a header, or an empty one.

    A browser that has seen no id yet sends none; some libraries send an empty one.
    """  # noqa: E501
    if not lines or lines == [b""]:
        return chronicles.START
    text = lines[0][:ID_MAX].decode("latin-1")
    position = chronicles.parse(text) if len(lines) == 1 else None
    return position or bad_id("is not an id of an event of this run")


def bad_id(message: str) -> Problem:
    """Return the problem of an id that cannot be resumed after."""
    return invalid([InputError("/headers/last-event-id", message)])


async def read(services: Services, watch: Watch, after: Position) -> Backlog | None:
    """Read a page of the backlog."""
    return await services.reads.read_chronicle(
        watch.tenant_id, watch.run_id, after=after, limit=PAGE
    )


@define(eq=False)
class Reader:
    """One stream: how far its client is, and its place at the run's feed once it has one."""

    services: Services
    watch: Watch
    bookmark: Bookmark
    feed: Listening | None = None

    def turn(self, page: Backlog) -> Chapter:
        """Return what a page of the backlog tells."""
        sealed = page.state.sealed(page.now)
        chapter = chronicles.go_on(
            self.bookmark, page.state, page.told, cut=page.cut, sealed=sealed
        )
        self.bookmark = chapter.bookmark
        return chapter

    async def next_page(self, page: Backlog) -> Backlog | None:
        """Return the page after this one; None = now the feed goes on, if there is one."""
        if self.services.draining.is_set() or not (page.cut or self._join_ahead()):
            await trio.lowlevel.checkpoint()
            return None
        return await read(self.services, self.watch, self.bookmark.position)

    def _join_ahead(self) -> bool:
        """Join the feed; say whether it was ahead, so that the backlog is to be read once more."""
        if self.feed is not None:
            return False
        self.feed = self.services.watching.join(self.watch, self.bookmark)
        return self.feed is not None and self.bookmark.position < self.feed.reached

    async def listen(self) -> list[Happening] | None:
        """Return what happens next; empty = it is over, None = silence for a while."""
        if self.feed is None:
            await trio.lowlevel.checkpoint()
            return []
        with trio.move_on_after(HEARTBEAT_S):
            return list(await self.feed.news())
        return None

    @property
    def is_refused(self) -> bool:
        """Say whether its tenant has all the streams and waits that it may."""
        return self.services.holding.refusal(self.watch.tenant_id) is not None

    def come(self) -> None:
        """Begin: the stream counts as held by its tenant."""
        self.services.holding.come(self.watch.tenant_id)

    def leave(self) -> None:
        """Take nothing more."""
        self.services.holding.leave(self.watch.tenant_id)
        if self.feed is not None:
            self.feed.leave()


async def pieces(reader: Reader, page: Backlog | None) -> AsyncGenerator[bytes, None]:
    """Yield the body of a stream, from the backlog's first page on."""
    opening = RETRY  # at once, even where nothing is new: the head goes with it
    if reader.is_refused:  # others came while its backlog was read
        yield opening
        return
    reader.come()
    try:
        while page is not None:
            chapter = reader.turn(page)
            yield opening + written(chapter.happenings)
            opening = b""
            if chapter.ends:
                return
            page = await reader.next_page(page)
        seen = reader.bookmark.position
        while (news := await reader.listen()) != []:
            fresh = [one for one in news or () if seen < one.position]
            yield written(fresh) or HEARTBEAT
            if fresh and chronicles.is_end(fresh[-1]):
                return
    except StoreUnavailable:  # the client comes back
        return
    finally:
        reader.leave()


def written(happenings: Iterable[Happening]) -> bytes:
    """Write happenings as server-sent events."""
    return b"".join(map(_event, happenings))


def _event(happening: Happening) -> bytes:
    name, view = _view(happening)
    return b"event: %b\nid: %b\ndata: %b\n\n" % (
        name,
        str(happening.position).encode("ascii"),
        encode(view),  # JSON as msgspec writes it is one line
    )


def _view(happening: Happening) -> tuple[bytes, Any]:
    match happening:
        case Became(_, status, attempt, cost, failure):
            if not chronicles.is_end(happening):
                return b"status", StatusEvent(status.value, attempt)
            spent = cost or ZERO
            error = None if failure is None else error_view(failure, spent)
            shown = EndCostView(show(spent), USD)
            return b"status", StatusEvent(status.value, attempt, shown, error)
        case Progressed(_, fraction, note):
            return b"progress", ProgressEvent(fraction, note)
        case Charged(_, amount, reason, charged):
            return b"charge", ChargeEvent(show(amount), reason, show(charged), USD)
    assert_never(happening)
