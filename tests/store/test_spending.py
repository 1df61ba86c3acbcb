"""What is spent: caps that many reach for at once, and days and months that change meanwhile.

Caps are exact whoever asks, and counters are what facts make after every step, wherever the clock
goes. Facts are added up here by themselves; both judges and the auditor must agree.
"""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import evolve

from dpp.admission import Created
from dpp.money import Micros
from dpp.settlement import CanceledWhileRunning, Completed, FailedByPlatform
from dpp.spending import SpendLimited
from tests.store.examples import DOLLAR, STORE_PLANS, end, new_key, submission
from tests.store.sessions import holding, start
from tests.store.steps import claim, make_tenant, take_lease
from tests.store.test_auditor import Looks
from tests.store.verbs import submitting
from tests.store.worlds import PostgresWorld, postgres_world

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date

    from dpp.admission import Submission
    from dpp.claims import Claimed
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions

DAY_CAP = STORE_PLANS["capped"].spend_per_day or 0
MONTH_CAP = STORE_PLANS["capped"].spend_per_month or 0
KEY_CAP = Micros(10 * DOLLAR)
STORM_CAP = 6 * DOLLAR
HOLD_BUDGET = "select from budgets where tenant_id = $1 for no key update"
STEPS = 100
LEASE_S = 400 * 86_400.0  # the clock leaps; who has an attempt keeps it


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


async def make_shared_keys(
    store: PostgresStore, tenant_id: str = "acme", *, limit: int = KEY_CAP
) -> list[str]:
    """Make a key with a limit, and one that it made: they share it."""
    first = evolve(new_key(f"first-of-{tenant_id}", tenant_id), spend_limit=Micros(limit))
    second = evolve(new_key(f"second-of-{tenant_id}", tenant_id), caller=first.key_id)
    for key in (first, second):
        await store.create_key(key, operator="ops")
    return [first.key_id, second.key_id]


async def at_once(sessions: Sessions, batches: Sequence[Sequence[Submission]]) -> list[Any]:
    """Submit each batch on a connection of its own; all are seen waiting before one goes on."""
    waiting = []
    async with trio.open_nursery() as nursery:
        async with holding(sessions, HOLD_BUDGET, "acme"):
            for batch in batches:
                session = await sessions.open()
                waiting.append(start(nursery, partial(session.run, submitting(*batch))))
            await sessions.until_blocked(len(batches))
        answers = [await one.result() for one in waiting]
    return [answer for batch in answers for answer in batch]


@pytest.mark.parametrize(("connections", "each"), [(20, 1), (2, 8)])
async def test_a_day_cap_admits_exactly_what_fits(
    judged: PostgresStore, sessions: Sessions, connections: int, each: int
) -> None:
    await make_tenant(judged, plan="capped", deposit=100 * DOLLAR)

    answers = await at_once(
        sessions, [[submission() for _ in range(each)] for _ in range(connections)]
    )

    admitted = [one for one in answers if isinstance(one, Created)]
    (refusal,) = {one for one in answers if not isinstance(one, Created)}
    assert len(admitted) == 10
    assert isinstance(refusal, SpendLimited)
    assert (refusal.limit, refusal.cap) == ("day", DAY_CAP)


@pytest.mark.parametrize(("connections", "each"), [(20, 1), (2, 8)])
async def test_two_keys_that_share_an_allowance_spend_exactly_what_it_has(
    judged: PostgresStore, sessions: Sessions, admin: Session, connections: int, each: int
) -> None:
    """The keys take turns: on connections of their own, and within a batch."""
    await make_tenant(judged, deposit=100 * DOLLAR)
    keys = await make_shared_keys(judged)

    answers = await at_once(
        sessions,
        [
            [submission(key_id=keys[(n + place) % 2]) for place in range(each)]
            for n in range(connections)
        ],
    )

    admitted = [one for one in answers if isinstance(one, Created)]
    assert len(admitted) == 10
    assert {one for one in answers if not isinstance(one, Created)} == {
        SpendLimited("key", KEY_CAP, None)
    }
    assert await admin.fetchval("select used from dpp.allowances") == KEY_CAP
    spenders = await admin.fetch("select distinct key_id from dpp.submissions")
    assert {row["key_id"] for row in spenders} == set(keys)


# ── the clock goes on, and back ──────────────────────────────────────────────────────────────────

KEPT = """
select s.tenant_id, s.budget_day, s.allowance_id, s.max_cost - coalesce(e.returned, 0) as kept
  from dpp.submissions s left join dpp.endings e using (run_id)
"""
COUNTED = """
select tenant_id, spend_day, day_spend, month_spend from dpp.budgets order by tenant_id
"""


