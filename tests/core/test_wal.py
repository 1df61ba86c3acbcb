"""Which segments lead on from a base backup: names, timelines, gaps."""

from __future__ import annotations

import pytest

from dpp.backups.wal import (
    SEGMENT,
    Chain,
    Fork,
    Segment,
    Start,
    chain,
    forks,
    heirs,
    needless,
    position,
    segment,
    text_of,
)

# Consistent within segment 5 of timeline 1.
START = Start("7", timeline=1, begin=4 * SEGMENT + 40, end=5 * SEGMENT + 300)
BRANCH = {2: [Fork(1, 7 * SEGMENT + 90)]}


def on(timeline: int, *numbers: int) -> set[Segment]:
    return {Segment(timeline, number) for number in numbers}


def partial(timeline: int, number: int) -> Segment:
    return Segment(timeline, number, whole=False)


def path(found: Chain) -> list[tuple[int, int, bool]]:
    return [(one.timeline, one.number, one.whole) for one in found.segments]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("000000010000000000000003", Segment(1, 3)),
        ("0000000A00000002000000FF.partial", Segment(10, 2 * 256 + 255, whole=False)),
        ("00000002.history", None),
        ("000000010000000000000003.gz", None),
        ("archive_status", None),
    ],
)
def test_a_name_says_what_a_file_holds(name: str, said: Segment | None) -> None:
    assert segment(name) == said
    assert said is None or said.name == name.removesuffix(".partial")


def test_positions_and_histories_are_read_as_postgresql_writes_them() -> None:
    history = "1\t0/7000060\tbefore 2026-11-29 03:15:02+00\n\n2\t16/B374D848\tno recovery target\n"

    assert forks(history) == [Fork(1, 0x7000060), Fork(2, 0x16_B374_D848)]
    assert text_of(position("16/B374D848")) == "16/B374D848"


def test_what_follows_without_a_gap_is_the_chain_and_the_last_may_be_half() -> None:
    found = chain(START, {}, on(1, 3, 4, 5, 6) | {partial(1, 7)})

    assert path(found) == [(1, 5, True), (1, 6, True), (1, 7, False)]
    assert found.missing is None


@pytest.mark.parametrize(
    ("there", "last", "missing"),
    [
        (on(1, 5, 7), 5, Segment(1, 6, whole=False)),
        (on(1, 6, 7), None, Segment(1, 5, whole=False)),
        (on(1, 5, 7) | {partial(1, 6)}, 6, Segment(1, 6, whole=False)),
        (on(1, 5, 6) | {partial(1, 6)}, 6, None),  # of an earlier stretch; the later has it whole
        (on(1, 3, 4), None, None),
        (set(), None, None),
    ],
)
def test_a_segment_that_is_missing_before_others_ends_it(
    there: set[Segment], last: int | None, missing: Segment | None
) -> None:
    found = chain(START, {}, there)

    assert (found.segments[-1].number if found.segments else None) == last
    assert (found.missing and found.missing.name) == (missing and missing.name)


def test_the_newest_timeline_counts_from_where_it_left_the_other() -> None:
    there = on(1, 5, 6, 7, 8, 9) | on(2, 7) | {partial(2, 8)}

    newest, old = chain(START, BRANCH, there), chain(START, BRANCH, there, timeline=1)

    assert path(newest) == [(1, 5, True), (1, 6, True), (2, 7, True), (2, 8, False)]
    assert newest.missing is None
    assert [one.number for one in old.segments] == [5, 6, 7, 8, 9]
    assert {one.timeline for one in old.segments} == {1}


def test_of_the_segment_with_the_fork_the_newer_timelines_half_beats_the_olders_whole() -> None:
    found = chain(START, BRANCH, on(1, 5, 6, 7) | {partial(2, 7)})

    assert path(found)[-1] == (2, 7, False)


def test_a_timeline_that_left_before_the_backup_ended_is_no_heir_of_it() -> None:
    early, late = Fork(1, START.end - 1), Fork(1, START.end)

    assert heirs(START, {2: [early], 3: [late], 4: [late, Fork(3, 9 * SEGMENT)]}) == {1, 3, 4}


def test_what_no_kept_backup_begins_with_is_needless() -> None:
    there = on(1, 2, 3, 4, 5) | {partial(1, 6)}
    later = Start("7", timeline=1, begin=5 * SEGMENT, end=5 * SEGMENT + 1)

    assert needless(there, [later, START]) == on(1, 2, 3)
    assert needless(there, [later]) == on(1, 2, 3, 4)
    assert needless(there, []) == there
