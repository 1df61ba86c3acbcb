"""Retention: what leaves, what stays, and that the books prove without what left.

Whatever leaves is kept aside first, and the second judge, which knows nothing of closing entries,
is asked of all that there ever was.
"""

from __future__ import annotations

import re
from functools import partial
from random import Random
from typing import TYPE_CHECKING

import pytest
import trio
from attrs import evolve

from dpp.admission import Created, ExistsWithDifferentRequest, Pruned
from dpp.auditing import EQUAL_LEDGER
from dpp.ledger import Kind, NoSuchRun, Posted
from dpp.money import Micros
from dpp.resolutions import Refold, Resolving
from dpp.retention import Keeping
from dpp.retention import Pruned as Gone
from dpp.settlement import CanceledWhileRunning, Completed, FailedByPlatform
from dpp.store import retention
from dpp.store.verbs import Limits
from tests.conftest import LIMITS
from tests.oracle import money
from tests.store.examples import DOLLAR, end, new_key, posting, submission
from tests.store.sessions import start
from tests.store.steps import begin, claim, create, make_tenant, settle, submit, take_lease
from tests.store.test_auditor import Looks
from tests.store.worlds import PostgresWorld, postgres_world

if TYPE_CHECKING:
    from uuid import UUID

    from dpp.claims import Claimed
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions

DAY_S = 86_400.0
RUN_DAYS, KEY_DAYS = 40, 60
FACTS = ("submissions", "endings", "transfers")
STEPS = 60
PASS = 3  # of the batches, so that many are taken
# All facts that there ever were: those that left as they were kept aside.
ASIDE = "create schema aside; create schema whole;" + ";".join(
    f"create table aside.{name} as table dpp.{name} with no data" for name in FACTS
)
KEEP = ";".join(
    f"insert into aside.{name} select * from dpp.{name} f where not exists"  # noqa: S608
    f" (select from aside.{name} a where a.tenant_id = f.tenant_id and a.seq = f.seq)"
    for name in FACTS
)
WHOLE = ";".join(
    f"create view whole.{name} as select * from aside.{name} union all select * from dpp.{name} f"  # noqa: S608
    f" where not exists (select from aside.{name} a"
    " where a.tenant_id = f.tenant_id and a.seq = f.seq)"
    for name in FACTS
)
OF_WHAT_LEFT = {"M7 a closing entry is what it covers and what has gone"}  # of what is there alone


@pytest.fixture
async def world(store: PostgresStore, admin: Session, database: Database) -> PostgresWorld:
    """Give a store that keeps things for weeks, and what lies aside."""
    store.limits = Limits(
        attempts_max=LIMITS.attempts_max,
        terms=evolve(LIMITS.terms, result_days=10),
        keeping=Keeping(runs=RUN_DAYS, keys=KEY_DAYS, transfers=0),
    )
    await admin.execute(ASIDE)
    await admin.execute(WHOLE)
    return await postgres_world(store, admin, database)


async def days_pass(world: PostgresWorld, days: float) -> None:
    await world.advance(days * DAY_S)


async def prune_all(world: PostgresWorld, *, most: int = PASS) -> dict[str, int]:
    """Make a pass of the pruner's kind, in small batches, with all facts kept aside before."""
    await world.admin.execute(KEEP)
    store, taken = world.store, {"bodies": 0, "closed": 0, "runs": 0, "transfers": 0, "keys": 0}
    for tenant in await store.retention_due(after="", limit=100):
        name = tenant.tenant_id
        while tenant.bodies and (many := await store.prune_bodies(name, most=most)):
            taken["bodies"] += many
        while tenant.closable and (many := await store.close_books(name, facts_max=most)):
            taken["closed"] += many
        while (gone := await store.prune(name, most=most)).runs + gone.transfers:
            taken["runs"] += gone.runs
            taken["transfers"] += gone.transfers
    while many := await store.forget_keys(most=most):
        taken["keys"] += many
    return taken