class Storm:
    """Reserves, endings and a clock that leaps, by a seed; everything is judged after each step."""

    def __init__(self, world: PostgresWorld, admin: Session, seed: int) -> None:
        self.world = world
        self.admin = admin
        self.random = Random(seed)
        self.working: list[Claimed] = []
        self.keys: dict[str, list[str | None]] = {}
        self.answers: Counter[str] = Counter()
        self.looks = Looks(world.store)  # type: ignore[arg-type]  # PostgreSQL's

    async def step(self) -> None:
        """Do one thing, and judge."""
        act = self.random.choice(
            [self.submit] * 4 + [self.claim, self.end, self.end, self.leap, self.leap]
        )
        await act()
        await self.judge(f"after {act.__name__} at {self.world.now}")

    async def submit(self) -> None:
        tenant_id = self.random.choice(list(self.keys))
        batch = [
            submission(
                tenant_id,
                key_id=self.random.choice(self.keys[tenant_id]),
                max_cost=self.random.randint(1, 5 * DOLLAR),
            )
            for _ in range(self.random.randint(1, 4))
        ]
        for answer in await self.world.store.submit_runs(batch, wait=True):
            self.answers[getattr(answer, "limit", type(answer).__name__)] += 1

    async def claim(self) -> None:
        lease = await take_lease(self.world.store, lease_s=LEASE_S)
        share = self.random.randint(1, 3)
        self.working += await claim(self.world.store, lease, *self.keys, share=share)

    async def end(self) -> None:
        """End some: at no cost, at their whole reserve, or between."""
        if not self.working:
            await self.claim()
        batch = []
        for _ in range(min(len(self.working), self.random.randint(1, 3))):
            claimed = self.working.pop(self.random.randrange(len(self.working)))
            most = claimed.max_cost
            cost = Micros(self.random.choice([0, most // 3, most, most]))
            outcome = self.random.choice([Completed(b"{}", cost), CanceledWhileRunning(cost)])
            batch.append(end(claimed, self.random.choice([outcome, FailedByPlatform("lost")])))
        await self.world.store.end_runs(batch, wait=True)

    async def leap(self) -> None:
        """Go to a second before or after midnight or a month's end, or go back."""
        now = self.world.now
        midnight = datetime(now.year, now.month, now.day, tzinfo=UTC) + timedelta(days=1)
        month = (midnight.replace(day=1) + timedelta(days=32)).replace(day=1)
        second = timedelta(seconds=self.random.choice([-1, 0, 1]))
        back = [now - timedelta(hours=7), now - timedelta(days=9)]
        then = self.random.choice([midnight] * 6 + [month, *back])
        await self.world.advance((then + second - now).total_seconds())

    async def judge(self, when: str) -> None:
        """Counters are the facts, nothing is over a cap, and nobody finds anything."""
        kept, days, used = await self.admin.fetch(KEPT), Counter[Any](), Counter[str]()
        for row in kept:
            days[row["tenant_id"], row["budget_day"]] += row["kept"]
            if row["allowance_id"] is not None:
                used[row["allowance_id"]] += row["kept"]
        months: Counter[Any] = Counter()
        for (tenant_id, day), amount in days.items():
            months[tenant_id, month_of(day)] += amount
        for row in await self.admin.fetch(COUNTED):
            of = row["tenant_id"], row["spend_day"]
            month = row["tenant_id"], month_of(row["spend_day"])
            assert (row["day_spend"], row["month_spend"]) == (days[of], months[month]), when
        allowances = await self.admin.fetch("select allowance_id, used from dpp.allowances")
        assert {row["allowance_id"]: row["used"] for row in allowances} == {
            row["allowance_id"]: used[row["allowance_id"]] for row in allowances
        }, when
        assert max(days.values(), default=0) <= DAY_CAP, when
        assert max(months.values(), default=0) <= MONTH_CAP, when
        assert max(used.values(), default=0) <= STORM_CAP, when
        assert await self.world.violations() == [], when
        assert await self.looks.look() == [], when


def month_of(day: date) -> tuple[int, int]:
    return day.year, day.month


@pytest.mark.parametrize("seed", [2, 6])
async def test_counters_are_their_facts_and_caps_hold_wherever_the_clock_goes(
    store: PostgresStore, admin: Session, database: Database, seed: int
) -> None:
    world = await postgres_world(store, admin, database)
    storm = Storm(world, admin, seed)
    for tenant_id in ("acme", "other"):
        await make_tenant(store, tenant_id, plan="capped", deposit=10_000 * DOLLAR)
        storm.keys[tenant_id] = [None, *await make_shared_keys(store, tenant_id, limit=STORM_CAP)]

    for _ in range(STEPS):
        await storm.step()

    assert set(storm.answers) == {"Created", "day", "month", "key"}
    assert (await store.audit()).ok
    assert await Looks(store).look(facts_max=7) == []
