"""COMMIT says yes, no, or nothing: whatever becomes of the connection, the answer is the truth.

The store talks to PostgreSQL through a wire that is cut at COMMIT: before it reached the server,
after it was done, during it, or without anybody hanging up. Both judges look at the books after
each test, and no test may have sent a cancel request.
"""

from __future__ import annotations

import itertools
from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import trio

from dpp import metrics
from dpp.admission import Created, Exists
from dpp.cancels import CancelAsked, Ended
from dpp.claims import Seen
from dpp.faults import ClaimUnknown, StoreBroken, StoreUnavailable
from dpp.leases import Lapse
from dpp.ledger import Kind, Posted
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import FailedByPlatform, LeaseLost, Requeued, Settled
from dpp.store import connections, desk
from dpp.store.connections import WARM_UP, Address, Pool, connect
from dpp.store.desk import TRIES_MAX, ask
from dpp.store.transactions import transaction
from tests.store.examples import (
    DOLLAR,
    LEASE_S,
    end,
    ids,
    new_lease,
    new_tenant,
    posting,
    submission,
)
from tests.store.sessions import LOOK_S, SOON_S, start
from tests.store.steps import (
    ALL,
    begin,
    budget_of,
    claim,
    claim_of,
    create,
    make_tenant,
    read,
    settle,
    submit_alone,
    take_lease,
)
from tests.store.verbs import claiming, submitting
from tests.store.wire import Cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from dpp.store.bridge import Bridge
    from dpp.store.connections import Connection
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions
    from tests.store.wire import Wire

