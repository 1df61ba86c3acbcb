"""Ids and order of what happened to a run, made from rows alone."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from dpp.chronicles import (
    LATE,
    START,
    Became,
    Bookmark,
    Charged,
    Happening,
    Position,
    Progressed,
    State,
    Told,
    go_on,
    parse,
)
from dpp.money import ZERO, Micros
from dpp.runs import TERMINAL, Status

RUN = UUID(int=1)
NOW = datetime(2026, 1, 1, tzinfo=UTC)
ORDER = ("0.queued", "1.0", "1.1", "1.2", "1.20", "1.queued", "2.0", "2.3", "2.queued", "2.end")


def state(status: Status, epoch: int, *, attempt: int = 1, **more: Any) -> State:
    ended = status in TERMINAL
    return State(
        run_id=RUN,
        tenant_id="acme",
        status=status,
        epoch=epoch,
        attempt=attempt,
        cost=Micros(5) if ended else None,
        failure=None,
        finished_at=NOW if ended else None,
        **more,
    )


def progress(epoch: int, n: int) -> Told:
    return Told(RUN, epoch, n, "progress", fraction=0.5, note="half")


def charge(epoch: int, n: int, amount: int) -> Told:
    return Told(RUN, epoch, n, "charge", note="work", amount=Micros(amount))


def ids(
    run: State, *told: Told, after: str = "", cut: bool = False, sealed: bool = True
) -> list[str]:
    """Return the ids of what is told after an id."""
    position = parse(after) if after else START
    assert position is not None
    chapter = go_on(Bookmark(position), run, told, cut=cut, sealed=sealed)
    return [str(one.position) for one in chapter.happenings]


def test_ids_are_in_the_order_in_which_things_happen() -> None:
    positions = [parse(text) for text in ORDER]

    assert [str(one) for one in positions] == list(ORDER)
    assert sorted(positions, key=lambda one: one or START) == positions


@pytest.mark.parametrize(
    "text",
    [
        *("", "1", "1.", ".1", "0.0", "0.1", "01.0", "1.00", "1.01", "-1.0", "1.-1", "+1.0"),
        *("1.0 ", " 1.0", "1.Queued", "1.ended", "1.0.0", "1,0", "١.0", "1.2147483648"),
        *("9223372036854775808.0", "1" * 60 + ".0"),
    ],
)
def test_what_is_no_id_is_refused(text: str) -> None:
    assert parse(text) is None


def test_run_that_was_done_at_once_has_three_events() -> None:
    done = state(Status.COMPLETED, 1)

    assert ids(done) == ["0.queued", "1.0", "1.end"]
    assert go_on(Bookmark(), done, [], cut=False, sealed=True).happenings == (
        Became(Position(0, 1, 0), Status.QUEUED, 1),
        Became(Position(1, 0, 0), Status.PROCESSING, 1),
        Became(Position(1, 2, 0), Status.COMPLETED, 1, Micros(5), None),
    )


def test_epochs_tell_of_the_requeues_between_them() -> None:
    waiting = state(Status.QUEUED, 2)
    told = [progress(1, 1), progress(1, 4), progress(2, 1)]

    assert ids(waiting, *told) == [
        *("0.queued", "1.0", "1.1", "1.4", "1.queued", "2.0", "2.1", "2.queued"),
    ]
    assert ids(waiting, *told, after="1.4") == ["1.queued", "2.0", "2.1", "2.queued"]
    assert ids(state(Status.PROCESSING, 2), after="1.4") == ["1.queued", "2.0"]


def test_run_that_never_started_ends_in_epoch_0() -> None:
    assert ids(state(Status.EXPIRED, 0)) == ["0.queued", "0.end"]
    assert ids(state(Status.CANCELED, 0), after="0.queued") == ["0.end"]


def test_nothing_comes_after_the_end() -> None:
    done = state(Status.COMPLETED, 1)

    assert ids(done, progress(1, 1), after="1.end") == []


def test_charges_add_up_within_an_attempt() -> None:
    told = [charge(1, 1, 3), progress(1, 2), charge(1, 3, 4), charge(2, 1, 5)]

    chapter = go_on(Bookmark(), state(Status.PROCESSING, 2), told, cut=False, sealed=False)
    charges = [one for one in chapter.happenings if isinstance(one, Charged)]
    later = go_on(
        chapter.bookmark, state(Status.PROCESSING, 2), [charge(2, 2, 1)], cut=False, sealed=False
    )

    assert [(one.amount, one.charged) for one in charges] == [(3, 3), (4, 7), (5, 5)]
    assert later.happenings == (Charged(Position(2, 0, 2), Micros(1), "work", Micros(6)),)
    assert Progressed(Position(1, 0, 2), 0.5, "half") in chapter.happenings


def test_page_that_was_cut_tells_nothing_behind_its_last_row() -> None:
    done = state(Status.COMPLETED, 2)

    assert ids(done, progress(1, 1), cut=True) == ["0.queued", "1.0", "1.1"]
    assert ids(done, progress(2, 9), cut=True, after="1.1") == ["1.queued", "2.0", "2.9"]


def test_rows_of_an_epoch_that_the_state_does_not_know_wait_for_it() -> None:
    waiting = state(Status.QUEUED, 1)

    assert ids(waiting, progress(1, 1), progress(2, 1), after="1.1") == ["1.queued"]


def test_end_that_is_not_sealed_waits() -> None:
    done = state(Status.COMPLETED, 1)

    assert ids(done, progress(1, 1), sealed=False) == ["0.queued", "1.0", "1.1"]
    assert ids(done, progress(1, 2), after="1.1") == ["1.2", "1.end"]
    assert not done.sealed(NOW)
    assert not done.sealed(NOW + LATE - timedelta(milliseconds=1))
    assert done.sealed(NOW + LATE)
    assert state(Status.EXPIRED, 0).sealed(NOW)  # no attempt, so nothing is on its way
    assert not state(Status.PROCESSING, 1).sealed(NOW)


@pytest.mark.parametrize(
    ("run", "attempts"),
    [
        (state(Status.PROCESSING, 3, attempt=1), [1, 1, 1, 1, 1, 1]),  # handed back twice
        (state(Status.PROCESSING, 3, attempt=3), [1, 1, 2, 2, 3, 3]),  # lost twice
        (state(Status.PROCESSING, 3, attempt=2), [None, None, None, None, 2, 2]),
        (state(Status.QUEUED, 2, attempt=3), [1, 1, 2, 2, 3]),
        (state(Status.FAILED, 2, attempt=2), [1, 1, 2, 2, 2]),
        (state(Status.CANCELED, 2, attempt=2), [None, None, None, None, 2]),
    ],
)
def test_attempt_is_told_where_rows_tell_it(run: State, attempts: list[int | None]) -> None:
    chapter = go_on(Bookmark(), run, [], cut=False, sealed=True)

    told = [one.attempt for one in chapter.happenings if isinstance(one, Became)]
    assert told == attempts


def test_last_position_is_behind_all_that_can_have_happened() -> None:
    for text, run in (
        ("0.queued", state(Status.QUEUED, 0)),
        ("2.2147483647", state(Status.PROCESSING, 2)),
        ("2.queued", state(Status.QUEUED, 2)),
        ("2.end", state(Status.FAILED, 2)),
    ):
        assert str(run.last) == text


@st.composite
def histories(draw: st.DrawFn) -> tuple[State, list[Told]]:
    """Draw a run as rows tell it."""
    epoch = draw(st.integers(0, 4))
    status = draw(st.sampled_from(Status))
    if epoch == 0 and status in {Status.PROCESSING, Status.COMPLETED}:
        status = Status.QUEUED
    numbers = st.lists(st.integers(1, 30), max_size=8, unique=True).map(sorted)
    told = [
        charge(e, n, draw(st.integers(1, 9))) if draw(st.booleans()) else progress(e, n)
        for e in range(1, epoch + 1)
        for n in draw(numbers)
    ]
    return state(status, epoch, attempt=draw(st.integers(1, epoch + 1))), told


@given(histories(), st.data())
def test_pages_of_any_size_tell_the_same_once(
    history: tuple[State, list[Told]], data: st.DataObject
) -> None:
    run, told = history
    whole = go_on(Bookmark(), run, told, cut=False, sealed=True).happenings
    page, mark, got = data.draw(st.integers(1, 5)), Bookmark(), list[Happening]()

    while True:
        behind = [row for row in told if (row.epoch, row.n) > mark.position.stored]
        cut = len(behind) > page
        chapter = go_on(mark, run, behind[:page], cut=cut, sealed=True)
        got += chapter.happenings
        mark = chapter.bookmark
        if not cut:
            break

    assert tuple(got) == whole
    positions = [one.position for one in whole]
    assert positions == sorted(set(positions))


@given(histories(), st.data())
def test_reading_on_after_any_id_tells_exactly_the_rest(
    history: tuple[State, list[Told]], data: st.DataObject
) -> None:
    run, told = history
    whole = go_on(Bookmark(), run, told, cut=False, sealed=True).happenings
    seen = data.draw(st.integers(1, len(whole)))
    last = whole[seen - 1].position
    epoch, n = last.stored
    charged = sum(row.amount or 0 for row in told if row.epoch == epoch and row.n <= n)
    mark = Bookmark(last, Micros(charged))

    behind = [row for row in told if (row.epoch, row.n) > last.stored]
    rest = go_on(mark, run, behind, cut=False, sealed=True).happenings

    assert rest == whole[seen:]


@given(histories(), histories())
def test_a_run_as_it_was_never_contradicts_the_run_as_it_is(
    first: tuple[State, list[Told]], second: tuple[State, list[Told]]
) -> None:
    (before, _), (after, told) = sorted((first, second), key=lambda one: one[0].epoch)
    before = evolve(before, status=Status.PROCESSING if before.epoch else Status.QUEUED)
    if after.epoch <= before.epoch:
        return
    then = go_on(Bookmark(), before, [], cut=False, sealed=False)
    now = go_on(Bookmark(), after, told, cut=False, sealed=True)

    seen = {one.position for one in then.happenings}
    assert seen <= {one.position for one in now.happenings}
    assert then.bookmark.charged == ZERO
