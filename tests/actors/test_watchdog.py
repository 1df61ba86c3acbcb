from __future__ import annotations

from collections.abc import Callable

import trio
from attrs import define, field
from trio.testing import MockClock, wait_all_tasks_blocked

from dpp.actors.watchdog import LOOKS, LoopHangs, watchdog

PERIOD_S = 30.0
PATIENCE = {"reaper": 305.0, "tenure": 310.0}


@define
class Node:
    """What the watchdog sees of a node, and what it did."""

    quiet: dict[str, float] = field(factory=dict)
    knock: Callable[[], object] = lambda: None
    fed_at: list[float] = field(factory=list)
    bugs: list[BaseException] = field(factory=list)

    async def answer(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.knock() is NEVER:
            await trio.sleep_forever()

    def alive(self, limit_s: float) -> None:
        assert limit_s == PERIOD_S
        self.fed_at.append(trio.current_time())

    def give_up(self, bug: BaseException) -> None:
        self.bugs.append(bug)
        self.quiet = {}  # it drains

    async def watched(self, for_s: float) -> None:
        with trio.move_on_after(for_s):
            await watchdog(
                self.answer, lambda: self.quiet, PATIENCE, self.alive, self.give_up,
                period_s=PERIOD_S,
            )  # fmt: skip


NEVER = object()


async def test_a_node_that_is_well_feeds_it_more_often_than_it_must(
    autojump_clock: MockClock,
) -> None:
    node = Node({"reaper": 1.0, "tenure": 9.0})

    await node.watched(3600)

    gaps = [b - a for a, b in zip(node.fed_at, node.fed_at[1:], strict=False)]
    assert node.fed_at[0] == 0
    assert max(gaps) <= PERIOD_S / LOOKS
    assert node.bugs == []


async def test_a_bridge_that_does_not_answer_lets_it_starve(autojump_clock: MockClock) -> None:
    node = Node(knock=lambda: NEVER)

    await node.watched(600)

    assert node.fed_at == []


async def test_one_bad_look_is_not_deadly(autojump_clock: MockClock) -> None:
    answers = [None, NEVER, *[None] * 100]
    node = Node(knock=lambda: answers.pop(0))

    await node.watched(120)

    gaps = [b - a for a, b in zip(node.fed_at, node.fed_at[1:], strict=False)]
    assert PERIOD_S / LOOKS < max(gaps) < PERIOD_S


async def test_a_loop_that_hangs_ends_the_node_in_order(autojump_clock: MockClock) -> None:
    node = Node({"reaper": 306.0, "tenure": 1.0})

    await node.watched(100)

    assert [type(bug) for bug in node.bugs] == [LoopHangs]
    assert str(node.bugs[0]) == "reaper for 306 s"
    assert node.fed_at[-1] > 90  # the drain takes its time


async def test_a_loop_that_nobody_waits_for_is_not_judged(autojump_clock: MockClock) -> None:
    node = Node({"a stranger": 1e9})

    await node.watched(100)

    assert node.bugs == []


async def test_after_a_stall_the_other_loops_have_a_moment(mock_clock: MockClock) -> None:
    node = Node({"reaper": 1.0})
    async with trio.open_nursery() as nursery:
        nursery.start_soon(node.watched, 10_000)
        await wait_all_tasks_blocked()

        node.quiet = {"reaper": 400.0}
        mock_clock.jump(400)
        await wait_all_tasks_blocked()
        at_once = [*node.bugs]
        mock_clock.jump(PERIOD_S)
        await wait_all_tasks_blocked()
        mock_clock.jump(PERIOD_S / LOOKS)
        await wait_all_tasks_blocked()

        assert at_once == []
        assert len(node.bugs) == 1  # it had its moment
        nursery.cancel_scope.cancel()
