"""`/v1/runs/{run_id}/events` through real sockets and PostgreSQL; attempts are played by the test."""  # noqa: E501

from __future__ import annotations

import socket
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
import trio
from attrs import define, evolve, field
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors.watchboard import Stream, Watchboard
from dpp.chronicles import Backlog, Bookmark, State, Told, parse
from dpp.faults import StoreUnavailable
from dpp.http import events
from dpp.http.holding import Holding
from dpp.ids import uuid7
from dpp.money import ZERO, Micros
from dpp.runs import ErrorCode, Failure, Run, Status
from dpp.settlement import Completed, FailedByItself
from dpp.watches import Changes, RunEvent, Watch
from tests.http.server import Wire, get
from tests.sse import Event, EventStream, ids, streaming
from tests.store.steps import claim, end_one, take_lease

if TYPE_CHECKING:
    from dpp.claims import Claimed
    from dpp.settlement import Outcome
    from tests.conftest import Database
    from tests.http.conftest import Api

WHOLE = ["0.queued", "1.0", "1.1", "1.2", "1.end"]


def problem(answer: httpx.Response) -> str:
    assert answer.headers["content-type"] == "application/problem+json"
    return f"{answer.status_code} {answer.json()['type'].rpartition('/')[2]}"


@define
class Play:
    """One run, and the node that would execute it."""

    api: Api
    key: str
    run_id: str
    claimed: Claimed | None = None

    @property
    def path(self) -> str:
        return f"/v1/runs/{self.run_id}/events"

    async def start(self) -> None:
        """Claim it."""
        lease = await take_lease(self.api.store)
        (self.claimed,) = await claim(self.api.store, lease)

    async def tell(self, *told: float) -> None:
        """Tell progress (a fraction) or a charge (micros), numbered from 1."""
        assert self.claimed is not None
        made = [self._event(n, what) for n, what in enumerate(told, start=1)]
        await self.api.store.follow([], [], made)

    async def end(self, outcome: Outcome | None = None) -> None:
        """End it, as the settler of this node does."""
        assert self.claimed is not None
        await end_one(self.api.store, self.claimed, outcome or Completed(b'"done"', Micros(70)))
        board = self.api.services.watching
        assert isinstance(board, Watchboard)
        board.ended(UUID(self.run_id))

    def stream(self, after: str | None = None) -> Any:
        return streaming(self.api.server.url, self.run_id, self.key, after)

    def _event(self, n: int, what: float) -> RunEvent:
        assert self.claimed is not None
        charged = isinstance(what, int)
        return RunEvent(
            fence=self.claimed.fence,
            tenant_id="acme",
            n=n,
            kind="charge" if charged else "progress",
            fraction=None if charged else what,
            note="work",
            amount=Micros(int(what)) if charged else None,
        )


@pytest.fixture
async def play(api: Api) -> Play:
    """Give a run that waits."""
    key = await api.tenant()
    return Play(api, key, (await api.submit(key)).json()["run_id"])


async def streamed(play: Play, after: str | None = None) -> list[Event]:
    """Return a whole stream."""
    with trio.fail_after(20):
        async with play.stream(after) as stream:
            assert stream.status == 200
            found: list[Event] = await stream.rest()
            return found


async def test_stream_tells_a_run_as_it_happens_and_ends_with_it(play: Play) -> None:
    got: list[Event] = []

    async with play.stream() as stream:
        got += await stream.until("0.queued")
        await play.start()
        got += await stream.until("1.0")
        await play.tell(0.5, 70)
        got += await stream.until("1.2")
        await play.end()
        got += await stream.rest()

    assert [(event.id, event.name, event.data) for event in got] == [
        ("0.queued", "status", {"status": "QUEUED", "attempt": 1}),
        ("1.0", "status", {"status": "PROCESSING", "attempt": 1}),
        ("1.1", "progress", {"fraction": 0.5, "note": "work"}),
        (
            "1.2",
            "charge",
            {
                "amount_usd": "0.00007",
                "reason": "work",
                "charged_usd": "0.00007",
                "currency": "USD",
            },
        ),
        (
            "1.end",
            "status",
            {
                "status": "COMPLETED",
                "attempt": 1,
                "cost": {"actual_usd": "0.00007", "currency": "USD"},
                "error": None,
            },
        ),
    ]
    assert stream.headers["content-type"] == "text/event-stream"
    assert stream.headers["cache-control"] == "no-store"
    assert stream.retry == ["1000"]


async def test_run_that_has_ended_is_told_whole_and_the_connection_goes_on(play: Play) -> None:
    await play.start()
    await play.tell(0.5, 70)
    await play.end()

    with trio.fail_after(20):
        async with play.stream() as stream:
            first = await stream.rest()
            await stream.wire.send(get("/health"))
            health = await stream.wire.reply()

    assert ids(first) == WHOLE
    assert health.status == 200