SETTLED = Settled(Status.COMPLETED, Micros(DOLLAR // 10))
CUTS = [Cut.BEFORE, Cut.AFTER]
BRIEF_S = 0.5  # for what is silent; a healthy transaction keeps it by far

WRITE = "insert into dpp.nodes values ('lost', now(), null)"
WRITTEN = "select count(*) from dpp.nodes"
LOCK, UNLOCK = "select pg_advisory_lock(7)", "select pg_advisory_unlock(7)"
UNTIL_UNLOCKED = "perform pg_advisory_xact_lock_shared(7)"


class Asking:
    """Asks as the store does, on a pool of the test's own and by a wall clock that it can await."""

    def __init__(self, bridge: Bridge, pool: Pool) -> None:
        self.pool = pool
        self._bridge = bridge

    async def __call__(
        self,
        verb: Callable[[Connection], Awaitable[Any]],
        *,
        name: str = "a test",
        once: bool = False,
        wall_s: float = SOON_S,
    ) -> Any:
        asking = partial(ask, name, self.pool, verb, once=once, wall_s=wall_s)
        with trio.fail_after(SOON_S):
            return await self._bridge.run(asking)


@asynccontextmanager
async def open_asking(bridge: Bridge, address: Address) -> AsyncIterator[Asking]:
    """Drop the connections after the block, also when a test failed in it."""
    pool = Pool(address, 2)

    async def drop() -> None:  # it must run in the bridge's thread
        pool.drop_idle()

    try:
        yield Asking(bridge, pool)
    finally:
        with trio.CancelScope(shield=True):
            await bridge.run(drop)


@pytest.fixture
async def asked(
    bridge: Bridge,
    database: Database,
    judged: PostgresStore,
) -> AsyncIterator[Asking]:
    """Ask the server itself."""
    async with open_asking(bridge, database.address()) as one:
        yield one


@pytest.fixture
async def wired_asked(
    bridge: Bridge,
    wired_address: Address,
    judged: PostgresStore,
) -> AsyncIterator[Asking]:
    """Ask through the wire."""
    async with open_asking(bridge, wired_address) as one:
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

        assert isinstance(asked, list)
        mine = asked + await claim(wired, lease)
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
        run_id = await settle(wired, cost=DOLLAR)
        wire.plan.append(cut)

        outcome = await wired.post_transfer(posting(DOLLAR, "one", kind=kind, run_id=run_id))

        deposited = {Kind.WITHDRAW: 9, Kind.REFUND: 10}.get(kind, 11) * DOLLAR
        spent = 0 if kind is Kind.REFUND else DOLLAR
        assert isinstance(outcome, Posted)
        assert outcome.budget == await wired.get_budget("acme")
        assert await budget_of(wired) == (deposited, deposited - spent, 0, spent)
        listed = await wired.list_transfers("acme", before=None, limit=ALL)
        assert [one.reference for one in listed if one.reference] == ["one", "first"]

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
        self, judged: PostgresStore, wired_asked: Asking, wire: Wire
    ) -> None:
        await make_tenant(judged)
        one = submission()
        wire.plan.append(Cut.SILENT)

        answer = await wired_asked(submitting(one), wall_s=BRIEF_S)

        assert answer == [Exists(one.run_id)]

    async def test_a_claim_that_nobody_answers_is_unknown(
        self, judged: PostgresStore, wired_asked: Asking, wire: Wire
    ) -> None:
        await make_tenant(judged)
        one, lease = await create(judged), await take_lease(judged)
        verb = claiming(claim_of(lease))
        wire.plan.append(Cut.SILENT)

        with pytest.raises(ClaimUnknown):
            await wired_asked(verb, name="claim_runs", once=True, wall_s=BRIEF_S)

        assert ids(await judged.claimed_under(lease)) == [one.run_id]

    async def test_a_commit_that_never_arrived_is_asked_again_until_its_old_backend_is_gone(
        self, judged: PostgresStore, wired_asked: Asking, wire: Wire, admin: Session
    ) -> None:
        """The old backend sits in its transaction, holding the budget, until the server ends it."""
        await make_tenant(judged)
        for limit in ("idle_in_transaction_session_timeout = 1000", "lock_timeout = 200"):
            await admin.execute(f"alter role dpp_app in database dpp_shared set {limit}")
        one = submission()
        wire.plan.append(Cut.NEVER)

        (answer,) = await wired_asked(submitting(one), wall_s=BRIEF_S)

        assert isinstance(answer, Created)
        assert wire.cuts == 1
        assert await budget_of(judged) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)

    @pytest.mark.parametrize("cut", CUTS)
    async def test_an_outcome_that_stays_unknown_is_an_outage_in_the_end(
        self, wired: PostgresStore, wire: Wire, monkeypatch: pytest.MonkeyPatch, cut: Cut
    ) -> None:
        await make_tenant(wired)
        monkeypatch.setattr(desk, "ASK_S", BRIEF_S)
        wire.next_cut = lambda: cut
        one, began_at = submission(), trio.current_time()

        with trio.fail_after(SOON_S), pytest.raises(StoreUnavailable, match="CommitUnknown"):
            await wired.submit_runs([one], wait=True)

        assert trio.current_time() - began_at > BRIEF_S / 2  # not at the first
        wire.next_cut = lambda: None
        (answer,) = await wired.submit_runs([one], wait=True)
        assert isinstance(answer, Created if cut is Cut.BEFORE else Exists)
        assert await budget_of(wired) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)

    async def test_a_statement_that_nobody_answers_is_cut_and_tried_on_another_connection(
        self, judged: PostgresStore, wired_asked: Asking, wire: Wire
    ) -> None:
        await make_tenant(judged)
        await wired_asked(submitting(submission()))
        wire.mute()

        (answer,) = await wired_asked(submitting(submission()), wall_s=BRIEF_S)

        assert isinstance(answer, Created)

    async def test_a_login_that_nobody_answers_is_an_outage(
        self, wired_asked: Asking, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(connections, "CONNECT_S", BRIEF_S)
        wire.deaf = True

        with pytest.raises(StoreUnavailable, match="TimeoutError"):
            await wired_asked(one_more)

    @pytest.mark.direct
    @pytest.mark.parametrize("asks_for_standby", [False, True])
    async def test_a_server_that_says_nothing_after_the_login_is_given_up(
        self,
        bridge: Bridge,
        wire: Wire,
        wired_address: Address,
        monkeypatch: pytest.MonkeyPatch,
        *,
        asks_for_standby: bool,
    ) -> None:
        """Not by a cancel request either, which the driver's own limit would send in a query."""
        monkeypatch.setattr(connections, "CONNECT_S", 2 * BRIEF_S)  # a login keeps it by far
        wire.mute_after_login, wire.hides_standby = True, asks_for_standby
        lost = TimeoutError if asks_for_standby else asyncpg.ConnectionDoesNotExistError

        with trio.fail_after(SOON_S), pytest.raises(lost):
            await bridge.run(partial(connect, wired_address))

        (query,) = wire.parsed
        assert (WARM_UP.encode() in query) is not asks_for_standby
        await until(lambda: wire.lines == 0)

    async def test_a_connection_whose_first_statement_fails_is_closed(
        self,
        bridge: Bridge,
        wire: Wire,
        wired_address: Address,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(connections, "WARM_UP", f"{WARM_UP}, 1 / 0")

        with pytest.raises(asyncpg.DivisionByZeroError) as raised:
            await bridge.run(partial(connect, wired_address))

        await until(lambda: wire.lines == 0)
        assert raised  # which kept the connection: nobody but `connect` has closed it

    async def test_a_cancel_request_would_be_seen(self, wired_asked: Asking, wire: Wire) -> None:
        async def with_a_limit_of_the_driver(connection: Connection) -> None:
            await connection.fetch("select pg_sleep(1)", timeout=0.01)

        with pytest.raises(StoreUnavailable, match="TimeoutError"):
            await wired_asked(with_a_limit_of_the_driver)

        await until(lambda: wire.cancel_requests == 1)
        wire.cancel_requests = 0  # as they have to be after each test

    async def test_a_connection_lost_while_idle_costs_no_try(
        self, wired_asked: Asking, wire: Wire, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await wired_asked(one_more)
        (lost,) = wired_asked.pool._idle
        wire.cut()
        await until(lost.is_closed)
        monkeypatch.setattr(desk, "PAUSE_S", 10 * SOON_S)  # before a second try

        assert await wired_asked(one_more) == 1

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

    @pytest.mark.parametrize("before", ["with asked as materialized (", "commit"])
    async def test_a_backend_terminated_between_statements_is_tried_again(
        self, judged: PostgresStore, asked: Asking, sessions: Sessions, before: str
    ) -> None:
        await make_tenant(judged)
        one, session = submission(), await sessions.open()
        asked.pool._idle.append(session.connection)

        async with trio.open_nursery() as nursery:
            submitted = await session.start_and_stop(
                nursery,
                lambda _: ask("a test", asked.pool, submitting(one), once=False, wall_s=SOON_S),
                before=before,
            )
            await terminate(sessions, session)
            await session.go_on()
            (answer,) = await submitted.result()

        assert isinstance(answer, Created)

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
        answered = metrics.commit_seconds.labels("submit_runs")._sum
        before = answered.get()

        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(wired.submit_runs, [one], wait=True))
            await wire.held.wait()
            nursery.cancel_scope.cancel()
        wire.release.set()

        await until(lambda: answered.get() > before)  # its driver was not cancelled with it
        assert await submit_alone(wired, one) == Exists(one.run_id)
        assert await budget_of(wired) == (10 * DOLLAR, 9 * DOLLAR, DOLLAR, 0)

    # ── a definite no ─────────────────────────────────────────────────────────────────────────────

    async def test_an_error_swallowed_inside_is_found_at_commit(
        self, asked: Asking, admin: Session
    ) -> None:
        tries = []

        async def swallow(connection: Connection) -> str:
            tries.append(connection)
            async with transaction(connection):
                await connection.execute(WRITE)
                try:
                    await connection.execute("select 1 / 0")
                except Exception:  # noqa: BLE001  # this is the mistake
                    return "done"
            return "not reached"

        before = metrics.commits_refused_total._value.get()

        with pytest.raises(StoreBroken, match="COMMIT was answered by ROLLBACK"):
            await asked(swallow)

        assert len(tries) == 1
        assert metrics.commits_refused_total._value.get() == before + 1
        assert await admin.fetchval(WRITTEN) == 0

    async def test_a_value_that_the_driver_refuses_rolls_everything_back(
        self, asked: Asking, admin: Session
    ) -> None:
        tries = []

        async def refused(connection: Connection) -> None:
            tries.append(connection)
            async with transaction(connection):
                await connection.execute(WRITE)
                await connection.fetch("select $1::text", "closed \ud800")

        with pytest.raises(asyncpg.DataError, match="surrogates not allowed"):
            await asked(refused)

        assert len(tries) == 1  # a bug is not tried again, whatever it quotes
        assert await admin.fetchval(WRITTEN) == 0
        assert await asked(one_more) == 1
        assert asked.pool._idle == tries  # the connection is fine

    async def test_a_transaction_that_is_not_open_any_more_did_not_commit(
        self, asked: Asking, admin: Session
    ) -> None:
        async def ended_inside(connection: Connection) -> None:
            async with transaction(connection):
                await connection.execute(WRITE)
                await connection.execute("rollback")

        with pytest.raises(StoreBroken, match="no transaction is open"):
            await asked(ended_inside)

        assert await admin.fetchval(WRITTEN) == 0

    async def test_a_connection_left_in_a_transaction_is_not_lent_again(
        self, asked: Asking
    ) -> None:
        async def left_open(connection: Connection) -> int:
            await connection.execute("begin")
            return connection.get_server_pid()

        async def pid(connection: Connection) -> int:
            return connection.get_server_pid()

        first, second, third = await asked(left_open), await asked(pid), await asked(pid)

        assert first != second == third

    async def test_a_setting_that_the_driver_refuses_is_a_bug_whatever_it_quotes(
        self, bridge: Bridge, database: Database
    ) -> None:
        """An outage is told by the word "closed", and what the driver quotes may hold it."""
        keywords = {"host": database.host, "user": "dpp_app", "database": database.name}
        wrong = Address(keywords, server="closed")  # type: ignore[arg-type]

        async with open_asking(bridge, wrong) as ask_wrongly:
            with pytest.raises(asyncpg.ClientConfigurationError, match="got 'closed'"):
                await ask_wrongly(one_more)

    async def test_no_server_is_an_outage_at_once(
        self, bridge: Bridge, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        nowhere = Address({"host": "/nowhere", "user": "dpp_app", "database": "dpp"})
        monkeypatch.setattr(desk, "PAUSE_S", 10 * SOON_S)  # before a second try

        async with open_asking(bridge, nowhere) as ask_nowhere:
            with pytest.raises(StoreUnavailable, match="FileNotFound"):
                await ask_nowhere(one_more)

    async def test_array_types_are_asked_for_once_a_connection_and_not_in_transactions(
        self, wired: PostgresStore, wire: Wire
    ) -> None:
        await make_tenant(wired)
        claimed = await begin(wired, await take_lease(wired))

        await wired.end_runs([end(claimed)], wait=True)

        connections = sum(WARM_UP.encode() in query for query in wire.parsed)
        looked_up = sum(b"typeinfo_tree" in query for query in wire.parsed)
        assert looked_up == connections > 0

    async def test_a_batch_is_as_many_statements_as_one_item(
        self, wired: PostgresStore, wire: Wire
    ) -> None:
        await make_tenant(wired)
        lease = await take_lease(wired)
        batch = [submission(max_cost=DOLLAR // 10) for _ in range(50)]
        told: list[int] = [wire.executed]

        await wired.submit_runs(batch, wait=True)
        told.append(wire.executed)
        claimed = await claim(wired, lease)
        told.append(wire.executed)
        await wired.end_runs([end(one) for one in claimed], wait=True)
        told.append(wire.executed)

        assert [after - before for before, after in itertools.pairwise(told)] == [3, 2, 3]

    async def test_what_a_tenant_reads_is_one_statement_and_so_one_snapshot(
        self, wired: PostgresStore, wire: Wire
    ) -> None:
        await make_tenant(wired)
        one = await create(wired)
        await wired.get_budget("acme")
        told: list[int] = [wire.executed]

        for ask_for in (
            partial(wired.get_run, "acme", one.run_id),
            partial(wired.get_runs, "acme", [one.run_id]),
            partial(wired.list_runs, "acme", before=None, limit=ALL),
            partial(wired.list_transfers, "acme", before=None, limit=ALL),
            partial(wired.get_budget, "acme"),
        ):
            assert await ask_for()
            told.append(wire.executed)

        assert [after - before for before, after in itertools.pairwise(told)] == [1] * 5


class TestOnDatabaseOfItsOwn:
    """What changes the schema, or a setting that keeps the shared one from being emptied."""

    async def test_a_server_that_cannot_be_written_to_is_no_primary(
        self, asked: Asking, database: Database, admin: Session
    ) -> None:
        await admin.execute(
            f"alter database {database.name} set default_transaction_read_only = on"
        )

        with pytest.raises(StoreUnavailable, match="TargetServerAttributeNotMatched"):
            await asked(one_more)

    async def test_an_old_backend_that_is_still_committing_is_waited_for(
        self, wired: PostgresStore, wire: Wire, sessions: Sessions, admin: Session
    ) -> None:
        await make_tenant(wired)
        one = submission()
        await at_commit(admin, "insert on dpp.submissions", UNTIL_UNLOCKED)
        await admin.fetch(LOCK)
        wire.plan.append(Cut.DURING)

        async with trio.open_nursery() as nursery:
            submitted = start(nursery, partial(wired.submit_runs, [one], wait=True))
            await sessions.until_blocked(2)  # the old one in COMMIT, the new one at the budget
            await admin.fetch(UNLOCK)
            answer = await submitted.result()

        assert answer == [Exists(one.run_id)]

    async def test_an_old_backend_that_fails_in_its_commit_has_committed_nothing(
        self, wired: PostgresStore, wire: Wire, sessions: Sessions, admin: Session
    ) -> None:
        await make_tenant(wired)
        one = submission()
        await admin.execute("create sequence dpp.tries; grant usage on dpp.tries to dpp_app")
        once = f"if nextval('dpp.tries') = 1 then {UNTIL_UNLOCKED}; raise 'once'; end if"
        await at_commit(admin, "insert on dpp.submissions", once)
        await admin.fetch(LOCK)
        wire.plan.append(Cut.DURING)

        async with trio.open_nursery() as nursery:
            submitted = start(nursery, partial(wired.submit_runs, [one], wait=True))
            await sessions.until_blocked(2)
            await admin.fetch(UNLOCK)
            (answer,) = await submitted.result()

        assert isinstance(answer, Created)

    async def test_an_unknown_outcome_outlasts_the_tries_of_a_known_one(
        self,
        wired: PostgresStore,
        wire: Wire,
        admin: Session,
        database: Database,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        """A backend that waits for its standby keeps its locks for longer than a few tries take."""
        monkeypatch.setattr(desk, "PAUSE_S", LOOK_S)
        limit = f"alter role dpp_app in database {database.name} set lock_timeout = 50"
        await admin.execute(limit)
        await make_tenant(wired)
        one, begins = submission(), wire.begins
        await at_commit(admin, "insert on dpp.submissions", UNTIL_UNLOCKED)
        await admin.fetch(LOCK)
        await admin.execute("alter function dpp.meddle() set lock_timeout = 0")
        wire.plan.append(Cut.DURING)

        async with trio.open_nursery() as nursery:
            submitted = start(nursery, partial(wired.submit_runs, [one], wait=True))
            await until(lambda: wire.begins - begins >= 2 * TRIES_MAX or submitted.over)
            await admin.fetch(UNLOCK)
            answer = await submitted.result()

        assert answer == [Exists(one.run_id)]

    async def test_an_old_backend_that_is_still_claiming_is_waited_for(
        self, wired: PostgresStore, wire: Wire, sessions: Sessions, admin: Session
    ) -> None:
        await make_tenant(wired)
        one, lease = await create(wired), await take_lease(wired)
        await at_commit(admin, "update on dpp.live_runs", UNTIL_UNLOCKED)
        await admin.fetch(LOCK)
        wire.plan.append(Cut.DURING)

        with pytest.raises(ClaimUnknown):
            await wired.claim_runs(claim_of(lease))
        async with trio.open_nursery() as nursery:
            told = start(nursery, partial(wired.claimed_under, lease))
            await sessions.until_blocked(2)
            await admin.fetch(UNLOCK)
            claimed = await told.result()

        assert isinstance(claimed, list)
        assert ids(claimed) == [one.run_id]

    async def test_an_old_backend_that_is_still_settling_is_waited_for(
        self, wired: PostgresStore, wire: Wire, sessions: Sessions, admin: Session
    ) -> None:
        await make_tenant(wired)
        claimed = await begin(wired, await take_lease(wired))
        await at_commit(admin, "insert on dpp.endings", UNTIL_UNLOCKED)
        await admin.fetch(LOCK)
        wire.plan.append(Cut.DURING)

        async with trio.open_nursery() as nursery:
            ended = start(nursery, partial(wired.end_runs, [end(claimed)], wait=True))
            await sessions.until_blocked(2)
            await admin.fetch(UNLOCK)
            answer = await ended.result()

        assert answer == [SETTLED]
        assert (await budget_of(wired))[3] == DOLLAR // 10

    async def test_a_warning_at_commit_is_unknown_and_is_asked_again(
        self, wired: PostgresStore, admin: Session
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

        with pytest.raises(asyncpg.CheckViolationError, match="never"):
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


async def one_more(connection: Connection) -> int:
    (row,) = await connection.fetch("select 1 as one")
    return row["one"]


async def until(holds: Callable[[], bool]) -> None:
    """Return when that is so; each look lets everything else go on."""
    with trio.fail_after(SOON_S):
        while True:
            await trio.sleep(LOOK_S)
            if holds():
                return


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
