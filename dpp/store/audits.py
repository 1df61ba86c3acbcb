"""The audit: every invariant of `sql/audit/` in one REPEATABLE READ, READ ONLY snapshot.

Each file is one query that returns offenders; its first line says what it claims. Nothing is
written, so it runs as a role that can only read.
"""

from functools import cache
from pathlib import Path
from typing import Any

import msgspec
from attrs import frozen

from dpp import resources
from dpp.ports import Audit, Finding, Verdict
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import BEGIN_SNAPSHOT, transaction

# A snapshot over everything takes seconds, not milliseconds: its own limit, whatever the role's is.
BEGIN_AUDIT = BEGIN_SNAPSHOT + "; set local statement_timeout = '120s'"


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
        verdicts = [
            Verdict(
                one.name, one.claim, tuple(plain(row) for row in await connection.fetch(one.sql))
            )
            for one in invariants()
        ]
        findings = await list_findings(connection)
    return Audit(tuple(verdicts), tuple(findings))


async def list_findings(connection: Connection) -> list[Finding]:
    """Return open findings, oldest first."""
    return [finding(row) for row in await queries.list_findings.fetch(connection)]


def plain(row: Row) -> dict[str, Any]:
    """Turn an offender into JSON-able values."""
    return {
        name: value if isinstance(value, (str, int, bool, type(None))) else str(value)
        for name, value in row.items()
    }


def finding(row: Row) -> Finding:
    """Read a finding."""
    return Finding(
        row["finding_id"],
        invariant=row["invariant"],
        subject=row["subject"],
        tenant_id=row["tenant_id"],
        evidence=msgspec.json.decode(row["evidence"]),
        opened_at=row["opened_at"],
    )
