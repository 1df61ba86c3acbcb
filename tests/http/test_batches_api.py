"""`POST /v1/runs:batch`: every item for itself, in order, whatever its neighbours are."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from dpp.http import batches
from dpp.http.bench import LIGHT_MAX
from dpp.packs.members import MORE
from tests.http.test_runs_api import problem

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    import httpx

    from dpp.runs import Run
    from tests.http.conftest import Api


def item(key: str | None = None, **members: Any) -> dict[str, Any]:
    named = {} if key is None else {"idempotency_key": key}
    return {"pack_type": "echo", "inputs": {}, "max_cost_usd": "0.01", **named, **members}


async def submit(api: Api, key: str, *items: Any) -> httpx.Response:
    return await api.ask("POST", "/v1/runs:batch", key, json={"runs": list(items)})


async def submit_lines(api: Api, key: str, *lines: bytes) -> httpx.Response:
    headers = {"Content-Type": "application/x-ndjson"}
    body = b"\n".join(lines) + b"\n"
    return await api.ask("POST", "/v1/runs:batch", key, headers=headers, content=body)


def told(answer: httpx.Response) -> list[str]:
    """Return status and kind of each item."""
    assert answer.status_code == 200
    return [
        f"{one['status']} {'replayed' if one['replayed'] else 'created'}"
        if one["status"] == 201
        else f"{one['status']} {one['problem']['type'].rpartition('/')[2].rpartition('#')[2]}"
        for one in answer.json()["items"]
    ]


async def test_items_are_answered_in_order_each_for_itself(api: Api) -> None:
    key = await api.tenant(deposit=30_000)
    await api.submit(key, idempotency_key="before")

    answer = await submit(
        api,
        key,
        item("a"),
        item("b", max_cost_usd="bad"),
        "no object",
        item(),
        item("a b"),
        item("a"),
        item("a", max_cost_usd="0.02"),
        item("before"),
        item("c", pack_type="none"),
        item("d", max_cost_usd="5.00"),
        item("e"),
        item("f"),
    )

    assert told(answer) == [
        "201 created",
        "422 invalid-request",
        "422 invalid-request",
        "400 idempotency-key-missing",
        "400 idempotency-key-invalid",
        "201 replayed",
        "422 idempotency-key-reused",
        "201 replayed",
        "422 pack-unknown",
        "402 budget-exceeded",
        "201 created",
        "402 budget-exceeded",
    ]
    items = answer.json()["items"]
    assert items[0]["run"] == items[5]["run"]
    assert items[0]["run"]["idempotency_key"] == "a"
    assert items[1]["problem"]["errors"][0]["pointer"] == "/max_cost_usd"
    assert items[1]["problem"]["instance"] == "/v1/runs:batch#1"


async def test_batch_and_single_name_the_same_run_by_the_same_key(api: Api) -> None:
    key = await api.tenant()
    single = (await api.submit(key, idempotency_key='"one"')).json()

    answer = await submit(api, key, item("one"))

    assert told(answer) == ["201 replayed"]
    assert answer.json()["items"][0]["run"] == single


async def test_each_item_counts_against_the_rate(api: Api) -> None:
    key = await api.tenant(plan="basic")

    answer = await submit(api, key, *(item(f"k{n}") for n in range(15)))

    assert told(answer) == ["201 created"] * 10 + ["429 quota-exceeded"] * 5
    assert answer.headers["ratelimit"].startswith('"submit";r=0')
    assert answer.headers["ratelimit-policy"] == '"submit";q=10;w=60'
    window_s = int(answer.headers["ratelimit"].rpartition("t=")[2])
    refused = [one["problem"] for one in answer.json()["items"][10:]]
    assert [one["retry_after_s"] for one in refused] == [window_s] * 5  # it has no headers


async def test_thousand_items_are_taken_and_one_more_is_not(api: Api) -> None:
    key = await api.tenant()

    most = await submit(api, key, *(item(f"k{n}") for n in range(1000)))
    more = await submit(api, key, *(item(f"m{n}") for n in range(1001)))
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert told(most) == ["201 created"] * 1000
    assert (more.status_code, problem(more)) == (422, "invalid-request")
    assert budget["held_usd"] == "10.00"


async def test_body_that_is_no_batch_is_refused_as_a_whole(api: Api) -> None:
    key = await api.tenant()
    bodies = {
        b"": "400 malformed-json",
        b"[]": "400 malformed-json",
        b'{"runs": [}': "400 malformed-json",
        b'{"runs": [], "runs": []}': "400 malformed-json",
        b"{}": "422 invalid-request",
        b'{"runs": []}': "422 invalid-request",
        b'{"runs": {}}': "422 invalid-request",
        b'{"runs": [{}], "other": 1}': "422 invalid-request",
    }
    headers = {"Content-Type": "application/json"}

    for body, expected in bodies.items():
        answer = await api.ask("POST", "/v1/runs:batch", key, headers=headers, content=body)
        assert f"{answer.status_code} {problem(answer)}" == expected


async def test_bad_line_spoils_only_itself(api: Api) -> None:
    key = await api.tenant()
    good = [json.dumps(item(f"k{n}")).encode() for n in range(3)]

    answer = await submit_lines(
        api,
        key,
        good[0],
        b"{nonsense",
        b"",
        good[1] + b"\r",
        b"[]",
        b'{"a": NaN}',
        b"\xff",
        good[2],
    )
    none = await submit_lines(api, key, b"", b"  ")

    assert told(answer) == [
        "201 created",
        "400 malformed-json",
        "201 created",
        "400 malformed-json",
        "400 malformed-json",
        "400 malformed-json",
        "201 created",
    ]
    assert (none.status_code, problem(none)) == (422, "invalid-request")


async def test_item_with_too_many_values_spoils_only_itself(api: Api) -> None:
    key = await api.tenant()
    heavy = item("heavy", inputs={"message": [0] * 10_001})
    filling = [item(f"k{n}", inputs={"message": [0] * 100}) for n in range(20)]

    answer = await submit(api, key, *filling, heavy)

    assert told(answer) == ["201 created"] * 20 + ["400 malformed-json"]


async def test_large_body_is_decoded_beside_other_requests(api: Api) -> None:
    key = await api.tenant()

    answer = await submit(
        api, key, *(item(f"k{n}", inputs={"message": "x" * 9000}) for n in range(300))
    )

    assert told(answer) == ["201 created"] * 300


async def test_unanswered_batch_is_503_item_by_item_and_safe_to_retry(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await api.tenant()
    await api.ask("GET", "/v1/budget", key)
    monkeypatch.setattr(batches, "SUBMIT_WAIT_S", 0)

    lost = await submit(api, key, item("a"), item("b", max_cost_usd="bad"))
    monkeypatch.undo()
    again = await submit(api, key, item("a"))
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert told(lost) == ["503 temporary-reduced-capacity", "422 invalid-request"]
    assert [one["problem"].get("retry_after_s") for one in lost.json()["items"]] == [1, None]
    assert told(again)[0].startswith("201")
    assert budget["held_usd"] == "0.01"


async def test_item_over_the_limit_of_a_single_body_spoils_only_itself(api: Api) -> None:
    key = await api.tenant()
    large = item("large", inputs={"message": "x" * api.services.bounds.body_max_bytes})

    answer = await submit(api, key, item("a"), large, item("b"))
    lines = await submit_lines(api, key, json.dumps(large).encode(), json.dumps(item("c")).encode())

    assert told(answer) == ["201 created", "413 payload-too-large", "201 created"]
    assert told(lines) == ["413 payload-too-large", "201 created"]


@pytest.mark.parametrize(
    "bad", [b'{"a": NaN}', b'{"a": 1, "a": 1}', b'{"a": "\\ud800"}', b'{"a" 1}', b'{"a": "\xff"}']
)
async def test_item_that_is_no_json_spoils_the_body_and_nothing_is_written(
    api: Api, bad: bytes
) -> None:
    key = await api.tenant()
    body = b'{"runs": [%b, %b]}' % (json.dumps(item("a")).encode(), bad)
    headers = {"Content-Type": "application/json"}

    answer = await api.ask("POST", "/v1/runs:batch", key, headers=headers, content=body)
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert (answer.status_code, problem(answer)) == (400, "malformed-json")
    assert answer.json()["detail"].endswith("in submission 1")
    assert budget["held_usd"] == "0.00"


def wrong(key: str, errors: int) -> dict[str, Any]:
    scores = {"x" * 1_000: {f"{n}": "" for n in range(errors)}}
    return item(key, pack_type="decision", inputs={"question": "?", "scores": scores})


async def test_errors_of_one_batch_are_bounded_together(api: Api) -> None:
    key = await api.tenant()
    envelopes = [item(f"e{n}", **{f"{m}": 1 for m in range(50)}) for n in range(100)]

    answer = await submit(api, key, *(wrong(f"k{n}", 300) for n in range(200)), *envelopes)

    assert told(answer) == ["422 invalid-request"] * 300
    errors = [one["problem"]["errors"] for one in answer.json()["items"]]
    assert [len(one) for one in errors] == [100] * 10 + [2] * 290
    assert {one[-1]["message"] for one in errors} == {MORE}
    assert len(answer.content) < 600_000


async def test_known_key_is_the_answer_whatever_is_wrong_with_the_inputs(api: Api) -> None:
    key = await api.tenant()
    await api.submit(key, idempotency_key="known")

    answer = await submit(api, key, wrong("known", 9_900), wrong("new", 9_900))

    assert told(answer) == ["422 idempotency-key-reused", "422 invalid-request"]


async def test_results_of_one_batch_are_bounded_together_and_read_no_further(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await api.tenant()
    await submit(api, key, *(item(f"k{n}") for n in range(20)))
    get_runs, read = api.store.get_runs, []

    async def count(tenant_id: str, run_ids: Sequence[UUID]) -> list[Run]:
        read.append(len(run_ids))
        return await get_runs(tenant_id, run_ids)

    monkeypatch.setattr(api.store, "get_runs", count)
    monkeypatch.setattr(batches, "REPLAYS_STEP", 3)
    monkeypatch.setattr(batches, "result_size", lambda _: batches.RESULTS_MAX // 5)

    many = await submit(api, key, *(item(f"k{n}") for n in range(20)), item("new"))
    same = await submit(api, key, *(item("k0") for _ in range(20)))
    few = await submit(api, key, *(item(f"k{n}") for n in range(15, 20)))

    lost = "503 temporary-reduced-capacity"
    assert told(many) == ["201 replayed"] * 5 + [lost] * 15 + ["201 created"]
    assert told(same) == ["201 replayed"] * 5 + [lost] * 15
    assert told(few) == ["201 replayed"] * 5
    assert read == [3, 3, 1, 3, 2]


async def test_work_on_large_bodies_and_answers_is_done_on_the_bench(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await api.tenant()
    steps: list[str] = []
    bench = api.services.bench
    each, once = bench.each, bench.once

    async def count_each(work: Any, left: Any) -> list[Any]:
        done = await each(work, left)
        steps.append(f"{len(done)}")
        return done

    async def count_once(work: Any) -> Any:
        steps.append("once")
        return await once(work)

    monkeypatch.setattr(bench, "each", count_each)
    monkeypatch.setattr(bench, "once", count_once)
    asked: list[list[str]] = []
    for question in (
        api.submit(key),
        api.submit(key, inputs={"message": "x" * LIGHT_MAX}),
        submit(api, key, item("a"), item("b")),
        api.ask("GET", "/v1/runs", key),
    ):
        steps.clear()
        await question
        asked.append([*steps])

    assert asked == [
        [],
        ["once", "once"],  # decoding, and the rest
        ["1", "once", "2", "2", "once"],  # one window, the rest of it, items in, items out, answer
        ["4", "once"],
    ]
