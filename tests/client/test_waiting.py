"""Waiting for the end of a run: long questions, over drains and outages, bounded by its time."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import anyio
import pytest

from dpp.client import AsyncClient, Client, Retries, Unavailable, WaitTimedOut
from tests.cli.peers import Says, peer
from tests.client.conftest import KEY, RUN, Ask, problem

ENDED = Says(200, json.dumps(RUN))
WORKS = Says(200, json.dumps({**RUN, "status": "PROCESSING"}))
AWAY = problem(503, "0", name="temporary-reduced-capacity")


def wait(timeout: float | None = None) -> Any:
    return lambda client: client.wait("r1", timeout)


def test_a_wait_asks_long_and_again_when_it_is_answered_early(ask: Ask) -> None:
    with peer([WORKS, WORKS, ENDED]) as server:
        got = ask(server.url, wait())

    assert got.ended
    assert [asked.path for asked in server.asked] == ["/v1/runs/r1?wait=30"] * 3


def test_each_outage_within_a_wait_has_all_of_the_tries(ask: Ask) -> None:
    outage = [Says(None), AWAY]
    with peer([*outage, WORKS, *outage, WORKS, *outage, ENDED]) as server:
        got = ask(server.url, wait(), retries=Retries(attempts=3, pause_first_s=0.0))

    assert got.ended
    assert len(server.asked) == 9


def test_a_wait_with_a_time_rides_out_what_lasts_longer_than_the_tries(ask: Ask) -> None:
    with peer([WORKS, *[AWAY] * 20, ENDED]) as server:
        got = ask(server.url, wait(30), retries=Retries(attempts=2, pause_first_s=0.0))

    assert got.ended
    assert len(server.asked) == 22


def test_a_wait_that_is_over_says_what_was_last_known(ask: Ask) -> None:
    with peer([WORKS]) as server, pytest.raises(WaitTimedOut) as over:
        ask(server.url, wait(0.3))

    assert (over.value.run.run_id, over.value.run.status) == ("r1", "PROCESSING")
    assert isinstance(over.value, TimeoutError)
    assert {asked.path for asked in server.asked} == {"/v1/runs/r1"}


def test_a_wait_over_an_outage_to_its_end_raises_the_outage(ask: Ask) -> None:
    with peer([AWAY]) as server, pytest.raises(Unavailable):
        ask(server.url, wait(0.3))

    assert len(server.asked) > 1


def test_a_server_set_to_shorter_waits_is_asked_for_those(ask: Ask) -> None:
    wrong = problem(
        422, name="invalid-request", errors=[{"pointer": "/query/wait", "message": "is too long"}]
    )
    with peer([wrong, wrong, WORKS, ENDED]) as server:
        got = ask(server.url, wait())

    assert got.ended
    assert [asked.path.rpartition("=")[2] for asked in server.asked] == ["30", "15", "7", "7"]


def test_a_run_is_watched_to_its_end(ask: Ask) -> None:
    with peer([WORKS, WORKS, ENDED, WORKS]) as server:
        states = ask(server.url, lambda client: client.watch("r1"))

    assert [state.status for state in states] == ["PROCESSING", "PROCESSING", "COMPLETED"]


def test_closing_a_client_ends_the_pauses_of_its_other_threads() -> None:
    paused = threading.Event()
    ended: list[BaseException] = []
    with peer([problem(503, "60")]) as server:
        client = Client(server.url, KEY, on_retry=lambda *_: paused.set())

        def ask() -> None:
            try:
                client.budget()
            except RuntimeError as error:  # httpx: it is closed
                ended.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        assert paused.wait(30)
        client.close()
        thread.join(30)

    assert len(ended) == 1


@pytest.mark.parametrize("backend", ["trio", "asyncio"])
@pytest.mark.parametrize("ill", [AWAY, problem(503, "60"), WORKS], ids=["again", "paused", "works"])
def test_a_wait_on_a_loop_can_be_cancelled(backend: str, ill: Says) -> None:
    async def main() -> None:
        async with AsyncClient(server.url, KEY, retries=Retries(attempts=10**6)) as client:
            with anyio.move_on_after(0.2) as scope:
                await client.wait("r1")
            assert scope.cancelled_caught
            assert await client.run("r2")

    answers = itertools.chain(itertools.repeat(ill))
    with peer([lambda asked: ENDED if asked.path.endswith("r2") else next(answers)]) as server:
        anyio.run(main, backend=backend)


def test_many_threads_may_share_a_client() -> None:
    got: list[str] = []
    with peer([ENDED]) as server, Client(server.url, KEY) as client:
        threads = [
            threading.Thread(target=lambda: got.append(client.wait("r1").run_id)) for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    assert got == ["r1"] * 8
