"""Admission: precedence line by line, windows to the microsecond, and a batch that is only a batch."""  # noqa: E501

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from attrs import evolve, frozen
from hypothesis import given
from hypothesis import strategies as st

from dpp.admission import (
    Account,
    Admission,
    Books,
    Created,
    Earlier,
    Exists,
    ExistsWithDifferentRequest,
    InsufficientBudget,
    KeyDead,
    MaxCostTooHigh,
    MaxCostTooLow,
    PackNotAllowed,
    PlanUnknown,
    Pruned,
    QueueFull,
    RateLimited,
    Submission,
    TenantFrozen,
    TenantSuspended,
    Terms,
    Window,
    admitted,
    decide,
)
from dpp.money import Micros
from dpp.plans import WINDOW_S, Plan
from dpp.pricing import Appraised, FeeRule, InputError, InputsInvalid, PackUnknown
from dpp.spending import Allowance, Spending, SpendLimited
from tests.store.examples import FREE, run_id, submission

if TYPE_CHECKING:
    from collections.abc import Sequence

NOW = NOON = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)
TERMS = Terms(queue_ttl_s=604_800, result_days=30)
PLAN = Plan("plan", fee=FREE)
INVALID = InputsInvalid((InputError("/inputs/question", "must be a string"),))


def books(now: datetime = NOW, **accounts: Account) -> Books:
    return Books(accounts=accounts, earlier={}, dead_keys=frozenset(), now=now)


def account(
    available: int = 100_000_000,
    *,
    plan: str = "plan",
    queued: int = 0,
    window_from: datetime | None = None,
    window_count: int = 0,
) -> Account:
    return Account(
        plan=plan,
        suspended=False,
        frozen=False,
        available=Micros(available),
        seq=7,
        queued=queued,
        window_from=window_from,
        window_count=window_count,
    )


def decide_one(
    one: Submission, acme: Account, *, plan: Plan = PLAN, now: datetime = NOW
) -> Admission:
    return decide([one], books(now, acme=acme), {"plan": plan}, TERMS)[0]


# ── precedence ────────────────────────────────────────────────────────────────────────────────────


@frozen
class Case:
    """Everything that a decision is made of; at first everything is wrong with it."""

    one: Submission
    acme: Account
    plan: Plan
    dead: bool = True

    def decided(self) -> Admission:
        dead_keys = frozenset([self.one.key_id] if self.dead else [])
        return decide(
            [self.one],
            Books(accounts={"acme": self.acme}, earlier={}, dead_keys=dead_keys, now=NOW),
            {"plan": self.plan},
            TERMS,
        )[0]

    def request(self, **changes: object) -> Case:
        return evolve(self, one=evolve(self.one, **changes))

    def tenant(self, **changes: object) -> Case:
        return evolve(self, acme=evolve(self.acme, **changes))

    def planned(self, **changes: object) -> Case:
        return evolve(self, plan=evolve(self.plan, **changes))


WORST = Case(
    submission(max_cost=900, appraisal=PackUnknown(("decision",))),
    evolve(
        account(899, queued=5, window_from=NOW - timedelta(seconds=59), window_count=3),
        plan="gone",
        suspended=True,
        frozen=True,
    ),
    Plan(
        "plan",
        submits_per_minute=3,
        queued_runs=5,
        max_cost=Micros(800),
        packs=frozenset({"decision", "another"}),
        spend_per_day=Micros(900),
        fee=FeeRule(floor=Micros(950), percent_ppm=0, cap=Micros(1_000)),
    ),
)


