"""COMMIT says yes, no, or nothing: whatever becomes of the connection, the answer is the truth.

The store talks to PostgreSQL through a wire that is cut at COMMIT: before it reached the server,
after it was done, during it, or without anybody hanging up. Both judges look at the books after
each test, and no test may have sent a cancel request.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp import metrics
from dpp.admission import Created, Exists
from dpp.faults import ClaimUnknown, StoreUnavailable
from dpp.leases import Lapse
from dpp.ledger import Kind, Posted
from dpp.money import Micros
from dpp.ports import CancelAsked, Ended, LeaseGone, Seen
from dpp.runs import Status
from dpp.settlement import FailedByPlatform, LeaseLost, Requeued, Settled
from dpp.store.connections import Address, Pool
from dpp.store.postgres import Sizes, ask, open_postgres
from dpp.store.transactions import CommitRefused, transaction
from tests.conftest import LIMITS
from tests.store.examples import (
    DOLLAR,
    LEASE_S,
    STORE_PLANS,
    end,
    ids,
    new_lease,
    new_tenant,
    posting,
    submission,
)
from tests.store.sessions import LOOK_S, SOON_S, start
from tests.store.steps import (
    begin,
    budget_of,
    claim,
    claim_of,
    create,
    make_tenant,
    read,
    take_lease,
)
from tests.store.verbs import submitting
from tests.store.wire import Cut, Wire, open_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dpp.store.bridge import Bridge
    from dpp.store.connections import Connection
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions

SETTLED = Settled(Status.COMPLETED, Micros(DOLLAR // 10))
CUTS = [Cut.BEFORE, Cut.AFTER]
BRIEF_S = 0.3  # a wall clock that a healthy transaction keeps by far


@pytest.fixture
async def wire(database: Database) -> AsyncIterator[Wire]:
    """Put a wire before the test's server."""
    async with open_wire(database.host) as one:
        yield one
    assert one.cancel_requests == 0


@pytest.fixture
def wired_address(database: Database, wire: Wire) -> Address:
    return Address({"host": wire.host, "user": "dpp_app", "database": database.name})


@pytest.fixture
async def wired(
    bridge: Bridge, database: Database, wired_address: Address, judged: PostgresStore
) -> AsyncIterator[PostgresStore]:
    """Open a store that talks through the wire; `judged` is its twin with a wire that holds."""
    auditor = database.address("dpp_audit")
    async with open_postgres(bridge, wired_address, auditor, Sizes.of(8), LIMITS) as one:
        one.plans = STORE_PLANS
        yield one


