"""The watchboard: where handlers wait for runs, and stream their events, without a query of theirs.

Many may wait for one run, one row is asked for all of them; many may stream one run, its events are
read once. The follower publishes what it read, wherever the run ended. What ended on this node just
now is remembered for a while, so that a handler which read the run before and waits after is not
left to the next poll.

An end is published once all that this node knows of the attempt is stored, so with it or before it.
Of a run that another node executed, streams are told the end a moment later (`chronicles.LATE`).
"""

from collections import OrderedDict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from itertools import groupby
from uuid import UUID

import trio
from attrs import define, evolve, field

from dpp.actors.wake import Wake
from dpp.chronicles import Bookmark, Happening, Position, State, Told, go_on
from dpp.runs import TERMINAL, Run, Status
from dpp.watches import Changes, Watch

WATCHED_MAX = 10_000  # runs: five times the connections that a listener takes
SLICE = 1000  # watches of a question: some 50 ms of its second; ten thousand at once took 0.6 s
CHANGED_MAX = 4096  # run ids, a second's worth: a handler needs less from its read to its wait
# Happenings that a stream has not taken: two pages of a question and more, two seconds of the most
# that a pack can tell. Of a client that takes less nothing piles up here, it comes back.
BUFFER_MAX = 256


@define(eq=False)
class Stream:
    """One stream's place at a feed; implements `dpp.ports.Listening`."""

    reached: Position
    _left: Callable[["Stream"], None]
    _waiting: list[Happening] = field(factory=list)
    over: bool = False  # nothing more is added
    _woken: trio.Event = field(factory=trio.Event)

    async def news(self) -> Sequence[Happening]:
        """Wait for what happens next; empty = over."""
        if not self._waiting and not self.over:
            self._woken = trio.Event()
            await self._woken.wait()
        else:
            await trio.lowlevel.checkpoint()
        taken, self._waiting = self._waiting, []
        return taken

    def leave(self) -> None:
        """Take nothing more."""
        self.end()
        self._left(self)

    def put(self, happenings: Sequence[Happening]) -> None:
        """Add what happened; a stream that takes too little is ended."""
        if len(self._waiting) + len(happenings) > BUFFER_MAX:
            self._waiting = []
            self.end()
        elif not self.over:
            self._waiting += happenings
            self._woken.set()

    def end(self) -> None:
        """End it, once what waits is taken."""
        self.over = True
        self._woken.set()


@define(eq=False)
class Feed:
    """What is told of a run to all that stream it, and how far that is.

    `asked`: the position that the open question names. An answer to a question that named another,
    or was asked before there was a feed, would leave a gap.
    """

    bookmark: Bookmark
    asked: Position | None = None
    streams: set[Stream] = field(factory=set)

    def publish(self, state: State, told: Sequence[Told], *, cut: bool, sealed: bool) -> bool:
        """Tell what happened since; say whether that was all there will be."""
        chapter = go_on(self.bookmark, state, told, cut=cut, sealed=sealed)
        self.bookmark = chapter.bookmark
        if chapter.happenings:
            for stream in self.streams:
                stream.put(chapter.happenings)
        return chapter.ends

    def close(self) -> None:
        """End all streams."""
        for stream in self.streams:
            stream.end()


@define(eq=False)
class Watched:
    """A run that is waited for, and by how many; its feed, where somebody streams it."""

    watch: Watch
    waiters: int = 0
    run: Run | None = None
    over: trio.Event = field(factory=trio.Event)
    feed: Feed | None = None

    def ask(self) -> Watch:
        """Return what the follower asks for now."""
        if self.feed is None:
            return self.watch
        self.feed.asked = self.feed.bookmark.position
        return evolve(self.watch, after=self.feed.asked)

    def answer(self, run: Run) -> None:
        """Answer who waits for the end."""
        if run.status in TERMINAL:
            self.run = run
            self.over.set()

    def close(self) -> None:
        """Answer everybody with what is known, which is nothing if the run goes on."""
        self.over.set()
        if self.feed is not None:
            self.feed.close()


