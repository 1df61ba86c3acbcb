"""What is asked again, and what is not, over real sockets."""

from __future__ import annotations

import json

import pytest

from dpp.client.faults import BadAnswer, FieldError, Refused, Unreachable
from dpp.client.keys import Bearer, Renewed
from dpp.client.runs import Client, Submission
from dpp.client.transport import Retries, Transport
from tests.cli.peers import Says, peer

HANGS_UP = Says(None)
GATEWAY = Says(502, "<html>bad gateway</html>")
DONE = Says(200, '{"done": true}')
PROBLEM = {"type": "https://dpp.dev/problems/budget-exceeded", "title": "no", "status": 402}
RUN = {
    "run_id": "r1",
    "status": "COMPLETED",
    "pack_type": "echo",
    "idempotency_key": "k",
    "attempt": 1,
    "created_at": "2026-01-01T00:00:00Z",
    "cost": {"max_usd": "0.10", "held_usd": "0.00", "actual_usd": "0.05"},
    "a_later_server_adds": ["this"],
}


def transport(url: str, **more: object) -> Transport:
    return Transport(url, Bearer("token"), Retries(**more))  # type: ignore[arg-type]


def problem(status: int, retry_after: str | None = None, **members: object) -> Says:
    headers = {"Content-Type": "application/problem+json"}
    headers |= {"Retry-After": retry_after} if retry_after is not None else {}
    return Says(status, json.dumps({**PROBLEM, "status": status, **members}), headers)


@pytest.mark.parametrize("ill", [HANGS_UP, problem(503), problem(429, "0"), GATEWAY, Says(504)])
def test_what_may_be_repeated_is_asked_again_until_it_is_done(ill: Says) -> None:
    with peer([ill, ill, DONE]) as server:
        client = transport(server.url)

        got = client.get("/v1/budget")
        client.close()

    assert got == {"done": True}
    assert [asked.path for asked in server.asked] == ["/v1/budget"] * 3


@pytest.mark.parametrize("ill", [HANGS_UP, GATEWAY, Says(504), problem(504)])
def test_what_may_not_be_repeated_is_not_asked_again_when_it_may_have_been_done(ill: Says) -> None:
    with peer([ill, DONE]) as server:
        client = transport(server.url)

        with pytest.raises((Unreachable, BadAnswer, Refused)):
            client.post("/admin/v1/tenants", {}, repeatable=False)
        client.close()

    assert len(server.asked) == 1


@pytest.mark.parametrize("ill", [problem(503), problem(429, "0")])
def test_what_was_certainly_not_done_is_always_asked_again(ill: Says) -> None:
    with peer([ill, DONE]) as server:
        client = transport(server.url)

        got = client.post("/admin/v1/tenants", {}, repeatable=False)
        client.close()

    assert got == {"done": True}
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 410, 422, 500])
def test_an_answer_of_no_is_final(status: int) -> None:
    with peer([problem(status), DONE]) as server:
        client = transport(server.url)

        with pytest.raises(Refused) as refused:
            client.get("/v1/budget")
        client.close()

    assert refused.value.problem.status == status
    assert len(server.asked) == 1


def test_a_pause_longer_than_all_retries_is_not_begun() -> None:
    with peer([problem(429, "91"), DONE]) as server:
        client = transport(server.url, total_s=90)

        with pytest.raises(Refused) as refused:
            client.get("/v1/budget")
        client.close()

    assert refused.value.retry_after_s == 91
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    ("retry_after", "date", "seconds"),
    [
        ("7", None, 7.0),
        ("Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT", 30.0),
        ("Wed, 21 Oct 2026 07:28:00 GMT", "Wed, 21 Oct 2026 07:28:30 GMT", 0.0),
        ("soon", None, None),
        ("-1", None, None),
    ],
)
def test_retry_after_is_seconds_or_a_date_by_the_servers_own_clock(
    retry_after: str, date: str | None, seconds: float | None
) -> None:
    says = problem(422, retry_after)
    with peer(
        [Says(says.status, says.body, says.headers | ({"Date": date} if date else {}))]
    ) as it:
        client = transport(it.url)

        with pytest.raises(Refused) as refused:
            client.get("/v1/budget")
        client.close()

    assert refused.value.retry_after_s == seconds


def test_a_problem_carries_all_that_the_server_said() -> None:
    errors = [{"pointer": "/inputs/x", "message": "is not a member"}]
    with peer([problem(422, errors=errors, detail="wrong", required_usd="0.02")]) as server:
        client = transport(server.url)

        with pytest.raises(Refused) as refused:
            client.get("/v1/budget")
        client.close()

    told = refused.value.problem
    assert (told.name, told.detail) == ("budget-exceeded", "wrong")
    assert told.errors == (FieldError("/inputs/x", "is not a member"),)
    assert told.members == {"required_usd": "0.02"}


def test_nobody_there_is_asked_again_unless_told_otherwise(closed_url: str) -> None:
    client = transport(closed_url, at_first=False)

    with pytest.raises(Unreachable) as unreachable:
        client.get("/v1/budget")
    client.close()

    assert (unreachable.value.url, unreachable.value.sent) == (closed_url, False)


@pytest.mark.parametrize("answer", [Says(200, "<html>"), Says(200, "[]"), Says(304), Says(301)])
def test_an_answer_that_is_none_of_dpps_is_named_so(answer: Says) -> None:
    with peer([answer]) as server:
        client = transport(server.url)

        with pytest.raises(BadAnswer):
            client.get("/v1/budget")
        client.close()


def test_one_idempotency_key_is_kept_over_all_retries_of_a_submit() -> None:
    created = Says(201, json.dumps(RUN))
    with (
        peer([HANGS_UP, problem(503), HANGS_UP, created]) as server,
        Client(server.url, "key") as client,
    ):
        run = client.submit(Submission(pack_type="echo", max_cost_usd="0.10"))

    keys = {asked.headers["Idempotency-Key"] for asked in server.asked}
    assert (run.run_id, run.cost.actual_usd, run.document["a_later_server_adds"]) == (
        "r1",
        "0.05",
        ["this"],
    )
    assert len(server.asked) == 4
    assert len(keys) == 1
    assert {asked.body for asked in server.asked} == {
        b'{"pack_type": "echo", "inputs": {}, "max_cost_usd": "0.10"}'
    }


def test_a_short_lived_key_is_made_when_needed_and_once_more_when_it_has_run_out() -> None:
    keys = iter(["first", "second", "third"])
    with peer([DONE, problem(401), DONE]) as server:
        client = Transport(server.url, Renewed(lambda: next(keys)))
        client.get("/v1/budget")
        client.get("/v1/budget")
        client.close()

    sent = [asked.headers["Authorization"] for asked in server.asked]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]


def test_the_end_of_a_client_is_the_end_of_its_short_lived_key() -> None:
    ended: list[str] = []
    key = Renewed(lambda: "key", lambda: ended.append("key"))
    with peer([DONE]) as server, Client(server.url, key):
        before = [*ended]

    assert (before, ended) == ([], ["key"])


def test_a_new_key_that_is_refused_is_not_made_again() -> None:
    made: list[str] = []

    def make() -> str:
        made.append("key")
        return "key"

    with peer([problem(401)]) as server:
        client = Transport(server.url, Renewed(make))
        with pytest.raises(Refused):
            client.get("/v1/budget")
        client.close()

    assert made == ["key"]
