"""Counts before COMMIT: a write that did not happen is never answered as if it had.

A trigger swallows the writes to one table, as a bug of ours would. Whatever it swallows, the
transaction must end in an error, and nothing of it may be there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpp.cancels import CancelAsked
from dpp.leases import Lapse
from dpp.ledger import Kind
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import CanceledWhileRunning, FailedByItself, FailedByPlatform
from tests.store.contract import REFUSED, seen
from tests.store.examples import DOLLAR, end, posting, submission
from tests.store.steps import begin, books_of, create, make_tenant, settle, take_lease

if TYPE_CHECKING:
    from dpp.settlement import Outcome
    from dpp.store.postgres import PostgresStore
    from tests.store.sessions import Session


async def swallow(admin: Session, what: str, table: str) -> None:
    """Let no row through."""
    await admin.execute(f"""
        create function dpp.swallow() returns trigger language plpgsql as $$
        begin return null; end $$;
        create trigger swallow before {what} on dpp.{table}
          for each row execute function dpp.swallow()
    """)


@pytest.mark.parametrize(
    ("what", "table"), [("insert", "submissions"), ("insert", "live_runs"), ("update", "budgets")]
)
async def test_a_run_is_created_whole_or_not_at_all(
    judged: PostgresStore, admin: Session, what: str, table: str
) -> None:
    await make_tenant(judged)
    before = await books_of(judged)
    await swallow(admin, what, table)

    with pytest.raises(AssertionError):
        await judged.submit_runs([submission(), submission()], wait=True)

    assert await books_of(judged) == before


@pytest.mark.parametrize(
    ("what", "table"), [("delete", "live_runs"), ("insert", "endings"), ("update", "budgets")]
)
@pytest.mark.parametrize(
    "outcome",
    [FailedByItself(REFUSED, Micros(1)), CanceledWhileRunning(Micros(0))],
    ids=["settle", "void"],
)
async def test_a_run_is_ended_whole_or_not_at_all(
    judged: PostgresStore, admin: Session, what: str, table: str, outcome: Outcome
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    before = await books_of(judged)
    await swallow(admin, what, table)

    with pytest.raises(AssertionError):
        await judged.end_runs([end(claimed, outcome)], wait=True)

    assert await books_of(judged) == before


async def test_a_requeue_that_was_not_written_is_not_answered(
    judged: PostgresStore, admin: Session
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    await swallow(admin, "update", "live_runs")

    with pytest.raises(AssertionError):
        await judged.end_runs([end(claimed, FailedByPlatform("lost"))], wait=True)


async def test_a_page_is_taken_back_whole_or_not_at_all(
    judged: PostgresStore, admin: Session
) -> None:
    await make_tenant(judged)
    lease = await take_lease(judged)
    requeued, canceled = await begin(judged, lease), await begin(judged, lease)
    await judged.cancel_run("acme", canceled.fence.run_id)
    before = await books_of(judged)
    await swallow(admin, "update", "live_runs")

    with pytest.raises(AssertionError):
        await judged.take_back([seen(requeued), seen(canceled)], Lapse.LOST)

    assert await books_of(judged) == before


async def test_a_queued_run_is_canceled_whole_or_not_at_all(
    judged: PostgresStore, admin: Session
) -> None:
    """One that the database refuses to end is set aside, and the cancel noted."""
    await make_tenant(judged)
    one = await create(judged)
    before = await judged.get_budget("acme")
    await swallow(admin, "insert", "endings")

    outcome = await judged.cancel_run("acme", one.run_id)

    assert isinstance(outcome, CancelAsked)
    assert (outcome.run.status, outcome.run.cancel_asked) == (Status.QUEUED, True)
    assert await judged.get_budget("acme") == before
    (finding,) = await judged.list_findings()
    assert (finding.invariant, finding.subject) == ("write_refused", str(one.run_id))
    assert finding.evidence["verb"] == "cancel_run"
    tenant = await judged.get_tenant("acme")
    assert tenant is not None
    assert tenant.frozen


@pytest.mark.parametrize(("what", "table"), [("insert", "transfers"), ("update", "budgets")])
@pytest.mark.parametrize("kind", Kind)
async def test_a_transfer_is_posted_whole_or_not_at_all(
    judged: PostgresStore, admin: Session, what: str, table: str, kind: Kind
) -> None:
    await make_tenant(judged)
    run_id = await settle(judged, cost=DOLLAR)
    before = await books_of(judged)
    await swallow(admin, what, table)

    with pytest.raises(AssertionError):
        await judged.post_transfer(posting(DOLLAR, "one", kind=kind, run_id=run_id))

    assert await books_of(judged) == before
