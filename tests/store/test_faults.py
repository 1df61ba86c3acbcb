"""Faults that are nobody's item, and floods that are one tenant's: who pays for them.

Logins that are refused, statements that a migration made stale, rows and schemas that are broken,
and more questions than there is room for. The actors are the real ones, on PostgreSQL.
"""

from __future__ import annotations

from contextlib import asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any

import asyncpg
import pytest
import trio
from attrs import define, field
from trio.testing import wait_all_tasks_blocked

from dpp.actors.batches import Refusals
from dpp.actors.lanes import keep_lanes
from dpp.actors.reaper import Calm, Passing, step
from dpp.actors.settler import SettlingDesk, settler
from dpp.admission import Created
from dpp.cancels import CancelAsked, Ended
from dpp.faults import StoreBroken, StoreUnavailable
from dpp.live import Live, Pace
from dpp.metrics import findings_total
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import Quarantined, Settled
from dpp.store import bridge as bridge_module
from dpp.store import connections, desk, patience
from dpp.store.desk import Sizes
from dpp.store.postgres import open_postgres
from tests.conftest import LIMITS
from tests.store.examples import DOLLAR, LEASE_S, STORE_PLANS, end, submission
from tests.store.sessions import LOOK_S, SOON_S, holding, start
from tests.store.steps import begin, create, make_tenant, read, submit, take_lease
from tests.store.wire import Cut

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from uuid import UUID

    from dpp.claims import Claimed
    from dpp.settlement import End, Settlement
    from dpp.store.bridge import Bridge
    from dpp.store.connections import Address, Connection
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions
    from tests.store.wire import Wire

