"""The auditor's looks: a page of what moved, in one snapshot; and again under the lock, to be sure.

Runs are asked by the invariants of `sql/audit/` themselves, behind tables that are cut down to
those a window touches; budgets, usage and allowances by the sums of `dpp.auditing`.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from datetime import date, timedelta
from functools import cache
from itertools import groupby, islice
from operator import itemgetter
from typing import Any
from uuid import UUID

import msgspec
from aiosql.adapters.asyncpg import AsyncPGAdapter
from attrs import define, evolve, field, frozen

from dpp import auditing, resources
from dpp.admission import Busy
from dpp.auditing import Account, Counted, Fold, Mark, Offence, Parts, Sums, Usage, Window
from dpp.findings import AuditedPage, Finding
from dpp.money import Micros
from dpp.spending import NEVER, Allowance, Spending
from dpp.store import audits
from dpp.store.audits import Invariant, invariants
from dpp.store.connections import Connection
from dpp.store.findings import opened, quoted
from dpp.store.queries import Query, Row, queries, without_comments
from dpp.store.transactions import BEGIN_SNAPSHOT, transaction

# Bounded on the server too. Everything is read by an index, whatever the statistics say of a queue
# that was empty when they were made.
BEGIN_PAGE = (
    BEGIN_SNAPSHOT
    + "; set local statement_timeout = '5s'; set local jit = off; set local enable_seqscan = off"
    + "; set local plan_cache_mode = force_custom_plan"
)
OF_TENANTS = frozenset({
    auditing.CONSERVE,
    auditing.EQUAL_LEDGER,
    auditing.UNRESOLVED,
    auditing.USAGE,
    auditing.TOTALS,
    auditing.SPEND,
    auditing.ALLOWANCES,
    auditing.GUARDED,
    auditing.KNOWN,
    auditing.CLOSED,
})  # fmt: skip
LAST = 2**63 - 1
WHOLE_FACTS = 200_000  # that one statement looks through: a second or two of the five that it has
LIVE_MAX = 20_000  # live rows that one page counts: those of a longer queue are the whole audit's
ALLOWANCES_MAX = 5_000  # of a tenant that one page judges, and of tenants that are new to it


@frozen
class Inspected:
    """What a look came to: the marks after it, and what is wrong."""

    marks: Mapping[str, Mark]
    offences: tuple[Offence, ...]


@cache
def behind(scope: str, names: frozenset[str] | None = None) -> Query:
    """Return these invariants as one query, behind the cut-down tables of `scope`."""
    path = resources.sql_dir() / "audit" / "incremental" / f"{scope}.sql"
    asked = [one for one in invariants() if names is None or one.name in names]
    text = without_comments(path.read_text()) + "\n".join(["", *unioned(asked)])
    adapter = AsyncPGAdapter()
    sql = adapter.process_sql(scope, None, text)
    return Query(scope, sql, tuple(adapter.var_sorted[scope]))


def unioned(asked: Sequence[Invariant]) -> Iterable[str]:
    """Yield a query over the offenders of all these."""
    for n, one in enumerate(asked):
        yield "union all" if n else ""
        yield f"select '{one.name}' as invariant, to_json(offender)::text as offender"
        yield f"  from (\n{without_comments(one.sql)}\n) as offender"


def of_runs() -> Query:
    """Return the invariants that speak of single runs, behind those that are touched."""
    names = frozenset(one.name for one in invariants()) - OF_TENANTS
    return behind("touched", names)


async def audit_page(
    connection: Connection,
    marks: Mapping[str, Mark],
    *,
    after: str,
    tenants_max: int,
    facts_max: int,
) -> AuditedPage:
    """Look at the tenants behind `after`, as far as the page goes."""
    async with transaction(connection, begin=BEGIN_PAGE):
        rows = await queries.audit_budgets.fetch(connection, after=after, limit=tenants_max)
        accounts = [account(row) for row in rows]
        behind_closing = [
            row["tenant_id"]
            for row in rows
            if row["closed_seq"] > marks.get(row["tenant_id"], Mark()).seq
        ]
        marks = {**marks, **await closings(connection, behind_closing)}
        look = Look(marks)
        wanted, reached = auditing.windows(marks, accounts, facts_max)
        inspected = await look.inspect(connection, wanted, reached)
        offences = await unknown(connection, inspected.offences)
        count = await queries.count_findings.fetch_one(connection)
    assert count is not None
    whole = len(reached) == len(accounts) and len(accounts) < tenants_max
    last = reached[-1].tenant_id if reached else after
    return AuditedPage(
        marks=inspected.marks,
        offences=tuple(offences),
        after=None if whole else last,
        findings_open=count["findings"],
    )


async def open_findings(
    connection: Connection,
    tenant_id: str,
    offences: Sequence[Offence],
    mark: Mark,
    finding_ids: Sequence[UUID],
    *,
    wait: bool,
) -> list[Finding] | Busy:
    """Look at these offences of one tenant again, and open a finding of each that still is one.

    The budget is locked: all that moves the tenant's books waits. Where its row is gone, nothing
    can. Asked again under the same ids it answers the same.
    """
    lock = queries.lock_budgets if wait else queries.lock_budgets_free
    async with transaction(connection, "open_findings"):
        row = await lock.fetch_one(connection, tenant_ids=[tenant_id])
        if row is None and not wait:
            return Busy()
        here = Account(tenant_id, None if row is None else parts(row))
        closed = (await closings(connection, [tenant_id])).get(tenant_id, mark)
        mark = max(mark, closed, key=lambda one: one.seq)
        marks = {tenant_id: mark}
        wanted: list[Window] = []
        reached: list[Account] = []
        if not all(one.is_of_run for one in offences):  # judged with its mark at the end
            until = mark.seq if here.budget is None else max(mark.seq, here.budget.seq)
            wanted, reached = [Window(tenant_id, mark.seq, until, whole=True)], [here]
        asked = {one.key: finding_id for one, finding_id in zip(offences, finding_ids, strict=True)}
        again = (await Look(marks, offences).inspect(connection, wanted, reached)).offences
        sure = await unknown(connection, [one for one in again if one.key in asked])
        if sure:
            await queries.open_findings.fetch_one(
                connection,
                finding_ids=[asked[one.key] for one in sure],
                invariants=[one.invariant for one in sure],
                subjects=[one.subject for one in sure],
                evidences=[quoted(evidence(one)) for one in sure],
                tenant_id=tenant_id,
            )
        rows = await queries.get_findings.fetch(connection, finding_ids=list(finding_ids))
    found = [audits.finding(row) for row in rows]
    opened(*(one.invariant for one in found))
    return found


def evidence(one: Offence) -> dict[str, Any]:
    """Return what an operator needs to see of an offence."""
    claims = {invariant.name: invariant.claim for invariant in invariants()}
    return {"claim": claims[one.invariant], "digest": one.digest, "offender": dict(one.offender)}


@define
class Look:
    """One look at some windows, and at what earlier offences were about, whatever is touched."""

    marks: Mapping[str, Mark]
    earlier: Sequence[Offence] = field(factory=list)

    async def inspect(
        self, connection: Connection, wanted: Sequence[Window], reached: Sequence[Account]
    ) -> Inspected:
        """Fold the windows, judge the budgets that are reached, and the runs that are touched."""
        folds = await self._fold(connection, wanted)
        marks = {
            window.tenant_id: auditing.moved(
                self._mark(window.tenant_id), window, folds[window.tenant_id]
            )
            for window in wanted
        }
        here = {
            one.tenant_id: marks.get(one.tenant_id) or self._mark(one.tenant_id) for one in reached
        }
        offences = [one for of in reached for one in auditing.judge_budget(of, here[of.tenant_id])]
        whole = [  # what lies beyond the end has been told by now
            of for of in reached if of.budget is not None and not here[of.tenant_id].beyond.entries
        ]
        of_days = [one for of in whole for one in auditing.judge_spending(of, here[of.tenant_id])]
        ended = {of.tenant_id: marks[of.tenant_id] for of in whole if of.tenant_id in marks}
        of_days += await self._judge_days(connection, ended)
        offences += of_days
        asked = {name: self._asked(mark) for name, mark in ended.items()}
        offences += await self._judge_allowances(connection, ended, asked)
        offences += await self._judge_runs(connection, wanted)
        live = {of.tenant_id: here[of.tenant_id] for of in whole}
        offences += await self._judge_live(connection, live)
        wrong = {one.tenant_id for one in of_days}
        for name, mark in ended.items():
            marks[name] = auditing.at_end(mark, asked[name], days_agree=name not in wrong)
        return Inspected(marks, tuple({one.key: one for one in offences}.values()))

    def _mark(self, tenant_id: str) -> Mark:
        return self.marks.get(tenant_id) or Mark()

    async def _fold(self, connection: Connection, wanted: Sequence[Window]) -> dict[str, Fold]:
        if not wanted:
            return {}
        folds = await add_up(connection, wanted)
        days = {one.tenant_id: dict[date, Usage]() for one in wanted}
        for row in await queries.audit_days.fetch(connection, **bounds(wanted)):
            days[row["tenant_id"]][row["day"]] = usage_of(row)
        return {name: evolve(folds[name], days=days[name]) for name in folds}

    async def _judge_days(self, connection: Connection, marks: Mapping[str, Mark]) -> list[Offence]:
        if not marks:
            return []
        shown = {tenant_id: dict[date, Usage]() for tenant_id in marks}
        sinces = [mark.since for mark in marks.values()]
        for row in await queries.audit_usage.fetch(
            connection, tenant_ids=list(marks), sinces=sinces
        ):
            shown[row["tenant_id"]][row["day"]] = usage_of(row)
        return [
            one
            for tenant_id, mark in marks.items()
            for one in auditing.judge_days(tenant_id, mark, shown[tenant_id])
        ]

    def _asked(self, mark: Mark) -> set[str]:
        """Return the allowances to judge: what does not fit has its turn in the next pass."""
        named = (one.offender.get("allowance_id") for one in self.earlier)
        return {*islice(mark.touched, ALLOWANCES_MAX), *filter(None, named)}

    async def _judge_allowances(
        self, connection: Connection, marks: Mapping[str, Mark], asked: Mapping[str, set[str]]
    ) -> list[Offence]:
        """Compare allowances with their facts: those asked for, and at the first look all.

        Nothing but a reserve or an ending moves one; a hand that did is found when it is touched,
        and within a day.
        """
        new = [name for name, mark in marks.items() if not mark.was_at_end]
        shown = await read_allowances(connection, set().union(*asked.values()), new)
        return [
            one
            for name, names in asked.items()
            for one in auditing.judge_allowances(
                name, marks[name], shown.get(name, {}), {*names, *shown.get(name, {})}
            )
        ]

    async def _judge_runs(self, connection: Connection, wanted: Sequence[Window]) -> list[Offence]:
        runs = [one for one in self.earlier if one.is_of_run]
        if not wanted and not runs:
            return []
        rows = await of_runs().fetch(
            connection,
            **bounds(wanted),
            run_tenants=[one.tenant_id for one in runs],
            run_ids=[UUID(one.subject) for one in runs],
        )
        return [offence(row) for row in rows]

    async def _judge_live(self, connection: Connection, marks: Mapping[str, Mark]) -> list[Offence]:
        """Compare what is live with what is unresolved; only where it differs, look for whom.

        Of tenants that did not move, too: a live row that is lost moves nothing.
        """
        room, names = LIVE_MAX, []
        for name, mark in marks.items():
            if mark.sums.unresolved <= room:
                room -= mark.sums.unresolved
                names.append(name)
        rows = await queries.audit_live.fetch(connection, tenant_ids=names) if names else ()
        live = {row["tenant_id"]: (row["runs"], row["held"]) for row in rows}
        found: list[Offence] = []
        for name in names:
            sums = marks[name].sums
            if live.get(name, (0, 0)) != (sums.unresolved, sums.held):
                found += await lost_runs(connection, name, marks[name].seq)
        return found


async def lost_runs(connection: Connection, tenant_id: str, until: int) -> list[Offence]:
    """Return runs of a tenant that are neither live nor ended, or both; of a long ledger the first.

    One statement over all of a long ledger would take longer than it may. That is looked through
    until something is found, and not again while a person has yet to look at that.
    """
    name = auditing.LIVE_OR_ENDED
    if until <= WHOLE_FACTS:
        return await of_tenant(connection, tenant_id, name)
    if await queries.open_of_tenant.fetch_one(connection, tenant_id=tenant_id, invariant=name):
        return []
    for after in range(0, until, WHOLE_FACTS):
        window = Window(tenant_id, after, after + WHOLE_FACTS, whole=False)
        rows = await behind("touched", frozenset({name})).fetch(
            connection, **bounds([window]), run_tenants=[], run_ids=[]
        )
        if rows:
            return [offence(row) for row in rows]
    return []


async def fold(connection: Connection, tenant_id: str) -> Mark:
    """Add up the facts that stand by now, usage left out.

    They do not change any more, so that takes no lock; and it goes piece by piece, so that a ledger
    may be as long as it likes. What the closing entry covers is taken from that.
    """
    mark = (await closings(connection, [tenant_id])).get(tenant_id, Mark())
    while True:
        row = await queries.ledger_piece.fetch_one(
            connection, tenant_id=tenant_id, after=mark.seq, facts=WHOLE_FACTS
        )
        if row is None or row["last"] is None:
            return mark
        mark = await further(connection, tenant_id, mark, row["last"])


async def closings(connection: Connection, tenant_ids: Sequence[str]) -> dict[str, Mark]:
    """Return the closing entries of those of these tenants that have one, as marks.

    Facts that one covers may be past retention, so nobody starts to add up before it.
    """
    if not tenant_ids:
        return {}
    rows = await queries.closings_of.fetch(connection, tenant_ids=list(tenant_ids))
    return {row["tenant_id"]: closing(row) for row in rows}


async def further(connection: Connection, tenant_id: str, mark: Mark, until: int) -> Mark:
    """Add up the facts behind a mark, up to `until`; usage left out."""
    window = Window(tenant_id, mark.seq, until, whole=False)
    folds = await add_up(connection, [window])
    return auditing.moved(mark, window, folds[tenant_id])


async def add_up(connection: Connection, wanted: Sequence[Window]) -> dict[str, Fold]:
    """Add up windows, one a tenant; usage left out."""
    sums = dict.fromkeys((one.tenant_id for one in wanted), Sums())
    beyond, counted = dict(sums), dict.fromkeys(sums, Counted())
    pieces = bounds(wanted)
    lasts = [LAST if one.whole else one.until for one in wanted]
    for row in await queries.audit_windows.fetch(connection, lasts=lasts, **pieces):
        (beyond if row["beyond"] else sums)[row["tenant_id"]] = sums_of(row)
    rows = await queries.audit_counted.fetch(connection, **pieces)
    for name, of_tenant in groupby(rows, key=itemgetter("tenant_id")):
        counted[name] = counted_of(of_tenant)
    return {
        name: Fold(sums=sums[name], beyond=beyond[name], counted=counted[name]) for name in sums
    }


async def read_allowances(
    connection: Connection, allowance_ids: Iterable[str], tenant_ids: Sequence[str] = ()
) -> dict[str, dict[str, Allowance]]:
    """Return these allowances, and some of all that these tenants have, by tenant and id."""
    asked = list(allowance_ids)
    shown: dict[str, dict[str, Allowance]] = {}
    if not asked and not tenant_ids:
        return shown
    for row in await queries.audit_allowances.fetch(
        connection, allowance_ids=asked, tenant_ids=list(tenant_ids), most=ALLOWANCES_MAX
    ):
        shown.setdefault(row["tenant_id"], {})[row["allowance_id"]] = Allowance(
            row["allowance_id"], Micros(row["spend_limit"]), Micros(row["used"])
        )
    return shown


async def of_tenant(connection: Connection, tenant_id: str, invariant: str) -> list[Offence]:
    """Ask one invariant of all that a tenant has."""
    query = behind("tenant", frozenset({invariant}))
    return [offence(row) for row in await query.fetch(connection, tenant_id=tenant_id)]


async def unknown(connection: Connection, offences: Sequence[Offence]) -> list[Offence]:
    """Return the offences that nobody was told of: no open finding, and not accepted."""
    if not offences:
        return []
    known = await queries.known_offences.fetch(
        connection,
        invariants=[one.invariant for one in offences],
        subjects=[one.subject for one in offences],
        digests=[one.digest for one in offences],
    )
    places = {row["n"] for row in known}
    return [one for n, one in enumerate(offences, 1) if n not in places]


def bounds(wanted: Sequence[Window]) -> dict[str, list[Any]]:
    """Return windows as the queries take them."""
    return {
        "tenant_ids": [one.tenant_id for one in wanted],
        "afters": [one.after for one in wanted],
        "untils": [one.until for one in wanted],
    }


def offence(row: Row) -> Offence:
    """Read an offender."""
    return auditing.offence(row["invariant"], msgspec.json.decode(row["offender"]))


def account(row: Row) -> Account:
    """Read a tenant with its budget."""
    return Account(row["tenant_id"], None if row["seq"] is None else parts(row))


def parts(row: Row) -> Parts:
    """Read a budget row."""
    spending = Spending(row["spend_day"], Micros(row["day_spend"]), Micros(row["month_spend"]))
    return Parts(**{name: row[name] for name in (*auditing.PARTS, "seq")}, spending=spending)


def sums_of(row: Row) -> Sums:
    """Read what facts add up to."""
    names = ("deposited", "held", "spent", "entries", "seqs", "top", "unresolved")
    return Sums(**{name: row[name] for name in names})


def counted_of(rows: Iterable[Row]) -> Counted:
    """Read what reserves count, by day and by allowance."""
    seq, last, days, used = 0, NEVER, Counter[date](), Counter[str]()
    for row in rows:
        days[row["budget_day"]] += row["amount"]
        if row["allowance_id"] is not None:
            used[row["allowance_id"]] += row["amount"]
        if (row["seq"] or 0) > seq:
            seq, last = row["seq"], row["budget_day"]
    return Counted(seq=seq, day=last, days=dict(days), used=dict(used))


def closing(row: Row) -> Mark:
    """Read a closing entry; what ended on the days that it covers is judged no more."""
    seq, day, of_day = row["seq"], row["spend_day"], row["day_spend"]
    days = {day.replace(day=1): row["month_spend"] - of_day}
    last, used = row["last_day"], zip(row["allowance_ids"] or (), row["useds"] or (), strict=True)
    return Mark(
        seq=seq,
        sums=Sums(
            **{name: row[name] for name in ("deposited", "held", "spent", "unresolved")},
            entries=seq,
            seqs=seq,
            top=seq,
        ),
        since=None if last is None else last + timedelta(days=1),
        counted=Counted(
            seq=row["spend_seq"],
            day=day,
            days=auditing.added(days, {day: of_day}) if row["spend_seq"] else {},
            used=dict(used),
        ),
    )


def usage_of(row: Row) -> Usage:
    """Read a day."""
    return Usage(**{name: row[name] for name in auditing.COUNTED})
