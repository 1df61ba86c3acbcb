"""`/v1/runs` through real sockets and PostgreSQL: submit, replay, look, wait, list, cancel."""

from __future__ import annotations

import json
import uuid
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from attrs import evolve

from dpp.actors.hourglass import Hourglass
from dpp.actors.intake import IntakeDesk
from dpp.http import runs, submissions
from dpp.ids import uuid7
from dpp.money import Micros
from dpp.settlement import Completed
from tests.http.test_wire import BAD_MONEY
from tests.store.sessions import holding, open_sessions
from tests.store.steps import claim, end_one, take_lease

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import Database
    from tests.http.conftest import Api

RUN_MEMBERS = {
    *("run_id", "status", "pack_type", "idempotency_key", "attempt", "created_at", "started_at"),
    *("finished_at", "expires_at", "result_expires_at", "cost", "progress", "metadata", "result"),
    *("result_sha256", "error", "trace_id", "links"),
}
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


def problem(answer: httpx.Response) -> str:
    """Return the last word of a problem's type, after looking at its form."""
    document = answer.json()
    assert answer.headers["content-type"] == "application/problem+json"
    assert document["status"] == answer.status_code
    assert document["request_id"] == answer.headers["x-request-id"]
    assert answer.headers["cache-control"] == "no-store"
    return str(document["type"].rpartition("/")[2].rpartition("#")[2])


async def test_submitted_run_is_created_and_its_money_held(api: Api) -> None:
    key = await api.tenant(plan="fee")

    answer = await api.submit(
        key, max_cost_usd="1.00", idempotency_key="first", headers={"traceparent": TRACE}
    )
    run = answer.json()
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert answer.status_code == 201
    assert set(run) == RUN_MEMBERS
    assert (run["status"], run["pack_type"], run["attempt"]) == ("QUEUED", "echo", 1)
    assert run["idempotency_key"] == "first"
    assert run["trace_id"] == "0af7651916cd43dd8448eb211c80319c"
    assert run["cost"]["max_usd"] == run["cost"]["held_usd"] == "1.00"
    assert run["cost"]["actual_usd"] is None
    assert answer.headers["location"] == run["links"]["self"] == f"/v1/runs/{run['run_id']}"
    assert answer.headers["x-dpp-cost-reserved"] == "1.00"
    assert answer.headers["x-dpp-cost-minimum-fee"] == run["cost"]["minimum_fee_usd"] == "0.02"
    assert "x-dpp-cost-actual" not in answer.headers
    assert "idempotency-replayed" not in answer.headers
    assert budget == {
        "deposited_usd": "10.00",
        "available_usd": "9.00",
        "held_usd": "1.00",
        "spent_usd": "0.00",
        "currency": "USD",
    }


async def test_run_as_answered_is_the_run_as_read(api: Api) -> None:
    key = await api.tenant(plan="fee")

    created = (await api.submit(key, timebox_s=7, priority=2)).json()
    read = (await api.ask("GET", created["links"]["self"], key)).json()

    assert read == created


async def test_replay_answers_the_same_run_and_reserves_nothing_more(api: Api) -> None:
    key = await api.tenant()

    first = await api.submit(key, idempotency_key="k", inputs={"message": 1, "cost_usd": "0"})
    second = await api.submit(
        key, idempotency_key='"k"', inputs={"cost_usd": "0", "message": 1}, max_cost_usd="0.010"
    )
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert (first.status_code, second.status_code) == (201, 201)
    assert second.headers["idempotency-replayed"] == "true"
    assert second.json() == first.json()
    assert budget["held_usd"] == "0.01"


@pytest.mark.parametrize(
    "other",
    [
        {"max_cost_usd": "0.02"},
        {"inputs": {"message": 1.0}},
        {"inputs": {"message": "\u0065\u0301"}},
        {"priority": 5},
        {"timebox_s": None},
    ],
)
async def test_same_key_for_another_request_is_refused(api: Api, other: dict[str, Any]) -> None:
    key = await api.tenant()
    first = {"idempotency_key": "k", "inputs": {"message": 1}}

    await api.submit(key, **first)
    answer = await api.submit(key, **{**first, **other})

    assert (answer.status_code, problem(answer)) == (422, "idempotency-key-reused")


