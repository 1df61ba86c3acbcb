"""Resolutions: which remedy mends what, over every state that a run can be in."""

from __future__ import annotations

from datetime import date
from uuid import UUID

import pytest
from attrs import evolve

from dpp.auditing import Counted, Mark, Offence, Parts, Sums
from dpp.money import Micros
from dpp.resolutions import (
    HOW,
    Accept,
    Case,
    CostTooHigh,
    EndRun,
    Leave,
    Recount,
    Refold,
    Remedy,
    Resolving,
    Rewrite,
    RunCase,
    RunEnded,
    Settle,
    Unfit,
    Void,
    decide,
    evidence,
    is_same,
)
from dpp.runs import ErrorCode, Failure, Status
from dpp.settlement import EndedRun, LiveRun, ending
from dpp.spending import Allowance, Spending

RUN, FINDING = UUID(int=1), UUID(int=2)
BUDGET = Parts(deposited=100, available=60, held=30, spent=10, seq=4)
SUMS = Sums(deposited=100, held=20, spent=10, entries=4, seqs=4, top=4, unresolved=1)
MONDAY, TUESDAY = date(2026, 3, 2), date(2026, 3, 3)
COUNTED = Counted(seq=4, day=TUESDAY, days={MONDAY: 5, TUESDAY: 20})
SPENDING = Spending(TUESDAY, Micros(20), Micros(25))
ALLOWANCE = Allowance("key", Micros(50), Micros(9))
LIVE = LiveRun(
    run_id=RUN,
    tenant_id="acme",
    lease_id=None,
    lease_epoch=0,
    attempts_spent=0,
    max_cost=Micros(30),
    minimum_fee=Micros(5),
    cancel_asked=False,
    quarantined=False,
)
ASIDE = evolve(LIVE, quarantined=True)
WRONG = evolve(ASIDE, max_cost=Micros(31))
ENDED = EndedRun(UUID(int=3), Status.COMPLETED, Micros(7))
OFFENCE = Offence("07_hashes_hold", str(RUN), "acme", {"run_id": str(RUN)})
STATES = {  # (live, ended) → what voiding it comes to
    (LIVE, None): EndRun(Micros(0), is_lost=False),
    (ASIDE, None): EndRun(Micros(0), is_lost=False),
    (None, None): EndRun(Micros(0), is_lost=True),
    (None, ENDED): RunEnded(Status.COMPLETED, Micros(7)),
    (LIVE, ENDED): RunEnded(Status.COMPLETED, Micros(7)),
    (ASIDE, ENDED): RunEnded(Status.COMPLETED, Micros(7)),
    (WRONG, None): EndRun(Micros(0), is_lost=True),
}


def of_run(
    live: LiveRun | None = LIVE, ended: EndedRun | None = None, *, max_cost: int | None = 30
) -> Case:
    cost = None if max_cost is None else Micros(max_cost)
    agrees = live is not None and live.max_cost == cost
    run = RunCase(max_cost=cost, live=live, ended=ended, agrees=agrees)
    return Case(invariant="write_refused", budget=BUDGET, run=run, offence=OFFENCE)


def of_budget(sums: Sums = SUMS, budget: Parts | None = BUDGET, counted: Counted = COUNTED) -> Case:
    folded = Mark(sums=sums, counted=counted)
    return Case(invariant="02_budgets_equal_ledger", budget=budget, folded=folded)


def of_allowance(used: int, allowance: Allowance | None = ALLOWANCE) -> Case:
    folded = Mark(sums=SUMS, counted=Counted(used={"key": used, "other": 7}))
    return Case(
        invariant="13_allowances_equal_facts", budget=BUDGET, allowance=allowance, folded=folded
    )


@pytest.mark.parametrize(("state", "expected"), STATES.items())
def test_a_run_is_ended_once_whatever_it_lost(
    state: tuple[LiveRun | None, EndedRun | None], expected: object
) -> None:
    assert decide(Void(), of_run(*state)) == expected
    settled = evolve(expected, cost=Micros(30)) if isinstance(expected, EndRun) else expected
    assert decide(Settle(Micros(30)), of_run(*state)) == settled


@pytest.mark.parametrize("live", [LIVE, ASIDE, None])
def test_no_run_costs_more_than_its_reserve(live: LiveRun | None) -> None:
    assert decide(Settle(Micros(31)), of_run(live)) == CostTooHigh(Micros(30))


def test_to_settle_at_nothing_is_to_void() -> None:
    with pytest.raises(AssertionError):
        Settle(Micros(0))


