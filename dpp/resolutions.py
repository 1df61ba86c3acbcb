"""Resolutions: what an operator may do about a finding, decided by what stands under the locks.

A finding is about a run, about a budget, or about an allowance.

    remedy    about a run                                  about a budget or an allowance
    settle    ends it FAILED, at a cost within its reserve –
    void      ends it FAILED, at no cost                   –
    refold    –                                            the row is written anew from its facts
    accept    what offends stays as it is: the same digest is not reported again; a live row that a
              run which has ended still has goes

Nothing is edited that was a fact: a run ends like any other, only that an operator may also end one
that is set aside, or whose live row is lost or is not of the money that was submitted. One that has
ended stays as it ended.
"""

from typing import Final, TypeAlias
from uuid import UUID

from attrs import field, frozen

from dpp.auditing import (
    ALLOWANCES,
    CONSERVE,
    EQUAL_LEDGER,
    PARTS,
    SPEND,
    UNRESOLVED,
    Mark,
    Offence,
    Parts,
)
from dpp.money import ZERO, Micros
from dpp.runs import ErrorCode, Failure, Status
from dpp.settlement import EndedRun, LiveRun
from dpp.spending import Allowance

OF_BUDGETS: Final = frozenset({CONSERVE, EQUAL_LEDGER, UNRESOLVED, SPEND})
FAILURE: Final = Failure(ErrorCode.RESOLVED_BY_OPERATOR, "an operator ended this run")


@frozen
class Settle:
    """End the run at this cost; the rest of its reserve goes back."""

    cost: Micros

    def __attrs_post_init__(self) -> None:
        assert self.cost > 0, "to end it at no cost is to void it"


@frozen
class Void:
    """End the run at no cost."""


@frozen
class Refold:
    """Write the budget row, or the allowance, anew from its facts."""


@frozen
class Accept:
    """Leave what offends as it is, and do not report it again."""


Remedy: TypeAlias = Settle | Void | Refold | Accept
HOW: Final[dict[type[Remedy], str]] = {
    Settle: "settle",
    Void: "void",
    Refold: "refold",
    Accept: "accept",
}


@frozen(kw_only=True)
class Resolving:
    """What an operator asks for, and why."""

    finding_id: UUID
    remedy: Remedy
    operator: str
    reason: str


@frozen(kw_only=True)
class RunCase:
    """The run of a finding; `max_cost` None = nobody submitted it.

    `agrees`: its live row is there, and of the same reserve, fee, day and allowance.
    """

    max_cost: Micros | None
    live: LiveRun | None
    ended: EndedRun | None
    agrees: bool


@frozen(kw_only=True)
class Case:
    """What stands: read under the budget lock, and that of the run's row.

    `run`, `allowance`: where the finding is about one. `folded`: what all facts of the tenant come
    to, for a refold. `offence`: what is still wrong, to be accepted.
    """

    invariant: str
    budget: Parts | None
    run: RunCase | None = None
    allowance: Allowance | None = None
    folded: Mark = field(factory=Mark)
    offence: Offence | None = None


# ── what is done ─────────────────────────────────────────────────────────────────────────────────


@frozen
class EndRun:
    """End the run FAILED; `is_lost`: its live row is put back first, to be ended like any other.

    A row that is not of the money that was submitted is lost as well.
    """

    cost: Micros
    is_lost: bool


@frozen
class Rewrite:
    """Write the budget row so; `old` is evidence."""

    old: Parts | None
    new: Parts


@frozen
class Recount:
    """Write so what the allowance has used."""

    old: Allowance
    used: Micros


@frozen
class Leave:
    """Change nothing; None = nothing offends any more.

    `is_stray`: the live row goes, for it stands for no reserve: the run has ended, or nobody
    submitted it.
    """

    offence: Offence | None
    is_stray: bool = False


Decision: TypeAlias = EndRun | Rewrite | Recount | Leave


# ── why it is not done ───────────────────────────────────────────────────────────────────────────


@frozen
class RunEnded:
    """The run has ended, and stays as it ended."""

    status: Status
    cost: Micros


@frozen
class CostTooHigh:
    """The cost is over the run's reserve."""

    reserve: Micros


@frozen
class Unfit:
    """The remedy does not mend this finding; the sentence says what might."""

    detail: str


Unresolved: TypeAlias = RunEnded | CostTooHigh | Unfit


def decide(remedy: Remedy, case: Case) -> Decision | Unresolved:
    """Decide what is done about a finding that is still open."""
    match remedy:
        case Settle(cost):
            return _end(cost, case)
        case Void():
            return _end(ZERO, case)
        case Refold():
            return _refold(case)
        case Accept():
            return _accept(case)