async def test_key_names_a_run_of_its_tenant_alone_and_case_matters(api: Api) -> None:
    one, other = await api.tenant("one"), await api.tenant("other")

    answers = [
        await api.submit(one, idempotency_key="k"),
        await api.submit(other, idempotency_key="k", max_cost_usd="0.02"),
        await api.submit(one, idempotency_key="K", max_cost_usd="0.03"),
    ]

    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.json()["run_id"] for answer in answers}) == 3


async def test_hundred_at_once_with_one_key_make_one_run(api: Api) -> None:
    key = await api.tenant()
    answers: list[httpx.Response] = []

    async def submit() -> None:
        answers.append(await api.submit(key, idempotency_key="k"))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(submit)
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 99
    assert budget["held_usd"] == "0.01"


async def test_exactly_ten_of_twenty_are_created_under_a_limit_of_ten(api: Api) -> None:
    key = await api.tenant(plan="basic")
    answers: list[httpx.Response] = []

    async def submit() -> None:
        answers.append(await api.submit(key))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(submit)
    budget = (await api.ask("GET", "/v1/budget", key)).json()
    created = [answer for answer in answers if answer.status_code == 201]
    refused = [answer for answer in answers if answer.status_code == 429]

    assert (len(created), len(refused)) == (10, 10)
    assert budget["held_usd"] == "0.10"
    assert {answer.headers["ratelimit-policy"] for answer in answers} == {'"submit";q=10;w=60'}
    assert {answer.headers["ratelimit"].split(";")[1] for answer in created} == {
        f"r={left}" for left in range(10)
    }
    for answer in refused:
        assert problem(answer) == "quota-exceeded"
        assert answer.json()["violated-policies"] == ["submit"]
        seconds = int(answer.headers["retry-after"])
        assert 1 <= seconds <= 60
        assert answer.headers["ratelimit"] == f'"submit";r=0;t={seconds}'
        assert answer.json()["retry_after_s"] == seconds


async def test_exactly_one_of_64_reserves_fits_the_budget(api: Api) -> None:
    key = await api.tenant()
    answers: list[httpx.Response] = []

    async def submit() -> None:
        answers.append(await api.submit(key, max_cost_usd="9.00"))

    async with trio.open_nursery() as nursery:
        for _ in range(64):
            nursery.start_soon(submit)
    refused = [answer for answer in answers if answer.status_code == 402]

    assert len(refused) == 63
    assert {problem(answer) for answer in refused} == {"budget-exceeded"}
    assert refused[0].json()["available_usd"] == "1.00"
    assert refused[0].json()["required_usd"] == "9.00"


async def test_refused_submission_burns_no_key(api: Api) -> None:
    key = await api.tenant(deposit=5_000)

    poor = await api.submit(key, idempotency_key="k")
    changed = await api.submit(key, idempotency_key="k", max_cost_usd="0.004")

    assert (poor.status_code, changed.status_code) == (402, 201)


async def test_bad_money_is_422_and_holds_nothing(api: Api) -> None:
    key = await api.tenant()

    answers = [await api.submit(key, max_cost_usd=amount) for amount in BAD_MONEY]
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert {(answer.status_code, problem(answer)) for answer in answers} == {
        (422, "invalid-request")
    }
    assert {answer.json()["errors"][0]["pointer"] for answer in answers} == {"/max_cost_usd"}
    assert budget["held_usd"] == "0.00"


async def test_reserve_may_take_the_whole_budget_and_not_a_micro_more(api: Api) -> None:
    key = await api.tenant()

    over = await api.submit(key, max_cost_usd="10.000001")
    exactly = await api.submit(key, max_cost_usd="10")

    assert (over.status_code, exactly.status_code) == (402, 201)


