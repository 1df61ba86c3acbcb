"""The verbs that the admin API asks."""

from functools import partial
from uuid import UUID

from dpp.auditing import Mark
from dpp.blobs import Pointer
from dpp.faults import PageBroken, StoreBroken, StoreUnavailable, told
from dpp.findings import Audit, Finding, ResolutionRefused, ResolveOutcome
from dpp.leases import Node
from dpp.ledger import Posting, PostingOutcome
from dpp.logs import get_logger
from dpp.membership import Member
from dpp.modes import Mode, ModeChange, NewMode
from dpp.resolutions import Refold, Resolving
from dpp.store import (
    auditing,
    audits,
    orders,
    resolutions,
    storing,
    tenants,
    transfers,
)
from dpp.store.desk import AUDIT_WALL_S
from dpp.store.queries import queries
from dpp.store.verbs import Verbs
from dpp.tenants import NewTenant, Tenant, TenantExists

log = get_logger(__name__)


class ForOperators(Verbs):
    """What operators ask."""

    # operators

    async def create_tenant(self, tenant: NewTenant) -> Tenant | TenantExists:
        """Make a tenant, its first key and deposit."""
        return await self._desk.ask(
            "create_tenant", self._desk.work, partial(tenants.create_tenant, new=tenant)
        )

    async def get_tenant(self, tenant_id: str) -> Tenant | None:
        """Return a tenant with its budget."""
        return await self._desk.ask(
            "get_tenant", self._desk.read, partial(tenants.get_tenant, tenant_id=tenant_id)
        )

    async def list_tenants(self, *, after: str, limit: int) -> list[Tenant]:
        """Return tenants by name."""
        return await self._desk.ask(
            "list_tenants", self._desk.read, partial(tenants.list_tenants, after=after, limit=limit)
        )

    async def set_plan(
        self,
        tenant_id: str,
        plan: str,
        *,
        operator: str,  # noqa: ARG002 - who asks has it in the log
    ) -> Tenant | None:
        """Put a tenant on another plan."""
        return await self._desk.ask(
            "set_plan", self._desk.work, partial(tenants.set_plan, tenant_id=tenant_id, plan=plan)
        )

    async def set_suspended(
        self,
        tenant_id: str,
        *,
        suspended: bool,
        operator: str,  # noqa: ARG002 - the same
    ) -> Tenant | None:
        """Suspend or resume a tenant."""
        verb = partial(tenants.set_suspended, tenant_id=tenant_id, suspended=suspended)
        return await self._desk.ask("set_suspended", self._desk.work, verb)

    async def post_transfer(self, posting: Posting) -> PostingOutcome:
        """Post a transfer, once per (tenant, reference)."""
        verb = partial(transfers.post_transfer, posting=posting)
        return await self._desk.ask_row("post_transfer", posting.tenant_id, verb)

    async def tenant_of_run(self, run_id: UUID) -> str | None:
        """Return whose run this is."""
        verb = partial(transfers.tenant_of_run, run_id=run_id)
        return await self._desk.ask("tenant_of_run", self._desk.read, verb)

    async def list_findings(self) -> list[Finding]:
        """Return open findings."""
        return await self._desk.ask("list_findings", self._desk.read, audits.list_findings)

    async def get_finding(self, finding_id: UUID) -> Finding | None:
        """Return a finding, open or resolved."""
        verb = partial(resolutions.get_finding, finding_id=finding_id)
        return await self._desk.ask("get_finding", self._desk.read, verb)

    async def resolve_finding(self, asked: Resolving) -> ResolveOutcome:
        """Do what an operator decided about a finding."""
        finding = await self.get_finding(asked.finding_id)
        whose = "" if finding is None or finding.tenant_id is None else finding.tenant_id
        folded = Mark()
        if isinstance(asked.remedy, Refold) and whose:
            fold = partial(auditing.fold, tenant_id=whose)
            folded = await self._desk.ask("fold", self._desk.auditor, fold, wall_s=AUDIT_WALL_S)
        verb = partial(resolutions.resolve_finding, asked=asked, folded=folded)
        try:
            return await self._desk.ask_row("resolve_finding", whose, verb)
        except (StoreUnavailable, StoreBroken) as fault:
            if not isinstance(fault, PageBroken):
                raise
            refused: Exception = fault
        except Exception as error:  # noqa: BLE001 - whatever the finding was about may refuse this too
            refused = error
        log.error("resolving refused", finding_id=str(asked.finding_id), exc_info=refused)
        return ResolutionRefused(f"nothing was changed; mend this first: {told(refused)}")

    async def set_mode(self, new: NewMode) -> ModeChange:
        """Put all nodes into a mode."""
        return await self._desk.ask("set_mode", self._desk.work, partial(orders.set_mode, new=new))

    async def mode(self) -> Mode:
        """Return the mode in force."""
        return await self._desk.ask("mode", self._desk.read, orders.mode)

    async def list_modes(self, limit: int) -> list[ModeChange]:
        """Return who asked for which mode, newest first."""
        verb = partial(orders.list_modes, limit=limit)
        return await self._desk.ask("list_modes", self._desk.read, verb)

    async def list_members(self, node_id: str | None = None) -> list[Member]:
        """Return every node that there was, or one."""
        verb = partial(orders.list_members, node_id=node_id)
        return await self._desk.ask("list_members", self._desk.read, verb)

    async def ask_drain(self, node_id: str, *, operator: str, reason: str) -> bool:
        """Ask a node to drain; False = there is no such node."""
        verb = partial(orders.ask_drain, node_id=node_id, operator=operator, reason=reason)
        return await self._desk.ask("ask_drain", self._desk.work, verb)

    async def end_drain(self, node_id: str) -> bool:
        """Let a node work again; False = there is no such node."""
        verb = partial(orders.end_drain, node_id=node_id)
        return await self._desk.ask("end_drain", self._desk.work, verb)

    async def list_nodes(self) -> list[Node]:
        """Return the nodes whose lease lives."""
        rows = await self._desk.ask("list_nodes", self._desk.read, queries.list_nodes.fetch)
        return [Node(row["node_id"], row["lease_id"], row["lease_until"]) for row in rows]

    async def audit(self) -> Audit:
        """Ask every invariant, on a connection that can only read."""
        return await self._desk.ask("audit", self._desk.auditor, audits.audit, wall_s=AUDIT_WALL_S)

    async def sample_results(self, limit: int) -> list[Pointer]:
        """Return where some large results must lie."""
        verb = partial(storing.sample, limit=limit)
        return await self._desk.ask("sample_results", self._desk.read, verb)