def test_the_first_line_that_applies_is_the_answer() -> None:
    steps = [
        (KeyDead(), lambda case: evolve(case, dead=False)),
        (TenantSuspended(), lambda case: case.tenant(suspended=False)),
        (TenantFrozen(), lambda case: case.tenant(frozen=False)),
        (PlanUnknown("gone"), lambda case: case.tenant(plan="plan")),
        (PackUnknown(("decision",)), lambda case: case.request(appraisal=INVALID)),
        (PackNotAllowed(("another", "decision")), lambda case: case.request(pack_type="decision")),
        (INVALID, lambda case: case.request(appraisal=Appraised(floor=Micros(940)))),
        (MaxCostTooLow(Micros(950)), lambda case: case.request(max_cost=Micros(950))),
        (MaxCostTooHigh(Micros(800)), lambda case: case.planned(max_cost=Micros(950))),
        (RateLimited(Window(3, 0, 1)), lambda case: case.tenant(window_count=2)),
        (QueueFull(5), lambda case: case.tenant(queued=4)),
        (
            SpendLimited("day", Micros(900), NOON + timedelta(hours=12)),
            lambda case: case.planned(spend_per_day=Micros(950)),
        ),
        (
            InsufficientBudget(Micros(899), required=Micros(950)),
            lambda case: case.tenant(available=Micros(950)),
        ),
    ]

    case = WORST
    for answer, mend in steps:
        assert case.decided() == answer
        case = mend(case)

    assert case.decided() == Created(
        case.one.run_id,
        seq=8,
        minimum_fee=Micros(950),
        policy="950/0/1000",
        created_at=NOW,
        available_at=NOW,
        expires_at=NOW + timedelta(days=7),
        result_days=30,
        budget_day=NOW.date(),
        window=Window(3, 0, 1),
    )


def test_a_known_key_is_answered_before_all_that_depends_on_plan_tenant_pack_and_budget() -> None:
    one = WORST.one
    first = run_id()
    known = Books(
        accounts={"acme": WORST.acme},
        earlier={("acme", one.idempotency_key): Earlier(first, one.fingerprint)},
        dead_keys=frozenset(),
        now=NOW,
    )
    another = evolve(one, fingerprint=b"\x01another")

    assert decide([one, another], known, {"plan": WORST.plan}, TERMS) == [
        Exists(first),
        ExistsWithDifferentRequest(),
    ]


def test_a_dead_key_does_not_even_learn_that_its_run_exists() -> None:
    one = WORST.one
    known = Books(
        accounts={"acme": WORST.acme},
        earlier={("acme", one.idempotency_key): Earlier(run_id(), one.fingerprint)},
        dead_keys=frozenset({one.key_id}),
        now=NOW,
    )

    assert decide([one], known, {"plan": WORST.plan}, TERMS) == [KeyDead()]


def test_a_request_learns_of_the_run_that_it_made_whatever_became_of_its_key_since() -> None:
    """Its COMMIT got no answer, so it is asked once more; the run holds money."""
    one = WORST.one
    known = Books(
        accounts={"acme": WORST.acme},
        earlier={("acme", one.idempotency_key): Earlier(one.run_id, one.fingerprint)},
        dead_keys=frozenset({one.key_id}),
        now=NOW,
    )

    assert decide([one], known, {"plan": WORST.plan}, TERMS) == [Exists(one.run_id)]


def test_a_dead_key_is_its_own_affair() -> None:
    dead, alive = submission(key_id="dead"), submission()
    read = Books(accounts={"acme": account()}, earlier={}, dead_keys=frozenset({"dead"}), now=NOW)

    answers = decide([dead, alive], read, {"plan": PLAN}, TERMS)

    assert [type(answer) for answer in answers] == [KeyDead, Created]


@pytest.mark.parametrize(
    ("appraised_floor", "plan_floor", "cap", "required"),
    [(10, 5, 100, 10), (5, 10, 100, 10), (5, 100, 10, 10), (0, 0, 0, 0)],
)
def test_the_least_max_cost_is_the_higher_of_the_packs_and_the_plans(
    appraised_floor: int, plan_floor: int, cap: int, required: int
) -> None:
    plan = Plan("plan", fee=FeeRule(floor=Micros(plan_floor), percent_ppm=0, cap=Micros(cap)))
    appraised = Appraised(floor=Micros(appraised_floor))

    if required > 1:
        under = submission(max_cost=required - 1, appraisal=appraised)
        assert decide_one(under, account(), plan=plan) == MaxCostTooLow(Micros(required))
    exact = submission(max_cost=max(required, 1), appraisal=appraised)
    assert isinstance(decide_one(exact, account(), plan=plan), Created)


def test_nothing_is_reserved_for_nothing() -> None:
    with pytest.raises(AssertionError):
        decide_one(submission(max_cost=0), account())


# ── money ─────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("available", "admits"), [(0, False), (999, False), (1_000, True), (1_001, True)]
)
def test_exactly_what_is_available_can_be_reserved(available: int, *, admits: bool) -> None:
    answer = decide_one(submission(max_cost=1_000), account(available))

    assert isinstance(answer, Created) == admits
    if not admits:
        assert answer == InsufficientBudget(Micros(available), required=Micros(1_000))


