"""The keyring: uses are written at most hourly, in pages, and an outage costs nothing but time."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import trio
from attrs import define, field

from dpp.actors.keyring import HOUR_S, KEYS_MAX, PAGE, WRITE_S, Uses, keyring
from dpp.actors.supervisor import supervise
from dpp.faults import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Mapping

    from trio.testing import MockClock


@define
class Book:
    """What was written, and when."""

    pages: list[dict[str, float]] = field(factory=list)
    away: bool = False

    async def note_uses(self, ages_s: Mapping[str, float]) -> int:
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable
        self.pages.append(dict(ages_s))
        return len(ages_s)


async def test_only_the_last_use_is_written_with_its_age(autojump_clock: MockClock) -> None:
    book, uses = Book(), Uses()
    uses.note("one")
    await trio.sleep(3)
    uses.note("one")
    uses.note("two")
    await trio.sleep(4)

    await uses.write(book)
    await uses.write(book)

    assert book.pages == [{"one": pytest.approx(4), "two": pytest.approx(4)}]


async def test_a_key_is_written_at_most_hourly(autojump_clock: MockClock) -> None:
    book, uses = Book(), Uses()
    for _ in range(3 * 60):
        uses.note("one")
        await uses.write(book)
        await trio.sleep(60)

    assert len(book.pages) == 3


async def test_what_an_outage_kept_back_is_still_due(autojump_clock: MockClock) -> None:
    book, uses = Book(away=True), Uses()
    uses.note("one")
    with pytest.raises(StoreUnavailable):
        await uses.write(book)

    book.away = False
    await trio.sleep(60)
    await uses.write(book)

    assert book.pages == [{"one": pytest.approx(60)}]


async def test_many_keys_are_written_page_by_page_and_memory_is_bounded(
    autojump_clock: MockClock,
) -> None:
    book, uses = Book(), Uses()
    for n in range(KEYS_MAX + 10):
        uses.note(f"key-{n}")

    await uses.write(book)
    for n in range(KEYS_MAX, KEYS_MAX + 10):
        uses.note(f"key-{n}")
    await uses.write(book)

    sizes = [len(page) for page in book.pages]
    assert sizes == [PAGE] * (KEYS_MAX // PAGE) + [10]
    assert len(uses._written) == KEYS_MAX
    assert uses._due == {}


async def test_the_loop_goes_on_after_an_outage(autojump_clock: MockClock) -> None:
    book, uses = Book(away=True), Uses()
    uses.note("one")

    async with trio.open_nursery() as nursery:

        async def run() -> None:
            await keyring(book, uses)

        nursery.start_soon(supervise, "keyring", run)
        await trio.sleep(10 * WRITE_S)
        book.away = False
        await trio.sleep(10 * WRITE_S)
        uses.note("two")
        await trio.sleep(2 * WRITE_S)
        nursery.cancel_scope.cancel()

    assert [[*page] for page in book.pages] == [["one"], ["two"]]
    assert book.pages[1]["two"] < 2 * WRITE_S < HOUR_S
