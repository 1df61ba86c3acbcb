from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from attrs import define, field
from hypothesis import given
from hypothesis import strategies as st

from dpp.actors.batches import BROKEN_MAX, Refusals, commit
from dpp.faults import PageBroken, StoreBroken, StoreUnavailable


@given(size=st.integers(1, 60), bad=st.sets(st.integers(0, 59)))
def test_a_poisoned_item_harms_only_itself(size: int, bad: set[int]) -> None:
    committed: list[int] = []
    alone: list[int] = []

    async def ask(items: Sequence[int]) -> None:
        if not bad.isdisjoint(items):
            raise RuntimeError("refused")
        committed.extend(items)

    async def set_aside(item: int, bug: Exception) -> None:
        assert str(bug) == "refused"
        alone.append(item)

    trio.run(commit, ask, range(size), set_aside, Refusals())

    assert alone == sorted(bad & set(range(size)))
    assert committed == [item for item in range(size) if item not in bad]


async def test_an_outage_goes_through_at_once() -> None:
    asked: list[int] = []

    async def ask(items: Sequence[int]) -> None:
        asked.append(len(items))
        raise StoreUnavailable

    async def set_aside(item: int, bug: Exception) -> None:
        raise AssertionError

    with pytest.raises(StoreUnavailable):
        await commit(ask, range(8), set_aside, Refusals())

    assert asked == [8]


async def test_a_bug_in_setting_aside_is_raised() -> None:
    async def ask(items: Sequence[int]) -> None:
        raise RuntimeError("refused")

    async def set_aside(item: int, bug: Exception) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await commit(ask, range(2), set_aside, Refusals())


# a broken store, or a broken row


@define(eq=False)
class Broken:
    """A verb that the database refuses for these items, and what became of the others."""

    bad: set[int]
    away_after: int = 10_000  # questions; then the store is away
    asked: list[int] = field(factory=list)  # how many items each time
    committed: list[int] = field(factory=list)
    aside: list[int] = field(factory=list)

    async def ask(self, items: Sequence[int]) -> None:
        await trio.lowlevel.checkpoint()
        self.asked.append(len(items))
        if len(self.asked) > self.away_after:
            raise StoreUnavailable
        if not self.bad.isdisjoint(items):
            raise PageBroken("invalid page in block 7")
        self.committed.extend(items)

    async def set_aside(self, item: int, bug: Exception) -> None:
        assert isinstance(bug, PageBroken)
        await trio.lowlevel.checkpoint()
        self.aside.append(item)


@given(bad=st.integers(0, 29), size=st.integers(2, 30))
def test_where_the_others_commit_a_broken_page_is_one_broken_item(bad: int, size: int) -> None:
    store = Broken({bad % size})

    trio.run(commit, store.ask, range(size), store.set_aside, Refusals())

    assert store.aside == [bad % size]
    assert store.committed == [item for item in range(size) if item != bad % size]


async def test_a_store_that_is_broken_for_all_is_no_items_fault() -> None:
    store = Broken(set(range(30)))

    with pytest.raises(PageBroken):
        await commit(store.ask, range(30), store.set_aside, Refusals())

    assert store.aside == []


async def test_where_nobody_else_can_tell_the_first_few_are_items_and_then_it_is_the_store() -> (
    None
):
    """One end at a time, as in a quiet hour: one broken page must not stop every node in turn."""
    store, refusals = Broken(set(range(10))), Refusals()

    for item in range(BROKEN_MAX):
        await commit(store.ask, [item], store.set_aside, refusals)
    with pytest.raises(PageBroken):
        await commit(store.ask, [BROKEN_MAX], store.set_aside, refusals)

    assert store.aside == list(range(BROKEN_MAX))


async def test_whatever_commits_shows_that_it_is_not_the_store() -> None:
    store, refusals = Broken(set(range(100))), Refusals()

    for item in range(3 * BROKEN_MAX):
        await commit(store.ask, [item], store.set_aside, refusals)
        await commit(store.ask, [100 + item], store.set_aside, refusals)

    assert len(store.aside) == 3 * BROKEN_MAX


async def test_broken_pages_are_asked_for_a_few_times_and_not_once_an_item() -> None:
    store = Broken(set(range(512)))

    with pytest.raises(PageBroken):
        await commit(store.ask, range(512), store.set_aside, Refusals())

    assert store.asked.count(1) == BROKEN_MAX


async def test_nothing_is_set_aside_before_it_is_known_that_others_commit() -> None:
    """The first items are broken; whether it is them or the store is known by those behind."""
    store = Broken({0, 1}, away_after=4)  # 4 items, 2, and each of the two alone

    with pytest.raises(StoreUnavailable):
        await commit(store.ask, range(4), store.set_aside, Refusals())

    assert (store.asked, store.aside) == ([4, 2, 1, 1, 2], [])


async def test_items_that_others_show_to_be_broken_are_set_aside_in_the_end() -> None:
    store = Broken({0, 1})

    await commit(store.ask, range(4), store.set_aside, Refusals())

    assert (store.committed, store.aside) == ([2, 3], [0, 1])


async def test_a_broken_schema_is_no_items_fault_whoever_else_commits() -> None:
    asked: list[int] = []

    async def ask(items: Sequence[int]) -> None:
        await trio.lowlevel.checkpoint()
        asked.append(len(items))
        raise StoreBroken("permission denied for table endings")

    with pytest.raises(StoreBroken):
        await commit(ask, range(30), Broken(set()).set_aside, Refusals())

    assert asked == [30]