async def test_first_problem_in_order_is_the_answer(api: Api) -> None:
    key = await api.tenant(plan="basic", deposit=5_000_000)
    read_only = await api.tenant("reader", scopes=("runs:read",))
    good = json.dumps({"pack_type": "echo", "inputs": {}, "max_cost_usd": "1.00"}).encode()
    typed, keyed = {"Content-Type": "application/json"}, {"Idempotency-Key": "k"}

    async def submit(headers: dict[str, str], body: bytes, bearer: str | None = key) -> str:
        answer = await api.ask("POST", "/v1/runs", bearer, headers=headers, content=body)
        return f"{answer.status_code} {problem(answer)}"

    too_large = b"x" * (api.services.bounds.body_max_bytes + 1)
    steps = [
        await submit({"Content-Type": "text/plain"}, too_large, None),
        await submit(typed, too_large, None),
        await submit(typed, b"{", None),
        await submit(typed, b"{", read_only),
        await submit(typed, b"{"),
        await submit({**typed, "Idempotency-Key": "a b"}, b"{"),
        await submit({**typed, **keyed}, b"{"),
        await submit({**typed, **keyed}, b'{"pack_type": 1}'),
        await submit({**typed, **keyed}, good.replace(b"echo", b"nopack")),
        await submit({**typed, **keyed}, good.replace(b"{}", b'{"sleep_s": -1}')),
        await submit({**typed, **keyed}, good.replace(b"1.00", b"0.000001")),
        await submit({**typed, **keyed}, good.replace(b"1.00", b"10.01")),
        await submit({**typed, **keyed}, good.replace(b"1.00", b"9.00")),
    ]

    assert steps == [
        "415 unsupported-media-type",
        "413 payload-too-large",
        "401 unauthorized",
        "403 forbidden",
        "400 idempotency-key-missing",
        "400 idempotency-key-invalid",
        "400 malformed-json",
        "422 invalid-request",
        "422 pack-unknown",
        "422 invalid-request",
        "422 max-cost-too-low",
        "422 max-cost-too-high",
        "402 budget-exceeded",
    ]


async def test_body_over_the_limit_is_refused_however_it_comes(api: Api) -> None:
    key = await api.tenant()
    most = api.services.bounds.body_max_bytes

    async def chunks() -> Any:
        for _ in range(2 + most // 65536):
            yield b"x" * 65536

    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}
    streamed = await api.ask("POST", "/v1/runs", key, headers=headers, content=chunks())

    assert (streamed.status_code, problem(streamed)) == (413, "payload-too-large")


async def test_body_at_the_limit_is_decoded(api: Api) -> None:
    key = await api.tenant()
    shell = json.dumps({"pack_type": "echo", "inputs": {"message": ""}, "max_cost_usd": "0.01"})
    filling = "x" * (api.services.bounds.body_max_bytes - len(shell))
    body = shell.replace('""', f'"{filling}"').encode()
    headers = {"Content-Type": "application/json", "Idempotency-Key": "k"}

    answer = await api.ask("POST", "/v1/runs", key, headers=headers, content=body)

    assert answer.status_code == 201


async def test_errors_of_the_inputs_come_all_at_once(api: Api) -> None:
    key = await api.tenant()

    answer = await api.submit(key, inputs={"sleep_s": -1, "cost_usd": 1, "other": 2})

    assert problem(answer) == "invalid-request"
    assert {error["pointer"] for error in answer.json()["errors"]} == {
        "/inputs/sleep_s",
        "/inputs/cost_usd",
        "/inputs/other",
    }


async def test_time_box_over_the_nodes_limit_is_named_beside_other_errors(api: Api) -> None:
    key = await api.tenant()

    answer = await api.submit(key, timebox_s=1_000_000_000, priority=10)

    assert {error["pointer"] for error in answer.json()["errors"]} == {"/timebox_s", "/priority"}


async def test_price_over_max_cost_is_refused_with_what_is_required(api: Api) -> None:
    key = await api.tenant()
    criteria = [{"name": "c", "weight": 1, "direction": "max"}]
    inputs = {"question": "which?", "options": ["a", "b"], "criteria": criteria}

    answer = await api.submit(key, pack_type="decision", inputs=inputs, max_cost_usd="0.005")

    assert (answer.status_code, problem(answer)) == (422, "max-cost-too-low")
    assert answer.json()["required_usd"] >= "0.01"


async def test_suspended_tenant_may_replay_and_read_but_not_submit(api: Api) -> None:
    key = await api.tenant()
    first = await api.submit(key, idempotency_key="k")
    await api.store.set_suspended("acme", suspended=True, operator="test")

    replay = await api.submit(key, idempotency_key="k")
    new = await api.submit(key)
    read = await api.ask("GET", first.headers["location"], key)

    assert (replay.status_code, read.status_code) == (201, 200)
    assert (new.status_code, problem(new)) == (403, "tenant-suspended")