class TestOnSharedDatabase:
    """What needs nothing but an empty database."""

    @pytest.fixture
    def database(self, emptied: Database) -> Database:
        return emptied

    # ── each verb tells the truth ─────────────────────────────────────────────────────────────────

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_submit_is_created_or_exists_and_is_one_run(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        await make_tenant(wired)
        one = submission()
        wire.plan.append(cut)

        (answer,) = await wired.submit_runs([one], wait=True)

        assert isinstance(answer, Created if cut is Cut.BEFORE else Exists)
        assert answer.run_id == one.run_id
        assert (await read(wired, one.run_id)).status is Status.QUEUED
        assert await budget_of(wired) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)

    async def test_a_submit_cut_again_and_again_is_asked_until_it_is_definite(
        self, wired: PostgresStore, wire: Wire
    ) -> None:
        await make_tenant(wired)
        batch = [submission(), submission()]
        wire.plan.extend([Cut.BEFORE, Cut.BEFORE, Cut.AFTER, Cut.AFTER, Cut.BEFORE])
        before = wire.commits

        answers = await wired.submit_runs(batch, wait=True)

        assert answers == [Exists(one.run_id) for one in batch]
        assert wire.commits - before == 6
        assert await budget_of(wired) == (10 * DOLLAR, 8 * DOLLAR, 2 * DOLLAR, 0)

    @pytest.mark.parametrize("cut", CUTS)
    async def test_an_end_is_settled_once(self, wired: PostgresStore, wire: Wire, cut: Cut) -> None:
        await make_tenant(wired)
        claimed = await begin(wired, await take_lease(wired))
        wire.plan.append(cut)

        assert await wired.end_runs([end(claimed)], wait=True) == [SETTLED]

        assert await wired.end_runs([end(claimed)], wait=True) == [LeaseLost()]
        assert (await budget_of(wired))[3] == DOLLAR // 10

    @pytest.mark.parametrize("cut", CUTS)
    async def test_an_attempt_that_the_platform_failed_is_spent_once(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        """Asked again, a requeue cannot be told from a lost lease: neither spends a second one."""
        await make_tenant(wired)
        claimed = await begin(wired, await take_lease(wired))
        wire.plan.append(cut)

        answer = await wired.end_runs([end(claimed, FailedByPlatform("lost"))], wait=True)

        assert answer == [Requeued() if cut is Cut.BEFORE else LeaseLost()]
        run = await read(wired, claimed.fence.run_id)
        assert (run.status, run.attempt) == (Status.QUEUED, 2)

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_claim_is_unknown_until_it_is_asked_for(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        await make_tenant(wired)
        one, lease = await create(wired), await take_lease(wired)
        wire.plan.append(cut)

        with pytest.raises(ClaimUnknown):
            await wired.claim_runs(claim_of(lease))
        asked = await wired.claimed_under(lease)

        assert asked != LeaseGone()
        mine = [*asked, *await claim(wired, lease)]
        assert ids(mine) == [one.run_id]
        assert len(asked) == (0 if cut is Cut.BEFORE else 1)
        assert await wired.end_runs([end(mine[0])], wait=True) == [SETTLED]

    @pytest.mark.parametrize("cut", CUTS)
    async def test_what_an_unknown_claim_took_is_asked_for_until_it_is_told(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        await make_tenant(wired)
        await create(wired)
        lease = await take_lease(wired)
        claimed = await claim(wired, lease)
        wire.plan.append(cut)

        assert await wired.claimed_under(lease) == claimed

    @pytest.mark.parametrize("cut", CUTS)
    @pytest.mark.parametrize("kind", Kind)
    async def test_a_transfer_is_posted_once(
        self, wired: PostgresStore, wire: Wire, cut: Cut, kind: Kind
    ) -> None:
        await make_tenant(wired)
        wire.plan.append(cut)

        outcome = await wired.post_transfer(posting(DOLLAR, "one", kind=kind))

        there = 11 * DOLLAR if kind is Kind.DEPOSIT else 9 * DOLLAR
        assert isinstance(outcome, Posted)
        assert outcome.budget.available == there
        assert await budget_of(wired) == (there, there, 0, 0)

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_queued_run_is_canceled_once(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        await make_tenant(wired)
        one = await create(wired)
        wire.plan.append(cut)

        outcome = await wired.cancel_run("acme", one.run_id)

        assert outcome == Ended(await read(wired, one.run_id))
        assert outcome.run.status is Status.CANCELED

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_running_run_is_asked_to_end(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        await make_tenant(wired)
        claimed = await begin(wired, await take_lease(wired))
        wire.plan.append(cut)

        outcome = await wired.cancel_run("acme", claimed.fence.run_id)

        assert isinstance(outcome, CancelAsked)
        assert (await read(wired, claimed.fence.run_id)).cancel_asked

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_lost_attempt_is_spent_once(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        await make_tenant(wired)
        claimed = await begin(wired, await take_lease(wired))
        fence = claimed.fence
        wire.plan.append(cut)

        seen = Seen(fence.run_id, "acme", fence.lease_id, fence.lease_epoch)
        await wired.take_back([seen], Lapse.LOST)

        run = await read(wired, fence.run_id)
        assert (run.status, run.attempt) == (Status.QUEUED, 2)

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_tenant_is_made_once_with_its_money(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        wire.plan.append(cut)

        made = await wired.create_tenant(new_tenant("acme"))

        assert made == await wired.get_tenant("acme")
        assert await budget_of(wired) == (10 * DOLLAR, 10 * DOLLAR, 0, 0)

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_lease_is_taken_and_its_debts_are_paid(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        await make_tenant(wired)
        owed, lease = await take_lease(wired), new_lease()
        claimed = await begin(wired, owed)
        wire.plan.append(cut)

        await wired.take_lease(lease, lease_s=LEASE_S, hand_back=[owed])

        assert [node.lease_id for node in await wired.list_nodes()] == [lease.lease_id]
        run = await read(wired, claimed.fence.run_id)
        assert (run.status, run.attempt) == (Status.QUEUED, 1)

    @pytest.mark.parametrize("cut", CUTS)
    async def test_a_renewal_without_an_answer_is_taken_for_none(
        self, wired: PostgresStore, wire: Wire, cut: Cut
    ) -> None:
        lease = await take_lease(wired)
        wire.plan.append(cut)

        with pytest.raises(StoreUnavailable, match="COMMIT got no answer"):
            await wired.renew_lease(lease, lease_s=LEASE_S)

        assert (await wired.renew_lease(lease, lease_s=LEASE_S)).held

    # ── nobody answers, nobody hangs up ───────────────────────────────────────────────────────────

    async def test_a_commit_that_nobody_answers_is_cut_and_asked_again(
        self, bridge: Bridge, judged: PostgresStore, wired_address: Address, wire: Wire
    ) -> None:
        await make_tenant(judged)
        one, pool = submission(), Pool(wired_address, 2)
        wire.plan.append(Cut.SILENT)

        answer = await bridge.run(partial(asked, pool, submitting(one)))

        assert answer == [Exists(one.run_id)]
        await bridge.run(partial(dropped, pool))

    async def test_a_commit_that_never_arrived_is_asked_again_until_its_old_backend_is_gone(
        self,
        bridge: Bridge,
        judged: PostgresStore,
        wired_address: Address,
        wire: Wire,
        admin: Session,
    ) -> None:
        """The old backend sits in its transaction, holding the budget, until the server ends it."""
        await make_tenant(judged)
        for limit in ("idle_in_transaction_session_timeout = 700", "lock_timeout = 250"):
            await admin.execute(f"alter database dpp_shared set {limit}")
            await admin.execute(f"alter role dpp_app in database dpp_shared set {limit}")
        one, pool = submission(), Pool(wired_address, 2)
        wire.plan.append(Cut.NEVER)

        try:
            (answer,) = await bridge.run(partial(asked, pool, submitting(one)))
        finally:
            await admin.execute("alter role dpp_app in database dpp_shared reset all")  # noqa: ASYNC102 - it runs on asyncio

        assert isinstance(answer, Created)
        assert wire.commits == 2
        await bridge.run(partial(dropped, pool))

    async def test_a_statement_that_nobody_answers_is_cut_and_tried_on_another_connection(
        self, bridge: Bridge, judged: PostgresStore, wired_address: Address, wire: Wire
    ) -> None:
        await make_tenant(judged)
        first, second, pool = submission(), submission(), Pool(wired_address, 2)
        await bridge.run(partial(asked, pool, submitting(first)))
        wire.mute()

        (answer,) = await bridge.run(partial(asked, pool, submitting(second)))

        assert isinstance(answer, Created)
        await bridge.run(partial(dropped, pool))

    async def test_connections_lost_while_idle_cost_nothing_but_a_new_one(
        self, wired: PostgresStore, wire: Wire
    ) -> None:
        await make_tenant(wired)
        await wired.get_budget("acme")
        await wire.cut()

        await create(wired)

        assert (await budget_of(wired))[2] == DOLLAR

    # ── the server ends a backend ─────────────────────────────────────────────────────────────────

    async def test_a_backend_terminated_during_a_statement_is_tried_again(
        self, wired: PostgresStore, sessions: Sessions, admin: Session
    ) -> None:
        await make_tenant(wired)
        one = submission()
        await admin.execute("begin; select from dpp.budgets for no key update")

        async with trio.open_nursery() as nursery:
            submitted = start(nursery, partial(wired.submit_runs, [one], wait=True))
            await sessions.until_blocked()
            await terminate_blocked(sessions)
            await sessions.until_blocked()
            await admin.execute("commit")
            (answer,) = await submitted.result()

        assert isinstance(answer, Created)

    async def test_a_backend_terminated_between_statements_is_tried_again(
        self, bridge: Bridge, judged: PostgresStore, wired_address: Address, sessions: Sessions
    ) -> None:
        await make_tenant(judged)
        one, pool, session = submission(), Pool(wired_address, 2), await sessions.open()
        pool._idle.append(session.connection)

        async with trio.open_nursery() as nursery:
            running = await session.start_and_stop(
                nursery,
                lambda _: ask("submit", pool, submitting(one), once=False, wall_s=SOON_S),
                before="with asked as materialized (",
            )
            await terminate(sessions, session)
            await session.go_on()
            (answer,) = await running.result()

        assert isinstance(answer, Created)
        await bridge.run(partial(dropped, pool))

    async def test_a_backend_terminated_before_commit_arrived_is_asked_again(
        self, wired: PostgresStore, wire: Wire, sessions: Sessions
    ) -> None:
        await make_tenant(wired)
        one = submission()
        wire.plan.append(Cut.HELD)

        async with trio.open_nursery() as nursery:
            submitted = start(nursery, partial(wired.submit_runs, [one], wait=True))
            with trio.fail_after(SOON_S):
                await wire.held.wait()
            await terminate_in_transaction(sessions)
            wire.release.set()
            (answer,) = await submitted.result()

        assert isinstance(answer, Created)

    # ── cancellation stays on our side ────────────────────────────────────────────────────────────

    async def test_a_caller_that_is_cancelled_abandons_the_wait_and_nothing_else(
        self, wired: PostgresStore, wire: Wire, sessions: Sessions, admin: Session
    ) -> None:
        await make_tenant(wired)
        one = submission()
        await admin.execute("begin; select from dpp.budgets for no key update")

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(wired.submit_runs, [one], wait=True))
            await sessions.until_blocked()
            nursery.cancel_scope.cancel()
        await admin.execute("commit")

        with trio.fail_after(SOON_S):
            while await wired.get_run("acme", one.run_id) is None:  # noqa: ASYNC110
                await trio.sleep(LOOK_S)
        assert wire.cancel_requests == 0

    async def test_a_caller_cancelled_at_commit_leaves_it_to_be_done(
        self, wired: PostgresStore, wire: Wire
    ) -> None:
        await make_tenant(wired)
        one = submission()
        wire.plan.append(Cut.HELD)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(wired.submit_runs, [one], wait=True))
            await wire.held.wait()
            nursery.cancel_scope.cancel()
        wire.release.set()

        assert await wired.submit_runs([one], wait=True) == [Exists(one.run_id)]

    # ── a definite no ─────────────────────────────────────────────────────────────────────────────

    async def test_an_error_swallowed_inside_is_found_at_commit(
        self,
        bridge: Bridge,
        judged: PostgresStore,  # noqa: ARG002
        database: Database,
    ) -> None:
        async def swallow(connection: Connection) -> str:
            async with transaction(connection):
                await connection.execute("insert into nodes values ('lost', now(), null)")
                try:
                    await connection.execute("select 1 / 0")
                except Exception:  # noqa: BLE001  # this is the mistake
                    return "done"
            return "not reached"

        pool = Pool(database.address(), 2)
        before = metrics.commits_refused_total._value.get()

        with pytest.raises(CommitRefused, match="COMMIT was answered by ROLLBACK"):
            await bridge.run(partial(asked, pool, swallow))

        assert metrics.commits_refused_total._value.get() == before + 1
        await bridge.run(partial(dropped, pool))

    async def test_a_value_that_the_driver_refuses_rolls_everything_back(
        self,
        bridge: Bridge,
        judged: PostgresStore,  # noqa: ARG002
        database: Database,
        admin: Session,
    ) -> None:
        tries = []

        async def refused(connection: Connection) -> None:
            tries.append(connection)
            async with transaction(connection):
                await connection.execute("insert into nodes values ('lost', now(), null)")
                await connection.fetch("select $1::text", "closed \ud800")

        pool = Pool(database.address(), 2)

        with pytest.raises(ValueError, match="surrogates not allowed"):
            await bridge.run(partial(asked, pool, refused))

        assert len(tries) == 1  # a bug is not tried again, whatever it quotes
        assert await admin.fetchval("select count(*) from dpp.nodes") == 0
        assert await bridge.run(partial(asked, pool, one_more)) == 1  # the connection is fine
        assert len(pool._idle) == 1
        await bridge.run(partial(dropped, pool))

    async def test_a_transaction_that_is_not_open_any_more_did_not_commit(
        self,
        bridge: Bridge,
        judged: PostgresStore,  # noqa: ARG002
        database: Database,
    ) -> None:
        async def ended_inside(connection: Connection) -> None:
            async with transaction(connection):
                await connection.execute("rollback")

        pool = Pool(database.address(), 2)

        with pytest.raises(CommitRefused, match="no transaction is open"):
            await bridge.run(partial(asked, pool, ended_inside))

        await bridge.run(partial(dropped, pool))

    async def test_a_connection_left_in_a_transaction_is_not_lent_again(
        self,
        bridge: Bridge,
        judged: PostgresStore,  # noqa: ARG002
        database: Database,
    ) -> None:
        async def left_open(connection: Connection) -> int:
            await connection.execute("begin")
            return connection.get_server_pid()

        async def pid(connection: Connection) -> int:
            return connection.get_server_pid()

        pool = Pool(database.address(), 2)

        first = await bridge.run(partial(asked, pool, left_open))
        second = await bridge.run(partial(asked, pool, pid))
        third = await bridge.run(partial(asked, pool, pid))

        assert first != second == third
        await bridge.run(partial(dropped, pool))

    async def test_a_server_that_cannot_be_written_to_is_no_primary(
        self,
        bridge: Bridge,
        judged: PostgresStore,  # noqa: ARG002
        database: Database,
        admin: Session,
    ) -> None:
        await admin.execute(
            f"alter database {database.name} set default_transaction_read_only = on"
        )
        pool = Pool(database.address(), 1)

        with pytest.raises(StoreUnavailable):
            await bridge.run(partial(asked, pool, one_more))

        await admin.execute("set default_transaction_read_only = off")
        await admin.execute(f"alter database {database.name} reset all")

    async def test_no_server_is_an_outage_at_once(
        self,
        bridge: Bridge,
        judged: PostgresStore,  # noqa: ARG002
        database: Database,
    ) -> None:
        nowhere = Address({"host": "/nowhere", "user": "dpp_app", "database": database.name})

        with pytest.raises(StoreUnavailable):
            await bridge.run(partial(asked, Pool(nowhere, 1), one_more))

    async def test_array_types_are_asked_for_once_a_connection_and_not_in_transactions(
        self, wired: PostgresStore, wire: Wire
    ) -> None:
        await make_tenant(wired)
        lease = await take_lease(wired)
        claimed = await begin(wired, lease)
        before = wire.parses

        await wired.end_runs([end(claimed)], wait=True)

        assert wire.parses - before == 3  # lock budgets, lock runs, write: each parsed once


class TestOnDatabaseOfItsOwn:
    """What changes the schema."""

    async def test_an_old_backend_that_is_still_committing_is_waited_for(
        self, wired: PostgresStore, wire: Wire, sessions: Sessions, admin: Session
    ) -> None:
        await make_tenant(wired)
        one = submission()
        await at_commit(
            admin, "insert on dpp.submissions", "perform pg_advisory_xact_lock_shared(7)"
        )
        await admin.fetch("select pg_advisory_lock(7)")
        wire.plan.append(Cut.DURING)

        async with trio.open_nursery() as nursery:
            submitted = start(nursery, partial(wired.submit_runs, [one], wait=True))
            await sessions.until_blocked(2)  # the old one in COMMIT, the new one at the budget
            await admin.fetch("select pg_advisory_unlock(7)")
            answer = await submitted.result()

        assert answer == [Exists(one.run_id)]

    async def test_an_old_backend_that_fails_in_its_commit_has_committed_nothing(
        self, wired: PostgresStore, wire: Wire, sessions: Sessions, admin: Session
    ) -> None:
        await make_tenant(wired)
        one = submission()
        await at_commit(
            admin,
            "insert on dpp.submissions",
            "perform pg_advisory_xact_lock_shared(7);"
            " if pg_try_advisory_xact_lock(8) then raise 'once'; end if",
        )
        await admin.fetch("select pg_advisory_lock(7)")
        wire.plan.append(Cut.DURING)

        async with trio.open_nursery() as nursery:
            submitted = start(nursery, partial(wired.submit_runs, [one], wait=True))
            await sessions.until_blocked(2)
            holder = await sessions.open("postgres")
            await admin.fetch("select pg_advisory_unlock(7)")
            await sessions.until_blocked(0)
            await holder.fetch("select pg_advisory_lock(8)")
            answer = await submitted.result()

        assert isinstance(answer[0], Created | Exists)

    @pytest.mark.parametrize("cut", [None, Cut.SILENT])
    async def test_a_warning_at_commit_is_unknown_and_is_asked_again(
        self,
        wired: PostgresStore,
        admin: Session,
        cut: Cut | None,  # noqa: ARG002
    ) -> None:
        """01000: the wait for a standby was cut short; what is visible may not be there to stay."""
        await make_tenant(wired)
        one = submission()
        await at_commit(admin, "insert on dpp.submissions", "raise warning 'not on the standby'")
        unknown = metrics.commits_unknown_total.labels("submit_runs")._value
        before = unknown.get()

        assert await wired.submit_runs([one], wait=True) == [Exists(one.run_id)]

        assert unknown.get() == before + 1

    async def test_a_claim_whose_commit_warned_is_unknown(
        self, wired: PostgresStore, admin: Session
    ) -> None:
        await make_tenant(wired)
        one, lease = await create(wired), await take_lease(wired)
        await at_commit(admin, "update on dpp.live_runs", "raise warning 'not on the standby'")

        with pytest.raises(ClaimUnknown):
            await wired.claim_runs(claim_of(lease))

        assert ids(await wired.claimed_under(lease)) == [one.run_id]

    async def test_a_warning_before_commit_is_none_at_commit(
        self, wired: PostgresStore, admin: Session
    ) -> None:
        await make_tenant(wired)
        await admin.execute(trigger("after insert on dpp.submissions", "raise warning 'so what'"))

        await create(wired)

    async def test_a_constraint_that_refuses_at_commit_is_a_definite_no(
        self, wired: PostgresStore, admin: Session
    ) -> None:
        await make_tenant(wired)
        one = submission()
        refuse = "raise 'never' using errcode = 'check_violation'"
        await at_commit(admin, "insert on dpp.submissions", refuse)

        with pytest.raises(Exception, match="never"):
            await wired.submit_runs([one], wait=True)

        assert await wired.get_run("acme", one.run_id) is None

    async def test_a_serialization_failure_at_commit_is_tried_again(
        self, wired: PostgresStore, wire: Wire, admin: Session
    ) -> None:
        await make_tenant(wired)
        await admin.execute("create sequence dpp.tries; grant usage on dpp.tries to dpp_app")
        twice = "if nextval('dpp.tries') < 3 then raise 'again' using errcode = '40001'; end if"
        await at_commit(admin, "insert on dpp.submissions", twice)
        before = wire.commits

        await create(wired)

        assert wire.commits - before == 3


# ── how it is arranged ────────────────────────────────────────────────────────────────────────────


async def asked(pool: Pool, verb: Callable[[Connection], Awaitable[Any]]) -> Any:
    """Ask as the store does, with a wall clock that a test can wait for."""
    return await ask("a test", pool, verb, once=False, wall_s=BRIEF_S)


async def dropped(pool: Pool) -> None:
    pool.drop_idle()


async def one_more(connection: Connection) -> int:
    (row,) = await connection.fetch("select 1 as one")
    return row["one"]


def trigger(when: str, does: str, constraint: str = "") -> str:
    """Return statements that make a trigger."""
    return f"""
    create function dpp.meddle() returns trigger language plpgsql as $$
    begin {does}; return null; end $$;
    create {constraint} trigger meddle {when}
      {"deferrable initially deferred" if constraint else ""}
      for each row execute function dpp.meddle()
    """


async def at_commit(admin: Session, what: str, does: str) -> None:
    """Have COMMIT itself do something."""
    await admin.execute(trigger(f"after {what}", does, "constraint"))


async def terminate(sessions: Sessions, session: Session) -> None:
    """End the backend of a session, and wait until it is gone."""
    pid = session.connection.get_server_pid()
    await end_backends(sessions, f"pid = {pid}")


async def terminate_blocked(sessions: Sessions) -> None:
    """End the backends that wait for a lock."""
    await end_backends(sessions, "wait_event_type = 'Lock'")


async def terminate_in_transaction(sessions: Sessions) -> None:
    """End the backends that sit in a transaction."""
    await end_backends(sessions, "usename = 'dpp_app' and state = 'idle in transaction'")


async def end_backends(sessions: Sessions, which: str) -> None:
    ender = await sessions.open("postgres")
    backends = f"from pg_stat_activity where datname = current_database() and {which}"
    (row,) = await ender.fetch(
        f"select array_agg(pid) as pids, count(pg_terminate_backend(pid)) {backends}"
    )
    assert row["count"] > 0, which
    left = "select count(*) from pg_stat_activity where pid = any($1)"
    with trio.fail_after(SOON_S):
        while await ender.fetchval(left, row["pids"]):  # noqa: ASYNC110
            await trio.sleep(LOOK_S)
    await ender.close()
