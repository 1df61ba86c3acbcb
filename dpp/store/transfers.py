"""Transfers that operators make: deposits, withdrawals, refunds and adjusts.

One transaction each: lock the budget, look up the reference and the refunded run in statements
after that, decide, write. Once per (tenant, reference), so asking again posts nothing twice.
"""

from uuid import UUID

from dpp import ledger
from dpp.admission import Busy
from dpp.ledger import (
    SIGNS,
    EarlierTransfer,
    Posted,
    Posting,
    PostingOutcome,
    RefundableRun,
    TenantUnknown,
)
from dpp.money import Micros
from dpp.store import reads
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import transaction


async def post_transfer(
    connection: Connection, posting: Posting, *, wait: bool
) -> PostingOutcome | Busy:
    """Post a transfer, once per (tenant, reference)."""
    async with transaction(connection, "transfer"):
        return await post(connection, posting, wait=wait)


async def post(
    connection: Connection, posting: Posting, *, wait: bool = True
) -> PostingOutcome | Busy:
    """Lock the budget, read, decide, write; inside the caller's transaction."""
    lock = queries.lock_budgets if wait else queries.lock_budgets_free
    budget = await lock.fetch_one(connection, tenant_ids=[posting.tenant_id])
    if budget is None:
        return TenantUnknown() if wait else Busy()
    decided = ledger.decide(posting, await read(connection, posting, budget))
    if decided is True:
        budget = await write_transfer(connection, posting, budget["seq"] + 1)
    elif decided is not False:
        return decided
    return Posted(reads.budget(budget))


async def read(connection: Connection, posting: Posting, budget: Row) -> ledger.Read:
    """Read what a posting is decided by; the budget is locked, so it stays as it is read."""
    row = await queries.earlier_transfer.fetch_one(
        connection, tenant_id=posting.tenant_id, reference=posting.reference
    )
    earlier = None if row is None else EarlierTransfer(row["kind"], row["amount"], row["run_id"])
    run = None if posting.run_id is None else await refundable_run(connection, posting)
    return ledger.Read(Micros(budget["available"]), earlier, run)


async def tenant_of_run(connection: Connection, run_id: UUID) -> str | None:
    """Return whose run this is, for who wants to refund one and knows no more than its id."""
    row = await queries.tenant_of_run.fetch_one(connection, run_id=run_id)
    return None if row is None else str(row["tenant_id"])


async def refundable_run(connection: Connection, posting: Posting) -> RefundableRun | None:
    """Read what the run of a refund cost, and what was refunded of it."""
    row = await queries.refundable_run.fetch_one(
        connection, tenant_id=posting.tenant_id, run_id=posting.run_id
    )
    return None if row is None else RefundableRun(row["cost"], row["refunded"])


async def write_transfer(connection: Connection, posting: Posting, seq: int) -> Row:
    """Insert the transfer and move the budget; returns the budget row after it."""
    signs = SIGNS[posting.kind]
    row = await queries.post_transfer.fetch_one(
        connection,
        tenant_id=posting.tenant_id,
        seq=seq,
        kind=posting.kind.value,
        amount=posting.amount,
        run_id=posting.run_id,
        reference=posting.reference,
        reason=posting.reason,
        operator=posting.operator,
        deposited=signs.deposited,
        available=signs.available,
        spent=signs.spent,
    )
    assert row is not None
    return row
