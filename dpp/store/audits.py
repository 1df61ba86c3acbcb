"""The audit: every invariant of `sql/audit/` in one REPEATABLE READ, READ ONLY snapshot.

Each file is one query that returns offenders; its first line says what it claims. Nothing is
written, so it runs as a role that can only read.
"""

from functools import cache
from pathlib import Path

import msgspec
from attrs import frozen

from dpp import auditing, resources
from dpp.findings import Audit, Finding, Verdict
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import BEGIN_SNAPSHOT, transaction

# The role's limit of a whole transaction is for a node's; before 17 there is none.
UNBOUNDED = "select set_config(name, '0', true) from pg_settings where name = 'transaction_timeout'"
# A snapshot over everything takes seconds, not milliseconds: its own limit, whatever the role's is.
# It sorts and joins whole tables: in memory, a million rows of them.
BEGIN_AUDIT = (
    BEGIN_SNAPSHOT
    + "; set local statement_timeout = '120s'; set local work_mem = '64MB'; set local jit = off; "
    + UNBOUNDED
)


# Materialized, so that an invariant is planned as a whole, not for its first rows: there are none.
ROWS = """
with offender as materialized (
{}
)
select to_json(offender)::text as offender from offender limit $1
"""
SHOWN = 100  # offenders of an invariant; one is enough to know, a hundred to see what they share


@frozen
class Invariant:
    """One file of `sql/audit/`."""

    name: str
    claim: str
    sql: str


@cache
def invariants() -> tuple[Invariant, ...]:
    """Load the invariants, in order."""
    return tuple(invariant(path) for path in sorted((resources.sql_dir() / "audit").glob("*.sql")))


def invariant(path: Path) -> Invariant:
    """Read one file: the claim is its leading comment."""
    text = path.read_text()
    claim = " ".join(
        line.removeprefix("--").strip() for line in text.splitlines() if line.startswith("--")
    )
    return Invariant(path.stem, claim, text)


async def audit(connection: Connection) -> Audit:
    """Ask every invariant, and for the findings that are open."""
    async with transaction(connection, begin=BEGIN_AUDIT):
        rows = await queries.accepted_digests.fetch(connection)
        accepted = frozenset(row["digest"] for row in rows)
        verdicts = [await ask(connection, one, accepted) for one in invariants()]
        findings = await list_findings(connection)
    return Audit(tuple(verdicts), tuple(findings))


async def ask(connection: Connection, one: Invariant, accepted: frozenset[str]) -> Verdict:
    """Ask one invariant; offenders that an operator accepted are only counted."""
    rows = await connection.fetch(ROWS.format(one.sql), SHOWN + len(accepted))
    found = [auditing.offence(one.name, msgspec.json.decode(row["offender"])) for row in rows]
    told = [offence for offence in found if offence.digest not in accepted]
    shown = tuple(offence.offender for offence in told[:SHOWN])
    return Verdict(one.name, one.claim, shown, len(found) - len(told))


async def list_findings(connection: Connection) -> list[Finding]:
    """Return open findings, oldest first."""
    return [finding(row) for row in await queries.list_findings.fetch(connection)]


def finding(row: Row) -> Finding:
    """Read a finding."""
    return Finding(
        row["finding_id"],
        invariant=row["invariant"],
        subject=row["subject"],
        tenant_id=row["tenant_id"],
        evidence=msgspec.json.decode(row["evidence"]),
        opened_at=row["opened_at"],
        resolved_at=row["resolved_at"],
        resolution=None if row["resolution"] is None else msgspec.json.decode(row["resolution"]),
    )
