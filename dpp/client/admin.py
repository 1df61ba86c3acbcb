"""An operator's client, for the admin API on the management listener.

Answers stay documents: they are printed, not computed with. Every write carries who asks for it.
What makes something new (a tenant, a key) is asked again only when it was certainly not done.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from urllib.parse import quote

from attrs import define, field

from dpp.client.keys import Bearer
from dpp.client.transport import Connected, Document, Retries, Transport

ROOT = "/admin/v1"
PAGE = 200  # the most that a list gives at once
AUDIT_S = 600  # an audit reads every row; ten seconds for a million transfers


@define(eq=False)
class Admin(Connected):
    """A context manager; `operator` is written beside everything that it changes."""

    url: str
    token: str = field(repr=False)
    operator: str
    retries: Retries = field(factory=Retries)

    def __attrs_post_init__(self) -> None:
        self._transport = Transport(self.url, Bearer(self.token), self.retries)

    def create_tenant(
        self,
        tenant: str,
        *,
        plan: str,
        deposit_usd: str | None = None,
        reason: str | None = None,
    ) -> Document:
        """Create a tenant with its first key, which is in this answer alone."""
        body = self._body(reason, tenant_id=tenant, plan=plan, deposit_usd=deposit_usd)
        return self._transport.post(f"{ROOT}/tenants", body, repeatable=False)

    def tenants(self) -> Iterator[Document]:
        """Yield all tenants, by name, page by page."""
        yield from self._items(f"{ROOT}/tenants")

    def tenant(self, tenant: str) -> Document:
        """Return a tenant and its budget."""
        return self._transport.get(_path(tenant))

    def set_plan(self, tenant: str, plan: str, *, reason: str | None = None) -> Document:
        """Give a tenant another plan."""
        return self._transport.post(
            f"{_path(tenant)}/plan", self._body(reason, plan=plan), repeatable=True
        )

    def set_suspended(self, tenant: str, *, suspended: bool, reason: str | None = None) -> Document:
        """Refuse a tenant's new submissions, or take them again."""
        verb = "suspend" if suspended else "resume"
        return self._transport.post(f"{_path(tenant)}:{verb}", self._body(reason), repeatable=True)

    def create_key(
        self,
        tenant: str,
        *,
        scopes: Sequence[str] = (),
        lives_s: int | None = None,
        reason: str | None = None,
    ) -> Document:
        """Make a key, which is in this answer alone; without scopes it has all of them."""
        body = self._body(reason, scopes=list(scopes) or None, lives_s=lives_s)
        return self._transport.post(f"{_path(tenant)}/keys", body, repeatable=False)

    def keys(self, tenant: str) -> Iterator[Document]:
        """Yield a tenant's keys, without their secrets."""
        yield from self._items(f"{_path(tenant)}/keys")

    def revoke_key(self, tenant: str, key_id: str, *, reason: str | None = None) -> Document:
        """Revoke a key; revoked twice is revoked."""
        path = f"{_path(tenant)}/keys/{quote(key_id, safe='')}:revoke"
        return self._transport.post(path, self._body(reason), repeatable=True)

    def run(self, run_id: str) -> Document:
        """Return whose run this is."""
        return self._transport.get(f"{ROOT}/runs/{quote(run_id, safe='')}")

    def book(
        self,
        path: str,
        tenant: str,
        amount: str,
        *,
        reference: str,
        run_id: str | None = None,
        reason: str | None = None,
    ) -> Document:
        """Book a transfer, once by its reference; only one of "refunds" names a run.

        `path`: "deposits", "withdrawals", "refunds" or "adjusts".
        """
        body = self._body(reason, amount_usd=amount, reference=reference, run_id=run_id)
        return self._transport.post(f"{_path(tenant)}/{path}", body, repeatable=True)

    def audit(self) -> Document:
        """Return the verdict on every invariant, and the open findings."""
        return self._transport.get(f"{ROOT}/audit", wait_s=AUDIT_S)

    def findings(self) -> Iterator[Document]:
        """Yield the findings that are open, oldest first."""
        yield from self._transport.get(f"{ROOT}/findings")["items"]

    def finding(self, finding_id: str) -> Document:
        """Return a finding, open or resolved."""
        return self._transport.get(f"{ROOT}/findings/{quote(finding_id, safe='')}")

    def resolve(
        self, finding_id: str, how: str, *, cost_usd: str | None = None, reason: str
    ) -> Document:
        """Resolve a finding; the same asked again is answered the same."""
        path = f"{ROOT}/findings/{quote(finding_id, safe='')}:resolve"
        body = self._body(reason, how=how, cost_usd=cost_usd)
        return self._transport.post(path, body, repeatable=True)

    def _body(self, reason: str | None, **members: object) -> Document:
        """Return a body without what was not given."""
        body = {"operator": self.operator, "reason": reason, **members}
        return {name: value for name, value in body.items() if value is not None}

    def _items(self, path: str) -> Iterator[Document]:
        cursor: str | None = None
        while True:
            params: dict[str, str | int] = {"limit": PAGE, **({"cursor": cursor} if cursor else {})}
            answer = self._transport.get(path, params)
            yield from answer["items"]
            cursor = answer.get("next_cursor")
            if cursor is None:
                return


def _path(tenant: str) -> str:
    return f"{ROOT}/tenants/{quote(tenant, safe='')}"
