"""The outbox: bounded, and true to the money whatever is left out."""

from hypothesis import given
from hypothesis import strategies as st

from dpp.money import Micros
from dpp.packs.events import EVENTS_MAX, Outbox, RunEvent


def test_over_the_bound_the_oldest_progress_goes() -> None:
    outbox = Outbox()
    for i in range(EVENTS_MAX + 1):
        outbox.progress(i / 100, "")

    events = outbox.drain()

    assert [event.n for event in events] == list(range(2, EVENTS_MAX + 2))


def test_progress_makes_place_for_a_charge() -> None:
    outbox = Outbox()
    for i in range(EVENTS_MAX):
        outbox.progress(i / 100, "")

    outbox.charge(Micros(5), "work")

    events = outbox.drain()
    assert len(events) == EVENTS_MAX
    assert events[-1] == RunEvent(EVENTS_MAX + 1, "charge", amount=Micros(5), reason="work")


def test_charges_over_the_bound_are_joined() -> None:
    outbox = Outbox()
    for i in range(EVENTS_MAX + 3):
        outbox.charge(Micros(i), f"charge {i}")

    events = outbox.drain()

    assert len(events) == EVENTS_MAX
    assert events[-1].reason == f"charge {EVENTS_MAX + 2}"
    assert sum(event.amount or 0 for event in events) == sum(range(EVENTS_MAX + 3))


def test_numbers_go_on_after_a_drain() -> None:
    outbox = Outbox()
    outbox.progress(0.1, "")
    outbox.drain()

    outbox.progress(0.2, "")

    assert [event.n for event in outbox.drain()] == [2]


@given(st.lists(st.one_of(st.none(), st.integers(1, 10**12), st.just("drain")), max_size=400))
def test_charges_told_are_charges_made(acts: list[int | str | None]) -> None:
    outbox, told, made = Outbox(), list[RunEvent](), 0

    for act in acts:
        if act is None:
            outbox.progress(0.5, "")
        elif isinstance(act, int):
            outbox.charge(Micros(act), "work")
            made += act
        else:
            told += outbox.drain()
    rest = outbox.drain()
    told += rest

    numbers = [event.n for event in told]
    assert sum(event.amount or 0 for event in told) == made
    assert numbers == sorted(set(numbers))
    assert len(rest) <= EVENTS_MAX
