"""Chronicles: what happened to a run, in order, each thing under an id that every node gives it.

Ids are made from rows alone, so that a client goes on at any node from the last id it has seen:

    0.queued   1.0 1.1 1.2 …   1.queued   2.0 2.1 …   2.end

`{epoch}.0` is the claim of that epoch, `{epoch}.{n}` what its attempt told (rising, with gaps),
`{epoch}.queued` the requeue after it, `{epoch}.end` the end. A claim rises the epoch by one and
takes a run that waits, so a row of epoch 2 says that `1.queued` was. Whether a run that ended had
waited once more no row says: who looks later sees its end without a last `queued`.

What must hold: a reader is told things in this order and nothing twice. An end is told once no more
can be told before it: an attempt's last events may be stored a moment after its ending.
"""

import re
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias
from uuid import UUID

from attrs import frozen

from dpp.money import ZERO, Micros
from dpp.runs import TERMINAL, Failure, Run, Status

# From an ending to the last events of its attempt: half a second until the follower of the node
# that executed it looks, and the time of its question.
LATE: Final = timedelta(seconds=0.7)

N_MAX: Final = 2**31 - 1  # of the column
_EPOCH_MAX: Final = 2**63 - 1
_QUEUED, _END = 1, 2  # ranks within an epoch; the claim and what its attempt told have 0
_WORDS: Final = {"queued": _QUEUED, "end": _END}
_ID: Final = re.compile(r"(0|[1-9][0-9]{0,18})\.(0|[1-9][0-9]{0,9}|queued|end)")


@frozen(order=True)
class Position:
    """Where in a chronicle something stands: its id, as what compares."""

    epoch: int
    rank: int
    n: int

    def __str__(self) -> str:
        words = {rank: word for word, rank in _WORDS.items()}
        return f"{self.epoch}.{words.get(self.rank, self.n)}"

    @property
    def stored(self) -> tuple[int, int]:
        """Return epoch and n of the last row of `run_events` that may stand here or before."""
        return self.epoch, N_MAX if self.rank else self.n


START: Final = Position(0, 0, 0)  # before everything; no id


def parse(text: str) -> Position | None:
    """Return the position that an id names; None = no id looks so."""
    found = _ID.fullmatch(text)
    if found is None:
        return None
    epoch, last = int(found[1]), found[2]
    rank, n = (_WORDS[last], 0) if last in _WORDS else (0, int(last))
    if epoch > _EPOCH_MAX or n > N_MAX or (epoch == 0 and rank == 0):  # nobody claims epoch 0
        return None
    return Position(epoch, rank, n)


@frozen
class Told:
    """A row of `run_events`: what the attempt of an epoch told."""

    run_id: UUID
    epoch: int
    n: int
    kind: str
    fraction: float | None = None
    note: str | None = None
    amount: Micros | None = None

    @property
    def position(self) -> Position:
        return Position(self.epoch, 0, self.n)


@frozen(kw_only=True)
class State:
    """A run as far as its chronicle needs it."""

    run_id: UUID
    tenant_id: str
    status: Status
    epoch: int
    attempt: int
    cost: Micros | None
    failure: Failure | None
    finished_at: datetime | None

    @classmethod
    def of(cls, run: Run) -> "State":
        """Return the state of a run."""
        return cls(
            run_id=run.run_id,
            tenant_id=run.tenant_id,
            status=run.status,
            epoch=run.lease_epoch,
            attempt=run.attempt,
            cost=run.actual_cost,
            failure=run.failure,
            finished_at=run.finished_at,
        )

    @property
    def last(self) -> Position:
        """Return the last position that this run can have reached by now."""
        if self.status in TERMINAL:
            return Position(self.epoch, _END, 0)
        if self.status is Status.QUEUED:
            return Position(self.epoch, _QUEUED, 0)
        return Position(self.epoch, 0, N_MAX)

    def sealed(self, now: datetime) -> bool:
        """Say whether nothing more will be told of it; `now` is the database's."""
        if self.finished_at is None:
            return False
        return self.epoch == 0 or now - self.finished_at >= LATE