@define(eq=False)
class Watchboard:
    """Implements `dpp.ports.Watching`. `executed_here` says whether a run is in work here.

    `tell` hears of each run of which this node has news, for the other nodes.
    """

    executed_here: Callable[[UUID], bool]
    tell: Callable[[UUID], object] = lambda _: None
    wake: Wake = field(factory=Wake)
    closed: bool = False
    unsealed: bool = False  # an end was read that streams are told a moment later
    finish_asked: bool = False
    finished: trio.Event = field(factory=trio.Event)
    _watched: dict[UUID, Watched] = field(factory=dict)
    _due: set[UUID] = field(factory=set)  # watched or executed here, and news of it was heard
    _left: deque[UUID] = field(factory=deque)  # of the round that goes on, not yet asked for
    _changed: OrderedDict[UUID, bool] = field(factory=OrderedDict)  # whether it ended here

    async def wait_terminal(self, watch: Watch, seen: Status) -> Run | None:
        """Return the run once it is terminal; None when this node drains, or watches enough."""
        watched = self._find(watch)
        if watched is None:
            await trio.lowlevel.checkpoint()
            return None
        if seen in TERMINAL or watch.run_id in self._changed:
            self._hurry(watch.run_id)
        with self._waiting(watched):
            await watched.over.wait()
        return watched.run

    def join(self, watch: Watch, bookmark: Bookmark) -> Stream | None:
        """Join the feed of a run; None when this node drains, or watches enough."""
        watched = self._find(watch)
        if watched is None:
            return None
        if watch.run_id in self._changed:
            self._hurry(watch.run_id)
        feed = watched.feed = watched.feed or Feed(bookmark)

        def left(stream: Stream) -> None:
            feed.streams.discard(stream)
            if not feed.streams:
                watched.feed = None
                self._let_go(watched)

        stream = Stream(feed.bookmark.position, left)
        feed.streams.add(stream)
        return stream

    def hint(self, run_id: UUID) -> None:
        """Hear on this node that something about a run changed; the follower looks."""
        self.tell(run_id)
        self.heard(run_id)

    def heard(self, run_id: UUID) -> None:
        """Hear that something about a run changed; the follower looks, if it concerns this node."""
        self._note(run_id, ended=False)
        if self.executed_here(run_id):
            self._hurry(run_id)

    def ended(self, run_id: UUID) -> None:
        """Hear that a run which was executed on this node has ended."""
        self.tell(run_id)
        self._note(run_id, ended=True)

    def watching(self) -> list[Watch]:
        """Return the runs that are waited for or streamed."""
        return [watched.watch for watched in self._watched.values()]

    def question(
        self, executing: Iterable[UUID] = (), *, whole: bool = True
    ) -> tuple[list[UUID], list[Watch]]:
        """Return the runs whose cancels, and the watches, to ask for now: a slice of these.

        Not `whole`: those alone of which something was heard, since one end a moment would else
        have all be read each time. A round of all watches goes on in the questions after it, which
        are wanted at once; what is heard of meanwhile comes first, so nobody waits for the rest.
        The answer is published before the next question.
        """
        due, self._due = self._due, set()
        if whole and not self._left:
            self._left.extend(self._watched)
        heard = [run_id for run_id in due if run_id in self._watched]
        self._due.update(heard[SLICE:])
        asked = {run_id: self._watched[run_id] for run_id in heard[:SLICE]}
        while self._left and len(asked) < SLICE:
            run_id = self._left.popleft()
            if run_id in self._watched:
                asked[run_id] = self._watched[run_id]
        if self._left or self._due:
            self.wake.ring()
        executed = [run_id for run_id in executing if whole or run_id in due]
        return executed, [watched.ask() for watched in asked.values()]

    def publish(self, changes: Changes, untold: Collection[UUID]) -> None:
        """Tell those who wait and stream; `untold`: runs whose events this node has yet to send."""
        self.unsealed = False
        told = {run_id: [*rows] for run_id, rows in groupby(changes.told, lambda row: row.run_id)}
        for run in changes.runs:
            watched = self._watched.get(run.run_id)
            if watched is None:
                continue
            if run.status in TERMINAL and run.run_id in untold:
                self._hurry(run.run_id)  # the next question takes them along
                continue
            watched.answer(run)
            if watched.feed is None or self._tell(watched.feed, run, told, changes):
                self._let_go(watched, ended=watched.over.is_set())

    def close(self) -> None:
        """Answer everybody with None: the node drains."""
        self.closed = True
        for watched in self._watched.values():
            watched.close()
        self._watched.clear()

    async def finish(self) -> None:
        """Wait until the follower has sent all that attempts of this node told."""
        self.finish_asked = True
        self.wake.ring()
        await self.finished.wait()

    def _tell(
        self, feed: Feed, run: Run, told: Mapping[UUID, Sequence[Told]], changes: Changes
    ) -> bool:
        """Publish what the answer says of a run; say whether it has ended, to its streams too."""
        assert changes.now is not None, "a run was read, so was the time"
        if feed.asked != feed.bookmark.position:
            self._hurry(run.run_id)
            return False
        state, cut = State.of(run), run.run_id in changes.cut
        sealed = self._changed.get(run.run_id, False) or state.sealed(changes.now)
        if cut:
            self._hurry(run.run_id)
        elif state.status in TERMINAL and not sealed:
            self.unsealed = True
            self._due.add(run.run_id)
        return feed.publish(state, told.get(run.run_id, ()), cut=cut, sealed=sealed)

    def _find(self, watch: Watch) -> Watched | None:
        """Return the place of a run, a new one if there is room."""
        watched = self._watched.get(watch.run_id)
        if watched is None and not self.closed and len(self._watched) < WATCHED_MAX:
            watched = self._watched[watch.run_id] = Watched(watch)
        return None if watched is None or watched.watch != watch else watched

    @contextmanager
    def _waiting(self, watched: Watched) -> Iterator[None]:
        watched.waiters += 1
        try:
            yield
        finally:
            watched.waiters -= 1
            self._let_go(watched)

    def _let_go(self, watched: Watched, *, ended: bool = False) -> None:
        """Ask no more for a run that ended, or that nobody waits for or streams."""
        unwanted = watched.waiters == 0 and watched.feed is None
        run_id = watched.watch.run_id
        if (ended or unwanted) and self._watched.get(run_id) is watched:
            del self._watched[run_id]

    def _note(self, run_id: UUID, *, ended: bool) -> None:
        self._changed[run_id] = ended or self._changed.get(run_id, False)
        if len(self._changed) > CHANGED_MAX:
            self._changed.popitem(last=False)
        if run_id in self._watched:
            self._hurry(run_id)

    def _hurry(self, run_id: UUID) -> None:
        """Have the follower ask for a run now."""
        self._due.add(run_id)
        self.wake.ring()