async def judge(world: PostgresWorld, *, aside: bool = True) -> None:
    """The audit holds on what is left, the auditor agrees, and the judge on all there ever was."""
    audit = await world.store.audit()
    assert [one for one in audit.verdicts if one.offenders] == []
    assert await Looks(world.store).look(facts_max=5) == []
    for promise, query in money.CHECKS.items() if aside else ():
        schema = "dpp" if promise in OF_WHAT_LEFT else "whole"
        text = re.sub(rf"dpp\.({'|'.join(FACTS)})\b", rf"{schema}.\1", query)
        assert [dict(row) for row in await world.admin.fetch(text)] == [], promise


async def test_a_run_leaves_with_its_bodies_first_and_its_key_last(world: PostgresWorld) -> None:
    store = world.store
    await make_tenant(store)
    one = submission()
    await submit(store, one)
    (claimed,) = await claim(store, await take_lease(store))
    await store.end_runs([end(claimed, Completed(b"{}", Micros(DOLLAR)))], wait=True)
    still = await create(store)
    told = []

    for days in (9, 2, RUN_DAYS - 12, 2, KEY_DAYS - RUN_DAYS - 2):
        await days_pass(world, days)
        taken = await prune_all(world)
        (again,) = await submit(store, one)
        told.append((taken, type(again), await store.get_run("acme", one.run_id) is not None))
        await judge(world)
    await days_pass(world, 3)
    forgotten = (await prune_all(world))["keys"]
    (anew,) = await submit(store, evolve(one, run_id=submission().run_id))

    nothing = dict.fromkeys(taken, 0)
    assert [(moved, there) for moved, _, there in told[:4]] == [
        (nothing, True),
        (nothing | {"bodies": 1}, True),
        (nothing, True),
        (nothing | {"closed": 4, "runs": 1}, False),
    ]
    assert [answer.__name__ for _, answer, _ in told] == [
        *["Exists"] * 3,
        *["Pruned"] * 2,
    ]
    assert (forgotten, type(anew)) == (1, Created)
    assert await store.get_run("acme", still.run_id) is not None
    assert await world.admin.fetchval("select count(*) from dpp.spent_keys") == 0


async def test_a_spent_key_names_its_run_and_refuses_another_request(world: PostgresWorld) -> None:
    await make_tenant(world.store)
    run_id = await settle(world.store)
    (key,) = [
        row["idempotency_key"]
        for row in await world.admin.fetch("select idempotency_key from dpp.submissions")
    ]
    await days_pass(world, RUN_DAYS + 1)
    await prune_all(world)

    same = evolve(submission(), idempotency_key=key)
    other = evolve(same, fingerprint=b"another" * 4)
    fingerprint = await world.admin.fetchval("select fingerprint from dpp.spent_keys")
    answers = await submit(world.store, evolve(same, fingerprint=fingerprint), other)

    assert answers == [Pruned(run_id), ExistsWithDifferentRequest()]
    assert await world.store.is_pruned("acme", run_id)