@frozen
class Became:
    """The run took a status. `attempt` None: no row says which it was, of a claim before the last.

    `cost` and `failure` are those of an end.
    """

    position: Position
    status: Status
    attempt: int | None
    cost: Micros | None = None
    failure: Failure | None = None


@frozen
class Progressed:
    """The pack told how far it is: 0 … 1."""

    position: Position
    fraction: float
    note: str


@frozen
class Charged:
    """The pack charged; `charged`: by this attempt so far."""

    position: Position
    amount: Micros
    reason: str
    charged: Micros


Happening: TypeAlias = Became | Progressed | Charged


@frozen
class Bookmark:
    """How far a reader is, and what the attempt at that position had charged by then."""

    position: Position = START
    charged: Micros = ZERO


@frozen
class Chapter:
    """What a reader is told next, and where that leaves it."""

    happenings: tuple[Happening, ...]
    bookmark: Bookmark

    @property
    def ends(self) -> bool:
        """Say whether that leaves the reader at the run's end."""
        return self.bookmark.position.rank == _END


@frozen(kw_only=True)
class Backlog:
    """What is stored of a run behind a position, as one statement saw it.

    `cut`: there is more than `told`. `charged`: by the attempt at that position, up to it.
    """

    state: State
    told: tuple[Told, ...]
    cut: bool
    charged: Micros
    now: datetime


def is_end(happening: Happening) -> bool:
    """Say whether nothing comes after this."""
    return isinstance(happening, Became) and happening.status in TERMINAL


def go_on(
    bookmark: Bookmark, state: State, told: Sequence[Told], *, cut: bool, sealed: bool
) -> Chapter:
    """Return what happened after a bookmark.

    `told`: rows behind it, in order, read no earlier than the state; `cut`: there are more, so that
    nothing is told which stands behind the last of them. Without `sealed` the end is left out.
    """
    rows = [row for row in told if bookmark.position < row.position and row.epoch <= state.epoch]
    until = rows[-1].position if cut and rows else state.last
    statuses = [
        status
        for status in became(state, bookmark.position.epoch)
        if bookmark.position < status.position <= until and (sealed or not is_end(status))
    ]
    both: list[Told | Became] = [*rows, *statuses]
    happenings: list[Happening] = []
    charged = bookmark.charged
    for one in sorted(both, key=lambda one: one.position):
        if isinstance(one, Became):
            charged = charged if is_end(one) else ZERO
            happenings.append(one)
        elif one.kind == "charge":
            amount = one.amount or ZERO
            charged = Micros(charged + amount)
            happenings.append(Charged(one.position, amount, one.note or "", charged))
        else:
            happenings.append(Progressed(one.position, one.fraction or 0.0, one.note or ""))
    position = happenings[-1].position if happenings else bookmark.position
    return Chapter(tuple(happenings), Bookmark(position, charged))


def became(state: State, first_epoch: int) -> Iterator[Became]:
    """Yield every status that the run took, as rows tell it, from an epoch on and in order."""
    for epoch in range(first_epoch, state.epoch + 1):
        if epoch > 0:
            attempt = attempt_after(state, epoch - 1)
            yield Became(Position(epoch, 0, 0), Status.PROCESSING, attempt)
        if epoch == 0 or epoch < state.epoch or state.status is Status.QUEUED:
            attempt = attempt_after(state, epoch)
            yield Became(Position(epoch, _QUEUED, 0), Status.QUEUED, attempt)
    if state.status in TERMINAL:
        yield Became(state.last, state.status, state.attempt, state.cost, state.failure)


def attempt_after(state: State, claims: int) -> int | None:
    """Return which attempt is due after so many claims; None = no row tells.

    A row says how many attempts were spent in all, and a run that was handed back spent none.
    """
    spent = state.attempt - 1
    if spent == 0:
        return 1
    if state.status is Status.CANCELED:  # as it waited, or as it worked: the claims differ by one
        return None
    over = state.epoch if state.status is Status.QUEUED else state.epoch - 1
    if spent == over:
        return claims + 1
    return state.attempt if claims == over else None
