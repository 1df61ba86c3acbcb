"""Admission: a batch of submissions and the locked rows → one answer each.

Pure: called while the tenants' budget rows are locked, and by the fake store on dictionaries. It
decides in order of arrival; a refusal leaves no mark on its neighbours, and the order of the lines
of `admit` is the order of precedence that clients see. An idempotency key that is known is
answered before anything that depends on plan, tenant, pack or budget: a retry gets the answer of
the first try.
"""

from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime, timedelta
from math import ceil
from typing import Final, TypeAlias
from uuid import UUID

from attrs import evolve, field, frozen

from dpp.egress import origin
from dpp.modes import RETRY_S, InForce, Mode
from dpp.money import Micros
from dpp.plans import WINDOW_S, Plan, Plans
from dpp.pricing import Appraisal, Appraised, InputError, InputsInvalid, PackUnknown
from dpp.spending import Allowance, Spending, SpendLimited, over

AHEAD_MAX: Final = timedelta(days=30)  # what waits holds money; a calendar month ahead will do


@frozen(kw_only=True)
class Submission:
    """A run that a client asks for.

    Everything in it depends on the request and on this node's packs alone.
    """

    run_id: UUID
    tenant_id: str
    key_id: str
    idempotency_key: str
    fingerprint: bytes
    pack_type: str
    pack_version: str
    inputs: bytes
    max_cost: Micros
    priority: int
    timebox_s: int
    trace_id: str
    appraisal: Appraisal
    run_at: datetime | None = None
    start_before: datetime | None = None
    metadata: bytes | None = None  # canonical JSON
    webhook_url: str | None = None


@frozen(kw_only=True)
class Account:
    """A tenant's locked budget row, with what else the decision needs of the tenant."""

    plan: str
    suspended: bool
    frozen: bool
    available: Micros
    seq: int
    queued: int
    window_from: datetime | None
    window_count: int
    spending: Spending = field(factory=Spending)
    origins: AbstractSet[str] = frozenset()  # of enabled webhooks that hear of runs


@frozen
class Earlier:
    """The run that an idempotency key names already; `pruned`: it is past retention."""

    run_id: UUID
    fingerprint: bytes
    pruned: bool = False


@frozen(kw_only=True)
class Terms:
    """What the node gives a run where neither its client nor its plan says otherwise."""

    queue_ttl_s: int
    result_days: int


@frozen(kw_only=True)
class Books:
    """What was read under the lock; `now` is the database's time of a statement after it."""

    accounts: Mapping[str, Account]
    earlier: Mapping[tuple[str, str], Earlier]
    dead_keys: frozenset[str]
    now: datetime
    allowances: Mapping[str, Allowance] = field(factory=dict)  # by API key
    in_force: InForce = field(factory=InForce)


@frozen
class Window:
    """A tenant's rate window: its limit, what is left, and seconds until it starts anew.

    `left_s`: the same seconds, not rounded up; it is no news of the window, and not compared.
    """

    limit: int
    remaining: int
    reset_s: int
    left_s: float = field(default=0.0, eq=False)


@frozen
class Created:
    """The run exists from this commit on; `seq` is its place in the tenant's ledger."""

    run_id: UUID
    seq: int
    minimum_fee: Micros
    policy: str
    created_at: datetime
    available_at: datetime
    expires_at: datetime
    result_days: int
    budget_day: date
    window: Window | None
    allowance_id: str | None = None


@frozen
class Exists:
    """The key names this run already, for the same request.

    Where that is the submission's own run, this very request made it: its COMMIT got no answer.
    """

    run_id: UUID


@frozen
class Pruned:
    """The key names this run, which is past retention; it is never run again."""

    run_id: UUID


@frozen
class ExistsWithDifferentRequest:
    """The key names a run of another request."""


@frozen
class KeyDead:
    """The API key was revoked or expired meanwhile."""


@frozen
class TenantSuspended:
    """An operator suspended the tenant."""


@frozen
class TenantFrozen:
    """The tenant has an open audit finding; its accepted runs go on."""


@frozen
class NoSubmits:
    """Operators let no new runs in for now; `retry_after_s`: until then, or a guess."""

    retry_after_s: int


@frozen
class PlanUnknown:
    """The tenant's plan is not in this node's configuration: nothing can be decided for it."""

    plan: str


