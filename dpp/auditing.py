"""Auditing: what does not agree in a tenant's books, and how far along its ledger that is known.

Each tenant's facts are numbered without a gap, so what moved since the last look is a *window* of
its ledger, `(mark, budget's seq]`. A *mark* keeps what all facts up to it add up to; with the sums
of the window it says what the budget row and the allowances must be now, however long the ledger
is. Whatever else an invariant asks of single runs is asked of the runs that the window touches.

An *offence* is one row that an invariant of `sql/audit/` returns, found by the whole audit or in a
window: the same columns, so the same digest. The digest leaves out what moves by itself: a budget
that is a cent short stays the same offence however much is spent meanwhile.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import date, timedelta
from hashlib import sha256
from typing import Any, Final, TypeAlias

from attrs import evolve, field, frozen

from dpp.money import Micros
from dpp.spending import NEVER, Allowance, Spending

CONSERVE: Final = "01_budgets_conserve"
EQUAL_LEDGER: Final = "02_budgets_equal_ledger"
UNRESOLVED: Final = "03_held_is_unresolved"
LIVE_OR_ENDED: Final = "04_live_or_ended"
PRESENT: Final = "08_results_present"
USAGE: Final = "09_usage_equals_endings"
TOTALS: Final = "10_totals_conserve"
SPEND: Final = "12_spend_equals_facts"
ALLOWANCES: Final = "13_allowances_equal_facts"
GUARDED: Final = "14_facts_are_guarded"
KNOWN: Final = "15_budgets_have_tenants"
CLOSED: Final = "16_closings_hold"
PARTS: Final = ("deposited", "available", "held", "spent")
ALERTS: Final = {LIVE_OR_ENDED: "no_receipt_audit"}  # the name that alerts on lost runs look for

Row: TypeAlias = Mapping[str, Any]


# ── offences ─────────────────────────────────────────────────────────────────────────────────────


@frozen
class Offence:
    """A row that an invariant returned: whom it is about, and the row itself as JSON has it."""

    invariant: str
    subject: str
    tenant_id: str | None
    offender: Row

    @property
    def is_of_run(self) -> bool:
        """Say whether it is about a run, and not about sums."""
        return "run_id" in self.offender

    @property
    def key(self) -> tuple[str, str]:
        """Return what there is one open finding of."""
        return self.invariant, self.subject

    @property
    def digest(self) -> str:
        """Return what stays the same while the offence does."""
        same = [*self.key, self.tenant_id, essence(self.invariant, self.offender)]
        return sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def offence(invariant: str, offender: Row) -> Offence:
    """Say whom a row is about: a run, a tenant, its day, month or allowance, or all."""
    tenant_id, run_id = offender.get("tenant_id"), offender.get("run_id")
    names = (tenant_id, *(offender.get(name) for name in ("day", "month", "allowance_id")))
    subject = str(run_id) if run_id is not None else " ".join(map(str, filter(None, names)))
    return Offence(invariant, subject or "all", tenant_id, offender)


def essence(invariant: str, row: Row) -> Mapping[str, Any]:
    """Return what of an offending row does not move by itself."""

    def number(name: str) -> int:
        return row.get(name) or 0

    match invariant:
        case "01_budgets_conserve":
            there = number("available") + number("held") + number("spent")
            negative = [name for name in PARTS if number(name) < 0]
            return {"over": there - number("deposited"), "negative": negative}
        case "02_budgets_equal_ledger":
            folded = {name: number(f"{name}_folded") for name in ("deposited", "held", "spent")}
            folded["available"] = folded["deposited"] - folded["held"] - folded["spent"]
            return {
                **{name: number(name) - folded[name] for name in PARTS},
                "entries": number("entries") - number("seq"),
                "twice": number("entries") - number("seqs"),
                "gap": number("entries") != number("seq_folded"),
            }
        case "03_held_is_unresolved":
            return {"held": number("held") - number("unresolved")}
        case "09_usage_equals_endings":
            return {name: number(name) - number(f"{name}_folded") for name in COUNTED}
        case "10_totals_conserve":
            return {"moved": number("moved") - number("there")}
        case "12_spend_equals_facts":
            last = (row.get("spend_day"), row.get("spend_day_folded"))
            over = number("spend") - number("spend_folded")
            return {"over": over, "last": None if last[0] == last[1] else last}
        case "16_closings_hold":
            return closing_essence(row)
        case "13_allowances_equal_facts":
            there = row.get("used") is not None
            over_limit = number("used") > number("spend_limit")
            return {
                "used": number("used") - number("used_folded") if there else None,
                "over_limit": over_limit,
            }
    return row


def closing_essence(row: Row) -> Mapping[str, Any]:
    """Return by how much a closing entry is not what is left of its facts and what has gone."""
    parts = {name: (row[f"kept_{name}"] or 0) for name in ("deposited", "held", "spent")}
    parts["deposited"] += row["gone_deposited"]
    parts["held"] += row["gone_held"]
    parts["spent"] += row["gone_spent"]
    apart = {name: row[name] - there for name, there in parts.items()}
    return {**apart, "entries": row["seq"] - row["gone"] - (row["kept"] or 0)}


def reconcile_type(invariant: str) -> str:
    """Return what a log line calls a finding of this invariant."""
    return ALERTS.get(invariant, invariant)


# ── marks ────────────────────────────────────────────────────────────────────────────────────────


@frozen(kw_only=True)
class Sums:
    """What facts add up to; `unresolved`: reserves less resolutions; `top`: the highest seq."""

    deposited: int = 0
    held: int = 0
    spent: int = 0
    entries: int = 0
    seqs: int = 0
    top: int = 0
    unresolved: int = 0

    def __add__(self, more: "Sums") -> "Sums":
        return Sums(
            deposited=self.deposited + more.deposited,
            held=self.held + more.held,
            spent=self.spent + more.spent,
            entries=self.entries + more.entries,
            seqs=self.seqs + more.seqs,
            top=max(self.top, more.top),
            unresolved=self.unresolved + more.unresolved,
        )

    @property
    def available(self) -> int:
        """Return what is left."""
        return self.deposited - self.held - self.spent


@frozen(kw_only=True)
class Usage:
    """What ended on a day."""

    runs: int = 0
    completed: int = 0
    failed: int = 0
    cost: int = 0
    reserved: int = 0

    def __add__(self, more: "Usage") -> "Usage":
        return Usage(**{name: getattr(self, name) + getattr(more, name) for name in COUNTED})


COUNTED: Final = ("runs", "completed", "failed", "cost", "reserved")


@frozen(kw_only=True)
class Counted:
    """What reserves count as spent, less what their endings returned.

    `seq`, `day`: place and day of the last reserve. `days`: by the day of the reserve; of one that
    ends its month is kept. `used`: by allowance.
    """

    seq: int = 0
    day: date = NEVER
    days: Mapping[date, int] = field(factory=dict)
    used: Mapping[str, int] = field(factory=dict)

    def __add__(self, more: "Counted") -> "Counted":
        last = max(self, more, key=lambda one: one.seq)
        return Counted(
            seq=last.seq,
            day=last.day,
            days=added(self.days, more.days),
            used=added(self.used, more.used),
        )

    @property
    def spending(self) -> Spending:
        """Return the counters that a budget row must have."""
        month = sum(amount for day, amount in self.days.items() if is_same_month(day, self.day))
        return Spending(self.day, Micros(self.days.get(self.day, 0)), Micros(month))

    def of_last_month(self) -> "Counted":
        """Forget what no counter counts any more: reserves never come on an earlier day again.

        Of the days of the month but the last one only the sum is kept, on the first of the month.
        """
        first, kept = self.day.replace(day=1), dict[date, int]()
        for day, amount in self.days.items():
            if is_same_month(day, self.day):
                place = day if self.day in (day, first) else first
                kept[place] = kept.get(place, 0) + amount
        return evolve(self, days=kept)


def added(some: Mapping[Any, int], more: Mapping[Any, int]) -> dict[Any, int]:
    """Add up, name by name."""
    return {**some, **{name: some.get(name, 0) + amount for name, amount in more.items()}}


def is_same_month(one: date, other: date) -> bool:
    """Say whether both are in one month of one year."""
    return (one.year, one.month) == (other.year, other.month)


@frozen(kw_only=True)
class Mark:
    """How far a tenant's ledger was looked through, and what it came to.

    `beyond`: facts behind the budget's seq, where none may be, when they were last looked for.
    `days`: the endings of each day from `since` on, None = of every day. `touched`: allowances that
    facts named since they were judged. `was_at_end`: the ledger was judged to its end before.
    """

    seq: int = 0
    sums: Sums = Sums()
    beyond: Sums = Sums()
    days: Mapping[date, Usage] = field(factory=dict)
    since: date | None = None
    counted: Counted = Counted()
    touched: frozenset[str] = frozenset()
    was_at_end: bool = False


@frozen(kw_only=True)
class Parts:
    """A budget row."""

    deposited: int
    available: int
    held: int
    spent: int
    seq: int
    spending: Spending = field(factory=Spending)


@frozen
class Account:
    """A tenant and its budget row, None where that is gone."""

    tenant_id: str
    budget: Parts | None

    def is_reached(self, mark: Mark) -> bool:
        """Say whether the mark has come to the end of the ledger."""
        return self.budget is None or mark.seq >= self.budget.seq


@frozen
class Window:
    """Facts of one tenant: after `after`, up to `until`; `whole`: up to the end, and beyond it."""

    tenant_id: str
    after: int
    until: int
    whole: bool


@frozen(kw_only=True)
class Fold:
    """What is in a window, and behind it."""

    sums: Sums = Sums()
    beyond: Sums = Sums()
    days: Mapping[date, Usage] = field(factory=dict)
    counted: Counted = Counted()


def windows(
    marks: Mapping[str, Mark], accounts: Sequence[Account], facts_max: int
) -> tuple[list[Window], list[Account]]:
    """Return what to read of these tenants, and those that it brings to their end.

    At most `facts_max` facts: the first tenant that does not fit is read in part, or not at all.
    """
    assert facts_max > 0
    wanted: list[Window] = []
    reached: list[Account] = []
    for account in accounts:
        mark = marks.get(account.tenant_id, Mark())
        until = mark.seq if account.budget is None else max(account.budget.seq, mark.seq)
        room = min(until, mark.seq + facts_max)
        facts_max -= room - mark.seq
        whole = room == until
        if account.budget is None or room > mark.seq:
            wanted.append(Window(account.tenant_id, mark.seq, room, whole))
        if not whole:
            break
        reached.append(account)
    return wanted, reached


def moved(mark: Mark, window: Window, fold: Fold) -> Mark:
    """Return the mark at the end of the window."""
    days = dict(mark.days)
    for day, usage in fold.days.items():
        if mark.since is None or day >= mark.since:  # of an earlier one only a part is known
            days[day] = days.get(day, Usage()) + usage
    return evolve(
        mark,
        seq=window.until,
        sums=mark.sums + fold.sums,
        beyond=fold.beyond,
        days=days,
        counted=mark.counted + fold.counted,
        touched=mark.touched.union(fold.counted.used),
    )


def at_end(mark: Mark, judged: AbstractSet[str], *, days_agree: bool) -> Mark:
    """Return the mark of a ledger that was judged to its end, with these allowances.

    Days that agree are forgotten.
    """
    mark = evolve(mark, was_at_end=True, touched=mark.touched - judged)
    return without_past_days(mark) if days_agree else mark


def without_past_days(mark: Mark) -> Mark:
    """Return the mark without days that are over: they agreed, and nothing is added to them."""
    mark = evolve(mark, counted=mark.counted.of_last_month())
    if not mark.days:
        return mark
    kept = sorted(mark.days)[-2:]  # a clock that goes back over midnight adds to the day before
    since = min(kept[0], kept[-1] - timedelta(days=1))
    since = max(since, mark.since or since)  # of a day before only a part is known
    return evolve(mark, days={day: mark.days[day] for day in kept}, since=since)


# ── judging ──────────────────────────────────────────────────────────────────────────────────────


def judge_budget(account: Account, mark: Mark) -> Iterator[Offence]:
    """Yield what is wrong with a budget row, the mark being at the end of its ledger."""
    tenant_id, budget, sums = account.tenant_id, account.budget, mark.sums + mark.beyond
    if budget is None:
        if sums.entries:
            yield offence(EQUAL_LEDGER, ledger_row(tenant_id, None, sums))
        return
    parts = {name: getattr(budget, name) for name in PARTS}
    if budget.available + budget.held + budget.spent != budget.deposited or min(parts.values()) < 0:
        yield offence(CONSERVE, {"tenant_id": tenant_id, **parts})
    folded = (sums.deposited, sums.available, sums.held, sums.spent)
    if tuple(parts.values()) != folded or {sums.entries, sums.seqs, sums.top} != {budget.seq}:
        yield offence(EQUAL_LEDGER, ledger_row(tenant_id, budget, sums))


def ledger_row(tenant_id: str, budget: Parts | None, sums: Sums) -> Row:
    """Return the row that the whole audit shows of a budget and its ledger."""
    names = (*PARTS, "seq")
    return {
        "tenant_id": tenant_id,
        **{name: None if budget is None else getattr(budget, name) for name in names},
        "deposited_folded": sums.deposited,
        "held_folded": sums.held,
        "spent_folded": sums.spent,
        "entries": sums.entries,
        "seqs": sums.seqs,
        "seq_folded": sums.top,
    }


def judge_days(tenant_id: str, mark: Mark, usage: Mapping[date, Usage]) -> Iterator[Offence]:
    """Yield the days, from the mark's `since` on, whose usage is not what ended on them.

    Where a clock went further back, what ended on those days is not known any more.
    """
    for day in sorted({*usage, *mark.days}):
        if mark.since is not None and day < mark.since:
            continue
        shown, folded = usage.get(day), mark.days.get(day)
        if shown != folded:
            row: dict[str, Any] = {"tenant_id": tenant_id, "day": day.isoformat()}
            for name in COUNTED:
                row[name] = getattr(shown, name, None)
                row[f"{name}_folded"] = getattr(folded, name, None)
            yield offence(USAGE, row)


def judge_spending(account: Account, mark: Mark) -> Iterator[Offence]:
    """Yield what is wrong with a budget's counters: their day, else what it and its month spend."""
    if account.budget is None:
        return
    shown, folded = account.budget.spending, mark.counted.spending
    row = {
        "tenant_id": account.tenant_id,
        "spend_day": shown.day.isoformat(),
        "spend_day_folded": folded.day.isoformat(),
        **dict.fromkeys(("day", "month", "spend", "spend_folded")),
    }
    if shown.day != folded.day:
        yield offence(SPEND, row)
        return
    for name, period, spend, counted in (
        ("day", shown.day.isoformat(), shown.day_spend, folded.day_spend),
        ("month", f"{shown.day:%Y-%m}", shown.month_spend, folded.month_spend),
    ):
        if spend != counted:
            yield offence(SPEND, {**row, name: period, "spend": spend, "spend_folded": counted})


def judge_allowances(
    tenant_id: str, mark: Mark, allowances: Mapping[str, Allowance], names: Iterable[str]
) -> Iterator[Offence]:
    """Yield those of these allowances that are over their limit, or not what their facts make."""
    for name in sorted(names):
        shown, folded = allowances.get(name), mark.counted.used.get(name, 0)
        if shown is None or shown.used != folded or shown.used > shown.limit:
            row = {
                "tenant_id": tenant_id,
                "allowance_id": name,
                "used": None if shown is None else shown.used,
                "used_folded": folded,
                "spend_limit": None if shown is None else shown.limit,
            }
            yield offence(ALLOWANCES, row)
