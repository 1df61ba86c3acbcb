"""The auditor's looks: a page of what moved, in one snapshot; and again under the lock, to be sure.

Runs are asked by the invariants of `sql/audit/` themselves, behind tables that are cut down to
those a window touches; budgets and usage by the sums of `dpp.auditing`.
"""

from collections.abc import Iterable, Mapping, Sequence
from datetime import date
from functools import cache
from typing import Any
from uuid import UUID

import msgspec
from aiosql.adapters.asyncpg import AsyncPGAdapter
from attrs import define, field, frozen

from dpp import auditing, resources
from dpp.admission import Busy
from dpp.auditing import Account, Fold, Mark, Offence, Parts, Sums, Usage, Window
from dpp.findings import AuditedPage, Finding
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
})  # fmt: skip
LAST = 2**63 - 1
WHOLE_FACTS = 200_000  # that one statement looks through: a second or two of the five that it has
LIVE_MAX = 20_000  # live rows that one page counts: those of a longer queue are the whole audit's


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
        marks, runs = {tenant_id: mark}, [one for one in offences if "run_id" in one.offender]
        wanted: list[Window] = []
        reached: list[Account] = []
        if len(runs) < len(offences):  # its mark was at the end when the budget was judged
            until = mark.seq if here.budget is None else max(mark.seq, here.budget.seq)
            wanted, reached = [Window(tenant_id, mark.seq, until, whole=True)], [here]
        asked = {one.key: finding_id for one, finding_id in zip(offences, finding_ids, strict=True)}
        again = (await Look(marks, runs).inspect(connection, wanted, reached)).offences
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
    """One look at some windows; `runs`: offences whose runs are looked at beside those touched."""

    marks: Mapping[str, Mark]
    runs: Sequence[Offence] = field(factory=list)

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
        offences = [
            one
            for account in reached
            for one in auditing.judge_budget(
                account, marks.get(account.tenant_id) or self._mark(account.tenant_id)
            )
        ]
        whole = {account.tenant_id for account in reached if account.budget is not None}
        ended = {  # what lies beyond the end has been told by now
            name: mark for name, mark in marks.items() if name in whole and not mark.beyond.entries
        }
        usage = await self._judge_days(connection, ended)
        offences += usage
        wrong = {one.tenant_id for one in usage}
        for name, mark in ended.items():
            marks[name] = mark if name in wrong else auditing.without_past_days(mark)
        offences += await self._judge_runs(connection, wanted)
        here = {name: marks.get(name) or self._mark(name) for name in whole}
        offences += await self._judge_live(connection, here)
        return Inspected(marks, tuple({one.key: one for one in offences}.values()))

    def _mark(self, tenant_id: str) -> Mark:
        return self.marks.get(tenant_id) or Mark()

    async def _fold(self, connection: Connection, wanted: Sequence[Window]) -> dict[str, Fold]:
        sums = dict.fromkeys((one.tenant_id for one in wanted), Sums())
        beyond, days = dict(sums), {one.tenant_id: dict[date, Usage]() for one in wanted}
        if not wanted:
            return {}
        pieces = bounds(wanted)
        lasts = [LAST if one.whole else one.until for one in wanted]
        for row in await queries.audit_windows.fetch(connection, lasts=lasts, **pieces):
            (beyond if row["beyond"] else sums)[row["tenant_id"]] = sums_of(row)
        for row in await queries.audit_days.fetch(connection, **pieces):
            days[row["tenant_id"]][row["day"]] = usage_of(row)
        return {name: Fold(sums=sums[name], beyond=beyond[name], days=days[name]) for name in sums}

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

    async def _judge_runs(self, connection: Connection, wanted: Sequence[Window]) -> list[Offence]:
        if not wanted and not self.runs:
            return []
        rows = await of_runs().fetch(
            connection,
            **bounds(wanted),
            run_tenants=[one.tenant_id for one in self.runs],
            run_ids=[UUID(one.subject) for one in self.runs],
        )
        return [offence(row) for row in rows]

    async def _judge_live(self, connection: Connection, marks: Mapping[str, Mark]) -> list[Offence]:
        """Compare what is live with what is unresolved; only where it differs, look for whom.

        Of tenants that did not move, too: a live row that is lost moves nothing.
        """
        room, names = LIVE_MAX, []
        for name, mark in marks.items():
            if mark.sums.unresolved <= room and not mark.beyond.entries:
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


async def fold(connection: Connection, tenant_id: str) -> tuple[int, Sums]:
    """Add up the facts that stand by now; returns up to which, and what they add up to.

    They do not change any more, so that takes no lock; and it goes piece by piece, so that a ledger
    may be as long as it likes.
    """
    sums, after = Sums(), 0
    while True:
        row = await queries.ledger_piece.fetch_one(
            connection, tenant_id=tenant_id, after=after, facts=WHOLE_FACTS
        )
        if row is None or row["last"] is None:
            return after, sums
        sums, after = (
            sums + await sums_between(connection, tenant_id, after, row["last"]),
            row["last"],
        )


async def sums_between(connection: Connection, tenant_id: str, after: int, last: int) -> Sums:
    """Add up the facts of one tenant behind `after`, up to `last`."""
    row = await queries.audit_windows.fetch_one(
        connection, tenant_ids=[tenant_id], afters=[after], untils=[last], lasts=[last]
    )
    return Sums() if row is None else sums_of(row)


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
    return Parts(**{name: row[name] for name in (*auditing.PARTS, "seq")})


def sums_of(row: Row) -> Sums:
    """Read what facts add up to."""
    names = ("deposited", "held", "spent", "entries", "seqs", "top", "unresolved")
    return Sums(**{name: row[name] for name in names})


def usage_of(row: Row) -> Usage:
    """Read a day."""
    return Usage(**{name: row[name] for name in auditing.COUNTED})