@pytest.mark.parametrize(
    "case",
    [
        of_run(max_cost=None),
        evolve(of_run(), budget=None),
        evolve(of_run(), budget=evolve(BUDGET, held=29, available=61)),
        evolve(of_run(), budget=evolve(BUDGET, available=61)),
        evolve(of_run(), budget=evolve(BUDGET, available=-1, spent=71)),
        of_budget(),
    ],
)
def test_a_run_is_not_ended_where_the_books_would_not_take_it(case: Case) -> None:
    for remedy in (Void(), Settle(Micros(1))):
        assert isinstance(decide(remedy, case), Unfit)


def test_a_budget_is_its_facts() -> None:
    new = Parts(deposited=100, available=70, held=20, spent=10, seq=4, spending=SPENDING)

    assert decide(Refold(), of_budget()) == Rewrite(BUDGET, new)
    assert decide(Refold(), of_budget(budget=None)) == Rewrite(None, new)
    counters = evolve(of_budget(), invariant="12_spend_equals_facts")
    assert decide(Refold(), counters) == Rewrite(BUDGET, new)


@pytest.mark.parametrize("used", [0, 20, 50])
def test_an_allowance_is_its_facts(used: int) -> None:
    assert decide(Refold(), of_allowance(used)) == Recount(ALLOWANCE, Micros(used))


@pytest.mark.parametrize(
    "case",
    [
        of_budget(evolve(SUMS, entries=3, seqs=3)),
        of_budget(evolve(SUMS, seqs=3)),
        of_budget(evolve(SUMS, top=5)),
        of_budget(evolve(SUMS, spent=90)),
        of_budget(evolve(SUMS, held=-1)),
        of_budget(counted=evolve(COUNTED, days={TUESDAY: -1})),
        of_budget(counted=evolve(COUNTED, days={MONDAY: -1, TUESDAY: 20})),
        of_allowance(51),
        of_allowance(-1),
        of_allowance(20, allowance=None),
        evolve(of_allowance(20), budget=None),
        of_run(),
        evolve(of_budget(), invariant="09_usage_equals_endings"),
    ],
)
def test_what_no_refold_mends(case: Case) -> None:
    assert isinstance(decide(Refold(), case), Unfit)


def test_anything_may_be_accepted_but_a_run_that_holds_its_reserve_aside() -> None:
    for live, ended in STATES:
        decided = decide(Accept(), of_run(live, ended))
        if live is not None and live.quarantined and ended is None:
            assert isinstance(decided, Unfit)
        else:
            assert decided == Leave(OFFENCE, is_stray=None not in (live, ended))
    assert decide(Accept(), of_budget()) == Leave(None)


@pytest.mark.parametrize("live", [LIVE, ASIDE])
def test_a_live_row_that_nobody_submitted_stands_for_no_reserve_and_goes(live: LiveRun) -> None:
    case = of_run(live, max_cost=None)

    assert decide(Accept(), case) == Leave(OFFENCE, is_stray=True)
    assert isinstance(decide(Void(), case), Unfit)


@pytest.mark.parametrize(("cost", "kind"), [(0, "void"), (1, "settle")])
def test_what_an_operator_ends_is_a_void_only_at_no_cost(cost: int, kind: str) -> None:
    failure = Failure(ErrorCode.RESOLVED_BY_OPERATOR, "by hand")

    ended = ending(LIVE, FINDING, 5, Status.FAILED, Micros(cost), failure=failure)

    assert ended.kind == kind


@pytest.mark.parametrize(
    ("remedy", "case"),
    [
        (Settle(Micros(9)), of_run()),
        (Void(), of_run(None)),
        (Refold(), of_budget()),
        (Refold(), of_allowance(20)),
        (Accept(), of_run()),
        (Accept(), of_run(ASIDE, ENDED)),
        (Accept(), of_budget()),
    ],
)
def test_the_evidence_says_who_why_and_how_and_knows_itself_again(
    remedy: Remedy, case: Case
) -> None:
    asked = Resolving(finding_id=FINDING, remedy=remedy, operator="ann", reason="as it says")
    decided = decide(remedy, case)
    assert isinstance(decided, EndRun | Rewrite | Recount | Leave)

    told = evidence(asked, decided)

    assert (told["how"], told["operator"], told["reason"]) == (
        HOW[type(remedy)],
        "ann",
        "as it says",
    )
    assert is_same(asked, told)
    for other in (
        evolve(asked, operator="bob"),
        evolve(asked, reason="another"),
        evolve(asked, remedy=Settle(Micros(8))),
    ):
        assert not is_same(other, told)
