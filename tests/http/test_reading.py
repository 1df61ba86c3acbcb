"""The rate of reads, on one node and on several, with and without what they share."""

from __future__ import annotations

from collections import Counter

import trio
from attrs import define, field
from trio.testing import MockClock

from dpp.faults import HelperUnavailable
from dpp.http.reading import Reading
from dpp.ports import Counted

LIMIT = 10


@define
class Counts:
    """Counters as Redis keeps them, and how it may fail: `away`, or it `forgets` them all."""

    away: bool = False
    asked: int = 0
    _kept: dict[str, tuple[float, int]] = field(factory=dict)

    async def count(self, name: str) -> Counted:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.away:
            raise HelperUnavailable
        now = trio.current_time()
        ends_at, count = self._kept.get(name, (now + 60, 0))
        if ends_at <= now:
            ends_at, count = now + 60, 0
        self._kept[name] = (ends_at, count + 1)
        return Counted(count + 1, ends_at - now)

    def forget(self) -> None:
        self._kept.clear()


async def reads(many: int, *nodes: Reading) -> Counter[bool]:
    """Read so often at nodes in turn; say how often it was allowed."""
    told = [(await nodes[n % len(nodes)].take("acme", LIMIT, 2))[0] for n in range(many)]
    return Counter(told)


async def test_alone_a_node_allows_its_share(autojump_clock: MockClock) -> None:
    assert await reads(20, Reading()) == {True: 5, False: 15}


async def test_two_nodes_that_count_together_allow_the_limit(autojump_clock: MockClock) -> None:
    shared = Counts()

    assert await reads(20, Reading(shared), Reading(shared)) == {True: 10, False: 10}
    assert await reads(20, Reading(shared)) == {False: 20}


async def test_one_node_may_have_all_of_it_and_is_told_what_is_left(
    autojump_clock: MockClock,
) -> None:
    shared = Counts()
    one, other = Reading(shared), Reading(shared)
    await reads(3, other)

    windows = [(await one.take("acme", LIMIT, 2))[1] for _ in range(8)]

    assert [window.remaining for window in windows] == [6, 5, 4, 3, 2, 1, 0, 0]
    assert {window.limit for window in windows} == {LIMIT}


async def test_who_is_over_is_asked_about_no_more_until_the_window_ends(
    autojump_clock: MockClock,
) -> None:
    shared = Counts()
    one, other = Reading(shared), Reading(shared)
    await reads(LIMIT, other)
    await trio.sleep(45.5)
    first = await one.take("acme", LIMIT, 2)
    asked = shared.asked
    again = await reads(100, one)
    _, window = await one.take("acme", LIMIT, 2)
    await trio.sleep(14.6)

    assert (first[0], first[1].reset_s, window.reset_s) == (False, 15, 15)
    assert (again, shared.asked) == ({False: 100}, asked)
    assert await reads(LIMIT, one, other) == {True: LIMIT}


async def test_counters_that_are_lost_give_no_node_more_than_the_limit(
    autojump_clock: MockClock,
) -> None:
    shared = Counts()
    one = Reading(shared)
    allowed = 0
    for _ in range(5 * LIMIT):
        shared.forget()
        allowed += (await reads(1, one))[True]

    assert allowed == LIMIT


async def test_without_an_answer_reads_go_on_by_shares_and_with_one_together_again(
    autojump_clock: MockClock,
) -> None:
    shared = Counts(away=True)
    one, other = Reading(shared), Reading(shared)
    by_shares = await reads(20, one, other)
    await trio.sleep(60)
    shared.away = False

    assert by_shares == {True: 10, False: 10}
    assert await reads(20, one) == {True: 10, False: 10}


async def test_what_a_node_let_in_counts_when_the_answers_end(autojump_clock: MockClock) -> None:
    shared = Counts()
    one = Reading(shared)
    before = await reads(4, one)
    shared.away = True

    assert before == {True: 4}
    assert await reads(20, one) == {True: 1, False: 19}


async def test_tenants_have_counters_of_their_own(autojump_clock: MockClock) -> None:
    one = Reading(Counts())
    await reads(20, one)

    assert (await one.take("globex", LIMIT, 2))[0]
