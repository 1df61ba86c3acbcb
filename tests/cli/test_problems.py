"""What the server's "no" says on a terminal: the kind, this case, each error once, the way out."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dpp.cli.exits import Exit
from dpp.cli.output import Output
from dpp.cli.problems import TODO, trouble_of
from dpp.client import Problem
from tests.cli.conftest import Dpp
from tests.cli.peers import Says, peer


def problem(name: str, title: str, status: int = 422, **members: Any) -> Problem:
    document = {"type": f"https://dpp.dev/problems/{name}", "title": title, **members}
    return Problem.of(document, status)


def wrong(*errors: tuple[str, str]) -> Problem:
    listed = [{"pointer": pointer, "message": message} for pointer, message in errors]
    detail = "2 errors; the first: said in the words of the API"
    return problem("invalid-request", "The request is not valid", detail=detail, errors=listed)


def test_the_problem_comes_before_its_case_and_nothing_is_said_twice() -> None:
    refused = problem(
        "pack-unknown",
        "There is no such pack",
        detail="this tenant may run decision, echo",
        allowed=["decision", "echo"],
    )

    assert trouble_of(refused, None).document() == {
        "code": "pack-unknown",
        "what": "There is no such pack: this tenant may run decision, echo",
        "did": "The node refused it (pack-unknown, 422) and changed nothing.",
        "problem": refused.document,
    }


@pytest.mark.parametrize(
    ("pointer", "typed"),
    [
        ("/amount_usd", "USD"),
        ("/run_id", "RUN"),
        ("/tenant_id", "NAME"),
        ("/plan", "PLAN"),
        ("/deposit_usd", "--deposit"),
        ("/max_cost_usd", "--max-cost"),
        ("/inputs/scores/a", "--input scores/a"),
        ("/elsewhere", "/elsewhere"),
        ("", "the request"),
    ],
)
def test_an_error_names_what_was_typed(pointer: str, typed: str) -> None:
    what = trouble_of(wrong((pointer, "must be good")), None).what

    assert what == f"The request is not valid: {typed} must be good"


def test_each_of_several_errors_is_a_line_that_only_a_terminal_indents(
    capsys: pytest.CaptureFixture[str],
) -> None:
    trouble = trouble_of(wrong(("/plan", "must be one of a, b"), ("/reason", "is long")), None)

    Output(as_json=True).trouble(trouble)

    printed = capsys.readouterr()
    assert printed.err.splitlines() == [
        "dpp: The request is not valid:",
        "     PLAN must be one of a, b",
        "     --reason is long",
        "     The node refused it (invalid-request, 422) and changed nothing.",
    ]
    assert json.loads(printed.out)["error"]["what"] == (
        "The request is not valid:\nPLAN must be one of a, b\n--reason is long"
    )


def test_a_number_that_must_be_a_string_comes_with_the_way_to_pass_one() -> None:
    todo = trouble_of(wrong(("/inputs/cost_usd", "must be a string")), None).todo

    assert "--input cost_usd='\"0.01\"'" in todo


@pytest.mark.parametrize("path", [("/inputs/options/0", "must be a string"), ("/plan", "is new")])
def test_other_errors_have_no_such_way(path: tuple[str, str]) -> None:
    assert trouble_of(wrong(path), None).todo == ""


@pytest.mark.parametrize("name", ["unauthorized", "budget-exceeded", "quota-exceeded"])
def test_the_admin_api_is_another_thing_to_mend(name: str) -> None:
    tenants = problem(name, "No", instance="/v1/runs")
    operators = problem(name, "No", instance="/admin/v1/tenants/acme/withdrawals")

    assert trouble_of(tenants, None).todo == TODO[name]
    assert trouble_of(operators, None).todo not in ("", TODO[name])


def test_a_pause_that_the_server_asks_for_is_told() -> None:
    told = trouble_of(problem("quota-exceeded", "No", 429, detail="not now"), 2.5).what

    assert told == "No: not now\nagain after 2.5 s"


@pytest.mark.parametrize(
    "url", ["nonsense", "", "localhost:8080", "ftp://h", "http://", "http://h:x"]
)
def test_what_is_no_url_is_a_wrong_command_line(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    monkeypatch.setenv("DPP_URL", url or "http:///")
    monkeypatch.setenv("DPP_API_KEY", "dpp_live_x")

    ended = dpp("run", "list", "--json")

    assert (ended.status, ended.document["error"]["code"]) == (Exit.USAGE, "usage")
    assert "DPP_URL" in ended.err
    assert "may have been carried out" not in ended.err


def test_help_says_how_to_pass_a_string_and_which_scopes_there_are(dpp: Dpp) -> None:
    assert "K='\"0.01\"'" in dpp("run", "submit", "--help").out
    assert "budget:read" in dpp("key", "create", "--help").out


def test_a_reason_with_a_full_stop_is_not_given_a_second(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with peer([Says(None)]) as server:
        monkeypatch.setenv("DPP_URL", server.url)
        monkeypatch.setenv("DPP_API_KEY", "dpp_live_x")

        ended = dpp("run", "list")

    assert ended.status == Exit.UNREACHABLE
    assert ended.err.splitlines()[-3].startswith("dpp: No node answers at ")
    assert ".." not in ended.err
