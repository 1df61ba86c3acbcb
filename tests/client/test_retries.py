"""What is asked again, and what is not, over real sockets and in every shell."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.client import (
    ApiProblem,
    BadAnswer,
    BudgetExceeded,
    ClientError,
    FieldError,
    QuotaExceeded,
    Retries,
    TransportError,
    Unavailable,
)
from dpp.client.auth import Renewed
from dpp.client.faults import Problem, api_problem
from dpp.client.retries import worth_asking_again
from tests.cli.peers import Asked, Says, peer
from tests.client.conftest import QUICK, Ask, in_threads, problem, run

HANGS_UP = Says(None)
CUT = Says(200, '{"deposited_usd": "1.00"', cut=True)
BUDGET = Says(
    200,
    '{"deposited_usd": "1.00", "available_usd": "1.00", "held_usd": "0.00", "spent_usd": "0.00"}',
)
WEBHOOK = Says(
    201,
    '{"webhook_id": "w", "url": "https://h", "events": [], "status": "enabled",'
    ' "created_at": "2026-01-01T00:00:00Z", "secret": "whsec_x"}',
)


def named(says: Says) -> str:
    return f"{says.status or 'hangs up'}{' cut' * says.cut} {str(says.body)[:2]}"


def budget(client: Any) -> Any:
    return client.budget()


def submit(client: Any) -> Any:
    return client.submit("echo", {}, "0.10")


def create_webhook(client: Any) -> Any:
    return client.create_webhook("https://h", ["run.completed"])


@pytest.mark.parametrize(
    "ill",
    [HANGS_UP, CUT, problem(408), problem(429, "0"), problem(503, "0"), Says(502, "<html>")]
    + [problem(status) for status in (500, 502, 504)],
    ids=named,
)
def test_what_may_be_repeated_is_asked_again_until_it_is_done(ask: Ask, ill: Says) -> None:
    with peer([ill, ill, BUDGET]) as server:
        got = ask(server.url, budget)

    assert str(got.deposited_usd) == "1.00"
    assert [asked.path for asked in server.asked] == ["/v1/budget"] * 3


@pytest.mark.parametrize(
    "ill", [HANGS_UP, problem(503, "0"), problem(500), Says(504, "<html>")], ids=named
)
def test_what_may_have_been_done_and_has_no_key_is_not_asked_again(ask: Ask, ill: Says) -> None:
    with peer([ill, WEBHOOK]) as server, pytest.raises(ClientError):
        ask(server.url, create_webhook)

    assert len(server.asked) == 1


@pytest.mark.parametrize("ill", [problem(429, "0"), problem(408)], ids=named)
def test_what_was_certainly_not_done_is_always_asked_again(ask: Ask, ill: Says) -> None:
    with peer([ill, WEBHOOK]) as server:
        made = ask(server.url, create_webhook)

    assert made.secret == "whsec_x"
    assert len(server.asked) == 2


@pytest.mark.parametrize("status", [400, 401, 402, 403, 404, 409, 410, 422])
def test_an_answer_of_no_is_final(ask: Ask, status: int) -> None:
    with peer([problem(status), BUDGET]) as server, pytest.raises(BudgetExceeded) as refused:
        ask(server.url, budget)

    assert refused.value.status == status
    assert len(server.asked) == 1


@pytest.mark.parametrize(
    "ill",
    [HANGS_UP, problem(503, "0"), problem(500), Says(502, ""), problem(429, "0"), problem(408)],
    ids=named,
)
def test_one_key_is_kept_over_all_retries_of_a_submit(ask: Ask, ill: Says) -> None:
    with peer([ill, ill, ill, run()]) as server:
        got = ask(server.url, submit)

    keys = {asked.headers["Idempotency-Key"] for asked in server.asked}
    bodies = {asked.body for asked in server.asked}
    assert (got.run_id, str(got.cost.actual_usd)) == ("r1", "0.05")
    assert (len(server.asked), len(keys)) == (4, 1)
    assert bodies == {b'{"pack_type": "echo", "inputs": {}, "max_cost_usd": "0.10"}'}


def test_every_submit_has_a_key_of_its_own() -> None:
    with peer([run()]) as server:
        for _ in range(2):
            in_threads(server.url, submit)

    assert len({asked.headers["Idempotency-Key"] for asked in server.asked}) == 2


class LosesAnswers(httpx.HTTPTransport):
    """Lets the first requests through and loses what came back."""

    def __init__(self, losses: int) -> None:
        super().__init__()
        self.losses = losses

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        answer = super().handle_request(request)
        if self.losses > 0:
            self.losses -= 1
            answer.close()
            raise httpx.ReadError("lost")
        return answer


def test_an_answer_lost_after_the_commit_finds_the_run_that_there_is() -> None:
    bought: dict[str, str] = {}

    def sell(asked: Asked) -> Says:
        key = asked.headers["Idempotency-Key"]
        bought.setdefault(key, f"r{len(bought) + 1}")
        return run(run_id=bought[key])

    with peer([sell]) as server:
        got = in_threads(server.url, submit, transport=LosesAnswers(2))

    assert (got.run_id, len(bought), len(server.asked)) == ("r1", 1, 3)


def test_what_was_never_sent_is_asked_again_also_without_a_key(closed_url: str) -> None:
    told: list[ClientError] = []

    with pytest.raises(TransportError) as unreachable:
        in_threads(closed_url, create_webhook, on_retry=lambda failure, _: told.append(failure))

    assert len(told) == QUICK.attempts - 1
    assert (unreachable.value.url, unreachable.value.sent) == (closed_url, False)


def test_nobody_there_is_not_waited_for_where_told_so(ask: Ask, closed_url: str) -> None:
    told: list[ClientError] = []

    with pytest.raises(TransportError):
        ask(
            closed_url,
            budget,
            retries=Retries(at_first=False),
            on_retry=lambda failure, _: told.append(failure),
        )

    assert told == []


def test_a_pause_longer_than_all_retries_is_not_begun(ask: Ask) -> None:
    with (
        peer([problem(429, "91", name="quota-exceeded"), BUDGET]) as server,
        pytest.raises(QuotaExceeded) as refused,
    ):
        ask(server.url, budget, retries=Retries(total_s=90))

    assert refused.value.retry_after_s == 91
    assert len(server.asked) == 1


def test_the_pause_that_the_server_asks_for_is_kept(ask: Ask) -> None:
    told: list[float] = []
    with peer([problem(503, "1"), BUDGET]) as server:
        ask(server.url, budget, on_retry=lambda _, pause_s: told.append(pause_s))

    assert told == [1.0]


def test_tries_are_bounded(ask: Ask) -> None:
    with (
        peer([problem(503, "0", name="temporary-reduced-capacity")]) as server,
        pytest.raises(Unavailable),
    ):
        ask(server.url, budget, retries=Retries(attempts=3, pause_first_s=0.0))

    assert len(server.asked) == 3


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
    dated = Says(says.status, says.body, says.headers | ({"Date": date} if date else {}))
    with peer([dated]) as server, pytest.raises(ApiProblem) as refused:
        in_threads(server.url, budget)

    assert refused.value.retry_after_s == seconds


def test_a_problem_carries_all_that_the_server_said(ask: Ask) -> None:
    errors = [{"pointer": "/inputs/x", "message": "is not a member"}]
    says = problem(402, errors=errors, detail="wrong", required_usd="0.02", request_id="q")
    with peer([says]) as server, pytest.raises(BudgetExceeded) as refused:
        ask(server.url, budget)

    told = refused.value
    assert (told.problem.name, told.detail, told.request_id) == ("budget-exceeded", "wrong", "q")
    assert told.problem.errors == (FieldError("/inputs/x", "is not a member"),)
    assert told.members == {"required_usd": "0.02"}
    assert (str(told.required_usd), told.available_usd) == ("0.02", None)


@pytest.mark.parametrize(
    "answer",
    [Says(200, "<html>"), Says(200, "[]"), Says(200, "{}"), Says(304), Says(301)],
    ids=named,
)
def test_an_answer_that_is_none_of_dpps_is_named_so(ask: Ask, answer: Says) -> None:
    with peer([answer]) as server, pytest.raises(BadAnswer):
        ask(server.url, budget)

    assert len(server.asked) == 1


def test_a_short_lived_key_is_made_when_needed_and_once_more_when_it_has_run_out() -> None:
    made = iter(["first", "second", "third"])
    ended: list[str] = []
    key = Renewed(lambda: next(made), lambda: ended.append("ended"))

    def twice(client: Any) -> list[str]:
        client.budget()
        client.budget()
        return [*ended]

    with peer([BUDGET, problem(401), BUDGET]) as server:
        before = in_threads(server.url, twice, api_key=key)

    sent = [asked.headers["Authorization"] for asked in server.asked]
    assert sent == ["Bearer first", "Bearer first", "Bearer second"]
    assert (before, ended) == ([], ["ended"])


def test_a_new_key_that_is_refused_is_not_made_again() -> None:
    made: list[str] = []

    def make() -> str:
        made.append("key")
        return "key"

    with peer([problem(401)]) as server, pytest.raises(ApiProblem):
        in_threads(server.url, budget, api_key=Renewed(make))

    assert made == ["key"]


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_a_pause_is_drawn_from_all_of_its_bound(attempt: int, dice: float) -> None:
    rules = Retries(pause_first_s=0.5, pause_max_s=4.0)
    bound = rules.backoff(attempt, 1.0)

    assert rules.backoff(attempt, 0.0) == 0.0
    assert rules.backoff(attempt, dice) == pytest.approx(dice * bound)
    assert bound == min(0.5 * 2 ** min(attempt - 1, 20), 4.0)


@given(st.sampled_from([400, 401, 402, 403, 404, 408, 409, 410, 422, 429, 500, 501, 502, 503, 504]))
def test_what_has_no_key_is_asked_again_only_where_nothing_was_taken_in(status: int) -> None:
    failure = api_problem(Problem("about:blank", "", status))

    assert worth_asking_again(failure, repeatable=False) == (status in {408, 429})
    assert worth_asking_again(failure, repeatable=True) == (
        status in {408, 429, 500, 502, 503, 504}
    )


def test_a_pause_never_outlives_the_whole_time() -> None:
    failure = api_problem(Problem("about:blank", "", 503), retry_after_s=1.0)
    rules = Retries(attempts=3, total_s=10, pause_first_s=5.0, pause_max_s=5.0)

    def pause(attempt: int, left_s: float) -> float | None:
        return rules.pause(failure, repeatable=True, attempt=attempt, left_s=left_s, dice=0.5)

    assert pause(1, 10) == 3.5
    assert pause(1, 2) == 2
    assert [pause(1, 0.5), pause(1, 0), pause(3, 10)] == [None] * 3
