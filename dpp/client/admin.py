"""An operator's client, for the admin API on the management listener.

Answers stay documents: they are printed, not computed with. Every write carries who asks for it.
What makes something new (a tenant, a key) is asked again only when it was certainly not done.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from urllib.parse import quote

from dpp.client import asking, connection
from dpp.client.asking import Document
from dpp.client.blocking import Connected, Stream
from dpp.client.connection import OnRetry, Settings
from dpp.client.retries import Retries
from dpp.client.steps import Items, Request
from dpp.client.values import Answer

ROOT = "/admin/v1"
AUDIT_S = 600  # an audit reads every row; ten seconds for a million transfers


class Admin(Connected):
    """A context manager; `operator` is written beside everything that it changes."""

    def __init__(
        self,
        url: str,
        token: str,
        operator: str,
        *,
        retries: Retries | None = None,
        on_retry: OnRetry | None = None,
    ) -> None:
        self._operator = operator
        settings = Settings.of(url, token, connection.TIMEOUT)
        super().__init__(settings, connection.context(retries, on_retry))

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
        return self._post(f"{ROOT}/tenants", body, repeatable=False)

    def tenants(self) -> Iterator[Document]:
        """Yield all tenants, by name, page by page."""
        return self._items(f"{ROOT}/tenants")

    def tenant(self, tenant: str) -> Document:
        """Return a tenant and its budget."""
        return self._get(_path(tenant))

    def set_plan(self, tenant: str, plan: str, *, reason: str | None = None) -> Document:
        """Give a tenant another plan."""
        return self._post(f"{_path(tenant)}/plan", self._body(reason, plan=plan), repeatable=True)

    def set_suspended(self, tenant: str, *, suspended: bool, reason: str | None = None) -> Document:
        """Refuse a tenant's new submissions, or take them again."""
        verb = "suspend" if suspended else "resume"
        return self._post(f"{_path(tenant)}:{verb}", self._body(reason), repeatable=True)

    def create_key(
        self,
        tenant: str,
        *,
        scopes: Sequence[str] = (),
        expires_in_s: int | None = None,
        spend_limit_usd: str | None = None,
        reason: str | None = None,
    ) -> Document:
        """Make a key, which is in this answer alone; without scopes it has all of them."""
        members = {"expires_in_s": expires_in_s, "spend_limit_usd": spend_limit_usd}
        body = self._body(reason, scopes=list(scopes) or None, **members)
        return self._post(f"{_path(tenant)}/keys", body, repeatable=False)

    def keys(self, tenant: str, *, ended: bool = False) -> Iterator[Document]:
        """Yield a tenant's keys, newest first, without their secrets; `ended` ones where asked."""
        return self._items(f"{_path(tenant)}/keys", **({"ended": "true"} if ended else {}))

    def rotate_key(
        self, tenant: str, key_id: str, *, overlap_s: int | None = None, reason: str | None = None
    ) -> Document:
        """Make a key in the place of another, which goes on for `overlap_s`, a day by default."""
        path = f"{_path(tenant)}/keys/{quote(key_id, safe='')}:rotate"
        return self._post(path, self._body(reason, overlap_s=overlap_s), repeatable=False)

    def revoke_key(self, tenant: str, key_id: str, *, reason: str | None = None) -> Document:
        """Revoke a key; revoked twice is revoked."""
        path = f"{_path(tenant)}/keys/{quote(key_id, safe='')}:revoke"
        return self._post(path, self._body(reason), repeatable=True)

    def run(self, run_id: str) -> Document:
        """Return whose run this is."""
        return self._get(f"{ROOT}/runs/{quote(run_id, safe='')}")

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
        return self._post(f"{_path(tenant)}/{path}", body, repeatable=True)

    def audit(self) -> Document:
        """Return the verdict on every invariant, and the open findings."""
        return self._get(f"{ROOT}/audit", wait_s=AUDIT_S)

    def findings(self) -> Iterator[Document]:
        """Yield the findings that are open, oldest first."""
        yield from self._get(f"{ROOT}/findings")["items"]

    def finding(self, finding_id: str) -> Document:
        """Return a finding, open or resolved."""
        return self._get(f"{ROOT}/findings/{quote(finding_id, safe='')}")

    def resolve(
        self, finding_id: str, how: str, *, cost_usd: str | None = None, reason: str
    ) -> Document:
        """Resolve a finding; the same asked again is answered the same."""
        path = f"{ROOT}/findings/{quote(finding_id, safe='')}:resolve"
        body = self._body(reason, how=how, cost_usd=cost_usd)
        return self._post(path, body, repeatable=True)

    def nodes(self) -> Iterator[Document]:
        """Yield every node that ever was, by its id."""
        yield from self._get(f"{ROOT}/nodes")["items"]

    def node(self, node_id: str) -> Document:
        """Return a node: its state, its last report."""
        return self._get(f"{ROOT}/nodes/{quote(node_id, safe='')}")

    def set_drain(self, node_id: str, *, drain: bool, reason: str | None = None) -> Document:
        """Let a node claim nothing more, or work again."""
        verb = "drain" if drain else "undrain"
        path = f"{ROOT}/nodes/{quote(node_id, safe='')}:{verb}"
        return self._post(path, self._body(reason), repeatable=True)

    def config(self) -> Document:
        """Return the configuration in force on this node; secrets are masked."""
        return self._get(f"{ROOT}/config")

    def mode(self) -> Document:
        """Return the mode in force, and who asked for which."""
        return self._get(f"{ROOT}/mode")

    def set_mode(self, mode: str, *, reason: str, expires_in_s: int | None = None) -> Document:
        """Put all nodes into a mode."""
        body = self._body(reason, mode=mode, expires_in_s=expires_in_s)
        request = asking.send("PUT", f"{ROOT}/mode", body, repeatable=True)
        return self._ask(request)

    def _body(self, reason: str | None, **members: object) -> Document:
        """Return a body without what was not given."""
        body = {"operator": self._operator, "reason": reason, **members}
        return {name: value for name, value in body.items() if value is not None}

    def _get(self, path: str, *, wait_s: float = 0) -> Document:
        return self._ask(asking.get(path, wait_s=wait_s))

    def _post(self, path: str, body: Mapping[str, object], *, repeatable: bool) -> Document:
        return self._ask(asking.send("POST", path, body, repeatable=repeatable))

    def _ask(self, request: Request) -> Document:
        return asking.document_of(self._do(asking.asked(self._context, request)))

    def _items(self, path: str, **query: object) -> Iterator[Document]:
        items: Items[Answer] = asking.pages(self._context, path, Answer, **query)
        return (dict(item.document) for item in Stream(self._wire, items))


def _path(tenant: str) -> str:
    return f"{ROOT}/tenants/{quote(tenant, safe='')}"
