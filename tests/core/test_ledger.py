"""The ledger: what may be posted, and that all that is decided adds up to the budget."""

import itertools
from datetime import UTC, datetime
from uuid import UUID, uuid4

import pytest
from attrs import define, evolve, field
from hypothesis import given
from hypothesis import strategies as st

from dpp import admission, settlement
from dpp.admission import Account, Books, Created
from dpp.leases import Fence
from dpp.ledger import (
    EarlierTransfer,
    Kind,
    Overdrawn,
    Posting,
    ReferenceReused,
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
from tests.store.examples import submission

NOW = datetime(2026, 3, 1, tzinfo=UTC)
PLAN = Plan("plan", fee=FeeRule(floor=Micros(1), percent_ppm=100_000, cap=Micros(6)))
LEASE = UUID(int=1)

few = st.integers(min_value=1, max_value=5)
postings = st.builds(
    Posting,
    tenant_id=st.just("acme"),
    kind=st.sampled_from(Kind),
    amount=few,
    reference=st.sampled_from("abcdef"),
    operator=st.just("ops"),
)


def posting(kind: Kind, amount: int = 10) -> Posting:
    return Posting(
        tenant_id="acme", kind=kind, amount=Micros(amount), reference="one", operator="ops"
    )


@pytest.mark.parametrize("available", [0, 9, 10, 11])
def test_a_deposit_asks_for_nothing(available: int) -> None:
    assert decide(posting(Kind.DEPOSIT), Micros(available), None) is True


@pytest.mark.parametrize(
    ("available", "decided"),
    [(0, Overdrawn(Micros(0))), (9, Overdrawn(Micros(9))), (10, True), (11, True)],
)
def test_no_more_is_withdrawn_than_is_available(available: int, decided: object) -> None:
    assert decide(posting(Kind.WITHDRAW), Micros(available), None) == decided


@pytest.mark.parametrize(
    ("kind", "earlier_kind", "earlier_amount"),
    list(itertools.product(Kind, ["deposit", "withdraw", "refund", "adjust"], [9, 10, 11])),
)
def test_a_reference_names_one_transfer_for_ever(
    kind: Kind, earlier_kind: str, earlier_amount: int
) -> None:
    earlier = EarlierTransfer(earlier_kind, earlier_amount)
    same = earlier_kind == kind and earlier_amount == 10

    decided = decide(posting(kind), Micros(0), earlier)  # nothing is available: it stands already

    assert decided == (False if same else ReferenceReused())


@pytest.mark.parametrize("amount", [0, -1])
def test_nothing_and_less_is_never_posted(amount: int) -> None:
    with pytest.raises(AssertionError):
        decide(posting(Kind.DEPOSIT, amount), Micros(100), None)


@given(st.lists(postings, max_size=40))
def test_what_was_posted_adds_up_and_nobody_is_overdrawn(sequence: list[Posting]) -> None:
    available, earlier = Micros(0), dict[str, EarlierTransfer]()
    posted: list[Posting] = []
    for one in sequence:
        if decide(one, available, earlier.get(one.reference)) is True:
            sign = 1 if one.kind is Kind.DEPOSIT else -1
            available = Micros(available + sign * one.amount)
            earlier[one.reference] = EarlierTransfer(one.kind, one.amount)
            posted.append(one)

    assert len({one.reference for one in posted}) == len(posted)
    assert available >= 0
    assert available == sum(
        one.amount if one.kind is Kind.DEPOSIT else -one.amount for one in posted
    )


@given(st.lists(postings, max_size=20))
def test_posting_everything_a_second_time_changes_nothing(sequence: list[Posting]) -> None:
    available, earlier = Micros(1_000), dict[str, EarlierTransfer]()
    for one in sequence:
        if decide(one, available, earlier.get(one.reference)) is True:
            earlier[one.reference] = EarlierTransfer(one.kind, one.amount)

    again = [decide(one, available, earlier.get(one.reference)) for one in sequence]

    assert True not in again


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
    facts: list[Posting | Created | Ending] = field(factory=list)
    reserves: dict[UUID, int] = field(factory=dict)

    def post(self, one: Posting) -> None:
        if decide(one, Micros(self.available), self.earlier.get(one.reference)) is not True:
            return
        signed = one.amount if one.kind is Kind.DEPOSIT else -one.amount
        self.deposited += signed
        self.available += signed
        self.earlier[one.reference] = EarlierTransfer(one.kind, one.amount)
        self.facts.append(one)

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
        created = admission.decide([one], books, {"plan": PLAN})[0]
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
        assert (books.deposited, books.held, books.spent) == folded(books)
        assert [fact.seq for fact in books.facts if not isinstance(fact, Posting)] == [
            n for n, fact in enumerate(books.facts, 1) if not isinstance(fact, Posting)
        ]


def folded(books: Ledgered) -> tuple[int, int, int]:
    """Return deposited, held and spent as the facts alone tell them."""
    deposits = [one for one in books.facts if isinstance(one, Posting)]
    reserves = [books.reserves[one.run_id] for one in books.facts if isinstance(one, Created)]
    endings = [one for one in books.facts if isinstance(one, Ending)]
    return (
        sum(one.amount if one.kind is Kind.DEPOSIT else -one.amount for one in deposits),
        sum(reserves) - sum(one.cost + one.returned for one in endings),
        sum(one.cost for one in endings),
    )
