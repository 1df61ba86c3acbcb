"""Findings: what an audit says, and what becomes of what it found."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, TypeAlias
from uuid import UUID

from attrs import evolve, frozen

from dpp.auditing import PRESENT, Mark, Offence
from dpp.resolutions import Unresolved


@frozen
class Verdict:
    """One invariant of the audit: what it claims, and the first offenders (none = it holds).

    `accepted`: how many more there are that an operator accepted as they are.
    """

    name: str
    claim: str
    offenders: tuple[Mapping[str, Any], ...]
    accepted: int = 0


@frozen
class Finding:
    """A finding: an invariant, whom it concerns, the evidence; once resolved, how and by whom."""

    finding_id: UUID
    invariant: str
    subject: str
    tenant_id: str | None
    evidence: Mapping[str, Any]
    opened_at: datetime
    resolved_at: datetime | None = None
    resolution: Mapping[str, Any] | None = None


@frozen(kw_only=True)
class Sample:
    """What a look at some objects of large results said.

    `could_not_ask`: why the store gave no answer, which says nothing of any object.
    """

    looked: int = 0
    astray: tuple[Mapping[str, Any], ...] = ()
    could_not_ask: str | None = None


@frozen
class Audit:
    """One pass over one snapshot, and a look at some large results."""

    verdicts: tuple[Verdict, ...]
    findings: tuple[Finding, ...]
    sample: Sample = Sample()

    def sampled(self, sample: Sample) -> "Audit":
        """Return the audit with what a sample of large results said: its strays offend too."""
        verdicts = [
            evolve(one, offenders=one.offenders + sample.astray) if one.name == PRESENT else one
            for one in self.verdicts
        ]
        return Audit(tuple(verdicts), self.findings, sample)

    @property
    def ok(self) -> bool:
        """Say whether every invariant holds and no finding is open."""
        return not self.findings and not any(verdict.offenders for verdict in self.verdicts)


@frozen(kw_only=True)
class AuditedPage:
    """One look of the auditor, over one snapshot.

    `marks`: of the tenants that moved, where they are now. `offences`: what no finding tells of
    yet. `after`: where the next page begins, None = the pass is over.
    """

    marks: Mapping[str, Mark]
    offences: tuple[Offence, ...]
    after: str | None
    findings_open: int


@frozen
class Resolved:
    """The finding is resolved, as asked.

    `frozen`: its tenant still is, by another finding. `again`: it was before, by the same words.
    """

    finding: Finding
    frozen: bool
    again: bool = False


@frozen
class ResolvedAlready:
    """Somebody resolved the finding before, in another way."""

    finding: Finding


@frozen
class ResolutionRefused:
    """The database refused to write the resolution; nothing was changed."""

    detail: str


@frozen
class FindingUnknown:
    """There is no such finding."""


ResolveOutcome: TypeAlias = (
    Resolved | ResolvedAlready | ResolutionRefused | FindingUnknown | Unresolved
)
