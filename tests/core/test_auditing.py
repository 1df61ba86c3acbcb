"""Auditing: windows are bounded and miss nothing, and sums judge a budget whatever the pages."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from dpp import auditing
from dpp.auditing import (
    Account,
    Counted,
    Fold,
    Mark,
    Offence,
    Parts,
    Sums,
    Usage,
    Window,
    at_end,
    judge_allowances,
    judge_budget,
    judge_days,
    judge_spending,
    moved,
    offence,
    reconcile_type,
    windows,
    without_past_days,
)
from dpp.money import Micros
from dpp.spending import NEVER, Allowance, Spending

FINE = Parts(deposited=100, available=60, held=30, spent=10, seq=4)
SUMS = Sums(deposited=100, held=30, spent=10, entries=4, seqs=4, top=4, unresolved=1)
MARK = Mark(seq=4, sums=SUMS)
DAY, NEXT = date(2026, 3, 1), date(2026, 3, 2)
USED = Usage(runs=3, completed=1, failed=1, cost=10, reserved=40)


def account(seq: int, tenant_id: str = "acme") -> Account:
    return Account(tenant_id, evolve(FINE, seq=seq))


def test_what_did_not_move_is_not_read() -> None:
    accounts = [account(4), account(0, "new")]

    assert windows({"acme": MARK}, accounts, 10) == ([], accounts)


def test_a_page_ends_in_the_tenant_that_does_not_fit() -> None:
    a, b, c = account(6, "a"), account(7, "b"), account(9, "c")

    wanted, reached = windows({"a": MARK}, [a, b, c], 5)

    assert wanted == [Window("a", 4, 6, whole=True), Window("b", 0, 3, whole=False)]
    assert reached == [a]


def test_a_page_that_is_full_reads_nothing_of_the_next() -> None:
    a, b = account(5, "a"), account(7, "b")

    assert windows({}, [a, b], 5) == ([Window("a", 0, 5, whole=True)], [a])


def test_a_budget_that_is_gone_or_went_back_is_looked_at_behind_its_mark() -> None:
    gone, back = Account("gone", None), account(2, "back")

    wanted, reached = windows({"gone": MARK, "back": MARK}, [back, gone], 5)

    assert wanted == [Window("gone", 4, 4, whole=True)]
    assert reached == [back, gone]


@given(
    seqs=st.lists(st.integers(0, 30), max_size=6),
    facts_max=st.integers(1, 12),
)
def test_pages_of_any_size_read_every_fact_once(seqs: list[int], facts_max: int) -> None:
    accounts = [account(seq, f"t{n}") for n, seq in enumerate(seqs)]
    marks: dict[str, Mark] = {}
    left = accounts
    while left:
        wanted, reached = windows(marks, left, facts_max)
        assert sum(window.until - window.after for window in wanted) <= facts_max
        assert wanted or reached
        for window in wanted:
            mark = marks.get(window.tenant_id, Mark())
            assert window.after == mark.seq
            fold = Fold(sums=Sums(entries=window.until - window.after))
            marks[window.tenant_id] = moved(mark, window, fold)
        left = left[len(reached) :]

    assert {name: mark.sums.entries for name, mark in marks.items()} == {
        f"t{n}": seq for n, seq in enumerate(seqs) if seq
    }


def test_a_budget_that_is_its_facts_is_right() -> None:
    assert list(judge_budget(account(4), MARK)) == []
    empty = Parts(deposited=0, available=0, held=0, spent=0, seq=0)
    assert list(judge_budget(Account("new", empty), Mark())) == []
    assert list(judge_budget(Account("new", None), Mark())) == []


@pytest.mark.parametrize(
    ("budget", "found"),
    [
        (evolve(FINE, available=61), ["01", "02"]),
        (evolve(FINE, available=-1, spent=71), ["01", "02"]),
        (evolve(FINE, available=59, spent=11), ["02"]),
        (evolve(FINE, deposited=101, available=61), ["02"]),
        (evolve(FINE, available=59, held=31), ["02"]),
        (evolve(FINE, seq=3), ["02"]),
    ],
)
def test_a_budget_that_is_not_its_facts_is_found(budget: Parts, found: list[str]) -> None:
    offences = list(judge_budget(Account("acme", budget), MARK))

    assert [one.invariant[:2] for one in offences] == found
    assert {(one.subject, one.tenant_id) for one in offences} == {("acme", "acme")}


@pytest.mark.parametrize("sums", [{"entries": 3}, {"seqs": 3}, {"top": 3}, {"top": 5}])
def test_a_ledger_with_a_gap_is_found(sums: dict[str, int]) -> None:
    mark = evolve(MARK, sums=evolve(SUMS, **sums))

    assert [one.invariant[:2] for one in judge_budget(account(4), mark)] == ["02"]


def test_facts_behind_the_end_are_found() -> None:
    beyond = Sums(entries=1, seqs=1, top=900)

    for budget in (FINE, None):
        found = list(judge_budget(Account("acme", budget), evolve(MARK, beyond=beyond)))
        assert [one.invariant[:2] for one in found] == ["02"]
        assert found[0].offender["entries"] == 5


def test_a_day_is_what_ended_on_it() -> None:
    mark = evolve(MARK, days={DAY: USED})

    assert list(judge_days("acme", mark, {DAY: USED})) == []
    for shown in ({}, {DAY: evolve(USED, runs=4)}, {DAY: USED, NEXT: Usage(runs=1)}):
        (one,) = judge_days("acme", mark, shown)
        assert (one.invariant[:2], one.tenant_id) == ("09", "acme")
        assert one.subject in {"acme 2026-03-01", "acme 2026-03-02"}


def test_days_that_are_over_are_forgotten_but_the_last_one() -> None:
    """Another server's clock may lie a little behind, and midnight between them."""
    third = NEXT + timedelta(days=1)
    mark = evolve(MARK, days={DAY: USED, NEXT: USED, third: USED})
    window = Window("acme", 4, 5, whole=True)

    later = moved(without_past_days(mark), window, Fold(days={NEXT: Usage(runs=1)}))

    assert (later.since, later.days) == (NEXT, {NEXT: evolve(USED, runs=4), third: USED})
    assert without_past_days(MARK) == MARK