async def test_failed_run_says_why_and_who_pays(play: Play) -> None:
    await play.start()
    await play.end(FailedByItself(Failure(ErrorCode.PACK_REFUSED, "no"), ZERO))

    last = (await streamed(play))[-1]

    assert last.data["status"] == "FAILED"
    assert last.data["error"] == {"code": "pack_refused", "detail": "no", "payer": "tenant"}
    assert last.data["cost"]["actual_usd"] == "0.00"


async def test_each_id_resumes_exactly_after_itself(play: Play) -> None:
    await play.start()
    await play.tell(0.5, 70)
    await play.end()

    rests = [ids(await streamed(play, after)) for after in WHOLE]

    assert rests == [WHOLE[n:] for n in range(1, len(WHOLE) + 1)]


async def test_resumed_charges_go_on_from_what_was_charged(play: Play) -> None:
    await play.start()
    await play.tell(30, 40)
    await play.end()

    charges = await streamed(play, "1.1")

    assert charges[0].data["charged_usd"] == "0.00007"


async def test_stream_that_is_resumed_while_the_run_works_misses_nothing(play: Play) -> None:
    await play.start()
    got: list[str] = []

    async with play.stream() as first:
        got += ids(await first.until("1.0"))
    await play.tell(0.1, 0.2)
    async with play.stream(got[-1]) as second:
        got += ids(await second.until("1.2"))
    await play.end()
    got += ids(await streamed(play, got[-1]))

    assert got == WHOLE


async def test_eighty_streams_of_one_run_are_one_watch(play: Play) -> None:
    whole: list[list[str]] = []

    async def listen(task_status: trio.TaskStatus[None]) -> None:
        async with play.stream() as stream:
            first = await stream.until("0.queued")
            task_status.started()
            whole.append(ids(first + await stream.rest()))

    board = play.api.services.watching
    assert isinstance(board, Watchboard)
    with trio.fail_after(60):
        async with trio.open_nursery() as nursery:
            for _ in range(80):
                await nursery.start(listen)
            watched = board.watching()
            await play.start()
            await play.tell(0.1, 0.2)
            await play.end()

    assert watched == [Watch("acme", UUID(play.run_id))]
    assert whole == [WHOLE] * 80
    assert board.watching() == []


async def test_stream_that_its_client_leaves_is_no_longer_asked_for(play: Play) -> None:
    board = play.api.services.watching
    assert isinstance(board, Watchboard)

    async with play.stream() as stream:
        await stream.until("0.queued")
        while not board.watching():  # noqa: ASYNC110
            await trio.lowlevel.checkpoint()
    with trio.fail_after(20):
        await trio.lowlevel.checkpoint()
        while board.watching():  # noqa: ASYNC110
            await trio.sleep(0.01)


async def test_drain_ends_streams_without_an_end_and_the_client_may_go_on(play: Play) -> None:
    await play.start()

    with trio.fail_after(20):
        async with play.stream() as stream:
            first = await stream.until("1.0")
            play.api.services.draining.set()
            rest = await stream.rest()

    assert ids(first) == ["0.queued", "1.0"]
    assert rest == []


@pytest.mark.parametrize(
    "after",
    ["x", "1", "0.0", "1.0 2.0", "1.-1", "01.0", "1.end", "0.end", "1.0", "2.queued", "9" * 5000],
)
async def test_id_that_this_run_has_not_had_is_refused(play: Play, after: str) -> None:
    answer = await play.api.ask("GET", play.path, play.key, headers={"Last-Event-ID": after})

    assert problem(answer) == "422 invalid-request"
    assert answer.json()["errors"][0]["pointer"] == "/headers/last-event-id"


async def test_two_ids_are_refused_and_an_empty_one_is_none(play: Play) -> None:
    two = [("Last-Event-ID", "0.queued"), ("Last-Event-ID", "0.queued")]
    authorized = ("Authorization", f"Bearer {play.key}")

    answer = await play.api.http.get(play.path, headers=[authorized, *two])
    await play.api.ask("POST", f"/v1/runs/{play.run_id}:cancel", play.key)

    assert problem(answer) == "422 invalid-request"
    assert ids(await streamed(play, "")) == ["0.queued", "0.end"]


