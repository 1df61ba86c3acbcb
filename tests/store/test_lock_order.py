"""One lock order: who takes several rows takes them in the order of everybody else.

Two who do not would wait for each other, and one of them would be ended. Each test brings the two
to where they would meet; the database is the test's own, so that rows lie on the page as made.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
import trio
from attrs import evolve

from dpp.admission import Created
from dpp.keys import Key
from dpp.leases import NodeLease
from dpp.money import Micros
from dpp.runs import Status
from dpp.settlement import LeaseLost, Settled
from tests.store.examples import DOLLAR, end, new_key, submission
from tests.store.sessions import holding, start
from tests.store.steps import begin, claim, make_tenant, submit, take_lease
from tests.store.verbs import ending, ending_lease, handing_back, submitting

if TYPE_CHECKING:
    from dpp.claims import Claimed
    from dpp.store.postgres import PostgresStore
    from tests.store.sessions import Session, Sessions

SETTLED = Settled(Status.COMPLETED, Micros(DOLLAR // 10))
HOLD_BUDGET = "select from budgets where tenant_id = $1 for no key update"
LOCK_ALLOWANCES = "select used from dpp.allowances order by allowance_id for update nowait"
HOLD_RUN = "select from live_runs where run_id = $1 for no key update"


async def two_in_reverse(store: PostgresStore) -> list[Claimed]:
    """Make two attempts of one lease, the later id first on the page."""
    await make_tenant(store)
    await submit(store, submission(priority=9), submission(priority=0))
    lease = await take_lease(store)
    later = await claim(store, lease, share=1)
    return [*await claim(store, lease, share=1), *later]


@pytest.mark.parametrize("how", ["drain", "fences"])
async def test_a_hand_back_waits_for_no_settler(
    judged: PostgresStore, sessions: Sessions, how: str
) -> None:
    """Neither for its budgets nor for its runs: what is held is left, and no order can be wrong."""
    first, second = await two_in_reverse(judged)
    assert first.fence.run_id < second.fence.run_id
    hand_back = {
        "drain": ending_lease(NodeLease(first.fence.lease_id, "node-1"), hand_back=True),
        "fences": handing_back(second.fence, first.fence),
    }[how]
    settler, drainer = await sessions.open(), await sessions.open()
    await drainer.execute("set enable_hashjoin = off; set enable_mergejoin = off")  # row by row

    async with trio.open_nursery() as nursery:
        async with holding(sessions, HOLD_RUN, first.fence.run_id):
            settling = start(nursery, partial(settler.run, ending(end(second), end(first))))
            await sessions.until_blocked(1)
            await drainer.run(hand_back)
        answers = await settling.result()

    handed_back = {"drain": [LeaseLost(), SETTLED], "fences": [SETTLED, SETTLED]}[how]
    assert answers == handed_back
    assert (await judged.audit()).ok


async def test_a_submit_that_waits_for_one_budget_holds_none_that_comes_after(
    judged: PostgresStore, sessions: Sessions
) -> None:
    for tenant_id in ("z", "a"):  # on the page in this order
        await make_tenant(judged, tenant_id)
    batch = [submission("z"), submission("a"), submission("z")]
    intake = await sessions.open()
    await intake.execute("set enable_indexscan = off; set enable_bitmapscan = off")

    async with trio.open_nursery() as nursery:
        async with holding(sessions, HOLD_BUDGET, "a"):
            waiting = start(nursery, partial(intake.run, submitting(*batch)))
            await sessions.until_blocked()
            (answer,) = await judged.submit_runs([submission("z")], wait=False)
        answers = await waiting.result()

    assert isinstance(answer, Created)
    assert [type(one) for one in answers] == [Created] * 3


async def test_an_end_that_waits_for_one_budget_holds_none_that_comes_after(
    judged: PostgresStore, sessions: Sessions
) -> None:
    for tenant_id in ("a", "z"):
        await make_tenant(judged, tenant_id)
    lease = await take_lease(judged)
    batch = [end(await begin(judged, lease, tenant_id)) for tenant_id in ("z", "a")]

    async with trio.open_nursery() as nursery:
        async with holding(sessions, HOLD_BUDGET, "a"):
            waiting = start(nursery, partial(judged.end_runs, batch, wait=True))
            await sessions.until_blocked()
            (answer,) = await judged.submit_runs([submission("z")], wait=False)
        answers = await waiting.result()

    assert isinstance(answer, Created)
    assert answers == [SETTLED, SETTLED]


async def test_an_allowance_is_touched_by_nobody_who_does_not_hold_its_tenants_budget(
    judged: PostgresStore, sessions: Sessions, admin: Session
) -> None:
    """So two that meet in one, or in two the other way round, have met before, at the budget."""
    await make_tenant(judged)
    for key_id in ("a", "b"):
        key = evolve(new_key(key_id, "acme"), spend_limit=Micros(3 * DOLLAR))
        await judged.create_key(key, operator="ops")
    lease = await take_lease(judged)
    claimed = [await begin(judged, lease, key_id=key_id) for key_id in ("a", "b")]
    intake, settler = await sessions.open(), await sessions.open()
    batch = [submission(key_id=key_id) for key_id in ("b", "a")]

    async with trio.open_nursery() as nursery:
        async with holding(sessions, HOLD_BUDGET, "acme"):
            submits = start(nursery, partial(intake.run, submitting(*batch)))
            ends = start(nursery, partial(settler.run, ending(*map(end, claimed))))
            await sessions.until_blocked(2)
            free = await admin.fetch(LOCK_ALLOWANCES)
        admitted, ended = await submits.result(), await ends.result()

    assert [row["used"] for row in free] == [DOLLAR, DOLLAR]
    assert [type(one) for one in admitted] == [Created, Created]
    assert ended == [SETTLED, SETTLED]


async def test_a_key_that_shares_an_allowance_is_made_while_that_is_spent(
    judged: PostgresStore, sessions: Sessions
) -> None:
    """Its foreign key locks the row that a submit changes, and neither waits for the other."""
    await make_tenant(judged)
    key = evolve(new_key("a", "acme"), spend_limit=Micros(3 * DOLLAR))
    await judged.create_key(key, operator="ops")
    intake = await sessions.open()

    async with trio.open_nursery() as nursery:
        submit = submitting(submission(key_id="a"))
        standing = await intake.start_and_stop(nursery, submit)
        made = await judged.create_key(evolve(new_key("b", "acme"), caller="a"), operator="key:a")
        await intake.go_on()
        (answer,) = await standing.result()

    assert isinstance(made, Key)
    assert made.allowance is not None
    assert isinstance(answer, Created)
