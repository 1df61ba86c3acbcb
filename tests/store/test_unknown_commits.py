"""COMMITs beside those of money, cut off: each verb asks again, and answers the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpp.metrics import findings_total
from dpp.runs import Status
from tests.store.contract import seen
from tests.store.examples import DOLLAR, new_key
from tests.store.steps import ALL, begin, budget_of, create, make_tenant, read, take_lease
from tests.store.wire import Cut

if TYPE_CHECKING:
    from dpp.claims import Claimed
    from dpp.leases import NodeLease
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session
    from tests.store.wire import Wire

LATE = """
set session_replication_role = replica;
update dpp.live_runs set expires_at = now() - interval '1 s';
update dpp.submissions set expires_at = now() - interval '1 s';
set session_replication_role = origin
"""

pytestmark = pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER, Cut.DURING])


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


async def begun(store: PostgresStore) -> tuple[NodeLease, Claimed]:
    """Begin a run."""
    await make_tenant(store)
    lease = await take_lease(store)
    return lease, await begin(store, lease)


async def test_a_lease_is_ended_and_its_runs_are_handed_back_free(
    wired: PostgresStore, wire: Wire, cut: Cut
) -> None:
    lease, claimed = await begun(wired)
    wire.plan.append(cut)

    assert await wired.end_lease(lease, hand_back=True) == 0

    run = await read(wired, claimed.fence.run_id)
    assert (run.status, run.attempt) == (Status.QUEUED, 1)
    assert await wired.list_nodes() == []


async def test_runs_are_handed_back_free(wired: PostgresStore, wire: Wire, cut: Cut) -> None:
    _, claimed = await begun(wired)
    wire.plan.append(cut)

    await wired.hand_back_runs([claimed.fence])

    run = await read(wired, claimed.fence.run_id)
    assert (run.status, run.attempt) == (Status.QUEUED, 1)


async def test_earlier_leases_are_ended_and_the_own_one_is_not(
    wired: PostgresStore, wire: Wire, cut: Cut
) -> None:
    await take_lease(wired)
    own = await take_lease(wired)
    wire.plan.append(cut)

    await wired.end_earlier_leases(own)

    assert [node.lease_id for node in await wired.list_nodes()] == [own.lease_id]


async def test_a_run_is_marked_as_storing(wired: PostgresStore, wire: Wire, cut: Cut) -> None:
    _, claimed = await begun(wired)
    wire.plan.append(cut)

    assert await wired.mark_storing(claimed.fence)


async def test_an_unknown_claim_is_known(wired: PostgresStore, wire: Wire, cut: Cut) -> None:
    lease, claimed = await begun(wired)
    wire.plan.append(cut)

    assert [one.fence for one in await wired.claimed_under(lease)] == [claimed.fence]


async def test_a_run_expires_once(
    wired: PostgresStore, wire: Wire, admin: Session, cut: Cut
) -> None:
    await make_tenant(wired)
    waiting = await create(wired)
    await admin.execute(LATE)
    due = await wired.unstarted_runs(ALL)
    wire.plan.append(cut)

    await wired.expire_runs(due)

    assert (await read(wired, waiting.run_id)).status is Status.EXPIRED
    assert await budget_of(wired) == (10 * DOLLAR, 10 * DOLLAR, 0, 0)


async def test_a_run_is_set_aside_with_one_finding_that_is_counted(
    wired: PostgresStore, wire: Wire, cut: Cut
) -> None:
    _, claimed = await begun(wired)
    counted = findings_total.labels("write_refused")
    before = counted._value.get()
    wire.plan.append(cut)

    assert await wired.quarantine_run(seen(claimed), {"why": "a test"})

    (finding,) = await wired.list_findings()
    tenant = await wired.get_tenant("acme")
    assert tenant is not None
    assert tenant.frozen
    assert (finding.subject, counted._value.get() - before) == (str(claimed.fence.run_id), 1)
    assert not await wired.quarantine_run(seen(claimed), {"why": "somebody else"})


async def test_a_finding_is_opened_and_whoever_opened_it_is_told(
    wired: PostgresStore, wire: Wire, cut: Cut
) -> None:
    _, claimed = await begun(wired)
    subject = str(claimed.fence.run_id)
    wire.plan.append(cut)

    assert await wired.open_finding("object_not_asked", subject, "acme", {})

    assert len(await wired.list_findings()) == 1
    assert not await wired.open_finding("object_not_asked", subject, "acme", {})


async def test_a_key_is_made_and_revoked(wired: PostgresStore, wire: Wire, cut: Cut) -> None:
    await make_tenant(wired)
    wire.plan.append(cut)
    assert await wired.create_key(new_key("k2", "acme"), operator="ops") is not None
    wire.plan.append(cut)

    assert await wired.revoke_key("acme", "k2", operator="ops")
