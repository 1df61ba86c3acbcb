"""The reconciler's pass: a node that died may have left a hundred runs, in a store that is far away."""  # noqa: E501

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import UUID, uuid4

import pytest
import trio
from attrs import define, field

from dpp.actors.reconciler import LOOKS_MAX, UNASKED_MAX, Reconciler
from dpp.blobs import CouldNotAsk, Looked, Missing
from dpp.claims import LeftStoring, Seen
from dpp.live import Live, Pace
from dpp.money import Micros

if TYPE_CHECKING:
    from collections.abc import Sequence

    from trio.testing import MockClock

    from dpp.blobs import BlobKey

LOOK_S = 0.05
LEFT = 100


@define(eq=False)
class Far:
    """A bucket where nothing is, as far away as one is."""

    away: bool = False
    at_once: int = 0
    most: int = 0

    async def look(self, _key: BlobKey) -> Looked:
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        await trio.sleep(LOOK_S)
        self.at_once -= 1
        if self.away:
            raise CouldNotAsk("away")
        return Missing()


@define(eq=False)
class Rows:
    """Runs that were left storing."""

    left: list[LeftStoring] = field(factory=lambda: [left(n) for n in range(LEFT)])
    taken: list[UUID] = field(factory=list)

    async def storing_runs(
        self, *, after: UUID | None, limit: int, grace_s: float
    ) -> list[LeftStoring]:
        del grace_s
        await trio.lowlevel.checkpoint()
        return [one for one in self.left if after is None or one.seen.run_id > after][:limit]

    async def take_back(self, seen: Sequence[Seen], _lapse: object, *, storing: bool) -> int:
        assert storing
        await trio.lowlevel.checkpoint()
        self.taken += [one.run_id for one in seen]
        return len(seen)


def left(n: int) -> LeftStoring:
    seen = Seen(run_id=UUID(int=n + 1), tenant_id="acme", lease_id=uuid4(), lease_epoch=1)
    return LeftStoring(seen=seen, max_cost=Micros(1), created_at=datetime(2026, 1, 1, tzinfo=UTC))


def reconciling(rows: Rows, blobs: Far) -> Reconciler:
    return Reconciler(
        store=rows,  # type: ignore[arg-type]  # what a pass asks
        blobs=blobs,  # type: ignore[arg-type]
        pace=Live(Pace(1.0, 30)),
        lease_s=30,
        store_wait_s=600,
    )


async def test_what_was_left_is_looked_at_a_few_at_once(autojump_clock: MockClock) -> None:
    rows, blobs = Rows(), Far()
    began_at = trio.current_time()

    await reconciling(rows, blobs).step()

    assert sorted(rows.taken) == [one.seen.run_id for one in rows.left]
    assert blobs.most == LOOKS_MAX
    assert trio.current_time() - began_at == pytest.approx(14 * LOOK_S)  # 3 pages of 4, one of 2


async def test_a_store_that_is_away_is_asked_a_few_times_and_each_run_in_its_turn(
    autojump_clock: MockClock,
) -> None:
    rows, blobs = Rows(), Far(away=True)
    work = reconciling(rows, blobs)
    began_at = trio.current_time()

    for _ in range(LEFT // LOOKS_MAX):
        await work.step()

    assert rows.taken == []
    assert trio.current_time() - began_at == pytest.approx(LEFT // LOOKS_MAX * LOOK_S)
    assert len(work._unasked_since) > LEFT - LOOKS_MAX >= UNASKED_MAX