def test_sixty_four_reserves_of_nine_on_ten_admit_one() -> None:
    batch = [submission(max_cost=9_000_000) for _ in range(64)]

    answers = decide(batch, books(acme=account(10_000_000)), {"plan": PLAN}, TERMS)

    assert isinstance(answers[0], Created)
    assert answers[1:] == [InsufficientBudget(Micros(1_000_000), required=Micros(9_000_000))] * 63


def test_a_refusal_leaves_no_mark_on_its_neighbours() -> None:
    batch = [
        submission(max_cost=400),
        submission(max_cost=700),
        submission(max_cost=600),
        submission(max_cost=1),
    ]

    answers = decide(batch, books(acme=account(1_000)), {"plan": PLAN}, TERMS)

    assert [type(answer) for answer in answers] == [
        Created,
        InsufficientBudget,
        Created,
        InsufficientBudget,
    ]
    assert [answer.seq for answer in answers if isinstance(answer, Created)] == [8, 9]


def test_one_tenants_money_is_not_anothers() -> None:
    batch = [submission("rich", max_cost=500), submission("poor", max_cost=500)]

    answers = decide(batch, books(rich=account(500), poor=account(499)), {"plan": PLAN}, TERMS)

    assert isinstance(answers[0], Created)
    assert answers[1] == InsufficientBudget(Micros(499), required=Micros(500))


# ── keys ──────────────────────────────────────────────────────────────────────────────────────────


def test_one_key_twice_in_a_batch_is_one_run() -> None:
    first, again = submission(key="one"), submission(key="one")
    other = submission(key="one", body="another request")

    answers = decide([first, again, other], books(acme=account()), {"plan": PLAN}, TERMS)

    assert isinstance(answers[0], Created)
    assert answers[1:] == [Exists(first.run_id), ExistsWithDifferentRequest()]


def test_a_refusal_burns_no_key_even_within_its_batch() -> None:
    dear, cheap = submission(key="one", max_cost=2_000), submission(key="one", max_cost=500)

    answers = decide([dear, cheap], books(acme=account(1_000)), {"plan": PLAN}, TERMS)

    assert [type(answer) for answer in answers] == [InsufficientBudget, Created]


def test_a_key_belongs_to_its_tenant() -> None:
    batch = [submission("one", key="same"), submission("two", key="same")]

    answers = decide(batch, books(one=account(), two=account()), {"plan": PLAN}, TERMS)

    assert [type(answer) for answer in answers] == [Created, Created]


# ── rates and queues ──────────────────────────────────────────────────────────────────────────────


def test_twenty_at_once_under_a_limit_of_ten_are_exactly_ten() -> None:
    plan = Plan("plan", submits_per_minute=10, fee=FREE)
    batch = [submission() for _ in range(20)]

    answers = decide(batch, books(acme=account()), {"plan": plan}, TERMS)

    created = [answer for answer in answers if isinstance(answer, Created)]
    assert [answer.window for answer in created] == [
        Window(10, left, 60) for left in range(9, -1, -1)
    ]
    assert answers[10:] == [RateLimited(Window(10, 0, 60))] * 10


@pytest.mark.parametrize(
    ("passed", "answer"),
    [
        (timedelta(0), RateLimited(Window(2, 0, 60))),
        (timedelta(microseconds=1), RateLimited(Window(2, 0, 60))),
        (timedelta(seconds=1), RateLimited(Window(2, 0, 59))),
        (timedelta(seconds=1, microseconds=1), RateLimited(Window(2, 0, 59))),
        (timedelta(seconds=59), RateLimited(Window(2, 0, 1))),
        (timedelta(seconds=59, microseconds=999_999), RateLimited(Window(2, 0, 1))),
        (timedelta(seconds=60), Window(2, 1, 60)),
        (timedelta(days=1), Window(2, 1, 60)),
    ],
)
def test_a_window_ends_exactly(passed: timedelta, answer: RateLimited | Window) -> None:
    plan = Plan("plan", submits_per_minute=2, fee=FREE)

    decided = decide_one(
        submission(), account(window_from=NOW, window_count=2), plan=plan, now=NOW + passed
    )

    assert (decided.window if isinstance(decided, Created) else decided) == answer


