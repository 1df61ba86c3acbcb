"""`Prefer: wait=N` on `POST /v1/runs`: the run's end in the answer to its submit, if it comes in time."""  # noqa: E501

from __future__ import annotations

import json
import socket
from typing import TYPE_CHECKING

import httpx
import pytest
import trio

from dpp.actors.watchboard import Watchboard
from tests.http.server import request
from tests.sse import RESET

if TYPE_CHECKING:
    from tests.http.conftest import Api

BODY = json.dumps({"pack_type": "echo", "inputs": {}, "max_cost_usd": "0.01"}).encode()


def board_of(api: Api) -> Watchboard:
    board = api.services.watching
    assert isinstance(board, Watchboard)
    return board


async def until_waited(api: Api, runs: int = 1) -> None:
    """Wait until somebody waits for so many runs."""
    with trio.fail_after(20):
        await trio.lowlevel.checkpoint()
        while len(board_of(api).watching()) != runs:  # noqa: ASYNC110
            await trio.sleep(0.005)


async def cancel(api: Api, key: str) -> None:
    """End the run that is waited for."""
    (watch,) = board_of(api).watching()
    await api.ask("POST", f"/v1/runs/{watch.run_id}:cancel", key)


async def submit(api: Api, key: str, prefer: str, into: list[httpx.Response]) -> None:
    headers = {"Prefer": prefer}
    into.append(await api.submit(key, idempotency_key="k", headers=headers))


async def test_run_that_ends_in_time_is_answered_with_its_end(api: Api) -> None:
    key, answers = await api.tenant(), list[httpx.Response]()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit, api, key, "wait=60", answers)
        await until_waited(api)
        await cancel(api, key)
    (answer,) = answers

    assert (answer.status_code, answer.json()["status"]) == (201, "CANCELED")
    assert answer.headers["preference-applied"] == "wait=60"
    assert answer.headers["x-dpp-cost-actual"] == "0.00"
    assert "idempotency-replayed" not in answer.headers
    assert board_of(api).watching() == []


async def test_wait_that_is_over_answers_the_run_as_it_is(api: Api) -> None:
    key, answers = await api.tenant(), list[httpx.Response]()

    await submit(api, key, "wait=1", answers)

    assert (answers[0].status_code, answers[0].json()["status"]) == (201, "QUEUED")
    assert answers[0].headers["preference-applied"] == "wait=1"
    assert board_of(api).watching() == []


async def test_wait_over_the_maximum_is_cut_to_it(api: Api) -> None:
    key, answers = await api.tenant(), list[httpx.Response]()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(submit, api, key, "wait=3600", answers)
        await until_waited(api)
        await cancel(api, key)

    assert answers[0].headers["preference-applied"] == "wait=60"


@pytest.mark.parametrize("prefer", ["wait=x", "wait=-1", "wait", "return=minimal", "wait=0"])
async def test_what_cannot_be_honoured_is_passed_over(api: Api, prefer: str) -> None:
    key, answers = await api.tenant(), list[httpx.Response]()

    with trio.fail_after(20):
        await submit(api, key, prefer, answers)

    assert (answers[0].status_code, answers[0].json()["status"]) == (201, "QUEUED")
    applied = "wait=0" if prefer == "wait=0" else None
    assert answers[0].headers.get("preference-applied") == applied


async def test_respond_async_is_acknowledged_and_changes_nothing(api: Api) -> None:
    key, answers = await api.tenant(), list[httpx.Response]()

    with trio.fail_after(20):
        await submit(api, key, "respond-async", answers)

    assert (answers[0].status_code, answers[0].json()["status"]) == (201, "QUEUED")
    assert answers[0].headers["preference-applied"] == "respond-async"


async def test_refused_submission_applies_nothing(api: Api) -> None:
    key = await api.tenant(deposit=5_000)

    with trio.fail_after(20):
        answer = await api.submit(key, headers={"Prefer": "wait=60"})

    assert answer.status_code == 402
    assert "preference-applied" not in answer.headers


async def test_replays_wait_too_and_share_the_watch(api: Api) -> None:
    key, answers = await api.tenant(), list[httpx.Response]()
    first = await api.submit(key, idempotency_key="k")

    async with trio.open_nursery() as nursery:
        for _ in range(10):
            nursery.start_soon(submit, api, key, "wait=60", answers)
        await until_waited(api)
        await cancel(api, key)
    with trio.fail_after(20):
        await submit(api, key, "wait=60", answers)  # of a run that has ended: at once

    assert {answer.status_code for answer in answers} == {201}
    assert {answer.json()["run_id"] for answer in answers} == {first.json()["run_id"]}
    assert {answer.json()["status"] for answer in answers} == {"CANCELED"}
    assert {answer.headers["idempotency-replayed"] for answer in answers} == {"true"}


async def test_drain_answers_at_once(api: Api) -> None:
    key, answers = await api.tenant(), list[httpx.Response]()

    with trio.fail_after(20):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(submit, api, key, "wait=60", answers)
            await until_waited(api)
            api.services.draining.set()

    assert (answers[0].status_code, answers[0].json()["status"]) == (201, "QUEUED")


async def test_client_that_goes_leaves_its_run_and_nobody_waiting(api: Api) -> None:
    key = await api.tenant()
    lines = (
        f"Authorization: Bearer {key}",
        "Idempotency-Key: k",
        "Content-Type: application/json",
        "Prefer: wait=60",
    )

    async with api.server.connect() as wire:
        await wire.send(request("POST", "/v1/runs", *lines, body=BODY))
        await until_waited(api)
        wire.stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    await until_waited(api, 0)
    listed = (await api.ask("GET", "/v1/runs", key)).json()["items"]

    assert [(run["idempotency_key"], run["status"]) for run in listed] == [("k", "QUEUED")]
