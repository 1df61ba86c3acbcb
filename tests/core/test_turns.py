"""Turns: each loop takes one where the database is away, so that an outage restarts nothing."""

from __future__ import annotations

import ast
from pathlib import Path

import trio

import dpp
from dpp import config, metrics, turns
from dpp.actors.supervisor import supervise
from dpp.faults import StoreUnavailable
from dpp.node.loops import LOOPS, TURN_S, patience

ACTORS = Path(dpp.__file__).parent / "actors"
OUTAGES = {"store unavailable", "heartbeat unanswered"}


def handlers() -> list[ast.ExceptHandler]:
    """Return every place where an actor says that the store is away, and goes on."""
    return [
        node
        for path in ACTORS.glob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ExceptHandler) and OUTAGES & words(node)
    ]


def words(node: ast.AST) -> set[object]:
    return {one.value for one in ast.walk(node) if isinstance(one, ast.Constant)}


def turned(node: ast.AST) -> set[object]:
    """Return the loops whose turn is noted there."""
    calls = [one for one in ast.walk(node) if isinstance(one, ast.Call)]
    return {
        call.args[0].value  # type: ignore[attr-defined]
        for call in calls
        if isinstance(call.func, ast.Name) and call.func.id == "turned"
    }


def test_a_loop_that_rides_out_an_outage_by_itself_takes_a_turn_with_each_refusal() -> None:
    turning = [handler for handler in handlers() if turned(handler)]

    assert set[object]().union(*map(turned, turning)) == set(LOOPS) - {"collector", "keyring"}
    for handler in turning:  # the two others are supervised alone
        assert turned(handler) <= words(handler) & set(LOOPS)


async def test_a_loop_that_is_started_again_takes_a_turn() -> None:
    seen: list[float] = []

    async def actor() -> None:
        await trio.lowlevel.checkpoint()
        if seen:
            return
        seen.append(turns.quiet().pop("a loop"))
        turns.resting("a loop")
        raise StoreUnavailable

    await supervise("a loop", actor)

    assert "a loop" in turns.quiet()
    turns.resting("a loop")


def test_a_success_is_a_turn_and_a_rest_is_not_watched() -> None:
    metrics.succeeded("another loop")
    assert turns.quiet()["another loop"] < TURN_S

    turns.resting("another loop")

    assert "another loop" not in turns.quiet()


def test_each_loop_may_be_quiet_for_longer_than_it_pauses() -> None:
    given = patience(config.defaults())

    assert given.keys() == set(LOOPS)
    assert min(given.values()) >= TURN_S
    assert given["collector"] > 3600 * 1.1