def test_waiting_as_long_as_told_is_enough_and_no_less() -> None:
    plan = Plan("plan", submits_per_minute=1, fee=FREE)
    full = account(window_from=NOW - timedelta(seconds=12, microseconds=345), window_count=1)
    refused = decide_one(submission(), full, plan=plan)
    assert isinstance(refused, RateLimited)
    wait = timedelta(seconds=refused.window.reset_s)

    assert isinstance(decide_one(submission(), full, plan=plan, now=NOW + wait), Created)
    early = decide_one(submission(), full, plan=plan, now=NOW + wait - timedelta(seconds=1))
    assert isinstance(early, RateLimited)


def test_a_window_starts_with_the_first_admitted_submission() -> None:
    plan = Plan("plan", submits_per_minute=2, fee=FREE)
    poor = account(0)
    assert isinstance(decide_one(submission(), poor, plan=plan), InsufficientBudget)

    after = admitted(account(), submission(), NOW)
    later = admitted(after, submission(), NOW + timedelta(seconds=WINDOW_S) - timedelta.resolution)
    anew = admitted(later, submission(), NOW + timedelta(seconds=WINDOW_S))

    assert (after.window_from, after.window_count) == (NOW, 1)
    assert (later.window_from, later.window_count) == (NOW, 2)
    assert (anew.window_from, anew.window_count) == (NOW + timedelta(seconds=WINDOW_S), 1)


def test_refusals_do_not_count_against_the_rate() -> None:
    plan = Plan("plan", submits_per_minute=2, fee=FREE)
    batch = [*(submission(max_cost=2_000) for _ in range(5)), submission(max_cost=1)]

    answers = decide(batch, books(acme=account(1_000)), {"plan": plan}, TERMS)

    assert [type(answer) for answer in answers] == [*[InsufficientBudget] * 5, Created]


def test_a_plan_without_a_rate_shows_no_window() -> None:
    answer = decide_one(submission(), account(window_from=NOW, window_count=10_000))

    assert isinstance(answer, Created)
    assert answer.window is None


def test_a_limit_lowered_meanwhile_leaves_nothing_and_not_less() -> None:
    plan = Plan("plan", submits_per_minute=2, fee=FREE)

    answer = decide_one(submission(), account(window_from=NOW, window_count=9), plan=plan)

    assert answer == RateLimited(Window(2, 0, 60))


def test_the_queue_takes_exactly_what_the_plan_says() -> None:
    plan = Plan("plan", queued_runs=3, fee=FREE)
    batch = [submission() for _ in range(4)]

    answers = decide(batch, books(acme=account(queued=1)), {"plan": plan}, TERMS)

    assert [type(answer) for answer in answers] == [Created, Created, QueueFull, QueueFull]


# ── batches ───────────────────────────────────────────────────────────────────────────────────────

TENANTS = ("one", "two")
BATCH_PLANS = {
    "plan": Plan(
        "plan",
        submits_per_minute=6,
        queued_runs=8,
        max_cost=Micros(40),
        fee=FeeRule(floor=Micros(2), percent_ppm=500_000, cap=Micros(9)),
    ),
    "wide": Plan("wide", fee=FREE),
}
requests = st.builds(
    lambda tenant, key, cost, body: submission(tenant, key, max_cost=cost, body=body),
    st.sampled_from(TENANTS),
    st.sampled_from("abcdefgh"),
    st.integers(min_value=1, max_value=45),
    st.sampled_from("xy"),
)
tenants = st.builds(
    account,
    st.integers(min_value=0, max_value=200),
    plan=st.sampled_from(["plan", "wide"]),
    queued=st.integers(min_value=0, max_value=9),
    window_from=st.sampled_from([None, NOW, NOW - timedelta(seconds=60)]),
    window_count=st.integers(min_value=0, max_value=7),
)


def played(
    batches: Sequence[Sequence[Submission]], before: dict[str, Account]
) -> tuple[list[Admission], Books]:
    """Decide batch by batch, carrying the books on as the store does: by what was created."""
    read = books(**before)
    answers: list[Admission] = []
    for batch in batches:
        decided = decide(batch, read, BATCH_PLANS, TERMS)
        accounts, earlier = dict(read.accounts), dict(read.earlier)
        for one, answer in zip(batch, decided, strict=True):
            if isinstance(answer, Created):
                accounts[one.tenant_id] = admitted(accounts[one.tenant_id], one, read.now)
                earlier[one.tenant_id, one.idempotency_key] = Earlier(one.run_id, one.fingerprint)
        read = evolve(read, accounts=accounts, earlier=earlier)
        answers += decided
    return answers, read