async def test_a_refund_keeps_its_run_until_the_books_are_closed_over_it(
    world: PostgresWorld,
) -> None:
    store = world.store
    await make_tenant(store)
    run_id = await settle(store)
    await days_pass(world, RUN_DAYS - 1)
    refund = posting(DOLLAR // 4, "back", kind=Kind.REFUND, run_id=run_id)
    assert isinstance(await store.post_transfer(refund), Posted)
    await days_pass(world, 2)
    early = await prune_all(world)
    await judge(world)
    await days_pass(world, RUN_DAYS)
    late = await prune_all(world)
    await judge(world)
    more = posting(1, "more", kind=Kind.REFUND, run_id=run_id)

    assert (early["runs"], late["runs"]) == (0, 1)
    assert await store.post_transfer(more) == NoSuchRun()
    assert isinstance(await store.post_transfer(refund), Posted)  # once more: it stands


async def test_nothing_leaves_that_no_closing_entry_covers(world: PostgresWorld) -> None:
    await make_tenant(world.store)
    await settle(world.store)
    await days_pass(world, RUN_DAYS + 1)
    never_closed = await world.store.prune("acme", most=100)
    closed = await world.store.close_books("acme", facts_max=2)
    half_closed = await world.store.prune("acme", most=100)

    assert (never_closed.runs, closed, half_closed.runs) == (0, 2, 0)


async def test_the_ledger_is_listed_over_what_left(world: PostgresWorld) -> None:
    store = world.store
    await make_tenant(store)
    for _ in range(3):
        await settle(store)
    await days_pass(world, RUN_DAYS + 1)
    await prune_all(world)
    await settle(store)

    whole = await store.list_transfers("acme", before=None, limit=10)
    pages = [await store.list_transfers("acme", before=before, limit=1) for before in (8, 2)]

    assert [entry.kind for entry in whole] == ["settle", "reserve", "deposit"]
    assert [[entry.seq for entry in page] for page in pages] == [[1], [1]]
    assert await store.is_closed("acme", 7)
    assert not await store.is_closed("acme", 8)


async def test_a_held_budget_is_waited_for_and_a_held_closing_entry_is_not(
    world: PostgresWorld, sessions: Sessions
) -> None:
    """A busy tenant's budget is held most of the time: who took that for an end would never end."""
    store = world.store
    await make_tenant(store)
    await settle(store)
    await days_pass(world, RUN_DAYS + 1)
    other = await sessions.open()
    await other.execute("begin")
    async with world.held("acme"):
        closed = await store.close_books("acme", facts_max=100)
        await other.fetch("select from closings where tenant_id = 'acme' for no key update")
        meanwhile = await store.prune("acme", most=100)
        again = await store.close_books("acme", facts_max=100)
        bodies = await store.prune_bodies("acme", most=100)
    await other.execute("rollback")
    async with trio.open_nursery() as nursery:
        async with world.held("acme"):
            pruning = start(nursery, partial(store.prune, "acme", most=100))
            await sessions.until_blocked()
        pruned = await pruning.result()

    assert (closed, meanwhile, again, bodies) == (3, Gone(0, 0), 0, 0)
    assert pruned == Gone(1, 0)
    await judge(world, aside=False)


async def test_what_offends_is_evidence_and_stays(world: PostgresWorld) -> None:
    await make_tenant(world.store)
    await settle(world.store)
    await world.admin.execute("update dpp.tenants set frozen_at = now()")
    await days_pass(world, RUN_DAYS + 1)

    assert await world.store.retention_due(after="", limit=10) == []
    assert await world.store.close_books("acme", facts_max=100) == 0
    await world.admin.execute("update dpp.tenants set frozen_at = null")
    assert await world.store.close_books("acme", facts_max=100) == 3
    await world.admin.execute("update dpp.tenants set frozen_at = now()")
    assert await world.store.prune("acme", most=100) == Gone(0, 0)


async def test_what_somebody_still_waits_for_stays(world: PostgresWorld) -> None:
    """A run that a finding is open of, one with a webhook untold, one whose result is served."""
    store = world.store
    await make_tenant(store)
    found, untold, served, over = [await settle(store) for _ in range(4)]
    await store.open_finding("object_astray", str(found), "acme", {"why": "a test"})
    await world.admin.fetch(
        "insert into dpp.webhook_deliveries (tenant_id, webhook_id, event, run_id, created_at,"
        " next_at) values ('acme', gen_random_uuid(), 'run.completed', $1, now(), now())",
        untold,
    )
    await world.admin.execute("set session_replication_role = replica")
    await world.admin.fetch(
        "update dpp.submissions set result_days = 100 where run_id = $1", served
    )
    await days_pass(world, RUN_DAYS + 1)
    await world.admin.execute("update dpp.tenants set frozen_at = null")

    await prune_all(world)

    left = {row["run_id"] for row in await world.admin.fetch("select run_id from dpp.endings")}
    assert left == {found, untold, served}
    assert await store.is_pruned("acme", over)


async def test_a_key_is_kept_from_its_runs_end_whatever_retention_was_meanwhile(
    world: PostgresWorld,
) -> None:
    store = world.store
    await make_tenant(store)
    one = submission()
    await submit(store, one)
    (claimed,) = await claim(store, await take_lease(store))
    await store.end_runs([end(claimed, Completed(b"{}", Micros(DOLLAR)))], wait=True)
    await days_pass(world, RUN_DAYS + 1)
    await prune_all(world)
    longer = Keeping(runs=KEY_DAYS, keys=KEY_DAYS, transfers=0)
    store.limits = evolve(store.limits, keeping=longer)
    await days_pass(world, KEY_DAYS - RUN_DAYS - 2)
    early = await prune_all(world)
    replay = await submit(store, one)
    await days_pass(world, 2)
    late = await prune_all(world)

    assert (early["keys"], replay, late["keys"]) == (0, [Pruned(one.run_id)], 1)


async def test_what_contradicted_itself_and_was_accepted_leaves_with_what_it_came_to(
    world: PostgresWorld,
) -> None:
    store = world.store
    await make_tenant(store)
    await settle(store)
    await settle(store)
    await world.admin.execute("set session_replication_role = replica")
    await world.admin.execute("update dpp.endings set returned = returned + 1 where seq = 3")
    await days_pass(world, RUN_DAYS + 1)

    taken = await prune_all(world)

    assert (taken["closed"], taken["runs"]) == (5, 2)
    wrong = {one.name[:2] for one in (await store.audit()).verdicts if one.offenders}
    assert "16" not in wrong


async def test_books_with_a_gap_are_not_closed(world: PostgresWorld) -> None:
    await make_tenant(world.store)
    await settle(world.store)
    await world.admin.execute("set session_replication_role = replica")
    await world.admin.execute("delete from dpp.submissions")
    await days_pass(world, RUN_DAYS + 1)

    assert await world.store.close_books("acme", facts_max=100) == 0


async def test_a_budget_is_written_anew_from_its_closing_entry(world: PostgresWorld) -> None:
    store = world.store
    await make_tenant(store)
    key = evolve(new_key("capped", "acme"), spend_limit=Micros(5 * DOLLAR))
    await store.create_key(key, operator="ops")
    lease = await take_lease(store)
    for _ in range(3):
        claimed = await begin(store, lease, key_id="capped")
        await store.end_runs([end(claimed, Completed(b"{}", Micros(DOLLAR // 2)))], wait=True)
    await days_pass(world, RUN_DAYS + 1)
    await prune_all(world)
    await settle(store)
    budget = await store.get_budget("acme")
    await world.admin.execute("update dpp.budgets set spent = spent + 1, available = available - 1")
    looks = Looks(store)
    (finding,) = await looks.find(await looks.look())
    asked = Resolving(
        finding_id=finding.finding_id, remedy=Refold(), operator="ops", reason="a hand"
    )

    assert finding.invariant == EQUAL_LEDGER
    await store.resolve_finding(asked)
    assert await store.get_budget("acme") == budget
    await judge(world)


@pytest.mark.parametrize("table", ["submissions", "transfers"])
async def test_what_is_taken_from_under_a_closing_entry_by_hand_is_found(
    world: PostgresWorld, table: str
) -> None:
    await make_tenant(world.store)
    await settle(world.store)
    await settle(world.store)
    await days_pass(world, RUN_DAYS + 1)
    await world.store.close_books("acme", facts_max=100)
    await world.admin.execute("set session_replication_role = replica")
    await world.admin.execute(f"delete from dpp.{table} where seq < 3")  # noqa: S608 - constants

    found = {one.name[:2] for one in (await world.store.audit()).verdicts if one.offenders}

    assert "16" in found


async def test_a_pruning_and_a_replay_meet_and_one_key_is_one_run(
    world: PostgresWorld, sessions: Sessions
) -> None:
    """Wherever the pruning stands, the key is known: by its submission, or among the spent ones."""
    store = world.store
    await make_tenant(store)
    run_id = await settle(store)
    row = (await world.admin.fetch("select idempotency_key, fingerprint from dpp.submissions"))[0]
    again = evolve(
        submission(), idempotency_key=row["idempotency_key"], fingerprint=row["fingerprint"]
    )
    await days_pass(world, RUN_DAYS + 1)
    await store.close_books("acme", facts_max=100)
    pruning = await sessions.open("dpp_app")
    keeping = store.limits.keeping
    prune = partial(retention.prune, tenant_id="acme", keeping=keeping, most=10, wait=True)

    async with trio.open_nursery() as nursery:
        gone = await pruning.start_and_stop(nursery, prune, before="commit")
        replay = start(nursery, partial(submit, store, again))
        await sessions.until_blocked()
        await pruning.go_on()

    assert (await gone.result()).runs == 1
    assert await replay.result() == [Pruned(run_id)]


class Storm:
    """Everything that moves books, with weeks that pass and passes between, by a seed."""

    def __init__(self, world: PostgresWorld, seed: int) -> None:
        self.world, self.random, self.n = world, Random(seed), 0
        self.working: list[Claimed] = []
        self.settled: list[tuple[str, UUID]] = []
        self.taken: dict[str, int] = {}
        self.looks = Looks(world.store)

    async def step(self) -> None:
        self.n += 1
        await self.random.choice(
            [
                self.submit,
                self.submit,
                self.end,
                self.end,
                self.transfer,
                self.cancel,
                self.weeks,
                self.retain,
            ]
        )()
        assert await self.looks.look(facts_max=self.random.choice([4, 1000])) == []

    def tenant(self) -> str:
        return self.random.choice(["acme", "other"])

    async def submit(self) -> None:
        name = self.tenant()
        keys = [None, f"capped-{name}"]
        batch = [
            submission(
                name, key_id=self.random.choice(keys), max_cost=self.random.randint(1, DOLLAR)
            )
            for _ in range(self.random.randint(1, 4))
        ]
        await submit(self.world.store, *batch)

    async def end(self) -> None:
        store = self.world.store
        lease = await take_lease(store, lease_s=4000 * DAY_S)
        self.working += await claim(store, lease, "acme", "other", share=3)
        for _ in range(min(len(self.working), self.random.randint(1, 3))):
            claimed = self.working.pop(self.random.randrange(len(self.working)))
            cost = Micros(self.random.choice([0, claimed.max_cost // 3, claimed.max_cost]))
            outcome = self.random.choice(
                [
                    Completed(b"{}", cost),
                    Completed(b"{}", cost),
                    CanceledWhileRunning(cost),
                    FailedByPlatform("lost"),
                ]
            )
            await store.end_runs([end(claimed, outcome)], wait=True)
            if isinstance(outcome, Completed) and cost:
                self.settled.append((claimed.tenant_id, claimed.fence.run_id))

    async def transfer(self) -> None:
        name, reference = self.tenant(), f"r-{self.n}"
        amount = self.random.randint(1, DOLLAR)
        asked = self.random.choice(
            [
                posting(amount, reference, tenant_id=name),
                posting(amount, reference, tenant_id=name, kind=Kind.WITHDRAW),
                posting(-amount, reference, tenant_id=name, kind=Kind.ADJUST),
            ]
        )
        if self.settled and self.random.random() < 0.5:
            name, run_id = self.random.choice(self.settled)
            asked = posting(1, reference, tenant_id=name, kind=Kind.REFUND, run_id=run_id)
        await self.world.store.post_transfer(asked)

    async def cancel(self) -> None:
        one = await create(self.world.store, self.tenant(), max_cost=5)
        await self.world.store.cancel_run(one.tenant_id, one.run_id)

    async def weeks(self) -> None:
        await days_pass(self.world, self.random.choice([0.5, 3, 9, 20]))

    async def retain(self) -> None:
        taken = await prune_all(self.world, most=self.random.choice([1, 3, 100]))
        self.taken = {name: self.taken.get(name, 0) + many for name, many in taken.items()}
        await judge(self.world)


@pytest.mark.parametrize(("seed", "transfer_days"), [(1, 0), (2, 50)])
async def test_the_books_prove_whatever_left_and_whenever(
    world: PostgresWorld, seed: int, transfer_days: int
) -> None:
    store = world.store
    keeping = Keeping(runs=RUN_DAYS, keys=KEY_DAYS, transfers=transfer_days)
    store.limits = evolve(store.limits, keeping=keeping)
    for name in ("acme", "other"):
        await make_tenant(store, name, deposit=1000 * DOLLAR)
        key = evolve(new_key(f"capped-{name}", name), spend_limit=Micros(900 * DOLLAR))
        await store.create_key(key, operator="ops")
    storm = Storm(world, seed)

    for _ in range(STEPS):
        await storm.step()
    for _ in range(2):
        await days_pass(world, KEY_DAYS + RUN_DAYS)
        await storm.retain()

    assert all(storm.taken[name] for name in storm.taken if name != "transfers" or transfer_days)