async def test_key_revoked_a_moment_ago_submits_nothing(api: Api) -> None:
    key = await api.tenant()
    await api.ask("GET", "/v1/budget", key)  # the key is cached now
    await api.store.revoke_key("acme", key[9:21], operator="test")

    answer = await api.submit(key)

    assert (answer.status_code, problem(answer)) == (401, "unauthorized")
    assert answer.headers["www-authenticate"].startswith("Bearer")


async def test_another_tenants_run_is_like_none(api: Api) -> None:
    mine, theirs = await api.tenant("mine"), await api.tenant("theirs")
    path = (await api.submit(theirs)).headers["location"]
    unknown = f"/v1/runs/{uuid7(1, 2, 3)}"

    answers = [
        (await api.ask(method, base + suffix, mine))
        for base in (path, unknown)
        for method, suffix in (("GET", ""), ("POST", ":cancel"))
    ]

    bodies = [{**answer.json(), "instance": "", "request_id": ""} for answer in answers]
    assert {answer.status_code for answer in answers} == {404}
    assert bodies == [bodies[0]] * 4
    assert (await api.ask("GET", path, theirs)).json()["status"] == "QUEUED"


MALFORMED_IDS = [
    *("x", "1", "x" * 5000, "..", "%00", "00000000-0000-0000-0000-000000000000"),
    *(str(uuid7(1, 2, 3)).upper(), uuid7(1, 2, 3).hex, f"{{{uuid7(1, 2, 3)}}}"),
    *("'; drop table runs; --", "${jndi:ldap:%2F%2Fx}", "*)(uid=*"),
]


async def test_malformed_run_id_is_404(api: Api) -> None:
    key = await api.tenant()

    answers = [await api.ask("GET", f"/v1/runs/{run_id}", key) for run_id in MALFORMED_IDS]

    assert {(answer.status_code, problem(answer)) for answer in answers} == {(404, "not-found")}


async def test_unchanged_run_is_304(api: Api) -> None:
    key = await api.tenant()
    path = (await api.submit(key)).headers["location"]
    first = await api.ask("GET", path, key)
    etag = first.headers["etag"]

    same = await api.ask("GET", path, key, headers={"If-None-Match": f'"x", W/{etag}'})
    await api.ask("POST", f"{path}:cancel", key)
    other = await api.ask("GET", path, key, headers={"If-None-Match": etag})

    assert (same.status_code, same.content, same.headers["etag"]) == (304, b"", etag)
    assert (other.status_code, other.json()["status"]) == (200, "CANCELED")
    assert first.headers["cache-control"] == "private, no-cache"


async def test_cancel_of_a_queued_run_ends_it_free_and_is_idempotent(api: Api) -> None:
    key = await api.tenant()
    path = (await api.submit(key)).headers["location"]

    first = await api.ask("POST", f"{path}:cancel", key)
    second = await api.ask("POST", f"{path}:cancel", key, json={})
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert (first.status_code, second.status_code) == (200, 200)
    assert first.json() == second.json()
    assert first.json()["status"] == "CANCELED"
    assert first.headers["x-dpp-cost-actual"] == first.json()["cost"]["actual_usd"] == "0.00"
    assert (budget["available_usd"], budget["held_usd"]) == ("10.00", "0.00")


async def test_waiter_is_answered_when_the_run_ends(api: Api) -> None:
    key = await api.tenant()
    path = (await api.submit(key)).headers["location"]
    answers: list[httpx.Response] = []

    async def wait() -> None:
        answers.append(await api.ask("GET", f"{path}?wait=60", key))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(wait)
        while len(api.services.watching.watching()) < 1:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await trio.lowlevel.checkpoint()
        await api.ask("POST", f"{path}:cancel", key)

    assert {answer.json()["status"] for answer in answers} == {"CANCELED"}


async def test_wait_that_is_over_answers_the_run_as_it_is(api: Api) -> None:
    key = await api.tenant()
    path = (await api.submit(key)).headers["location"]

    answer = await api.ask("GET", f"{path}?wait=1", key)

    assert (answer.status_code, answer.json()["status"]) == (200, "QUEUED")