@given(
    st.lists(requests, max_size=24),
    st.fixed_dictionaries(dict.fromkeys(TENANTS, tenants)),
    st.data(),
)
def test_an_answer_does_not_depend_on_how_the_sequence_was_cut_into_batches(
    sequence: list[Submission], before: dict[str, Account], data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(min_value=0, max_value=len(sequence)))))
    batches = [
        sequence[start:stop] for start, stop in itertools.pairwise([0, *cuts, len(sequence)])
    ]

    together, books_together = played([sequence], before)
    apart, books_apart = played(batches, before)
    singly, books_singly = played([[one] for one in sequence], before)

    assert together == apart == singly
    assert books_together == books_apart == books_singly


@given(st.lists(requests, max_size=24), st.fixed_dictionaries(dict.fromkeys(TENANTS, tenants)))
def test_money_is_conserved_and_places_in_the_ledger_have_no_gap(
    sequence: list[Submission], before: dict[str, Account]
) -> None:
    answers, after = played([sequence], before)

    for tenant in TENANTS:
        created = [
            (one, answer)
            for one, answer in zip(sequence, answers, strict=True)
            if isinstance(answer, Created) and one.tenant_id == tenant
        ]
        reserved = sum(one.max_cost for one, _ in created)
        assert after.accounts[tenant].available == before[tenant].available - reserved >= 0
        assert [answer.seq for _, answer in created] == list(range(8, 8 + len(created)))
        assert after.accounts[tenant].seq == 7 + len(created)


@given(st.lists(requests, max_size=12), st.fixed_dictionaries(dict.fromkeys(TENANTS, tenants)))
def test_what_was_read_is_not_written_to(
    sequence: list[Submission], before: dict[str, Account]
) -> None:
    accounts, earlier = dict(before), dict[tuple[str, str], Earlier]()

    decide(
        sequence,
        Books(accounts=accounts, earlier=earlier, dead_keys=frozenset(), now=NOW),
        BATCH_PLANS,
        TERMS,
    )

    assert (accounts, earlier) == (before, {})


@given(st.lists(requests, max_size=16), st.fixed_dictionaries(dict.fromkeys(TENANTS, tenants)))
def test_asking_everything_again_creates_nothing(
    sequence: list[Submission], before: dict[str, Account]
) -> None:
    answers, after = played([sequence], before)
    created = [
        one for one, answer in zip(sequence, answers, strict=True) if isinstance(answer, Created)
    ]

    again = decide(created, after, BATCH_PLANS, TERMS)

    assert again == [Exists(one.run_id) for one in created]


END = datetime(9999, 12, 30, tzinfo=UTC)  # nothing is later; what is added to it would be


# ── when it may run ───────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize(
    ("run_at", "start_before", "wrong"),
    [
        (timedelta(days=30), None, []),
        (timedelta(days=30, seconds=1), None, ["/run_at"]),
        (None, timedelta(0), ["/start_before"]),
        (None, timedelta(seconds=1), []),
        (None, timedelta(days=30, seconds=1), ["/start_before"]),
        (timedelta(hours=2), timedelta(hours=2), ["/start_before"]),
        (timedelta(hours=2), timedelta(hours=2, seconds=1), []),
        (timedelta(days=31), timedelta(days=1), ["/run_at", "/start_before"]),
        (-timedelta(days=9), None, []),
        (END - NOW, END - NOW + timedelta(seconds=1), ["/run_at", "/start_before"]),
    ],
)
def test_when_a_run_may_start_is_within_bounds_by_the_databases_clock(
    run_at: timedelta | None, start_before: timedelta | None, wrong: list[str]
) -> None:
    one = evolve(
        submission(),
        run_at=None if run_at is None else NOW + run_at,
        start_before=None if start_before is None else NOW + start_before,
    )

    answer = decide_one(one, account())

    if wrong:
        assert isinstance(answer, InputsInvalid)
        assert [error.pointer for error in answer.errors] == wrong
    else:
        assert isinstance(answer, Created)
        starts = max(NOW, one.run_at or NOW)
        assert answer.available_at == starts
        assert answer.expires_at == (one.start_before or starts + timedelta(days=7))


