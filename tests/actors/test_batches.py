from __future__ import annotations

from collections.abc import Sequence

import pytest
import trio
from hypothesis import given
from hypothesis import strategies as st

from dpp.actors.batches import commit
from dpp.faults import StoreUnavailable


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

    trio.run(commit, ask, range(size), set_aside)

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
        await commit(ask, range(8), set_aside)

    assert asked == [8]


async def test_a_bug_in_setting_aside_is_raised() -> None:
    async def ask(items: Sequence[int]) -> None:
        raise RuntimeError("refused")

    async def set_aside(item: int, bug: Exception) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await commit(ask, range(2), set_aside)
