"""The history checker finds what it is there to find: one broken promise each, and none in a good history."""  # noqa: E501

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from tests.oracle.history import (
    Balance,
    Ending,
    Facts,
    History,
    Look,
    Step,
    Submission,
    Submit,
    violations,
)

DEPOSIT = Step(1, 100, 0, 0)
FACTS = Facts(
    submissions={("acme", "a"): Submission("A", 2, 10), ("acme", "b"): Submission("B", 3, 20)},
    endings={"A": Ending("acme", 4, "COMPLETED", 4)},
    steps={"acme": [DEPOSIT, Step(2, -10, 10, 0), Step(3, -20, 20, 0), Step(4, 6, -10, 4)]},
)
UNTIL_A = Submit(
    tenant="acme",
    key="a",
    invoked_at=1,
    answered_at=2,
    outcome="ok",
    status=201,
    run_id="A",
    max_cost=10,
)
B_LOST = Submit(tenant="acme", key="b", invoked_at=3, answered_at=4, outcome="info")
A_ENDED = Look(
    tenant="acme", invoked_at=5, answered_at=6, run_id="A", status="COMPLETED", attempt=1, cost=4
)
ALL = Balance(tenant="acme", invoked_at=7, answered_at=8, available=76, held=20, spent=4)


def history(*calls: Any) -> History:
    """Write calls down."""
    return History(
        [one for one in calls if isinstance(one, Submit)],
        [one for one in calls if isinstance(one, Look)],
        [one for one in calls if isinstance(one, Balance)],
    )


GOOD = (UNTIL_A, B_LOST, A_ENDED, ALL)


def test_nothing_is_found_in_a_good_history() -> None:
    early = evolve(ALL, invoked_at=2.5, answered_at=2.6, available=90, held=10, spent=0)

    assert violations(history(*GOOD, early, UNTIL_A), FACTS) == []


@pytest.mark.parametrize(
    ("rule", "calls"),
    [
        ("H1", (*GOOD, evolve(UNTIL_A, run_id="B"))),
        ("H1", (*GOOD, evolve(UNTIL_A, status=200))),
        ("H2", (*GOOD, evolve(UNTIL_A, key="c", run_id="C"))),
        ("H2", (*GOOD[1:], evolve(UNTIL_A, max_cost=11))),
        ("H3", GOOD[:1]),
        ("H4", (*GOOD[:1], *GOOD[2:], evolve(B_LOST, outcome="fail", status=402))),
        ("H8", (*GOOD[:1], *GOOD[2:], evolve(B_LOST, outcome="fail", status=429))),
        ("H5", (*GOOD, evolve(A_ENDED, status="FAILED"))),
        ("H5", (*GOOD, evolve(A_ENDED, cost=5))),
        ("H5", (*GOOD, evolve(A_ENDED, run_id="B"))),
        ("H5", (*GOOD, evolve(A_ENDED, status="QUEUED", invoked_at=6, answered_at=9))),
        ("H6", (*GOOD, evolve(ALL, available=77))),
        # What was acknowledged or seen before is in it; what was asked for later is not.
        ("H6", (*GOOD, evolve(ALL, available=100, held=0, spent=0))),
        ("H6", (*GOOD, evolve(ALL, invoked_at=2.5, answered_at=2.6))),
        ("H7", (*GOOD, evolve(A_ENDED, tenant="other"))),
    ],
)
def test_a_broken_promise_is_found(rule: str, calls: tuple[Any, ...]) -> None:
    assert rule in {one.promise[:2] for one in violations(history(*calls), FACTS)}
