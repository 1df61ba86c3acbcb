"""The clients: they submit, ask again, cancel, pay in, look, and write down what they were told.

A client talks to one node at a time, as through a load balancer. It gives up after `PATIENCE_S`;
then, as after a 503 or where its node died, it knows nothing, and may ask again under the same key.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from random import Random
from typing import Any, TypeVar
from uuid import UUID

import trio
from attrs import define, evolve, field, frozen

from dpp import admission
from dpp.admission import Submission
from dpp.cancels import CancelAsked
from dpp.cancels import Ended as EndedBefore
from dpp.faults import StoreUnavailable
from dpp.fingerprints import canonical
from dpp.ids import RunIds
from dpp.ledger import Kind, Posted, Posting
from dpp.money import Micros
from dpp.pricing import Appraised
from dpp.runs import Run, Status
from dpp.watches import Watch
from tests.oracle.history import Balance, History, Look, Submit
from tests.sim import script
from tests.sim.fleet import Fleet, Life
from tests.sim.scenario import CENT, Scenario, TenantPlan
from tests.sim.script import Script
from tests.sim.telling import tell
from tests.sim.trace import Trace

T = TypeVar("T")

PATIENCE_S = 10.0
TIMEBOXES_S = (2, 4, 8)
BEGAN_MS = 1_767_225_600_000  # 2026-01-01, as the fake store's clock
STATUS: dict[type, int] = {
    admission.Created: 202,
    admission.Exists: 202,
    admission.ExistsWithDifferentRequest: 422,
    admission.KeyDead: 401,
    admission.TenantSuspended: 403,
    admission.TenantFrozen: 403,
    admission.MaxCostTooLow: 422,
    admission.MaxCostTooHigh: 422,
    admission.RateLimited: 429,
    admission.QueueFull: 429,
    admission.InsufficientBudget: 402,
}
UNKNOWN: Any = object()  # nobody answered


@frozen(kw_only=True)
class Order:
    """What one key was first asked for."""

    tenant: str
    key: str
    script: Script
    max_cost: int
    timebox_s: int
    priority: int


@define(eq=False, kw_only=True)
class Client:
    """One client of one tenant, or all of them together: what they know is shared."""

    scenario: Scenario
    fleet: Fleet
    trace: Trace
    dice: Random
    history: History = field(factory=History)
    orders: dict[tuple[str, str], Order] = field(factory=dict)
    told: dict[tuple[str, str], str] = field(factory=dict)  # outcome of the last definite answer
    runs: dict[str, list[UUID]] = field(factory=dict)  # acknowledged, by tenant
    cancels: set[UUID] = field(factory=set)  # asked for
    postings: dict[tuple[str, str], tuple[Posting, str]] = field(factory=dict)
    ids: RunIds = field(init=False)
    _numbers: int = 0

    def __attrs_post_init__(self) -> None:
        self.ids = RunIds(self._unix_ms, self.dice.getrandbits)

    def _unix_ms(self) -> int:
        return BEGAN_MS + int(trio.current_time() * 1000)

    async def run(self, tenant: TenantPlan) -> None:
        """Make one request after the other, until it is closing time."""
        kinds = {
            self.submit: 8,
            self.submit_several: 2,
            self.ask_again: 3,
            self.ask_for_another: 1,
            self.cancel: 2,
            self.look: 3,
            self.look_at_budget: 3,
            self.wait: 1,
            self.pay_in: 2,
            self.take_out: 1,
            self.refund: 1,
        }
        while trio.current_time() < self.scenario.load_s:
            await trio.sleep(self.dice.expovariate(1 / self.scenario.pace_s))
            (kind,) = self.dice.choices(list(kinds), list(kinds.values()))
            if up := self.fleet.up():
                await kind(tenant.name, self.fleet.lives[self.dice.choice(up)])

    async def settle(self) -> None:
        """Ask again for all that is not definitely answered, until it is."""
        for name, order in self.orders.items():
            while name not in self.told:
                await self._submit([order], await self._any())
        for place, (posting, _) in list(self.postings.items()):
            while self.postings[place][1] == "info":
                await self._post(posting, await self._any())

    async def look_at_all(self) -> None:
        """Look at each run and budget once more."""
        for tenant in self.scenario.tenants:
            for run_id in self.runs.get(tenant.name, ()):
                await self._look_at(tenant.name, run_id, await self._any())
            await self.look_at_budget(tenant.name, await self._any())

    async def _any(self) -> Life:
        """Return a node that is up."""
        await trio.sleep(0.01)
        return self.fleet.lives[self.dice.choice(self.fleet.up())]

    # ── what a client may want ───────────────────────────────────────────────────────────────────

    async def submit(self, tenant: str, life: Life) -> None:
        await self._submit([self._order(tenant)], life)

    async def submit_several(self, tenant: str, life: Life) -> None:
        orders = [self._order(tenant) for _ in range(self.dice.randint(2, 6))]
        if self.dice.random() < 0.3:  # one key twice in a batch
            orders.append(self.dice.choice(orders))
        await self._submit(orders, life, as_batch=True)

    async def ask_again(self, tenant: str, life: Life) -> None:
        """Replay a key, whatever came of it before."""
        mine = [order for order in self.orders.values() if order.tenant == tenant]
        if mine:
            await self._submit([self.dice.choice(mine[-10:])], life)

    async def ask_for_another(self, tenant: str, life: Life) -> None:
        """Use a key again for something else: the first that was admitted stands."""
        mine = [order for order in self.orders.values() if order.tenant == tenant]
        if mine:
            order = self.dice.choice(mine[-10:])
            await self._submit([evolve(order, max_cost=order.max_cost + 1)], life)

    async def cancel(self, tenant: str, life: Life) -> None:
        run_id = self._one_of(tenant)
        if run_id is None:
            return
        self.cancels.add(run_id)
        answer = await self._within(life, partial(life.line.cancel_run, tenant, run_id))
        self.trace.add("client", "cancel", run_id, tell(answer))
        match answer:
            case CancelAsked(run):
                self.trace.counts["cancel noted"] += 1
                assert run.cancel_asked
            case EndedBefore(run):
                self.trace.counts["cancel ended it"] += run.status is Status.CANCELED

    async def look(self, tenant: str, life: Life) -> None:
        run_id = self._one_of(tenant)
        if run_id is not None:
            await self._look_at(tenant, run_id, life)

    async def wait(self, tenant: str, life: Life) -> None:
        """Wait for a run's end without asking."""
        run_id = self._one_of(tenant)
        if run_id is None:
            return
        invoked_at, watch = self.trace.now(), Watch(tenant, run_id)
        waited = partial(life.world.board.wait_terminal, watch, Status.QUEUED)
        answer = await self._within(life, waited)
        if isinstance(answer, Run):
            self._saw(tenant, invoked_at, answer)
            self.trace.counts["waited for an end"] += 1

    async def look_at_budget(self, tenant: str, life: Life) -> None:
        invoked_at = self.trace.now()
        there = await self._within(life, partial(life.line.get_budget, tenant))
        if there is not UNKNOWN:
            self.history.balances.append(
                Balance(
                    tenant=tenant,
                    invoked_at=invoked_at,
                    answered_at=self.trace.now(),
                    available=there.available,
                    held=there.held,
                    spent=there.spent,
                )
            )

    async def pay_in(self, tenant: str, life: Life) -> None:
        await self._post(
            self._posting(tenant, Kind.DEPOSIT, self.dice.randint(1, 100) * CENT), life
        )

    async def take_out(self, tenant: str, life: Life) -> None:
        amount = self.dice.randint(1, 100) * CENT
        await self._post(self._posting(tenant, Kind.WITHDRAW, amount), life)

    async def refund(self, tenant: str, life: Life) -> None:
        run_id = self._one_of(tenant)
        if run_id is not None:
            amount = self.dice.randint(1, 10 * CENT)
            await self._post(self._posting(tenant, Kind.REFUND, amount, run_id), life)

    # ── how it is asked ──────────────────────────────────────────────────────────────────────────

    async def _within(self, life: Life, ask: Callable[[], Awaitable[T]]) -> T:
        """Ask a node; `UNKNOWN` where it died, has no store, or is not heard of for too long."""
        answer: Any = UNKNOWN
        with trio.move_on_after(PATIENCE_S):  # noqa: ASYNC912 - asking is a checkpoint
            async with trio.open_nursery() as nursery:

                async def hang_up() -> None:
                    await life.dead.wait()
                    nursery.cancel_scope.cancel(reason="its node died")

                nursery.start_soon(hang_up)
                try:
                    answer = await ask()
                except StoreUnavailable:
                    self.trace.counts["answers 503"] += 1
                except Exception as bug:  # noqa: BLE001 - whatever it is, a client saw it
                    self.trace.violated("no client sees a bug", repr(bug))
                nursery.cancel_scope.cancel(reason="answered")
        return answer

    async def _submit(self, orders: list[Order], life: Life, *, as_batch: bool = False) -> None:
        for order in orders:
            self.orders.setdefault((order.tenant, order.key), order)
        asked = [self._submission(order) for order in orders]
        desk, invoked_at = life.world.submissions, self.trace.now()
        if as_batch:
            answers: Any = await self._within(life, partial(desk.submit_batch, asked))
        else:
            answers = [await self._within(life, partial(desk.submit, asked[0]))]
        if answers is UNKNOWN:
            answers = [UNKNOWN] * len(orders)
        for order, answer in zip(orders, answers, strict=True):
            self._heard(order, invoked_at, answer)

    def _heard(self, order: Order, invoked_at: float, answer: Any) -> None:
        """Write down what one submission came to."""
        name, status = (order.tenant, order.key), STATUS.get(type(answer))
        self.trace.add("client", *name, tell(answer) if answer is not UNKNOWN else "unknown")
        if status is None and answer is not UNKNOWN and answer is not None:
            self.trace.violated("no submission meets a bug", *name, answer)
        outcome = "info" if status is None else "ok" if status < 400 else "fail"
        self.trace.counts[f"answers {status or 'unknown'}"] += 1
        self.history.submits.append(
            Submit(
                tenant=order.tenant,
                invoked_at=invoked_at,
                answered_at=self.trace.now(),
                key=order.key,
                outcome=outcome,
                status=status,
                run_id=str(answer.run_id) if outcome == "ok" else None,
                max_cost=order.max_cost if outcome == "ok" else None,
            )
        )
        if outcome == "ok":
            runs = self.runs.setdefault(order.tenant, [])
            if self.told.get(name) == "ok":
                self.trace.counts["replayed"] += 1
            elif answer.run_id not in runs:
                runs.append(answer.run_id)
        if outcome == "ok" or (outcome == "fail" and self.orders[name] == order):
            if self.told.get(name) == "fail" and outcome == "ok":
                self.trace.counts["admitted after a refusal"] += 1
            self.told[name] = outcome

    async def _look_at(self, tenant: str, run_id: UUID, life: Life) -> None:
        invoked_at = self.trace.now()
        run = await self._within(life, partial(life.line.get_run, tenant, run_id))
        if run is None:
            self.trace.violated("an acknowledged run is there", tenant, run_id)
        elif run is not UNKNOWN:
            self._saw(tenant, invoked_at, run)

    def _saw(self, tenant: str, invoked_at: float, run: Run) -> None:
        self.trace.add("client", "saw", tell(run))
        self.history.looks.append(
            Look(
                tenant=tenant,
                invoked_at=invoked_at,
                answered_at=self.trace.now(),
                run_id=str(run.run_id),
                status=run.status.value,
                attempt=run.attempt,
                cost=run.actual_cost,
            )
        )

    async def _post(self, posting: Posting, life: Life) -> None:
        place = (posting.tenant_id, posting.reference)
        answer = await self._within(life, partial(life.line.post_transfer, posting))
        outcome = "info" if answer is UNKNOWN else "ok" if isinstance(answer, Posted) else "fail"
        self.trace.add("client", posting.kind, *place, outcome)
        self.trace.counts[f"{posting.kind} {outcome}"] += 1
        self.postings[place] = (posting, outcome)

    # ── what is asked ────────────────────────────────────────────────────────────────────────────

    def _one_of(self, tenant: str) -> UUID | None:
        """Return a run of late; None where there is none yet."""
        runs = self.runs.get(tenant, [])[-10:]
        return self.dice.choice(runs) if runs else None

    def _order(self, tenant: str) -> Order:
        self._numbers += 1
        timebox_s = self.dice.choice(TIMEBOXES_S)
        max_cost = self.dice.randint(1, 50) * CENT
        return Order(
            tenant=tenant,
            key=f"order-{self._numbers}",
            script=script.draw(self.dice, max_cost, timebox_s),
            max_cost=max_cost,
            timebox_s=timebox_s,
            priority=self.dice.randrange(10),
        )

    def _submission(self, order: Order) -> Submission:
        body = canonical(order.script.inputs)
        asked = canonical([order.script.inputs, order.max_cost, order.timebox_s, order.priority])
        return Submission(
            run_id=self.ids.next(),
            tenant_id=order.tenant,
            key_id=f"key-of-{order.tenant}",
            idempotency_key=order.key,
            fingerprint=b"\x01" + sha256(asked).digest(),
            pack_type=script.PACK,
            pack_version="1",
            inputs=body,
            max_cost=Micros(order.max_cost),
            priority=order.priority,
            timebox_s=order.timebox_s,
            trace_id=f"trace-of-{order.key}",
            appraisal=Appraised(),
        )

    def _posting(self, tenant: str, kind: Kind, amount: int, run_id: UUID | None = None) -> Posting:
        self._numbers += 1
        return Posting(
            tenant_id=tenant,
            kind=kind,
            amount=Micros(amount),
            reference=f"transfer-{self._numbers}",
            operator="ops",
            run_id=run_id,
            reason="asked for" if kind is Kind.REFUND else None,
        )
