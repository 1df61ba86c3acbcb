"""Settlement: who pays for what, which attempts may end a run, and a batch that is only a batch."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from dpp.leases import Fence, Lapse, Requeue
from dpp.money import Micros
from dpp.runs import ErrorCode, Failure, Status
from dpp.settlement import (
    CanceledWhileRunning,
    Completed,
    End,
    EndedRun,
    Ending,
    FailedByItself,
    FailedByPlatform,
    LeaseLost,
    LiveRun,
    Outcome,
    Plan,
    Quarantined,
    Requeued,
    Rows,
    Settled,
    Settlement,
    decide,
    ending,
    take_back,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

LEASE = UUID(int=1)
OTHER = UUID(int=2)
RUN = UUID(int=10)
ENDING = UUID(int=20)
REFUSED = Failure(ErrorCode.PACK_REFUSED, "no such option")
PLATFORM = Failure(ErrorCode.INFRASTRUCTURE, "the disk broke")


def live(
    run_id: UUID = RUN,
    tenant_id: str = "acme",
    *,
    attempts_spent: int = 0,
    cancel_asked: bool = False,
    quarantined: bool = False,
    max_cost: int = 1_000,
    minimum_fee: int = 50,
) -> LiveRun:
    return LiveRun(
        run_id=run_id,
        tenant_id=tenant_id,
        lease_id=LEASE,
        lease_epoch=3,
        attempts_spent=attempts_spent,
        max_cost=Micros(max_cost),
        minimum_fee=Micros(minimum_fee),
        cancel_asked=cancel_asked,
        quarantined=quarantined,
    )


def rows(*runs: LiveRun, ended: dict[UUID, EndedRun] | None = None, seq: int = 7) -> Rows:
    return Rows(
        live={run.run_id: run for run in runs}, ended=ended or {}, seqs={"acme": seq, "other": seq}
    )


def end_of(
    run: LiveRun,
    outcome: Outcome | None = None,
    *,
    ending_id: UUID = ENDING,
    lease_id: UUID = LEASE,
) -> End:
    fence = Fence(run.run_id, lease_id, run.lease_epoch)
    return End(ending_id, run.tenant_id, fence, outcome or completed(100))


def completed(charged: int) -> Completed:
    return Completed(b'"done"', Micros(charged))


def decide_one(run: LiveRun, outcome: Outcome) -> Plan:
    return decide([end_of(run, outcome)], rows(run), attempts_max=3)


# ── who pays ──────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("outcome", "status", "cost", "kind"),
    [
        (completed(0), Status.COMPLETED, 0, "settle"),
        (completed(1), Status.COMPLETED, 1, "settle"),
        (completed(1_000), Status.COMPLETED, 1_000, "settle"),
        (FailedByItself(REFUSED, Micros(0)), Status.FAILED, 50, "settle"),
        (FailedByItself(REFUSED, Micros(49)), Status.FAILED, 50, "settle"),
        (FailedByItself(REFUSED, Micros(51)), Status.FAILED, 51, "settle"),
        (FailedByItself(REFUSED, Micros(1_000)), Status.FAILED, 1_000, "settle"),
        (CanceledWhileRunning(Micros(0)), Status.CANCELED, 0, "void"),
        (CanceledWhileRunning(Micros(1)), Status.CANCELED, 1, "settle"),
        (CanceledWhileRunning(Micros(1_000)), Status.CANCELED, 1_000, "settle"),
    ],
)
@pytest.mark.parametrize("cancel_asked", [False, True])
@pytest.mark.parametrize("attempts_spent", [0, 2])
def test_the_outcome_says_who_pays(  # a row of a table
    outcome: Outcome,
    status: Status,
    cost: int,
    kind: str,
    attempts_spent: int,
    *,
    cancel_asked: bool,
) -> None:
    run = live(cancel_asked=cancel_asked, attempts_spent=attempts_spent)

    plan = decide_one(run, outcome)

    written = Ending(
        ending_id=ENDING,
        run_id=RUN,
        tenant_id="acme",
        lease_id=LEASE,
        lease_epoch=3,
        seq=8,
        status=status,
        cost=Micros(cost),
        returned=Micros(1_000 - cost),
        failure=REFUSED if status is Status.FAILED else None,
        result=b'"done"' if status is Status.COMPLETED else None,
    )
    assert plan == Plan((written,), (), (Settled(status, Micros(cost)),))
    assert written.kind == kind


@pytest.mark.parametrize("code", [code for code in ErrorCode if code != "resolved_by_operator"])
def test_a_failure_without_a_fee_is_a_settle_when_the_tenant_caused_it(code: ErrorCode) -> None:
    free = live(minimum_fee=0)

    written = ending(
        free, ENDING, 8, Status.FAILED, Micros(0), failure=Failure(code, "whatever it was")
    )

    platform = {"lost_lease", "store_unavailable", "infrastructure"}
    assert written.kind == ("void" if code in platform else "settle")


@pytest.mark.parametrize("status", [Status.CANCELED, Status.EXPIRED])
def test_what_cost_nothing_and_did_not_run_is_a_void(status: Status) -> None:
    assert ending(live(), ENDING, 8, status, Micros(0)).kind == "void"


@pytest.mark.parametrize(
    ("attempts_spent", "cancel_asked"), list(itertools.product(range(4), [False, True]))
)
def test_the_platforms_failure_is_tried_again_and_then_free(
    attempts_spent: int, *, cancel_asked: bool
) -> None:
    run = live(attempts_spent=attempts_spent, cancel_asked=cancel_asked)

    plan = decide_one(run, FailedByPlatform("the disk broke"))

    if cancel_asked:
        settled, failure = Settled(Status.CANCELED, Micros(0)), None
    else:
        settled, failure = Settled(Status.FAILED, Micros(0)), PLATFORM
    if attempts_spent < 2 and not cancel_asked:
        assert plan == Plan((), ((Fence(RUN, LEASE, 3), 1),), (Requeued(),))
    else:
        written = ending(run, ENDING, 8, settled.status, Micros(0), failure=failure)
        assert plan == Plan((written,), (), (settled,))
        assert (written.kind, written.returned) == ("void", 1_000)


@pytest.mark.parametrize("outcome", [completed, CanceledWhileRunning])
@pytest.mark.parametrize("charged", [1_001, -1])
def test_a_charge_outside_the_reserve_is_refused_and_never_clamped(
    outcome: type[CanceledWhileRunning], charged: int
) -> None:
    with pytest.raises(AssertionError, match="over the reserve"):
        decide_one(live(), outcome(Micros(charged)))


def test_a_failure_that_charged_over_the_reserve_is_refused_too() -> None:
    with pytest.raises(AssertionError, match="over the reserve"):
        decide_one(live(), FailedByItself(REFUSED, Micros(1_001)))


# ── taken back ────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("lapse", "attempts_spent", "cancel_asked"),
    list(itertools.product(Lapse, range(4), [False, True])),
)
def test_what_becomes_of_a_run_that_is_taken_back(
    lapse: Lapse, attempts_spent: int, *, cancel_asked: bool
) -> None:
    run = live(attempts_spent=attempts_spent, cancel_asked=cancel_asked)

    taken = take_back(run, ENDING, 8, lapse, 3)

    lost = Failure(
        ErrorCode.LOST_LEASE, "the platform lost 3 attempts at this run; nothing is charged"
    )
    expected: Ending | Requeue
    if cancel_asked:
        expected = ending(run, ENDING, 8, Status.CANCELED, Micros(0))
    elif lapse is Lapse.HANDED_BACK:
        expected = Requeue(spent=0)
    elif attempts_spent < 2:
        expected = Requeue(spent=1)
    else:
        expected = ending(run, ENDING, 8, Status.FAILED, Micros(0), failure=lost)
    assert taken == expected


# ── the fence ─────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    "held",
    [
        {"lease_id": OTHER},
        {"lease_epoch": 2},
        {"lease_epoch": 4},
        {"lease_id": None},
        {"lease_id": OTHER, "lease_epoch": 4},
    ],
)
def test_only_the_attempt_that_holds_the_run_ends_it(held: dict[str, object]) -> None:
    end = end_of(live())

    plan = decide([end], rows(evolve(live(), **held)), attempts_max=3)

    assert plan == Plan((), (), (LeaseLost(),))


@pytest.mark.parametrize(
    ("ended", "answer"),
    [
        (None, LeaseLost()),
        (
            EndedRun(ENDING, Status.FAILED, Micros(50)),
            Settled(Status.FAILED, Micros(50)),
        ),  # what its ending says, whatever is asked now
        (EndedRun(OTHER, Status.COMPLETED, Micros(100)), LeaseLost()),
        (EndedRun(OTHER, Status.FAILED, Micros(0)), LeaseLost()),
    ],
)
def test_asked_again_only_the_own_ending_tells_that_it_committed(
    ended: EndedRun | None, answer: Settlement
) -> None:
    read = rows(ended={} if ended is None else {RUN: ended})

    assert decide([end_of(live())], read, attempts_max=3) == Plan((), (), (answer,))


def test_a_quarantined_run_waits_for_an_operator() -> None:
    run = live(quarantined=True)

    assert decide_one(run, completed(1)) == Plan((), (), (Quarantined(),))


def test_a_run_is_ended_by_the_first_of_two_that_disagree() -> None:
    run = live()
    first, second = end_of(run, completed(1)), end_of(run, completed(2), ending_id=OTHER)

    plan = decide([first, second], rows(run), attempts_max=3)

    assert [one.ending_id for one in plan.endings] == [ENDING]
    assert plan.settlements == (Settled(Status.COMPLETED, Micros(1)), LeaseLost())


def test_one_end_twice_in_a_batch_has_committed_both_times() -> None:
    run = live()
    end = end_of(run, completed(1))

    plan = decide([end, end], rows(run), attempts_max=3)

    assert [one.ending_id for one in plan.endings] == [ENDING]
    assert plan.settlements == (Settled(Status.COMPLETED, Micros(1)),) * 2


# ── batches ───────────────────────────────────────────────────────────────────────────────────────

RUNS = [
    live(UUID(int=100), max_cost=100, minimum_fee=5),
    live(UUID(int=101), "other", max_cost=200, minimum_fee=0),
    live(UUID(int=102), attempts_spent=2, max_cost=50, minimum_fee=50),
    live(UUID(int=103), "other", cancel_asked=True, max_cost=70, minimum_fee=1),
    live(UUID(int=104), quarantined=True),
]
charges = st.integers(min_value=0, max_value=50).map(Micros)
outcomes = st.one_of(
    charges.map(lambda charged: Completed(b"{}", charged)),
    charges.map(lambda charged: FailedByItself(REFUSED, charged)),
    charges.map(CanceledWhileRunning),
    st.just(FailedByPlatform("the disk broke")),
)
ends = st.builds(
    lambda run, outcome, lease_id, n: end_of(
        run, outcome, ending_id=UUID(int=1_000 + n), lease_id=lease_id
    ),
    st.sampled_from([*RUNS, live(UUID(int=105))]),
    outcomes,
    st.sampled_from([LEASE, LEASE, LEASE, OTHER]),
    st.integers(min_value=0, max_value=5),
)


def played(
    batches: Sequence[Sequence[End]], *, attempts_max: int = 3
) -> tuple[list[Ending], list[tuple[Fence, int]], list[Settlement], Rows]:
    """Decide batch by batch, carrying the rows on as the store does: by what was written."""
    read = rows(*RUNS)
    endings: list[Ending] = []
    requeues: list[tuple[Fence, int]] = []
    answers: list[Settlement] = []
    for batch in batches:
        plan = decide(batch, read, attempts_max=attempts_max)
        alive, ended, seqs = dict(read.live), dict(read.ended), dict(read.seqs)
        for fence, spent in plan.requeues:
            run = alive[fence.run_id]
            alive[fence.run_id] = evolve(
                run, lease_id=None, attempts_spent=run.attempts_spent + spent
            )
        for one in plan.endings:
            del alive[one.run_id]
            ended[one.run_id] = EndedRun(one.ending_id, one.status, one.cost)
            seqs[one.tenant_id] = one.seq
        read = Rows(live=alive, ended=ended, seqs=seqs)
        endings += plan.endings
        requeues += plan.requeues
        answers += plan.settlements
    return endings, requeues, answers, read


@given(st.lists(ends, max_size=16), st.data())
def test_an_answer_does_not_depend_on_how_the_sequence_was_cut_into_batches(
    sequence: list[End], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(min_value=0, max_value=len(sequence)))))
    batches = [
        sequence[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(sequence)])
    ]

    together, apart = played([sequence]), played(batches)

    assert together == apart == played([[one] for one in sequence])


@given(st.lists(ends, max_size=16))
def test_every_reserve_is_resolved_once_and_whole_without_a_gap_in_the_ledger(
    sequence: list[End],
) -> None:
    endings, _, answers, _ = played([sequence])

    assert len(answers) == len(sequence)
    assert len({one.run_id for one in endings}) == len(endings)
    for run in RUNS:
        for one in endings:
            if one.run_id == run.run_id:
                assert one.cost + one.returned == run.max_cost
                assert min(one.cost, one.returned) >= 0
    for tenant_id in ("acme", "other"):
        seqs = [one.seq for one in endings if one.tenant_id == tenant_id]
        assert seqs == list(range(8, 8 + len(seqs)))


@given(st.lists(ends, max_size=16))
def test_asking_everything_again_writes_nothing(sequence: list[End]) -> None:
    endings, _, _, read = played([sequence])
    written = {one.ending_id: one for one in endings}
    committed = [
        one
        for one in sequence
        if one.ending_id in written and written[one.ending_id].run_id == one.fence.run_id
    ]

    plan = decide(committed, read, attempts_max=3)

    assert (plan.endings, plan.requeues) == ((), ())
    assert plan.settlements == tuple(
        Settled(written[one.ending_id].status, written[one.ending_id].cost) for one in committed
    )


def test_an_end_for_a_tenant_whose_budget_is_not_locked_is_a_bug() -> None:
    stray = live(tenant_id="unlocked")

    with pytest.raises(KeyError):
        decide([end_of(stray, ending_id=uuid4())], rows(stray), attempts_max=3)