def test_a_run_may_name_a_url_below_the_origin_of_a_webhook_of_its_tenant() -> None:
    acme = evolve(account(), origins=frozenset({"https://shop.example:443"}))

    answers = [
        decide_one(evolve(submission(), webhook_url=url), acme)
        for url in (
            "https://shop.example/orders/1",
            "https://SHOP.example:443/",
            "https://shop.example.evil.example/",
            "https://shop.example@evil.example/",
            "http://shop.example/",
            "https://shop.example:8443/",
        )
    ]

    assert [type(answer) for answer in answers] == [Created] * 2 + [InputsInvalid] * 4


# ── caps on spending ──────────────────────────────────────────────────────────────────────────────

FREE = FeeRule(floor=Micros(0), percent_ppm=0, cap=Micros(0))
CAPPED = Plan("plan", spend_per_day=Micros(10_000), spend_per_month=Micros(15_000), fee=FREE)
MARCH_1, MARCH_2, APRIL_1 = (datetime(2026, m, d, tzinfo=UTC) for m, d in ((3, 1), (3, 2), (4, 1)))


@pytest.mark.parametrize(
    ("spending", "amount", "limited"),
    [
        (Spending(), 10_000, None),
        (Spending(), 10_001, SpendLimited("day", Micros(10_000), MARCH_2)),
        (Spending(MARCH_1.date(), Micros(9_000), Micros(9_000)), 1_000, None),
        (
            Spending(MARCH_1.date(), Micros(9_000), Micros(9_000)),
            1_001,
            SpendLimited("day", Micros(10_000), MARCH_2),
        ),
        (Spending(date(2026, 2, 28), Micros(10_000), Micros(15_000)), 10_000, None),
        (
            Spending(MARCH_1.date(), Micros(0), Micros(15_000)),
            1,
            SpendLimited("month", Micros(15_000), APRIL_1),
        ),
        # a clock that went back over midnight counts on, on the day that has begun
        (
            Spending(MARCH_2.date(), Micros(10_000), Micros(10_000)),
            1,
            SpendLimited("day", Micros(10_000), MARCH_2 + timedelta(days=1)),
        ),
    ],
)
def test_what_a_day_and_a_month_reserve_stays_under_the_plans_caps(
    spending: Spending, amount: int, limited: SpendLimited | None
) -> None:
    one = submission(max_cost=amount)

    answer = decide_one(one, evolve(account(), spending=spending), plan=CAPPED)

    if limited is None:
        assert isinstance(answer, Created)
        assert answer.budget_day == max(spending.day, NOW.date())
    else:
        assert answer == limited


def test_within_a_batch_what_is_admitted_counts_for_what_comes_after() -> None:
    batch = [submission(max_cost=4_000) for _ in range(4)]

    answers = decide(batch, books(acme=account()), {"plan": CAPPED}, TERMS)

    assert [type(answer) for answer in answers] == [Created, Created, SpendLimited, SpendLimited]


def test_keys_that_share_an_allowance_share_what_is_left_of_it() -> None:
    mother, child, free = (submission(max_cost=400, key_id=key) for key in ("mo", "ch", "free"))
    allowance = Allowance("mo", Micros(1_000), used=Micros(300))
    read = evolve(books(acme=account()), allowances={"mo": allowance, "ch": allowance})
    again = submission(max_cost=301, key_id="ch")

    answers = decide([mother, again, child, free], read, {"plan": Plan("plan", fee=FREE)}, TERMS)

    assert answers[1:3] == [SpendLimited("key", Micros(1_000), None)] * 2
    assert [getattr(answers[n], "allowance_id", "") for n in (0, 3)] == ["mo", None]


def test_a_pack_may_have_a_lower_cap_than_the_plan() -> None:
    plan = Plan("plan", max_cost=Micros(900), max_cost_by_pack={"echo": Micros(500)}, fee=FREE)

    answer = decide_one(submission(max_cost=501, pack_type="echo"), account(), plan=plan)

    assert answer == MaxCostTooHigh(Micros(500))


def test_a_key_of_a_pruned_run_is_never_run_again() -> None:
    one, first = submission(), run_id()

    answers = []
    for fingerprint in (one.fingerprint, b"another"):
        earlier = {("acme", one.idempotency_key): Earlier(first, fingerprint, pruned=True)}
        read = evolve(books(acme=account()), earlier=earlier)
        answers += decide([one], read, {"plan": Plan("plan", fee=FREE)}, TERMS)

    assert answers == [Pruned(first), ExistsWithDifferentRequest()]
