"""The auditor: it goes along every tenant's ledger behind the writers, and calls a person.

A pass looks, page by page, at what moved since the last one: each page is one snapshot, of as many
facts as take about `PAGE_S`. What it knows of a tenant is a mark in memory; so the first pass of a
life reads everything, in the same small pages and with rests between them, and the others read what
is new. What seems wrong is looked at again under the tenant's budget lock before a finding is
opened, which freezes the tenant's new submissions; its accepted runs go on. What is changed behind
a mark `dpp audit` finds at once, and the auditor within a day: then it forgets, and begins anew.
So a mark may count what is gone, where a hand took facts away and an operator refolded the budget:
sums that an old mark finds wrong are added up anew from the first fact before anybody is called.
"""

import random
from collections.abc import Sequence
from itertools import groupby

import trio
from attrs import define, field

from dpp import metrics
from dpp.auditing import Mark, Offence, reconcile_type
from dpp.faults import StoreBroken, StoreUnavailable
from dpp.findings import Finding
from dpp.live import Live
from dpp.logs import get_logger
from dpp.metrics import succeeded
from dpp.ports import Auditing
from dpp.turns import turned

PAGE_S = 0.1  # what one look may take of the one connection that audits, and of the server
REST = 4  # times as long as a look took: then a fifth of one core at most
FACTS_MIN, FACTS_MAX = 100, 2_000  # a look; measured, 2,000 small ones take about 50 ms
TENANTS_MAX = 1_000  # a look; those that did not move cost their budget row
ANEW_S = 86_400.0  # old facts do not change by any way that DPP has: this is for disks and hands
FIRST_S = 5.0  # after the start of a node, which has better to do

log = get_logger(__name__)


@define(eq=False)
class Auditor:
    """What one node knows of the books; it outlives outages of the store."""

    store: Auditing
    marks: dict[str, Mark] = field(factory=dict)
    facts_max: int = FACTS_MAX
    _after: str = field(default="", init=False)  # where a pass that was cut short goes on
    _anew_at: float | None = field(default=None, init=False)

    async def step(self) -> None:
        """Make one pass; and a second one, where marks were doubted."""
        self._begin_anew()
        if await self._pass():
            await self._pass()

    async def _pass(self) -> bool:
        """Look at page after page; say whether a mark was doubted, and so forgotten."""
        doubted = False
        while True:
            began_at = trio.current_time()
            after, doubts = await self._look()
            turned("auditor")
            doubted = doubted or doubts
            took_s = trio.current_time() - began_at
            self._adapt(took_s)
            self._after = after or ""
            if after is None:
                return doubted
            await trio.sleep(took_s * REST)

    def _begin_anew(self) -> None:
        """Forget everything once a day."""
        now = trio.current_time()
        if self._anew_at is None or now >= self._anew_at:
            self.marks.clear()
            self._anew_at = now + ANEW_S

    async def _look(self) -> tuple[str | None, bool]:
        """Look at a page; return where the next one begins, and whether a mark was doubted."""
        try:
            page = await self.store.audit_page(
                self.marks, after=self._after, tenants_max=TENANTS_MAX, facts_max=self.facts_max
            )
        except StoreUnavailable:
            self.facts_max = FACTS_MIN  # it may have been too much for the time that it has
            raise
        findings, doubted = page.findings_open, set[str]()
        for tenant_id, offences in by_tenant(page.offences):
            old = self.marks.get(tenant_id, Mark())
            if old.was_at_end and not all(one.is_of_run for one in offences):
                doubted.add(tenant_id)
                continue
            mark = page.marks.get(tenant_id, old)
            for finding in await self.store.open_findings(tenant_id, offences, mark):
                findings += 1
                tell(finding)
        metrics.findings_open.set(findings)
        self.marks.update(page.marks)  # last: after an outage the page is looked at once more
        for tenant_id in doubted:
            del self.marks[tenant_id]
        return page.after, bool(doubted)

    def _adapt(self, took_s: float) -> None:
        """Let the next page take about `PAGE_S`."""
        if took_s > PAGE_S:
            self.facts_max = max(FACTS_MIN, self.facts_max // 2)
        elif took_s < PAGE_S / 2:
            self.facts_max = min(FACTS_MAX, self.facts_max * 2)


async def auditor(work: Auditor, *, interval: Live[float]) -> None:
    """Make passes for ever. An outage ends a pass, and the next one goes on where it stood."""
    pause_s = min(FIRST_S, interval.now)
    while True:
        await trio.sleep(pause_s * random.uniform(0.9, 1.1))
        pause_s = interval.now
        try:
            await work.step()
        except StoreBroken as broken:  # of facts that nothing else reads: no reason to end the node
            log.critical("audit refused", exc_info=broken)
        except StoreUnavailable as outage:  # here, not outside: the marks would be forgotten
            log.warning("store unavailable", actor="auditor", detail=str(outage))
            turned("auditor")
        else:
            succeeded("auditor")


def by_tenant(offences: Sequence[Offence]) -> list[tuple[str, list[Offence]]]:
    """Return offences by the tenant whose books they are in; what is nobody's has no lock."""
    ours = sorted((one for one in offences if one.tenant_id is not None), key=tenant_of)
    return [(name, list(group)) for name, group in groupby(ours, key=tenant_of)]


def tenant_of(one: Offence) -> str:
    """Return its tenant."""
    assert one.tenant_id is not None
    return one.tenant_id


def tell(finding: Finding) -> None:
    """Say what alerts look for; `run_id` where it is about a run."""
    offender = finding.evidence.get("offender", {})
    log.critical(
        "AUDIT_REQUIRED",
        reconcile_type=reconcile_type(finding.invariant),
        invariant=finding.invariant,
        finding_id=str(finding.finding_id),
        tenant_id=finding.tenant_id,
        subject=finding.subject,
        detail=finding.evidence.get("claim"),
        **({"run_id": finding.subject} if "run_id" in offender else {}),
    )
