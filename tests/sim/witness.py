"""The witness: it stands beside the rows and looks at them after each transaction.

It sees what is gone when all is over: a moment with too many runs of a tenant in work, an epoch
that fell, a cancel that was forgotten, a fact that changed. It reads rows and decides by no code of
the product.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any, TypeVar
from uuid import UUID

from attrs import define, field

from tests.fake_faults import Faults
from tests.fake_rows import LiveRow, Rows
from tests.sim.trace import Trace

T = TypeVar("T")
PARTS = ("available", "held", "spent", "deposited")


@define(eq=False, kw_only=True)
class Witness:
    """What it remembers. `caps`: runs in work at once, by tenant."""

    rows: Rows
    trace: Trace
    caps: Mapping[str, int]
    attempts_max: int
    epochs: dict[UUID, int] = field(factory=dict)
    spent: dict[UUID, int] = field(factory=dict)
    canceled: set[UUID] = field(factory=set)
    leased: set[UUID] = field(factory=set)
    over: set[tuple[UUID, int]] = field(factory=set)  # attempts of which a node said so, by epoch
    facts: dict[tuple[str, Any], object] = field(factory=dict)

    def look(self, verb: str) -> None:
        """Compare the rows after a `verb` with what was seen before, and with what always holds."""
        working: Counter[str] = Counter()
        for row in self.rows.live.values():
            self._look_at(row, verb)
            working[row.tenant_id] += row.lease_id is not None and not row.quarantined
        for tenant_id, cap in self.caps.items():
            if working[tenant_id] > cap:
                self.trace.violated("no more runs than the plan has", tenant_id, working[tenant_id])
        for budget in self.rows.budgets.values():
            parts = [getattr(budget, name) for name in PARTS]
            if min(parts) < 0 or sum(parts[:3]) != parts[3]:
                self.trace.violated("what came in is there at every commit", budget)

    def _look_at(self, row: LiveRow, verb: str) -> None:
        """Look at one live row."""
        run_id = row.run_id
        if row.lease_epoch != self.epochs.get(run_id, 0):
            if row.lease_epoch < self.epochs.get(run_id, 0):
                self.trace.violated("no epoch falls", row)
            self.epochs[run_id] = row.lease_epoch
            if run_id in self.canceled:
                self.trace.violated("a run whose cancel was noted is not begun again", row)
        self._count_attempts(row, verb)
        if row.cancel_asked:
            self.canceled.add(run_id)
            if row.lease_id is None and not row.quarantined:
                self.trace.violated("a run whose cancel was noted waits for nobody", row)
        elif run_id in self.canceled:
            self.trace.violated("no cancel is forgotten", row)

    def _count_attempts(self, row: LiveRow, verb: str) -> None:
        """Compare the attempts of one live row, and count how each was given up."""
        run_id = row.run_id
        if row.attempts_spent < self.spent.setdefault(run_id, 0):
            self.trace.violated("no spent attempt comes back", row)
        if row.attempts_spent >= self.attempts_max:
            self.trace.violated("a run ends when its attempts are used up", row)
        if row.lease_id is not None:
            self.leased.add(run_id)
        elif run_id in self.leased:
            self.leased.remove(run_id)
            is_spent = row.attempts_spent > self.spent[run_id]
            how = "taken back, an attempt spent" if is_spent else "handed back, no attempt spent"
            self.trace.counts[how] += 1
            if verb == "end_runs" and (run_id, row.lease_epoch) not in self.over:
                self.trace.violated("an attempt is given up by its own end", row)
        self.spent[run_id] = row.attempts_spent

    def keep(self) -> None:
        """Remember the facts that are new; those that were there must stay as they are."""
        tables: Iterable[tuple[str, Mapping[Any, object]]] = (
            ("submission", self.rows.submissions),
            ("ending", self.rows.endings),
            ("transfer", self.rows.transfers),
        )
        now = {(name, key): row for name, table in tables for key, row in table.items()}
        for place, row in self.facts.items():
            if now.get(place) != row:
                self.trace.violated("no fact is ever changed", place, row)
        self.facts = now


@define(eq=False)
class Witnessed(Faults):
    """The faults of the fake store, with a witness of each effect. `caller`: who asks now."""

    witness: Witness | None = None
    caller: str = ""
    calls_max: int = 200_000  # of one simulation: far over what any needs, so it is a loop

    async def run(
        self,
        verb: str,
        body: Callable[[], T],
        *,
        runs: Iterable[UUID] = (),
        waits_for: Iterable[str] = (),
    ) -> T:
        assert len(self.calls) < self.calls_max, "the nodes ask for ever"
        seen = partial(self._seen, verb, self.caller, body)
        return await super().run(verb, seen, runs=runs, waits_for=waits_for)

    def _seen(self, verb: str, caller: str, body: Callable[[], T]) -> T:
        try:
            answer = body()
        except AssertionError as error:
            if self.witness is not None:
                self.witness.trace.violated("no constraint refuses a write", verb, repr(error))
            raise
        if self.witness is not None:
            self.witness.trace.add("effect", caller, verb)
            self.witness.look(verb)
        return answer
