"""The verbs that handlers ask for a tenant: reads, and cancel."""

from collections.abc import Sequence
from datetime import date, datetime
from functools import partial
from uuid import UUID, uuid4

from dpp.cancels import CancelOutcome
from dpp.chronicles import Backlog, Position
from dpp.faults import PageBroken, StoreBroken, StoreUnavailable
from dpp.keyring import KeyRefusal, Rotated, TurnRefusal
from dpp.keys import Key, KeyPlace, NewKey, Rotation
from dpp.ledger import Budget, Entry
from dpp.listings import EVERYTHING, RunFilter, RunPage
from dpp.logs import get_logger
from dpp.receipts import Receipt, Unresolved
from dpp.runs import Run
from dpp.store import (
    cancels,
    chronicles,
    keys,
    reads,
    webhooks,
)
from dpp.store.verbs import Verbs
from dpp.usage import Usage
from dpp.watches import Watch
from dpp.webhooks import (
    Delivery,
    NewWebhook,
    ReplayOutcome,
    TooManyWebhooks,
    Webhook,
    WebhookChange,
)

log = get_logger(__name__)


class ForTenants(Verbs):
    """What HTTP asks for a tenant."""

    # reads

    async def get_run(self, tenant_id: str, run_id: UUID) -> Run | None:
        """Return a run of this tenant."""
        return await self._desk.ask(
            "get_run", self._desk.read, partial(reads.get_run, tenant_id=tenant_id, run_id=run_id)
        )

    async def get_runs(self, tenant_id: str, run_ids: Sequence[UUID]) -> list[Run]:
        """Return those of these runs that the tenant has."""
        verb = partial(
            reads.watched_runs, watching=[Watch(tenant_id, run_id) for run_id in run_ids]
        )
        return list(await self._desk.ask("get_runs", self._desk.read, verb))

    async def read_chronicle(
        self, tenant_id: str, run_id: UUID, *, after: Position, limit: int
    ) -> Backlog | None:
        """Return a run's state and what was told of it behind `after`."""
        verb = partial(
            chronicles.read_chronicle, tenant_id=tenant_id, run_id=run_id, after=after, limit=limit
        )
        return await self._desk.ask("read_chronicle", self._desk.read, verb)

    async def list_runs(
        self,
        tenant_id: str,
        *,
        before: UUID | None,
        limit: int,
        matching: RunFilter = EVERYTHING,
    ) -> RunPage:
        """Return a page of runs, newest first."""
        verb = partial(
            reads.list_runs, tenant_id=tenant_id, before=before, limit=limit, matching=matching
        )
        return await self._desk.ask("list_runs", self._desk.read, verb)

    async def get_budget(self, tenant_id: str) -> Budget:
        """Return the tenant's budget."""
        return await self._desk.ask(
            "get_budget", self._desk.read, partial(reads.get_budget, tenant_id=tenant_id)
        )

    async def list_transfers(
        self, tenant_id: str, *, before: int | None, limit: int
    ) -> list[Entry]:
        """Return a page of the tenant's ledger."""
        verb = partial(reads.list_transfers, tenant_id=tenant_id, before=before, limit=limit)
        return await self._desk.ask("list_transfers", self._desk.read, verb)

    async def get_receipt(self, tenant_id: str, run_id: UUID) -> Receipt | Unresolved | None:
        """Return a run's receipt, or how far the run is."""
        verb = partial(reads.get_receipt, tenant_id=tenant_id, run_id=run_id)
        return await self._desk.ask("get_receipt", self._desk.read, verb)

    async def is_closed(self, tenant_id: str, seq: int) -> bool:
        """Say whether the closing entry covers this place of the ledger."""
        verb = partial(reads.is_closed, tenant_id=tenant_id, seq=seq)
        return await self._desk.ask("is_closed", self._desk.read, verb)

    async def is_pruned(self, tenant_id: str, run_id: UUID) -> bool:
        """Say whether the tenant had such a run and it is past retention."""
        verb = partial(reads.is_pruned, tenant_id=tenant_id, run_id=run_id)
        return await self._desk.ask("is_pruned", self._desk.read, verb)

    async def get_usage(self, tenant_id: str, *, first: date | None, last: date | None) -> Usage:
        """Return the tenant's usage of a period of UTC days."""
        verb = partial(reads.get_usage, tenant_id=tenant_id, first=first, last=last)
        return await self._desk.ask("get_usage", self._desk.read, verb)

    async def find_key(self, key_id: str) -> Key | None:
        """Return a key."""
        return await self._desk.ask(
            "find_key", self._desk.read, partial(keys.find_key, key_id=key_id)
        )

    async def ping(self) -> None:
        """Ask the database for its time; one that only reads counts as none."""
        await self._desk.ask("ping", self._desk.read, reads.ping, once=True, wall_s=2.0)

    # keys; operators ask them too

    async def create_key(self, key: NewKey, *, operator: str) -> Key | KeyRefusal | None:
        """Store a key; None = no such tenant."""
        verb = partial(keys.create_key, new=key, operator=operator)
        return await self._desk.ask_row("create_key", key.tenant_id, verb)

    async def rotate_key(self, asked: Rotation) -> Rotated | TurnRefusal:
        """Replace a key by a new one."""
        verb = partial(keys.rotate_key, asked=asked)
        return await self._desk.ask_row("rotate_key", asked.tenant_id, verb)

    async def list_keys(
        self, tenant_id: str, *, before: KeyPlace | None, limit: int, ended: bool
    ) -> list[Key]:
        """Return a page of a tenant's keys, newest first."""
        verb = partial(keys.list_keys, tenant_id=tenant_id, before=before, limit=limit, ended=ended)
        return await self._desk.ask("list_keys", self._desk.read, verb)

    async def revoke_key(self, tenant_id: str, key_id: str, *, operator: str) -> bool:
        """Revoke a key; False = the tenant has no such key."""
        verb = partial(keys.revoke_key, tenant_id=tenant_id, key_id=key_id, operator=operator)
        return await self._desk.ask("revoke_key", self._desk.work, verb)

    # cancel

    async def cancel_run(self, tenant_id: str, run_id: UUID) -> CancelOutcome:
        """See `dpp.store.cancels`."""
        ending_id = uuid4()
        verb = partial(cancels.cancel_run, tenant_id=tenant_id, run_id=run_id, ending_id=ending_id)
        bug: Exception
        try:
            return await self._desk.ask_row("cancel_run", tenant_id, verb)
        except PageBroken as broken:
            bug = broken
        except (StoreUnavailable, StoreBroken):
            raise
        except Exception as error:  # noqa: BLE001 - whatever refuses it
            bug = error
        # The database refuses to end this run: it is set aside.
        names = {"run_id": str(run_id), "tenant_id": tenant_id}
        log.critical("cancel refused", **names, reconcile_type="write_refused", exc_info=bug)
        why = f"{type(bug).__name__}: {bug}"
        evidence = {"verb": "cancel_run", "error": why, "ending_id": str(ending_id), **names}
        noted = partial(
            cancels.set_aside,
            tenant_id=tenant_id,
            run_id=run_id,
            evidence=evidence,
            finding_id=uuid4(),
        )
        return await self._desk.ask("set_aside", self._desk.work, noted)

    # webhooks

    async def create_webhook(self, new: NewWebhook) -> Webhook | TooManyWebhooks:
        """Store an endpoint."""
        verb = partial(webhooks.create_webhook, new=new)
        return await self._desk.ask_row("create_webhook", new.tenant_id, verb)

    async def get_webhook(self, tenant_id: str, webhook_id: UUID) -> Webhook | None:
        """Return an endpoint of this tenant."""
        verb = partial(webhooks.get_webhook, tenant_id=tenant_id, webhook_id=webhook_id)
        return await self._desk.ask("get_webhook", self._desk.read, verb)

    async def list_webhooks(
        self, tenant_id: str, *, before: UUID | None, limit: int
    ) -> list[Webhook]:
        """Return a page of endpoints, newest first."""
        verb = partial(webhooks.list_webhooks, tenant_id=tenant_id, before=before, limit=limit)
        return await self._desk.ask("list_webhooks", self._desk.read, verb)

    async def change_webhook(
        self, tenant_id: str, webhook_id: UUID, change: WebhookChange
    ) -> Webhook | None:
        """Change an endpoint."""
        verb = partial(
            webhooks.change_webhook, tenant_id=tenant_id, webhook_id=webhook_id, change=change
        )
        return await self._desk.ask("change_webhook", self._desk.work, verb)

    async def delete_webhook(self, tenant_id: str, webhook_id: UUID) -> bool:
        """Delete an endpoint. Asked again after an unknown COMMIT it may say False."""
        verb = partial(webhooks.delete_webhook, tenant_id=tenant_id, webhook_id=webhook_id)
        return await self._desk.ask("delete_webhook", self._desk.work, verb)

    async def rotate_webhook(
        self, tenant_id: str, webhook_id: UUID, secret: bytes
    ) -> Webhook | None:
        """Give an endpoint a new secret."""
        verb = partial(
            webhooks.rotate_webhook, tenant_id=tenant_id, webhook_id=webhook_id, secret=secret
        )
        return await self._desk.ask("rotate_webhook", self._desk.work, verb)

    async def list_deliveries(
        self,
        tenant_id: str,
        webhook_id: UUID,
        *,
        before: tuple[datetime, UUID] | None,
        limit: int,
    ) -> list[Delivery] | None:
        """Return a page of an endpoint's log, newest first."""
        verb = partial(
            webhooks.list_deliveries,
            tenant_id=tenant_id,
            webhook_id=webhook_id,
            before=before,
            limit=limit,
        )
        return await self._desk.ask("list_deliveries", self._desk.read, verb)

    async def replay_delivery(
        self, tenant_id: str, webhook_id: UUID, delivery_id: UUID
    ) -> ReplayOutcome:
        """Set a delivery due again."""
        verb = partial(
            webhooks.replay_delivery,
            tenant_id=tenant_id,
            webhook_id=webhook_id,
            delivery_id=delivery_id,
        )
        return await self._desk.ask("replay_delivery", self._desk.work, verb)