SETTLED = Settled(Status.COMPLETED, Micros(DOLLAR // 10))
MANY = 30
# How a login is refused, and how it is granted again.
NO_LOGIN = ("alter role dpp_app nologin", "alter role dpp_app login")  # 28000
NO_CONNECT = (  # 42501, which else says that the schema is broken
    "do $$ begin execute format('revoke connect on database %I from public', current_database()); end $$",  # noqa: E501
    "do $$ begin execute format('grant connect on database %I to public', current_database()); end $$",  # noqa: E501
)
CUT_ALL = """
select pg_terminate_backend(pid, 5000) from pg_stat_activity
 where usename = 'dpp_app' and datname = current_database()
"""
LATE = """
set session_replication_role = replica;
update dpp.live_runs set expires_at = now() - interval '1 s' where run_id = '{run_id}';
update dpp.submissions set expires_at = now() - interval '1 s' where run_id = '{run_id}';
set session_replication_role = origin
"""
# The page of one live row cannot be written: reading it and marking it go on.
BAD_PAGE = """
create function dpp.bad_page() returns trigger language plpgsql as $$ begin
  if old.run_id = '{run_id}' then
    raise exception 'invalid page in block 7' using errcode = 'XX001';
  end if;
  return old;
end $$;
create trigger bad_page before delete on dpp.live_runs for each row execute function dpp.bad_page();
"""


@asynccontextmanager
async def refused_logins(
    admin: Session, how: tuple[str, str] = NO_LOGIN
) -> AsyncIterator[Callable[[], Awaitable[Any]]]:
    """Cut the store's connections and refuse it new ones; give what grants them again."""
    refuse, grant = how
    await admin.execute(refuse)
    await admin.fetch(CUT_ALL)
    try:
        yield partial(admin.execute, grant)
    finally:
        with trio.CancelScope(shield=True):
            await admin.execute(grant)  # the role is the whole server's


@define(eq=False)
class Settling:
    """The settler at work on the store: its desk, and the bugs that it gave up after."""

    desk: SettlingDesk = field(factory=lambda: SettlingDesk(1, 100))
    bugs: list[BaseException] = field(factory=list)

    async def settle(self, one: End) -> Settlement:
        with trio.fail_after(SOON_S):
            return await self.desk.settle(one, "trace")


@asynccontextmanager
async def settling(store: PostgresStore) -> AsyncIterator[Settling]:
    """Run a settler meanwhile."""
    one = Settling()
    async with trio.open_nursery() as nursery, one.desk:
        actor = partial(settler, store, lambda _: None)
        nursery.start_soon(keep_lanes, "settler", one.desk, actor, one.bugs.append)
        yield one


async def assert_nobody_is_to_blame(store: PostgresStore, tenant_id: str = "acme") -> None:
    """No run is set aside, and nobody frozen."""
    tenant = await store.get_tenant(tenant_id)
    assert tenant is not None
    assert not tenant.frozen
    assert await store.list_findings() == []


# ── logins ────────────────────────────────────────────────────────────────────────────────────────


@pytest.mark.direct
@pytest.mark.parametrize("verb", ["submit", "settle", "renew", "cancel"])
@pytest.mark.parametrize("how", [NO_LOGIN, NO_CONNECT], ids=["no login", "no connect"])
async def test_a_refused_login_is_an_outage(
    judged: PostgresStore, admin: Session, how: tuple[str, str], verb: str
) -> None:
    await make_tenant(judged)
    lease = await take_lease(judged)
    claimed, queued = await begin(judged, lease), await create(judged)
    verbs: dict[str, Callable[[], Awaitable[Any]]] = {
        "submit": partial(judged.submit_runs, [submission()], wait=False),
        "settle": partial(judged.end_runs, [end(claimed)], wait=False),
        "renew": partial(judged.renew_lease, lease, lease_s=LEASE_S),
        "cancel": partial(judged.cancel_run, "acme", queued.run_id),
    }

    async with refused_logins(admin, how):
        with pytest.raises(StoreUnavailable):
            await verbs[verb]()

    await verbs[verb]()  # and it is soon over
    await assert_nobody_is_to_blame(judged)


async def test_a_login_that_the_driver_cannot_make_sets_no_run_aside(
    judged: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel would set the run aside at once: anything that is not the store's is the run's."""
    await make_tenant(judged)
    one = await create(judged)
    await judged.close()  # its idle connections
    real, refused = connections.connect, [asyncpg.InterfaceError("unsupported authentication")]

    async def connect(address: Address) -> Connection:
        if refused:
            raise refused.pop()
        return await real(address)

    monkeypatch.setattr(connections, "connect", connect)
    with pytest.raises(StoreUnavailable):
        await judged.cancel_run("acme", one.run_id)

    await assert_nobody_is_to_blame(judged)


@pytest.mark.direct
async def test_a_run_that_ends_while_logins_are_refused_is_settled_afterwards(
    judged: PostgresStore, admin: Session
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    mine = end(claimed)

    async with settling(judged) as at_work, refused_logins(admin) as grant:
        with pytest.raises(StoreUnavailable):
            await at_work.settle(mine)
        await grant()
        assert await at_work.settle(mine) == SETTLED

    assert at_work.bugs == []
    await assert_nobody_is_to_blame(judged)


# ── statements that are stale ─────────────────────────────────────────────────────────────────────


async def test_statements_that_a_migration_made_stale_are_prepared_anew(
    judged: PostgresStore, admin: Session
) -> None:
    """Each connection has its own, so several are used before and after."""
    lease = await take_lease(judged)
    names = ["a", "b", "c"]
    for name in names:
        await make_tenant(judged, name)
    first = [await begin(judged, lease, name) for name in names]
    then = [await begin(judged, lease, name) for name in names]
    assert await ended_at_once(judged, first) == [[SETTLED]] * 3

    await admin.execute(
        "drop view dpp.runs; alter table dpp.live_runs alter column attempts_spent type int"
    )

    assert await ended_at_once(judged, then) == [[SETTLED]] * 3


async def ended_at_once(store: PostgresStore, some: list[Claimed]) -> list[Any]:
    """End each in a batch of its own, all at the same time."""
    async with trio.open_nursery() as nursery:
        ends = [start(nursery, partial(store.end_runs, [end(one)], wait=False)) for one in some]
    return [await one.result() for one in ends]


# ── rows and schemas that are broken ──────────────────────────────────────────────────────────────


async def begun(store: PostgresStore, count: int) -> list[Claimed]:
    """Return attempts of one tenant that can all be ended."""
    await make_tenant(store, deposit=100 * DOLLAR)
    lease = await take_lease(store)
    return [await begin(store, lease) for _ in range(count)]


async def answered(desk: SettlingDesk, one: Claimed, answers: dict[UUID, Settlement]) -> None:
    answers[one.fence.run_id] = await desk.settle(end(one), "trace")


async def dropped(desk: SettlingDesk, one: Claimed, count: list[UUID]) -> None:
    with pytest.raises(StoreUnavailable):
        await desk.settle(end(one), "trace")
    count.append(one.fence.run_id)


@pytest.mark.parametrize("place", [0, 17, MANY - 1])
async def test_a_run_on_a_broken_page_is_set_aside_and_its_batch_is_settled(
    judged: PostgresStore, admin: Session, place: int
) -> None:
    claimed = await begun(judged, MANY)
    bad = claimed[place].fence.run_id
    await admin.execute(BAD_PAGE.format(run_id=bad))
    desk = SettlingDesk(1, 100)
    answers: dict[UUID, Settlement] = {}

    async with trio.open_nursery() as nursery:
        for one in claimed:  # one after another: the batch has their order
            nursery.start_soon(answered, desk, one, answers)
            await wait_all_tasks_blocked()
        desk.close()
        await settler(judged, lambda _: None, desk.mailboxes[0])

    assert answers.pop(bad) == Quarantined()
    assert list(answers.values()) == [SETTLED] * (MANY - 1)
    (finding,) = await judged.list_findings()
    assert (finding.subject, finding.evidence["verb"]) == (str(bad), "end_runs")


async def test_a_run_on_a_broken_page_stops_no_settler_where_nobody_else_ends(
    judged: PostgresStore, admin: Session
) -> None:
    (one,) = await begun(judged, 1)
    await admin.execute(BAD_PAGE.format(run_id=one.fence.run_id))

    async with settling(judged) as settler:
        answer = await settler.settle(end(one))

    assert (answer, settler.bugs) == (Quarantined(), [])
    (finding,) = await judged.list_findings()
    assert finding.subject == str(one.fence.run_id)


async def test_a_cancel_of_a_run_on_a_broken_page_is_noted(
    judged: PostgresStore, admin: Session
) -> None:
    await make_tenant(judged)
    one = await create(judged)
    await admin.execute(BAD_PAGE.format(run_id=one.run_id))

    answer = await judged.cancel_run("acme", one.run_id)

    assert isinstance(answer, CancelAsked)
    (finding,) = await judged.list_findings()
    assert finding.subject == str(one.run_id)


async def test_a_finding_of_a_refused_cancel_is_told_although_its_commit_got_no_answer(
    wired: PostgresStore, wire: Wire, admin: Session
) -> None:
    await make_tenant(wired)
    one = await create(wired)
    await admin.execute(BAD_PAGE.format(run_id=one.run_id))
    counted = findings_total.labels("write_refused")
    before = counted._value.get()
    wire.plan.append(Cut.AFTER)  # the cancel itself comes to no COMMIT

    assert isinstance(await wired.cancel_run("acme", one.run_id), CancelAsked)

    assert (len(await wired.list_findings()), counted._value.get() - before) == (1, 1)
    assert wire.cuts == 1


async def test_a_run_on_a_broken_page_that_expires_keeps_no_reaper_from_taking_back(
    judged: PostgresStore, admin: Session
) -> None:
    await make_tenant(judged)
    bad = await create(judged)
    await make_tenant(judged, "other")
    lease = await take_lease(judged)
    lost = await begin(judged, lease, "other")
    await judged.end_lease(lease, hand_back=False)
    await admin.execute(LATE.format(run_id=bad.run_id))
    await admin.execute(BAD_PAGE.format(run_id=bad.run_id))

    calm = Calm(LEASE_S, 1.0, answered_at=trio.current_time())
    await step(Passing(judged, Live(Pace(5.0, 100)), LEASE_S, Refusals(), list), calm)

    assert (await read(judged, lost.fence.run_id, "other")).status is Status.QUEUED
    (finding,) = await judged.list_findings()
    assert finding.subject == str(bad.run_id)


async def test_runs_of_a_budget_that_is_gone_are_set_aside_and_keep_no_executor(
    store: PostgresStore, admin: Session
) -> None:
    store.plans = STORE_PLANS
    (one,) = await begun(store, 1)
    await admin.execute("delete from dpp.budgets")

    async with settling(store) as settler:
        answer = await settler.settle(end(one))

    assert (answer, settler.bugs) == (Quarantined(), [])


@pytest.mark.parametrize("count", [1, 2, MANY])
async def test_a_broken_schema_ends_the_settler_and_sets_no_run_aside(
    judged: PostgresStore, admin: Session, count: int
) -> None:
    claimed = await begun(judged, count)
    await admin.execute("revoke update on dpp.budgets from dpp_app")
    desk = SettlingDesk(1, 100)
    asked_again: list[UUID] = []

    async with trio.open_nursery() as nursery:
        for one in claimed:
            nursery.start_soon(dropped, desk, one, asked_again)
        await wait_all_tasks_blocked()
        with pytest.RaisesGroup(StoreBroken):
            await settler(judged, lambda _: None, desk.mailboxes[0])

    assert len(asked_again) == count
    await assert_nobody_is_to_blame(judged)


# ── floods ────────────────────────────────────────────────────────────────────────────────────────


async def test_one_tenants_flood_of_cancels_refuses_nobody_else(judged: PostgresStore) -> None:
    await make_tenant(judged, "loud", deposit=400 * DOLLAR)
    await make_tenant(judged, "quiet")
    lease = await take_lease(judged)
    runs = [submission("loud") for _ in range(400)]
    await submit(judged, *runs)

    async with trio.open_nursery() as nursery:
        cancels = [start(nursery, partial(judged.cancel_run, "loud", one.run_id)) for one in runs]
        await wait_all_tasks_blocked()
        (answer,) = await judged.submit_runs([submission("quiet")], wait=False)
        renewal = await judged.renew_lease(lease, lease_s=LEASE_S)
        outcomes = [await outcome_of(cancel.result) for cancel in cancels]

    assert isinstance(answer, Created)
    assert renewal.held
    assert any(isinstance(outcome, Ended) for outcome in outcomes)
    assert all(isinstance(outcome, Ended | StoreUnavailable) for outcome in outcomes)


async def outcome_of(task: Callable[[], Awaitable[Any]]) -> Any:
    """Return what became of it; a 503 is an answer, too."""
    try:
        return await task()
    except StoreUnavailable as refused:
        return refused


async def test_waits_that_their_askers_left_are_bounded_too(
    bridge: Bridge,
    database: Database,
    judged: PostgresStore,
    sessions: Sessions,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Clients that hang up leave their cancels behind: those fill their own room, no other's."""
    monkeypatch.setattr(bridge_module, "IN_FLIGHT_MAX", 60)
    monkeypatch.setattr(desk, "ROOM", 40)  # of which work has less than a half
    monkeypatch.setattr(desk, "FREE_TRIES", 0)
    monkeypatch.setattr(patience, "WAITERS_MAX", 1000)  # so that they stay as long as they can
    await make_tenant(judged)
    one = await create(judged)
    lease = await take_lease(judged)
    small = open_postgres(
        bridge, database.address(), database.address("dpp_audit"), Sizes.of(8), LIMITS
    )

    async with small as store:
        async with holding(sessions, "select from budgets for no key update"):
            for _ in range(10):
                await ask_and_go(partial(store.cancel_run, "acme", one.run_id), 10)
                assert (await store.renew_lease(lease, lease_s=LEASE_S)).held
        await until_idle(bridge)

    assert (await read(judged, one.run_id)).status is Status.CANCELED


async def until_idle(bridge: Bridge) -> None:
    """Return when all that was handed over has ended."""
    for _ in range(int(SOON_S / LOOK_S)):
        if not bridge._in_flight:
            return
        await trio.sleep(LOOK_S)
    raise AssertionError(f"{bridge._in_flight} are still in flight")


async def ask_and_go(task: Callable[[], Awaitable[Any]], count: int) -> None:
    """Ask so often at once, and wait for no answer."""
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(outcome_of, task)
        await wait_all_tasks_blocked()  # all are handed over
        nursery.cancel_scope.cancel()