@frozen
class PackNotAllowed:
    """The plan does not include this pack."""

    allowed: tuple[str, ...]


@frozen
class MaxCostTooLow:
    """Below the pack's floor or the plan's minimum fee."""

    required: Micros


@frozen
class MaxCostTooHigh:
    """Over the plan's cap."""

    limit: Micros


@frozen
class RateLimited:
    """The plan's submits of this minute are used up."""

    window: Window


@frozen
class QueueFull:
    """The plan's number of queued runs is reached."""

    limit: int


@frozen
class InsufficientBudget:
    """The reserve is more than what is available."""

    available: Micros
    required: Micros


Refusal: TypeAlias = (
    ExistsWithDifferentRequest
    | Pruned
    | KeyDead
    | TenantSuspended
    | TenantFrozen
    | NoSubmits
    | PlanUnknown
    | PackUnknown
    | PackNotAllowed
    | InputsInvalid
    | MaxCostTooLow
    | MaxCostTooHigh
    | RateLimited
    | QueueFull
    | SpendLimited
    | InsufficientBudget
)
Admission: TypeAlias = Created | Exists | Refusal


@frozen
class Busy:
    """The tenant's budget row is held by somebody else: ask again in a batch that waits for it."""


def decide(
    batch: Sequence[Submission], books: Books, plans: Plans, terms: Terms
) -> list[Admission]:
    """Answer each submission in order of arrival. A refusal leaves no mark on its neighbours."""
    # Ours to move; `books` stays as read. Keys that share an allowance share its counter.
    accounts, earlier = dict(books.accounts), dict(books.earlier)
    allowances = {one.allowance_id: one for one in books.allowances.values()}
    admissions: list[Admission] = []
    for submission in batch:
        tenant_id, key = submission.tenant_id, (submission.tenant_id, submission.idempotency_key)
        named = books.allowances.get(submission.key_id)
        allowance = None if named is None else allowances[named.allowance_id]
        account, known = accounts[tenant_id], earlier.get(key)
        admission = admit(submission, account, known, allowance, books, plans, terms)
        if isinstance(admission, Created):
            accounts[tenant_id] = admitted(account, submission, books.now)
            if allowance is not None:
                allowances[allowance.allowance_id] = allowance.plus(submission.max_cost)
            earlier[key] = Earlier(admission.run_id, submission.fingerprint)
        admissions.append(admission)
    assert len(admissions) == len(batch)
    return admissions


def admit(  # noqa: PLR0911, C901 - a line an answer
    submission: Submission,
    account: Account,
    earlier: Earlier | None,
    allowance: Allowance | None,
    books: Books,
    plans: Plans,
    terms: Terms,
) -> Admission:
    """Decide one submission: the first line that applies is the answer, nothing else counts."""
    assert submission.max_cost > 0
    if earlier is not None and earlier.run_id == submission.run_id and not earlier.pruned:
        return Exists(earlier.run_id)  # made by this very request; a key's end is later news
    if submission.key_id in books.dead_keys:
        return KeyDead()
    if earlier is not None:
        if earlier.fingerprint != submission.fingerprint:
            return ExistsWithDifferentRequest()
        return Pruned(earlier.run_id) if earlier.pruned else Exists(earlier.run_id)
    closed = shut(account, books.in_force)
    if closed is not None:
        return closed
    plan = plans.get(account.plan)
    if plan is None:
        return PlanUnknown(account.plan)
    refusal = unfit(submission, account, plan, books.now)
    if refusal is not None:
        return refusal
    window = rate_window(account, plan, books.now)
    if window is not None and window.remaining == 0:
        return RateLimited(window)
    if plan.queued_runs is not None and account.queued >= plan.queued_runs:
        return QueueFull(plan.queued_runs)
    spending = account.spending.on(books.now.astimezone(UTC).date())
    limited = over(submission.max_cost, plan, spending, allowance)
    if limited is not None:
        return limited
    if account.available < submission.max_cost:
        return InsufficientBudget(account.available, required=submission.max_cost)
    available_at = max(books.now, submission.run_at or books.now)
    return Created(  # from here on it must succeed
        submission.run_id,
        seq=account.seq + 1,
        minimum_fee=plan.fee.fee(submission.max_cost),
        policy=plan.fee.code,
        created_at=books.now,
        available_at=available_at,
        expires_at=submission.start_before or available_at + timedelta(seconds=terms.queue_ttl_s),
        result_days=plan.result_days or terms.result_days,
        budget_day=spending.day,
        allowance_id=None if allowance is None else allowance.allowance_id,
        window=None if window is None else evolve(window, remaining=window.remaining - 1),
    )


