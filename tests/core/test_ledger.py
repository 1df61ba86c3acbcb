"""The ledger: what may be posted, and that all that is decided adds up to the budget."""

import itertools
from collections import Counter
from datetime import UTC, datetime
from typing import Any
from uuid import UUID, uuid4

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st

from dpp import admission, settlement
from dpp.admission import Account, Books, Created
from dpp.leases import Fence
from dpp.ledger import (
    SIGNS,
    EarlierTransfer,
    Kind,
    NoSuchRun,
    NotEnded,
    Overdrawn,
    Posting,
    Read,
    ReferenceReused,
    RefundableRun,
    RefundTooHigh,
    decide,
)
from dpp.money import ZERO, Micros
from dpp.plans import Plan
from dpp.pricing import FeeRule
from dpp.runs import ErrorCode, Failure
from dpp.settlement import (
    CanceledWhileRunning,
    Completed,
    End,
    Ending,
    FailedByItself,
    FailedByPlatform,
    LiveRun,
    Rows,
)
from tests.conftest import LIMITS
from tests.store.examples import submission

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PLAN = Plan("plan", fee=FeeRule(floor=Micros(1), percent_ppm=100_000, cap=Micros(6)))
LEASE = UUID(int=1)

RUN, OTHER_RUN = UUID(int=7), UUID(int=8)
ENDED = RefundableRun(Micros(10), Micros(0))
SAYS_WHY = {Kind.REFUND, Kind.ADJUST}


def posting(kind: Kind, amount: int = 10, *, reference: str = "one", run_id: UUID = RUN) -> Posting:
    return Posting(
        tenant_id="acme",
        kind=kind,
        amount=Micros(amount),
        reference=reference,
        operator="ops",
        run_id=run_id if kind is Kind.REFUND else None,
        reason="a test" if kind in SAYS_WHY else None,
    )


def decided(one: Posting, available: int = 0, **read: Any) -> object:
    return decide(one, Read(Micros(available), **read))


def earlier_of(one: Posting) -> EarlierTransfer:
    return EarlierTransfer(one.kind.value, one.amount, one.run_id)


# ── what may be asked for ─────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_is_never_posted_and_less_only_as_an_adjust(kind: Kind, amount: int) -> None:
    if kind is Kind.ADJUST and amount:
        assert posting(kind, amount).amount == amount
        return
    with pytest.raises(AssertionError):
        posting(kind, amount)


@pytest.mark.parametrize("kind", Kind)
def test_a_refund_names_its_run_and_no_other_kind_does(kind: Kind) -> None:
    wrong = None if kind is Kind.REFUND else RUN
    with pytest.raises(AssertionError):
        evolve(posting(kind), run_id=wrong)


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("reason", [None, ""])
def test_a_refund_and_an_adjust_say_why(kind: Kind, reason: str | None) -> None:
    if kind not in SAYS_WHY:
        assert evolve(posting(kind), reason=reason).reason == reason
        return
    with pytest.raises(AssertionError):
        evolve(posting(kind), reason=reason)


def test_each_kind_conserves_what_was_deposited() -> None:
    assert set(SIGNS) == set(Kind)
    assert all(one.deposited == one.available + one.spent for one in SIGNS.values())


# ── what is decided ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("available", [0, 9, 10, 11])
def test_a_deposit_asks_for_nothing(available: int) -> None:
    assert decided(posting(Kind.DEPOSIT), available) is True


@pytest.mark.parametrize(
    "out", [posting(Kind.WITHDRAW), posting(Kind.ADJUST, -10)], ids=["withdraw", "adjust"]
)
@pytest.mark.parametrize(
    ("available", "answer"),
    [(0, Overdrawn(Micros(0))), (9, Overdrawn(Micros(9))), (10, True), (11, True)],
)
def test_no_more_is_taken_out_than_is_available(
    out: Posting, available: int, answer: object
) -> None:
    assert decided(out, available) == answer


@pytest.mark.parametrize("available", [0, 9, 11])
def test_an_adjust_upwards_asks_for_nothing(available: int) -> None:
    assert decided(posting(Kind.ADJUST), available) is True


@pytest.mark.parametrize("available", [0, 100])
@pytest.mark.parametrize(
    ("amount", "cost", "refunded"),
    list(itertools.product(range(1, 5), [None, *range(4)], range(4))),
)
def test_refunds_of_a_run_come_to_no_more_than_it_cost(
    amount: int, cost: int | None, refunded: int, available: int
) -> None:
    if refunded > (cost or 0):
        return  # no run is ever so
    run = RefundableRun(None if cost is None else Micros(cost), Micros(refunded))

    answer = decided(posting(Kind.REFUND, amount), available, run=run)

    if cost is None:
        assert answer == NotEnded()
    elif amount > cost - refunded:
        assert answer == RefundTooHigh(Micros(cost), Micros(refunded))
        assert isinstance(answer, RefundTooHigh)
        assert answer.left == cost - refunded
    else:
        assert answer is True


