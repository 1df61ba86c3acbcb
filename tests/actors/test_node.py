"""The actors together: what a run goes through, and what the drain does."""

from __future__ import annotations

import trio
from trio.testing import MockClock

from dpp.runs import Status
from tests.actors.world import World, asked, result_of


async def test_a_run_goes_from_submission_to_completed(autojump_clock: MockClock) -> None:
    world = World()
    await world.tenant()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.serve)

        run_id = await world.submit(asked(inputs={"message": "hi", "cost_usd": "0.05"}))
        await trio.sleep(1)
        world.stopping.begin("the test is over")

    run = world.run(run_id)
    assert (run.status, run.actual_cost) == (Status.COMPLETED, 50_000)
    assert result_of(run) == {"message": "hi"}
    assert (await world.store.audit()).ok
