"""Auditing: what does not agree in a tenant's books, and how far along its ledger that is known.

Each tenant's facts are numbered without a gap, so what moved since the last look is a *window* of
its ledger, `(mark, budget's seq]`. A *mark* keeps what all facts up to it add up to; with the sums
of the window it says what the budget row must be now, however long the ledger is. Whatever else
an invariant asks of single runs is asked of the runs that the window touches.

An *offence* is one row that an invariant of `sql/audit/` returns, found by the whole audit or in a
window: the same columns, so the same digest. The digest leaves out what moves by itself: a budget
that is a cent short stays the same offence however much is spent meanwhile.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, timedelta
from hashlib import sha256
from typing import Any, Final, TypeAlias

from attrs import evolve, field, frozen

CONSERVE: Final = "01_budgets_conserve"
EQUAL_LEDGER: Final = "02_budgets_equal_ledger"
UNRESOLVED: Final = "03_held_is_unresolved"
LIVE_OR_ENDED: Final = "04_live_or_ended"
PRESENT: Final = "08_results_present"
USAGE: Final = "09_usage_equals_endings"
TOTALS: Final = "10_totals_conserve"
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
    def key(self) -> tuple[str, str]:
        """Return what there is one open finding of."""
        return self.invariant, self.subject

    @property
    def digest(self) -> str:
        """Return what stays the same while the offence does."""
        same = [*self.key, self.tenant_id, essence(self.invariant, self.offender)]
        return sha256(json.dumps(same, sort_keys=True).encode()).hexdigest()


def offence(invariant: str, offender: Row) -> Offence:
    """Say whom an offending row is about: a run, a tenant's day, a tenant, or all."""
    tenant_id = offender.get("tenant_id")
    names = (offender.get("run_id"), tenant_id, offender.get("day"))
    subject = str(names[0]) if names[0] is not None else " ".join(map(str, filter(None, names)))
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
    return row


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
class Mark:
    """How far a tenant's ledger was looked through, and what it came to.

    `beyond`: facts behind the budget's seq, where none may be, when they were last looked for.
    `days`: the endings of each day from `since` on, None = of every day.
    """

    seq: int = 0
    sums: Sums = Sums()
    beyond: Sums = Sums()
    days: Mapping[date, Usage] = field(factory=dict)
    since: date | None = None


@frozen(kw_only=True)
class Parts:
    """A budget row."""

    deposited: int
    available: int
    held: int
    spent: int
    seq: int


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
        days[day] = days.get(day, Usage()) + usage
    sums = mark.sums + fold.sums
    return evolve(mark, seq=window.until, sums=sums, beyond=fold.beyond, days=days)


def without_past_days(mark: Mark) -> Mark:
    """Return the mark without days that are over: they agreed, and no ending is added to them."""
    if not mark.days:
        return mark
    kept = sorted(mark.days)[-2:]  # a clock that goes back over midnight adds to the day before
    since = min(kept[0], kept[-1] - timedelta(days=1))
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
    """Yield the days, from the mark's `since` on, whose usage is not what ended on them."""
    for day in sorted({*usage, *mark.days}):
        shown, folded = usage.get(day), mark.days.get(day)
        if shown != folded:
            row: dict[str, Any] = {"tenant_id": tenant_id, "day": day.isoformat()}
            for name in COUNTED:
                row[name] = getattr(shown, name, None)
                row[f"{name}_folded"] = getattr(folded, name, None)
            yield offence(USAGE, row)