def test_of_a_run_that_is_not_there_nothing_is_refunded() -> None:
    assert decided(posting(Kind.REFUND), 100, run=None) == NoSuchRun()


TRANSFERS = [
    *(posting(kind, amount) for kind in Kind for amount in (9, 10)),
    *(posting(Kind.ADJUST, amount) for amount in (-9, -10)),
    posting(Kind.REFUND, run_id=OTHER_RUN),
]


@pytest.mark.parametrize("run", [None, ENDED, RefundableRun(None, Micros(0))])
@pytest.mark.parametrize(("one", "earlier"), list(itertools.product(TRANSFERS, TRANSFERS)))
def test_a_reference_names_one_transfer_for_ever(
    one: Posting, earlier: Posting, run: RefundableRun | None
) -> None:
    """Nothing is available and nothing is left: it stands already, or is another."""
    answer = decided(one, 0, earlier=earlier_of(earlier), run=run)

    assert answer == (False if one == earlier else ReferenceReused())


# ── sequences ─────────────────────────────────────────────────────────────────────────────────────

REFERENCES = st.sampled_from("abcdef")
few = st.integers(min_value=1, max_value=5)
postings = st.one_of(
    st.builds(
        posting,
        st.sampled_from([Kind.DEPOSIT, Kind.WITHDRAW, Kind.ADJUST]),
        few,
        reference=REFERENCES,
    ),
    st.builds(posting, st.just(Kind.ADJUST), few.map(lambda n: -n), reference=REFERENCES),
    st.builds(
        posting,
        st.just(Kind.REFUND),
        few,
        reference=REFERENCES,
        run_id=st.sampled_from([RUN, OTHER_RUN]),
    ),
)


@define
class Sums:
    """The sums that what was posted comes to."""

    available: int = 0
    deposited: int = 0
    spent: int = 0
    costs: dict[UUID, int] = field(factory=dict)
    refunded: Counter[UUID] = field(factory=Counter)
    earlier: dict[str, Posting] = field(factory=dict)

    def post(self, one: Posting) -> object:
        answer = decide(one, self.read(one))
        if answer is True:
            signs = SIGNS[one.kind]
            self.deposited += signs.deposited * one.amount
            self.available += signs.available * one.amount
            self.spent += signs.spent * one.amount
            self.earlier[one.reference] = one
            if one.run_id is not None:
                self.refunded[one.run_id] += one.amount
        return answer

    def read(self, one: Posting) -> Read:
        stands = self.earlier.get(one.reference)
        run = None
        if one.run_id in self.costs:
            cost, refunded = self.costs[one.run_id], self.refunded[one.run_id]
            run = RefundableRun(Micros(cost), Micros(refunded))
        return Read(Micros(self.available), None if stands is None else earlier_of(stands), run)


@given(st.lists(postings, max_size=40), st.integers(min_value=0, max_value=12))
def test_what_was_posted_adds_up_and_nobody_is_overdrawn(
    sequence: list[Posting], cost: int
) -> None:
    books = Sums(available=20, deposited=20 + cost, spent=cost, costs={RUN: cost})
    posted = [one for one in sequence if books.post(one) is True]

    def total(*kinds: Kind) -> int:
        return sum(one.amount for one in posted if one.kind in kinds)

    assert len({one.reference for one in posted}) == len(posted)
    refunds, out = total(Kind.REFUND), total(Kind.WITHDRAW)
    came_in = total(Kind.DEPOSIT, Kind.ADJUST) - out
    assert (books.available, books.deposited) == (20 + came_in + refunds, 20 + cost + came_in)
    assert books.spent == cost - refunds
    assert min(books.available, books.deposited, books.spent) >= 0
    assert all(one.run_id == RUN for one in posted if one.kind is Kind.REFUND)


@given(st.lists(postings, max_size=20))
def test_posting_everything_a_second_time_changes_nothing(sequence: list[Posting]) -> None:
    books = Sums(available=1_000, deposited=1_020, spent=20, costs={RUN: 10, OTHER_RUN: 10})
    first = [books.post(one) for one in sequence]

    again = [books.post(one) for one in sequence]

    assert True not in again
    stood = [(was, now) for was, now in zip(first, again, strict=True) if was is True]
    assert all(now is False for _, now in stood)


# ── all kinds of facts together ───────────────────────────────────────────────────────────────────


