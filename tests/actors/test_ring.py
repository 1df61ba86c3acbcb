from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from random import Random
from uuid import uuid4

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpp.actors.ring import PAUSE_MAX_S, REFRESH_S, Ring
from dpp.claims import Claimed, shares
from dpp.leases import Fence
from dpp.money import Micros

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)

START = datetime(2026, 1, 1, tzinfo=UTC)
SEED = 7
RUNS = 100  # of a claim


def new_ring(*tenants: str) -> Ring:
    ring = Ring(Random(SEED))
    for tenant_id in tenants:
        ring.add(tenant_id)
    return ring


def names(ring: Ring, n: int) -> list[str]:
    return [turn.tenant_id for turn in ring.next(n, RUNS).turns]


def run_of(tenant_id: str, second: int = 0, priority: int = 5, weight: int = 1) -> Claimed:
    return Claimed(
        fence=Fence(uuid4(), uuid4(), 1),
        tenant_id=tenant_id,
        pack_type="echo",
        inputs=b"{}",
        max_cost=Micros(1),
        minimum_fee=Micros(0),
        timebox_s=60,
        priority=priority,
        available_at=START + timedelta(seconds=second),
        attempt=1,
        trace_id="",
        created_at=NOON,
        weight=weight,
    )


def claim(ring: Ring, n: int, share: int, runs: Sequence[Claimed]) -> list[str]:
    """Go one round: what is asked for is found in `runs`."""
    asked = ring.next(n, n * share)
    ring.claimed(asked, runs)
    return [turn.tenant_id for turn in asked.turns]


def test_it_goes_round_from_where_it_stopped() -> None:
    ring = new_ring("a", "b", "c", "d", "e")

    rounds = [names(ring, 2) for _ in range(5)]

    assert rounds == [["a", "b"], ["c", "d"], ["e", "a"], ["b", "c"], ["d", "e"]]


def test_a_tenant_is_asked_for_once_a_round() -> None:
    assert names(new_ring("a", "b"), 10) == ["a", "b"]


def test_who_had_less_than_was_asked_for_is_dropped() -> None:
    ring = new_ring("a", "b")

    claim(ring, 2, 2, [run_of("a"), run_of("a"), run_of("b")])

    assert names(ring, 10) == ["a"]


def test_who_was_added_meanwhile_stays() -> None:
    ring = new_ring("a")
    asked = ring.next(1, 1)
    ring.add("a")

    ring.claimed(asked, [])

    assert names(ring, 10) == ["a"]


def test_a_share_is_by_weight_once_a_run_has_told_it() -> None:
    ring = new_ring("heavy", "light")
    before = ring.next(2, RUNS)
    ring.claimed(before, [run_of("heavy", weight=3)] * 50 + [run_of("light")] * 50)

    after = ring.next(2, RUNS)

    assert [turn.share for turn in before.turns] == [50, 50]
    assert {turn.tenant_id: turn.share for turn in after.turns} == {"heavy": 75, "light": 25}