def test_a_day_that_was_forgotten_is_not_judged_by_half() -> None:
    """A clock that goes back by more than a day, as after a failover, freezes nobody."""
    mark = without_past_days(evolve(MARK, days={NEXT: USED}))
    long_ago = NEXT - timedelta(days=9)

    back = moved(mark, Window("acme", 4, 5, whole=True), Fold(days={long_ago: Usage(runs=1)}))

    assert list(judge_days("acme", back, {NEXT: USED})) == []
    assert [one.subject for one in judge_days("acme", back, {})] == ["acme 2026-03-02"]


def test_days_that_a_closing_entry_covers_are_not_judged_once_others_are_over() -> None:
    """Its last day ended partly behind it: of that only a part is known."""
    closed = evolve(MARK, days={}, since=NEXT)
    window = Window("acme", 4, 6, whole=True)

    mark = without_past_days(moved(closed, window, Fold(days={DAY: USED, NEXT: USED})))

    assert (mark.since, mark.days) == (NEXT, {NEXT: USED})
    assert list(judge_days("acme", mark, {DAY: evolve(USED, runs=9), NEXT: USED})) == []


def test_the_day_before_the_only_one_is_still_looked_at() -> None:
    forgot = without_past_days(evolve(MARK, days={NEXT: USED}))

    assert (forgot.since, forgot.days) == (DAY, {NEXT: USED})


# ── what counts as spent ─────────────────────────────────────────────────────────────────────────

FIRST, LAST = date(2026, 2, 20), date(2026, 3, 10)  # over the end of a month


@st.composite
def reserves_and_endings(draw: st.DrawFn) -> list[tuple[date, str | None, int, bool]]:
    """Facts in order: day of the reserve, allowance, amount, and whether it is a reserve.

    The clock jumps and goes back; counters never do. An ending returns a part of an open reserve.
    """
    facts: list[tuple[date, str | None, int, bool]] = []
    open_: list[tuple[date, str | None, int]] = []
    spending = Spending()
    for _ in range(draw(st.integers(0, 25))):
        if open_ and draw(st.booleans()):
            day, allowance_id, amount = open_.pop(draw(st.integers(0, len(open_) - 1)))
            facts.append((day, allowance_id, -draw(st.integers(0, amount)), False))
        else:
            spending = spending.on(draw(st.dates(FIRST, LAST)))
            amount, allowance_id = draw(st.integers(1, 9)), draw(st.sampled_from([None, "a", "b"]))
            facts.append((spending.day, allowance_id, amount, True))
            open_.append((spending.day, allowance_id, amount))
    return facts