async def test_drain_answers_every_waiter_at_once(api: Api) -> None:
    key = await api.tenant()
    path = (await api.submit(key)).headers["location"]
    answers: list[httpx.Response] = []

    async def wait() -> None:
        answers.append(await api.ask("GET", f"{path}?wait=60", key))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(wait)
        while len(api.services.watching.watching()) < 1:  # type: ignore[attr-defined]  # noqa: ASYNC110
            await trio.lowlevel.checkpoint()
        api.services.draining.set()

    assert answers[0].json()["status"] == "QUEUED"


async def test_wait_has_bounds(api: Api) -> None:
    key = await api.tenant()
    path = (await api.submit(key)).headers["location"]

    for wait in ("61", "-1", "x", "1.5", ""):
        answer = await api.ask("GET", f"{path}?wait={wait}", key)
        assert (answer.status_code, problem(answer)) == (422, "invalid-request")


async def test_runs_are_listed_newest_first_page_by_page(api: Api) -> None:
    key = await api.tenant()
    made = [(await api.submit(key)).json()["run_id"] for _ in range(7)]
    seen, cursor, pages = [], "", 0

    while True:
        answer = (await api.ask("GET", f"/v1/runs?limit=3{cursor}", key)).json()
        seen += [run["run_id"] for run in answer["items"]]
        pages += 1
        if answer["next_cursor"] is None:
            break
        cursor = f"&cursor={answer['next_cursor']}"

    assert seen == made[::-1]
    assert pages == 3


async def test_run_is_found_by_its_key(api: Api) -> None:
    key, other = await api.tenant(), await api.tenant("other")
    run = (await api.submit(key, idempotency_key="k/1")).json()
    await api.submit(key)

    found = await api.ask("GET", "/v1/runs?idempotency_key=k%2F1", key)
    none = await api.ask("GET", "/v1/runs?idempotency_key=k%2F1", other)

    assert [item["run_id"] for item in found.json()["items"]] == [run["run_id"]]
    assert none.json() == {"items": [], "next_cursor": None}
    assert found.headers["cache-control"] == "no-store"


async def test_bad_list_query_is_422(api: Api) -> None:
    key = await api.tenant()
    bad = (
        "limit=0",
        "limit=-1",
        "limit=201",
        "limit=1000000000",
        "cursor=x",
        "cursor=",
        "idempotency_key=%00",
        "idempotency_key=a%20b",
        "tenant=x",
    )

    for query in bad:
        answer = await api.ask("GET", f"/v1/runs?{query}", key)
        assert (answer.status_code, problem(answer)) == (422, "invalid-request")


async def test_cursor_of_another_tenant_is_refused(api: Api) -> None:
    mine, theirs = await api.tenant("mine"), await api.tenant("theirs")
    for _ in range(2):
        await api.submit(theirs)
    cursor = (await api.ask("GET", "/v1/runs?limit=1", theirs)).json()["next_cursor"]

    answer = await api.ask("GET", f"/v1/runs?cursor={cursor}", mine)

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")