async def test_who_may_not_read_is_told_as_everywhere(play: Play) -> None:
    api = play.api
    writer = await api.tenant("writer", scopes=("runs:write",))
    other = await api.tenant("other")
    unknown = f"/v1/runs/{uuid7(1, 2, 3)}/events"
    html = {"Accept": "application/json"}

    answers = [
        await api.ask("GET", play.path),
        await api.ask("GET", play.path, writer),
        await api.ask("GET", play.path, other),
        await api.ask("GET", unknown, play.key),
        await api.ask("GET", "/v1/runs/no-run/events", play.key),
        await api.ask("GET", play.path, play.key, headers=html),
        await api.ask("GET", f"{play.path}?wait=1", play.key),
        await api.ask("POST", play.path, play.key),
    ]

    assert [problem(answer) for answer in answers] == [
        "401 unauthorized",
        "403 forbidden",
        "404 not-found",
        "404 not-found",
        "404 not-found",
        "406 not-acceptable",
        "422 invalid-request",
        "405 method-not-allowed",
    ]
    assert answers[2].json()["detail"] == answers[3].json()["detail"]


@pytest.mark.parametrize("accept", ["text/event-stream", "*/*", "text/*", "text/event-stream;q=1"])
async def test_stream_is_given_to_who_takes_one(play: Play, accept: str) -> None:
    await play.api.ask("POST", f"/v1/runs/{play.run_id}:cancel", play.key)

    answer = await play.api.ask("GET", play.path, play.key, headers={"Accept": accept})

    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/event-stream"


async def test_head_says_what_get_would_and_holds_nothing(play: Play) -> None:
    answer = await play.api.ask("HEAD", play.path, play.key)

    assert (answer.status_code, answer.content) == (200, b"")
    assert answer.headers["content-type"] == "text/event-stream"
    board = play.api.services.watching
    assert isinstance(board, Watchboard)
    assert board.watching() == []


async def fill(database: Database, play: Play, first: int, last: int, chars: int) -> None:
    """Store long progress notes straight into the table."""
    connection = await database.connect()
    await connection.execute(
        "insert into dpp.run_events (run_id, lease_epoch, n, tenant_id, kind, fraction, note,"
        " created_at) select $1, 1, n, 'acme', 'progress', 0.5, repeat('x', $4), now()"
        " from generate_series($2::int, $3::int) as n",
        UUID(play.run_id),
        first,
        last,
        chars,
    )
    await connection.close()


@asynccontextmanager
async def narrow(play: Play) -> AsyncIterator[EventStream]:
    """Open a stream whose client has room for little."""
    sock = trio.socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
    await sock.connect(play.api.server.address)
    async with trio.SocketStream(sock) as stream:
        one = EventStream(Wire(stream))
        await one.open(play.path, play.key)
        yield one


async def test_client_that_reads_too_slowly_is_ended_and_resumes_without_loss(
    play: Play, database: Database, bridge: Any
) -> None:
    await play.start()
    last = 8_000

    with trio.fail_after(50):
        async with narrow(play) as slow:
            got = ids(await slow.until("1.0"))
            await bridge.run(lambda: fill(database, play, 1, last, 1000))
            await until_left(play)
            got += ids(await slow.rest())
        assert len(got) < last
        async with play.stream(got[-1]) as stream:
            got += ids(await stream.until(f"1.{last}"))

    assert got == ["0.queued", "1.0", *(f"1.{n}" for n in range(1, last + 1))]


async def until_left(play: Play) -> None:
    """Wait until nobody streams the run any more."""
    board = play.api.services.watching
    assert isinstance(board, Watchboard)
    while not all(stream.over for stream in streams_of(board)):  # noqa: ASYNC110
        await trio.sleep(0.01)


def streams_of(board: Watchboard) -> list[Stream]:
    feeds = (watched.feed for watched in board._watched.values())
    return [stream for feed in feeds if feed for stream in feed.streams]


async def test_long_backlog_comes_page_by_page(
    play: Play, database: Database, bridge: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "PAGE", 7)
    await play.start()
    await bridge.run(lambda: fill(database, play, 1, 100, 3))
    await play.end()

    assert ids(await streamed(play)) == [
        *("0.queued", "1.0"),
        *(f"1.{n}" for n in range(1, 101)),
        "1.end",
    ]


NOW = datetime(2026, 1, 1, tzinfo=UTC)
RUN = uuid7(1, 2, 3)
WATCH = Watch("acme", RUN)
SOME_RUN = Run(
    run_id=RUN,
    tenant_id="acme",
    status=Status.PROCESSING,
    pack_type="echo",
    idempotency_key="k",
    attempt=1,
    lease_epoch=1,
    created_at=NOW,
    started_at=NOW,
    finished_at=None,
    expires_at=NOW,
    max_cost=Micros(1),
    minimum_fee=ZERO,
    actual_cost=None,
    policy="0/0/0",
    priority=5,
    timebox_s=60,
    cancel_asked=False,
    trace_id="t",
    progress=None,
    result=None,
    result_key=None,
    result_sha256=None,
    failure=None,
)


def state(status: Status, epoch: int) -> State:
    return State(
        run_id=RUN,
        tenant_id="acme",
        status=status,
        epoch=epoch,
        attempt=1,
        cost=None,
        failure=None,
        finished_at=None,
    )