def shut(account: Account, in_force: InForce) -> Admission | None:
    """Say why no new run at all is let in; None = it may be."""
    if account.suspended:
        return TenantSuspended()
    if account.frozen:
        return TenantFrozen()
    if in_force.mode is Mode.NO_SUBMIT:
        return NoSubmits(RETRY_S if in_force.left_s is None else max(1, ceil(in_force.left_s)))
    return None


def unfit(submission: Submission, account: Account, plan: Plan, now: datetime) -> Admission | None:
    """Say what the pack, the clock or the plan has against this submission; None = nothing."""
    appraisal = submission.appraisal
    if isinstance(appraisal, PackUnknown):
        return appraisal
    if plan.packs is not None and submission.pack_type not in plan.packs:
        return PackNotAllowed(tuple(sorted(plan.packs)))
    errors = [*untimely(submission, now), *unregistered(submission, account)]
    if isinstance(appraisal, InputsInvalid):
        return InputsInvalid((*errors, *appraisal.errors))
    if errors:
        return InputsInvalid(tuple(errors))
    assert isinstance(appraisal, Appraised)
    required = max(appraisal.floor, plan.fee.least_reserve)
    if submission.max_cost < required:
        return MaxCostTooLow(required)
    most = plan.max_cost_of(submission.pack_type)
    if most is not None and submission.max_cost > most:
        return MaxCostTooHigh(most)
    return None


def untimely(submission: Submission, now: datetime) -> Iterator[InputError]:
    """Say what is wrong with when the run shall begin: a hold must not last for ever."""
    run_at, start_before = submission.run_at, submission.start_before
    if run_at is not None and run_at > now + AHEAD_MAX:
        yield InputError("/run_at", f"must be at most {AHEAD_MAX.days} days ahead")
    earliest = max(now, min(run_at or now, now + AHEAD_MAX))
    if start_before is not None and start_before <= earliest:
        yield InputError("/start_before", "must be later than now and than run_at")
    if start_before is not None and start_before > earliest + AHEAD_MAX:
        yield InputError(
            "/start_before", f"must be at most {AHEAD_MAX.days} days after now and run_at"
        )


def unregistered(submission: Submission, account: Account) -> Iterator[InputError]:
    """Say that no webhook of the tenant has the origin of the run's own URL."""
    url = submission.webhook_url
    if url is not None and origin(url) not in account.origins:
        yield InputError(
            "/webhook_url", "must begin with the origin of an enabled webhook that hears of runs"
        )


def rate_window(account: Account, plan: Plan, now: datetime) -> Window | None:
    """Return the window this moment falls into; None where the plan has no rate.

    It is anchored at the first admitted submission in it: one that is over counts as not begun.
    """
    limit = plan.submits_per_minute
    if limit is None:
        return None
    if account.window_from is None or now >= window_end(account.window_from):
        return Window(limit, remaining=limit, reset_s=WINDOW_S, left_s=WINDOW_S)
    left_s = (window_end(account.window_from) - now).total_seconds()
    return Window(
        limit,
        remaining=max(limit - account.window_count, 0),
        reset_s=max(ceil(left_s), 1),
        left_s=left_s,
    )


def window_end(window_from: datetime) -> datetime:
    """Return when a window that began then is over."""
    return window_from + timedelta(seconds=WINDOW_S)


def admitted(account: Account, submission: Submission, now: datetime) -> Account:
    """Return the account after this submission: money reserved, counted, one seq further on."""
    begun = account.window_from is not None and now < window_end(account.window_from)
    after = evolve(
        account,
        available=Micros(account.available - submission.max_cost),
        seq=account.seq + 1,
        queued=account.queued + 1,
        window_from=account.window_from if begun else now,
        window_count=account.window_count + 1 if begun else 1,
        spending=account.spending.on(now.astimezone(UTC).date()).plus(submission.max_cost),
    )
    assert after.available >= 0
    return after