async def test_unanswered_submit_is_503_and_safe_to_retry(
    api: Api, bridge: Bridge, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    key, intake = await api.tenant(), api.services.intake
    assert isinstance(intake, IntakeDesk)
    monkeypatch.setattr(intake, "hourglass", Hourglass(0.05))

    async with (
        open_sessions(bridge, database) as sessions,
        holding(sessions, "select from dpp.budgets for update"),
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(intake.hourglass.run)
        lost = await api.submit(key, idempotency_key="k")
        nursery.cancel_scope.cancel()
    again = await api.submit(key, idempotency_key="k")
    budget = (await api.ask("GET", "/v1/budget", key)).json()

    assert (lost.status_code, problem(lost)) == (503, "temporary-reduced-capacity")
    assert "with the same key" in lost.json()["detail"]
    assert int(lost.headers["retry-after"]) == lost.json()["retry_after_s"] >= 1
    assert again.status_code == 201
    assert budget["held_usd"] == "0.01"


async def test_a_replay_whose_run_is_not_read_in_time_is_503_and_safe_to_retry(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = await api.tenant()
    first = await api.submit(key, idempotency_key="k")
    monkeypatch.setattr(submissions, "SUBMIT_WAIT_S", 0)

    late = await api.submit(key, idempotency_key="k")
    monkeypatch.undo()
    again = await api.submit(key, idempotency_key="k")

    assert (late.status_code, problem(late)) == (503, "temporary-reduced-capacity")
    assert "with the same key" in late.json()["detail"]
    assert again.headers["idempotency-replayed"] == "true"
    assert again.json()["run_id"] == first.json()["run_id"]


async def test_draining_node_takes_no_submission(api: Api) -> None:
    key = await api.tenant()
    api.services.draining.set()

    answer = await api.submit(key)

    assert (answer.status_code, problem(answer)) == (503, "temporary-reduced-capacity")


async def test_reads_over_the_plans_rate_are_429(api: Api) -> None:
    plans = dict(api.services.plans.now)
    plans["slow"] = evolve(plans["basic"], name="slow", reads_per_minute=3)
    api.services.plans.now = plans
    key = await api.tenant(plan="slow")

    answers = [await api.ask("GET", "/v1/budget", key) for _ in range(4)]
    runs = await api.ask("GET", "/v1/runs", key)

    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["ratelimit"][:10] for answer in answers[:3]] == [
        f'"read";r={left}' for left in (2, 1, 0)
    ]
    assert (runs.status_code, problem(runs)) == (429, "quota-exceeded")
    assert runs.json()["violated-policies"] == ["read"]
    assert 1 <= int(runs.headers["retry-after"]) <= 60


async def test_unique_run_ids_are_version_seven(api: Api) -> None:
    key = await api.tenant()

    made = [uuid.UUID((await api.submit(key)).json()["run_id"]) for _ in range(5)]

    assert [run_id.version for run_id in made] == [7] * 5
    assert made == sorted(made)


async def test_a_list_is_asked_for_no_text_that_the_database_cannot_hold(api: Api) -> None:
    key = await api.tenant()

    answer = await api.ask("GET", "/v1/runs?pack_type=a%00b", key)

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")


async def test_a_page_with_large_results_is_short_and_the_rest_follows(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(runs, "PAGE_BYTES_MAX", 25_000)
    key = await api.tenant()
    made = [(await api.submit(key)).json()["run_id"] for _ in range(5)]
    lease = await take_lease(api.store)
    for one in await claim(api.store, lease):
        await end_one(api.store, one, Completed(b'"%b"' % (b"x" * 10_000), Micros(0)))

    pages, cursor = [], ""
    while cursor is not None:
        answer = await api.ask("GET", f"/v1/runs?limit=5{cursor and '&cursor='}{cursor}", key)
        pages.append([run["run_id"] for run in answer.json()["items"]])
        cursor = answer.json()["next_cursor"]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [run_id for page in pages for run_id in page] == made[::-1]


async def test_a_tenant_holds_its_share_of_waits_and_nobody_elses(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.services.holding, "most", 2)
    key, other = await api.tenant("acme"), await api.tenant("other")
    run = (await api.submit(key)).json()["run_id"]
    theirs = (await api.submit(other)).json()["run_id"]
    answers: list[httpx.Response] = []

    async def wait(key: str, run_id: str) -> None:
        answers.append(await api.ask("GET", f"/v1/runs/{run_id}?wait=60", key))

    async with trio.open_nursery() as nursery:
        for _ in range(2):
            nursery.start_soon(wait, key, run)
        while api.services.holding.refusal("acme") is None:  # noqa: ASYNC110
            await trio.sleep(0.01)
        refused = await api.ask("GET", f"/v1/runs/{run}?wait=60", key)
        stream = await api.ask("GET", f"/v1/runs/{run}/events", key)
        at_once = await api.submit(key, headers={"Prefer": "wait=60"})
        nursery.start_soon(wait, other, theirs)
        while not api.services.holding._held["other"]:  # noqa: ASYNC110
            await trio.sleep(0.01)
        for tenant_key, run_id in ((key, run), (other, theirs)):
            await api.ask("POST", f"/v1/runs/{run_id}:cancel", tenant_key)

    for answer in (refused, stream):
        assert (answer.status_code, problem(answer)) == (429, "quota-exceeded")
        assert answer.json()["violated-policies"] == ["held"]
        assert answer.headers["retry-after"] == "5"
    assert at_once.status_code == 201
    assert [answer.json()["status"] for answer in answers] == ["CANCELED"] * 3
    assert api.services.holding.refusal("acme") is None