def page(status: Status, epoch: int, *numbers: int) -> Backlog:
    """Return a page of a backlog: what an attempt told, by number."""
    return Backlog(
        state=state(status, epoch), told=rows(*numbers), cut=False, charged=ZERO, now=NOW
    )


def rows(*numbers: int) -> tuple[Told, ...]:
    return tuple(Told(RUN, 1, n, "progress", fraction=0.5, note="") for n in numbers)


@define
class Still:
    """What a reader works with, where only the test moves anything: `pages` are what is read."""

    pages: list[Backlog] = field(factory=list)
    watching: Watchboard = field(factory=lambda: Watchboard(lambda _: False))
    draining: trio.Event = field(factory=trio.Event)
    holding: Holding = field(factory=Holding)

    @property
    def reads(self) -> Still:
        return self

    async def read_chronicle(self, *_: object, **__: object) -> Backlog:
        await trio.lowlevel.checkpoint()
        return self.pages.pop(0)

    def join(self, after: str) -> Stream:
        """Stream the run beside the reader."""
        position = parse(after)
        assert position is not None
        stream = self.watching.join(WATCH, Bookmark(position))
        assert stream is not None
        return stream

    def publish(self, *numbers: int) -> None:
        """Have the follower bring what the attempt told."""
        self.watching.question()
        self.watching.publish(Changes((), (SOME_RUN,), rows(*numbers), frozenset(), NOW), ())

    def open(self, first: Backlog) -> AsyncGenerator[bytes, None]:
        services: Any = self
        return events.pieces(events.Reader(services, WATCH, Bookmark()), first)


def told(piece: bytes) -> list[str]:
    """Return the ids in a piece of a stream."""
    lines = piece.decode().splitlines()
    return [line.removeprefix("id: ") for line in lines if line.startswith("id: ")]


async def test_backlog_is_read_again_up_to_where_the_feed_was_ahead(
    autojump_clock: MockClock,
) -> None:
    still = Still()
    other = still.join("1.0")
    pieces = still.open(page(Status.PROCESSING, 1))  # read before the feed went on
    still.publish(1, 2)
    still.pages.append(page(Status.PROCESSING, 1, 1, 2))

    first, second = await anext(pieces), await anext(pieces)
    still.publish(3)
    third = await anext(pieces)
    await pieces.aclose()

    assert [told(first), told(second), told(third)] == [
        ["0.queued", "1.0"],
        ["1.1", "1.2"],
        ["1.3"],
    ]
    other.leave()
    assert still.watching.watching() == []


async def test_what_backlog_and_feed_both_bring_is_told_once(autojump_clock: MockClock) -> None:
    still = Still()
    still.join("1.0")
    pieces = still.open(page(Status.PROCESSING, 1, 1, 2))  # the feed has not heard of them yet
    got: list[list[str]] = [told(await anext(pieces))]

    async with trio.open_nursery() as nursery:

        async def take() -> None:
            got.append(told(await anext(pieces)))

        nursery.start_soon(take)
        await wait_all_tasks_blocked()
        still.publish(1, 2, 3)
    await pieces.aclose()

    assert got == [["0.queued", "1.0", "1.1", "1.2"], ["1.3"]]


async def test_outage_in_a_backlog_ends_the_stream_and_its_client_comes_back(
    autojump_clock: MockClock,
) -> None:
    class Away(Still):
        async def read_chronicle(self, *_: object, **__: object) -> Backlog:
            raise StoreUnavailable("away")

    pieces = Away().open(evolve(page(Status.PROCESSING, 1, 1, 2), cut=True))

    assert [told(piece) async for piece in pieces] == [["0.queued", "1.0", "1.1", "1.2"]]


async def test_silence_is_broken_every_15_seconds(autojump_clock: MockClock) -> None:
    still = Still()
    pieces = still.open(page(Status.QUEUED, 0))

    first = await anext(pieces)
    began_at, at = trio.current_time(), list[float]()
    for _ in range(3):
        assert await anext(pieces) == events.HEARTBEAT
        at.append(trio.current_time() - began_at)
    await pieces.aclose()

    assert first.startswith(b"retry: 1000\n\nevent: status\nid: 0.queued\ndata: {")
    assert at == pytest.approx([15, 30, 45])
    assert events.HEARTBEAT.startswith(b":")
    assert still.watching.watching() == []


async def test_streams_that_came_at_once_are_no_more_than_a_tenant_may_hold() -> None:
    """All were let in before one was counted; what is too much ends, and its client asks again."""
    still = Still()
    still.holding.most = 1
    first, second = (still.open(page(Status.PROCESSING, 1)) for _ in range(2))

    await anext(first)
    told_second = [piece async for piece in second]
    await first.aclose()

    assert told_second == [events.RETRY]
    assert still.holding.refusal(WATCH.tenant_id) is None