@pytest.mark.parametrize("free", [1, 2, 3, 7])
def test_a_weight_counts_where_places_come_free_few_at_a_time(free: int) -> None:
    ring = new_ring("light", "heavy", "other")
    weights = {"light": 1, "heavy": 10, "other": 1}
    served: Counter[str] = Counter()

    for _ in range(1200 // free):
        asked = ring.next(min(10, free), free)
        assert sum(turn.share for turn in asked.turns) == free
        served.update({turn.tenant_id: turn.share for turn in asked.turns})
        ring.claimed(
            asked,
            [
                run_of(turn.tenant_id, weight=weights[turn.tenant_id])
                for turn in asked.turns
                for _ in range(turn.share)
            ],
        )

    assert 900 <= served["heavy"] <= 1010
    assert abs(served["light"] - served["other"]) <= free


def test_a_heavy_tenant_that_has_no_more_is_passed_over() -> None:
    ring = new_ring("heavy", "light")
    ring.claimed(ring.next(2, 20), [run_of("heavy", weight=10)] * 10 + [run_of("light")] * 10)
    first = ring.next(1, 1)
    ring.add("heavy")  # queued meanwhile: it stays
    ring.claimed(first, [])

    assert [turn.tenant_id for turn in first.turns] == ["heavy"]
    assert names(ring, 1) == ["light"]


def test_a_weight_that_changed_is_learned_anew_and_one_that_left_is_forgotten() -> None:
    ring = new_ring("a", "b")
    for weight in (9, 1):
        asked = ring.next(2, RUNS)
        found = [run_of("a", weight=weight)] * 90 + [run_of("b", weight=9)]
        ring.claimed(asked, found)  # of b there was less: it is dropped
        ring.add("b")

    assert [turn.share for turn in ring.next(2, RUNS).turns] == [50, 50]


@given(st.lists(st.integers(1, 1000), min_size=1, max_size=10), st.integers(0, 100))
def test_shares_come_to_the_whole_one_each_at_least_and_follow_the_weights(
    weights: list[int], more: int
) -> None:
    runs = len(weights) + more

    parts = shares(weights, runs)

    assert sum(parts) == runs
    assert min(parts) >= 1
    ranked = sorted(zip(weights, parts, strict=True))
    for (_, less), (_, most) in pairwise(ranked):
        assert less <= most + 1


def test_adding_again_keeps_the_place() -> None:
    ring = new_ring("a", "b", "c")

    ring.add("a")

    assert names(ring, 10) == ["a", "b", "c"]


def test_a_bound_is_the_lowest_of_the_last_claim_for_each_priority() -> None:
    ring = new_ring("a")
    claim(ring, 1, 3, [run_of("a", 9), run_of("a", 4), run_of("a", 7, priority=0)])

    (turn,) = ring.next(1, 1).turns

    expected: list[datetime | None] = [None] * 10
    expected[5], expected[0] = START + timedelta(seconds=4), START + timedelta(seconds=7)
    assert turn.lows == tuple(expected)


def test_bounds_outlive_being_dropped() -> None:
    ring = new_ring("a")
    claim(ring, 1, 3, [run_of("a", 4)])
    assert len(ring) == 0

    ring.add("a")

    assert ring.next(1, 1).turns[0].lows[5] == START + timedelta(seconds=4)


def test_a_refresh_forgets_bounds_once() -> None:
    ring = new_ring("a")
    claim(ring, 1, 1, [run_of("a", 4)])

    ring.refreshed(["a"], now=10.0)
    without = ring.next(1, 1)
    ring.claimed(without, [run_of("a", 2)])
    after = ring.next(1, 1)

    assert (without.turns[0].lows, without.unbounded) == ((), True)
    assert (after.turns[0].lows[5], after.unbounded) == (START + timedelta(seconds=2), False)


def test_a_new_tenant_is_not_what_a_refresh_costs() -> None:
    ring = new_ring("a")
    ring.refreshed(["a"], now=0.0)

    assert not ring.next(1, 1).unbounded


def test_a_refresh_is_due_at_the_start_then_at_most_once_a_second() -> None:
    ring = new_ring()
    assert ring.due_in_s(0.0) == 0

    ring.refreshed([], now=0.0)

    assert REFRESH_S <= ring.due_in_s(0.0) <= 1.2 * REFRESH_S


@given(st.lists(st.floats(0, 30), max_size=20), st.integers())
def test_refreshing_takes_at_most_a_twentieth_of_the_time_within_bounds(
    costs: list[float], seed: int
) -> None:
    ring = Ring(Random(seed))
    now = 100.0
    ring.refreshed([], now)

    for cost_s in costs:
        ring.spent(cost_s)

    assert ring.due_in_s(now) >= min(max(REFRESH_S, 20 * sum(costs)), PAUSE_MAX_S) * 0.999999


def test_a_stall_while_it_scans_puts_the_next_scan_off_by_seconds_at_most() -> None:
    ring = Ring(Random(SEED))
    ring.refreshed([], now=100.0)

    ring.spent(46.0)
    ring.spent(46.0)

    assert ring.due_in_s(146.0) == 0
    assert ring.due_in_s(100.0) <= 1.2 * PAUSE_MAX_S <= 5


def test_a_scan_adds_without_moving_who_is_there() -> None:
    ring = new_ring("a", "b")
    names(ring, 1)

    ring.refreshed(["a", "b", "c"], now=0.0)

    assert names(ring, 10) == ["b", "a", "c"]


def test_two_nodes_do_not_go_round_in_step() -> None:
    tenants = [f"t{n}" for n in range(100)]
    rings = [Ring(Random(seed)) for seed in (1, 2)]
    for ring in rings:
        ring.refreshed(tenants, now=0.0)

    first, second = (set(names(ring, 10)) for ring in rings)

    assert len(first & second) < 5


def test_it_is_bounded() -> None:
    ring = Ring(Random(SEED), tenants_max=3)
    for n in range(10):
        ring.add(f"t{n}")
    ring.add("t0")

    assert names(ring, 99) == ["t0", "t1", "t2"]


@given(
    st.lists(st.integers(1, 12), min_size=1, max_size=20),
    st.integers(1, 12),
    st.integers(0, 3),
)
@settings(max_examples=50)
def test_nobody_waits_for_more_than_one_round_of_the_others(
    queues: list[int], n: int, noisy: int
) -> None:
    """Each tenant has a queue, and some go on submitting."""
    queued = Counter({f"t{i}": size for i, size in enumerate(queues)})
    ring = new_ring(*queued)
    waited: Counter[str] = Counter()
    for _ in range(5 * len(queues)):
        for i in range(min(noisy, len(queues))):
            queued[f"t{i}"] += 5
            ring.add(f"t{i}")
        asked = ring.next(n, 3 * n)
        found: list[Claimed] = []
        for turn in asked.turns:
            take = min(queued[turn.tenant_id], turn.share)
            queued[turn.tenant_id] -= take
            found += [run_of(turn.tenant_id)] * take
        ring.claimed(asked, found)
        served = {turn.tenant_id for turn in asked.turns}
        for tenant_id, left in queued.items():
            waited[tenant_id] = waited[tenant_id] + 1 if left and tenant_id not in served else 0
        assert max(waited.values()) <= len(queues) / n + 1

    assert all(left == 0 for tenant_id, left in queued.items() if int(tenant_id[1:]) >= noisy)