def counted(facts: list[tuple[date, str | None, int, bool]], after: int) -> Counted:
    """Count a window's facts, as a query of it does: by day and by allowance."""
    total = Counted()
    for seq, (day, allowance_id, amount, is_reserve) in enumerate(facts, after + 1):
        total += Counted(
            seq=seq if is_reserve else 0,
            day=day if is_reserve else NEVER,
            days={day: amount},
            used={} if allowance_id is None else {allowance_id: amount},
        )
    return total


@given(facts=reserves_and_endings(), data=st.data())
def test_what_marks_count_is_what_a_budget_row_counts(
    facts: list[tuple[date, str | None, int, bool]], data: st.DataObject
) -> None:
    """In windows of any size, and wherever days that are over are forgotten between them."""
    mark, spending, used = Mark(), Spending(), {"a": 0, "b": 0}
    left = facts
    while left:
        size = data.draw(st.integers(1, len(left)))
        window = Window("acme", mark.seq, mark.seq + size, whole=True)
        mark = moved(mark, window, Fold(counted=counted(left[:size], mark.seq)))
        for day, allowance_id, amount, is_reserve in left[:size]:
            spending = spending.on(day) if is_reserve else spending
            same_month = (day.year, day.month) == (spending.day.year, spending.day.month)
            spending = Spending(
                spending.day,
                Micros(spending.day_spend + amount * (day == spending.day)),
                Micros(spending.month_spend + amount * same_month),
            )
            if allowance_id is not None:
                used[allowance_id] += amount
        left = left[size:]

        assert mark.counted.spending == spending
        assert used == {"a": 0, "b": 0, **mark.counted.used}
        if data.draw(st.booleans()):
            mark = without_past_days(mark)
            assert mark.counted.spending == spending
            assert len(mark.counted.days) <= 2


COUNTED = Counted(seq=4, day=NEXT, days={DAY: 5, NEXT: 20}, used={"key": 9})


def spending_of(*found: object) -> Account:
    return Account("acme", evolve(FINE, spending=Spending(*found)))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("day", "day_spend", "month_spend", "subjects"),
    [
        (NEXT, 20, 25, []),
        (NEXT, 19, 25, ["acme 2026-03-02"]),
        (NEXT, 20, 26, ["acme 2026-03"]),
        (NEXT, 0, 5, ["acme 2026-03-02", "acme 2026-03"]),
        (DAY, 20, 25, ["acme"]),
        (NEVER, 0, 0, ["acme"]),
    ],
)
def test_counters_that_are_not_their_facts_are_found(
    day: date, day_spend: int, month_spend: int, subjects: list[str]
) -> None:
    account = spending_of(day, day_spend, month_spend)

    found = list(judge_spending(account, evolve(MARK, counted=COUNTED)))

    assert [(one.invariant[:2], one.subject) for one in found] == [("12", one) for one in subjects]
    assert list(judge_spending(Account("acme", None), evolve(MARK, counted=COUNTED))) == []
    assert list(judge_spending(spending_of(), MARK)) == []


@pytest.mark.parametrize(
    ("shown", "is_wrong"),
    [
        ({"key": Allowance("key", Micros(50), Micros(9))}, False),
        ({"key": Allowance("key", Micros(9), Micros(9))}, False),
        ({"key": Allowance("key", Micros(8), Micros(9))}, True),
        ({"key": Allowance("key", Micros(50), Micros(10))}, True),
        ({}, True),
    ],
)
def test_an_allowance_that_is_not_its_facts_is_found(
    shown: dict[str, Allowance], *, is_wrong: bool
) -> None:
    found = list(judge_allowances("acme", evolve(MARK, counted=COUNTED), shown, ["key"]))

    assert [(one.invariant[:2], one.subject) for one in found] == [("13", "acme key")] * is_wrong
    assert list(judge_allowances("acme", evolve(MARK, counted=COUNTED), shown, [])) == []


def test_allowances_that_were_touched_wait_until_they_are_judged() -> None:
    """Where a ledger moves on by several pages between two passes, it is judged after the last."""
    mark = MARK
    for name in ("a", "b", "c"):
        window = Window("acme", mark.seq, mark.seq + 1, whole=False)
        mark = moved(mark, window, Fold(counted=Counted(used={name: 1})))
    assert mark.touched == {"a", "b", "c"}

    assert at_end(mark, {"a", "c", "d"}, days_agree=True).touched == {"b"}


def test_days_that_do_not_agree_are_kept() -> None:
    mark = evolve(MARK, counted=COUNTED, days={DAY: USED})

    wrong, right = at_end(mark, set(), days_agree=False), at_end(mark, set(), days_agree=True)

    assert wrong == evolve(mark, was_at_end=True)
    assert (right.was_at_end, right.since) == (True, DAY - timedelta(days=1))