@define
class Ledgered:
    """One tenant's budget, moved as the store moves it, beside the list of its facts."""

    available: int = 0
    held: int = 0
    spent: int = 0
    deposited: int = 0
    live: dict[UUID, LiveRun] = field(factory=dict)
    earlier: dict[str, EarlierTransfer] = field(factory=dict)
    costs: dict[UUID, int] = field(factory=dict)
    refunded: Counter[UUID] = field(factory=Counter)
    facts: list[Posting | Created | Ending] = field(factory=list)
    reserves: dict[UUID, int] = field(factory=dict)

    def post(self, one: Posting) -> None:
        if one.kind is Kind.REFUND:
            one = evolve(one, run_id=next(iter(self.costs), RUN))
        read = Read(Micros(self.available), self.earlier.get(one.reference), self.run(one.run_id))
        if decide(one, read) is not True:
            return
        signs = SIGNS[one.kind]
        self.deposited += signs.deposited * one.amount
        self.available += signs.available * one.amount
        self.spent += signs.spent * one.amount
        self.earlier[one.reference] = earlier_of(one)
        if one.run_id is not None:
            self.refunded[one.run_id] += one.amount
        self.facts.append(one)

    def run(self, run_id: UUID | None) -> RefundableRun | None:
        if run_id not in self.costs:
            return None
        return RefundableRun(Micros(self.costs[run_id]), Micros(self.refunded[run_id]))

    def submit(self, max_cost: int) -> None:
        one = submission(max_cost=max_cost)
        account = Account(
            plan="plan",
            suspended=False,
            frozen=False,
            available=Micros(self.available),
            seq=len(self.facts),
            queued=0,
            window_from=None,
            window_count=0,
        )
        books = Books(accounts={"acme": account}, earlier={}, dead_keys=frozenset(), now=NOW)
        created = admission.decide([one], books, {"plan": PLAN}, LIMITS.terms)[0]
        if not isinstance(created, Created):
            return
        self.available -= max_cost
        self.held += max_cost
        self.live[one.run_id] = LiveRun(
            run_id=one.run_id,
            tenant_id="acme",
            lease_id=LEASE,
            lease_epoch=1,
            attempts_spent=2,
            max_cost=one.max_cost,
            minimum_fee=created.minimum_fee,
            cancel_asked=False,
            quarantined=False,
        )
        self.reserves[one.run_id] = max_cost
        self.facts.append(created)

    def end(self, how: int, share: int) -> None:
        if not self.live:
            return
        run = next(iter(self.live.values()))
        charged = Micros(run.max_cost * share // 100)
        outcome = (
            Completed(b"{}", charged),
            FailedByItself(Failure(ErrorCode.PACK_ERROR, "it raised"), charged),
            CanceledWhileRunning(charged),
            FailedByPlatform("lost"),
        )[how]
        end = End(uuid4(), "acme", Fence(run.run_id, LEASE, 1), outcome)
        rows = Rows(live=self.live, ended={}, seqs={"acme": len(self.facts)})
        (ending,) = settlement.decide([end], rows, attempts_max=3).endings
        self.held -= ending.cost + ending.returned
        self.available += ending.returned
        self.spent += ending.cost
        del self.live[run.run_id]
        self.costs[run.run_id] = ending.cost
        self.facts.append(ending)


acts = st.one_of(
    st.tuples(st.just("post"), postings),
    st.tuples(st.just("submit"), st.integers(min_value=1, max_value=12)),
    st.tuples(
        st.just("end"),
        st.integers(min_value=0, max_value=3),
        st.integers(min_value=0, max_value=100),
    ),
)


@given(st.lists(acts, max_size=40))
def test_the_budget_is_the_fold_of_the_ledger_after_every_fact(
    acts: list[tuple[object, ...]],
) -> None:
    books = Ledgered()
    books.post(evolve(posting(Kind.DEPOSIT, 20), reference="start"))

    for name, *values in acts:
        getattr(books, str(name))(*values)

        assert books.deposited == books.available + books.held + books.spent
        assert min(books.available, books.held, books.spent, books.deposited) >= ZERO
        assert all(books.refunded[one] <= cost for one, cost in books.costs.items())
        assert (books.deposited, books.held, books.spent) == folded(books)
        assert [fact.seq for fact in books.facts if not isinstance(fact, Posting)] == [
            n for n, fact in enumerate(books.facts, 1) if not isinstance(fact, Posting)
        ]


def folded(books: Ledgered) -> tuple[int, int, int]:
    """Return deposited, held and spent as the facts alone tell them."""
    posted = [one for one in books.facts if isinstance(one, Posting)]
    reserves = [books.reserves[one.run_id] for one in books.facts if isinstance(one, Created)]
    endings = [one for one in books.facts if isinstance(one, Ending)]
    moved = Counter[Kind]()
    for one in posted:
        moved[one.kind] += one.amount
    return (
        moved[Kind.DEPOSIT] - moved[Kind.WITHDRAW] + moved[Kind.ADJUST],
        sum(reserves) - sum(one.cost + one.returned for one in endings),
        sum(one.cost for one in endings) - moved[Kind.REFUND],
    )