def _end(cost: Micros, case: Case) -> EndRun | Unresolved:
    run, budget = case.run, case.budget
    if run is None:
        return Unfit("the finding is about no run: refold the budget, or accept it")
    if run.ended is not None:
        return RunEnded(run.ended.status, run.ended.cost)
    if run.max_cost is None:
        return Unfit("nobody submitted this run, so there is no reserve to resolve: accept it")
    if cost > run.max_cost:
        return CostTooHigh(run.max_cost)
    if budget is None or not _stands(budget) or budget.held < run.max_cost:
        return Unfit("the tenant's budget does not hold the run's reserve: refold that first")
    return EndRun(cost, is_lost=not run.agrees)


def _refold(case: Case) -> Rewrite | Recount | Unfit:
    if case.invariant == ALLOWANCES:
        return _recount(case)
    if case.invariant not in OF_BUDGETS:
        return Unfit("the finding is not about a budget row or an allowance")
    sums = case.folded.sums
    new = Parts(
        deposited=sums.deposited,
        available=sums.available,
        held=sums.held,
        spent=sums.spent,
        seq=sums.top,
        spending=case.folded.counted.spending,
    )
    if not sums.entries == sums.seqs == sums.top:
        return Unfit(
            "the ledger has a gap or a place taken twice, which no refold mends: accept it"
        )
    if not _stands(new):
        return Unfit("the facts themselves come to less than nothing: adjust, then refold")
    return Rewrite(case.budget, new)


def _recount(case: Case) -> Recount | Unfit:
    allowance = case.allowance
    if case.budget is None:  # nothing is locked
        return Unfit("the tenant's budget row is gone: refold that first")
    if allowance is None:
        return Unfit("the tenant has no such allowance, and no refold makes one: accept it")
    used = Micros(case.folded.counted.used.get(allowance.allowance_id, 0))
    if not 0 <= used <= allowance.limit:
        return Unfit(
            "the facts come to more than the limit, or to less than nothing: accept it, or refold "
            "when runs that end have returned enough"
        )
    return Recount(allowance, used)


def _accept(case: Case) -> Leave | Unfit:
    run = case.run
    if run is None or run.live is None:
        return Leave(case.offence)
    is_stray = run.ended is not None or run.max_cost is None
    if run.live.quarantined and not is_stray:
        return Unfit("the run is set aside and holds its reserve until it is settled or voided")
    return Leave(case.offence, is_stray=is_stray)


def _stands(budget: Parts) -> bool:
    """Say whether the schema takes such a row."""
    spending = budget.spending
    least = min(*(getattr(budget, name) for name in PARTS), spending.day_spend)
    return (
        least >= 0
        and budget.available + budget.held + budget.spent == budget.deposited
        and spending.month_spend >= spending.day_spend
    )


def evidence(asked: Resolving, decision: Decision) -> dict[str, object]:
    """Return what is kept beside the finding."""
    told: dict[str, object] = {
        "how": HOW[type(asked.remedy)],
        "operator": asked.operator,
        "reason": asked.reason,
    }
    match decision:
        case EndRun(cost, is_lost):
            return told | {"cost_micros": cost, "live_row": "put back" if is_lost else "as it was"}
        case Rewrite(old, new):
            return told | {"old": shown(old), "new": shown(new)}
        case Recount(old, used):
            kept = {"allowance_id": old.allowance_id, "spend_limit": old.limit}
            return told | kept | {"old": {"used": old.used}, "new": {"used": used}}
        case Leave(offence, is_stray):
            if is_stray:  # should it come back, it is reported again: no digest
                return told | {"live_row": "taken away", "digest": None}
            if offence is None:
                return told | {"digest": None}
            return told | {"digest": offence.digest, "offender": dict(offence.offender)}


def shown(budget: Parts | None) -> dict[str, object] | None:
    """Return a budget row as evidence."""
    if budget is None:
        return None
    spending = budget.spending
    return {
        **{name: getattr(budget, name) for name in (*PARTS, "seq")},
        "spend_day": spending.day.isoformat(),
        "day_spend": spending.day_spend,
        "month_spend": spending.month_spend,
    }


def is_same(asked: Resolving, resolution: dict[str, object]) -> bool:
    """Say whether a finding was resolved by just this: asked once more after a lost answer."""
    told = {"how": HOW[type(asked.remedy)], "operator": asked.operator, "reason": asked.reason}
    if isinstance(asked.remedy, Settle):
        told["cost_micros"] = asked.remedy.cost  # type: ignore[assignment]
    return all(resolution.get(name) == value for name, value in told.items())
