"""Findings: what an operator must look at. Opened here; none of it touches money."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

import msgspec

from dpp.claims import Seen
from dpp.logs import get_logger
from dpp.metrics import findings_total
from dpp.store.connections import Connection
from dpp.store.queries import queries
from dpp.store.transactions import transaction

log = get_logger(__name__)


async def quarantine_run(
    connection: Connection, seen: Seen, evidence: Mapping[str, Any], finding_id: UUID
) -> bool:
    """Set a run aside with a finding, if it still is as seen, and freeze its tenant's submissions.

    Asked again under its id it answers the same.
    """
    async with transaction(connection, "quarantine"):
        aside = await set_aside(connection, seen, evidence, finding_id)
    if aside:
        tell(seen, finding_id, evidence)
    return aside


async def set_aside(
    connection: Connection, seen: Seen, evidence: Mapping[str, Any], finding_id: UUID
) -> bool:
    """Do the same inside the caller's transaction."""
    row = await queries.quarantine_run.fetch_one(
        connection,
        run_id=seen.run_id,
        lease_id=seen.lease_id,
        lease_epoch=seen.lease_epoch,
        evidence=quoted(evidence),
        finding_id=finding_id,
    )
    assert row is not None
    return bool(row["runs"] or row["before"])


def tell(seen: Seen, finding_id: UUID, evidence: Mapping[str, Any]) -> None:
    """Count and say, once it is committed, that a run was set aside: what alerts look for."""
    opened("write_refused")
    log.critical(
        "AUDIT_REQUIRED",
        reconcile_type="write_refused",
        invariant="write_refused",
        finding_id=str(finding_id),
        run_id=str(seen.run_id),
        tenant_id=seen.tenant_id,
        subject=str(seen.run_id),
        detail=evidence.get("error"),
    )


async def open_finding(
    connection: Connection,
    invariant: str,
    subject: str,
    tenant_id: str,
    evidence: Mapping[str, Any],
    finding_id: UUID,
) -> bool:
    """Open a finding that freezes nobody; False = there is an open one of this kind and subject.

    Asked again under its id it answers the same.
    """
    async with transaction(connection):
        await queries.open_finding.fetch(
            connection,
            finding_id=finding_id,
            invariant=invariant,
            subject=subject,
            tenant_id=tenant_id,
            evidence=quoted(evidence),
        )
        row = await queries.get_findings.fetch_one(connection, finding_ids=[finding_id])
    if row is not None:
        opened(invariant)
    return row is not None


def opened(*invariants: str) -> None:
    """Count findings that were opened."""
    for invariant in invariants:
        findings_total.labels(invariant).inc()


def quoted(evidence: Mapping[str, Any]) -> str:
    """Return evidence as JSON that jsonb takes."""
    safe = {name: quotable(value) for name, value in evidence.items()}
    return msgspec.json.encode(safe, enc_hook=str).decode()


def quotable(value: object) -> object:
    """Return what jsonb takes: what the database refused must not be refused a second time."""
    if isinstance(value, str):
        return value.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()
    return value