def ledger_offence(**values: int) -> Offence:
    budget = evolve(FINE, **values)
    (one,) = judge_budget(Account("acme", budget), evolve(MARK, seq=budget.seq))
    return one


def test_a_digest_stays_while_the_books_move() -> None:
    """A cent short is the same cent short after a deposit."""
    short = evolve(FINE, available=59, spent=11)
    later = evolve(short, deposited=150, available=109, seq=5)
    sums = evolve(SUMS, deposited=150, entries=5, seqs=5, top=5)

    (now,) = judge_budget(Account("acme", short), MARK)
    (then,) = judge_budget(Account("acme", later), Mark(seq=5, sums=sums))

    assert now.digest == then.digest
    assert now.digest != ledger_offence(available=58, spent=12).digest


@pytest.mark.parametrize(
    ("invariant", "one", "moved_on", "other"),
    [
        (
            "03_held_is_unresolved",
            {"tenant_id": "a", "held": 5, "unresolved": 4},
            {"tenant_id": "a", "held": 9, "unresolved": 8},
            {"tenant_id": "a", "held": 9, "unresolved": 7},
        ),
        (
            "09_usage_equals_endings",
            {"tenant_id": "a", "day": "2026-03-01", "runs": 3, "runs_folded": 2},
            {"tenant_id": "a", "day": "2026-03-01", "runs": 1, "runs_folded": None},
            {"tenant_id": "a", "day": "2026-03-02", "runs": 3, "runs_folded": 2},
        ),
        (
            "12_spend_equals_facts",
            {"tenant_id": "a", "month": "2026-03", "spend": 3, "spend_folded": 2},
            {"tenant_id": "a", "month": "2026-03", "spend": 9, "spend_folded": 8},
            {"tenant_id": "a", "month": "2026-04", "spend": 3, "spend_folded": 2},
        ),
        (
            "12_spend_equals_facts",
            {"tenant_id": "a", "spend_day": "2026-03-01", "spend_day_folded": "2026-03-02"},
            {"tenant_id": "a", "spend_day": "2026-03-01", "spend_day_folded": "2026-03-02"},
            {"tenant_id": "a", "spend_day": "2026-03-01", "spend_day_folded": "2026-03-03"},
        ),
        (
            "13_allowances_equal_facts",
            {"tenant_id": "a", "allowance_id": "k", "used": 3, "used_folded": 2, "spend_limit": 5},
            {"tenant_id": "a", "allowance_id": "k", "used": 1, "used_folded": 0, "spend_limit": 5},
            {"tenant_id": "a", "allowance_id": "k", "used": 6, "used_folded": 5, "spend_limit": 5},
        ),
        (
            "13_allowances_equal_facts",
            {"tenant_id": "a", "allowance_id": "k", "used": None, "used_folded": 2},
            {"tenant_id": "a", "allowance_id": "k", "used": None, "used_folded": 3},
            {"tenant_id": "a", "allowance_id": "l", "used": None, "used_folded": 2},
        ),
        ("10_totals_conserve", {"moved": 5, "there": 4}, {"moved": 6, "there": 5}, {"moved": 5}),
    ],
)
def test_every_digest_leaves_out_what_moves_by_itself(
    invariant: str, one: dict[str, object], moved_on: dict[str, object], other: dict[str, object]
) -> None:
    digests = [offence(invariant, row).digest for row in (one, moved_on, other)]

    assert digests[0] == digests[1] != digests[2]


def test_an_offence_is_about_a_run_a_tenant_something_of_it_or_all() -> None:
    def subject(row: dict[str, object]) -> str:
        return offence("any", row).subject

    assert subject({"run_id": "r", "tenant_id": "a"}) == "r"
    assert subject({"tenant_id": "a", "day": "2026-03-01"}) == "a 2026-03-01"
    assert subject({"tenant_id": "a", "day": None, "month": "2026-03"}) == "a 2026-03"
    assert subject({"tenant_id": "a", "allowance_id": "key"}) == "a key"
    assert subject({"tenant_id": "a"}) == "a"
    assert subject({"moved": 1, "there": 2}) == "all"


def test_lost_runs_have_the_name_that_alerts_look_for() -> None:
    assert reconcile_type(auditing.LIVE_OR_ENDED) == "no_receipt_audit"
    assert reconcile_type(auditing.USAGE) == auditing.USAGE
