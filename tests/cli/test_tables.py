from __future__ import annotations

from typing import Any

import pytest

from dpp.cli import output
from dpp.cli.output import Output, clean
from dpp.cli.progress import Lines
from dpp.cli.tables import (
    run_pairs,
    show_audit,
    show_keys,
    show_ledger,
    show_runs,
    show_tenants,
    tenant_row,
)
from dpp.client import Run
from dpp.keys import SCOPES

DOCUMENT: dict[str, Any] = {
    "run_id": "r1",
    "status": "PROCESSING",
    "pack_type": "decision",
    "idempotency_key": "k",
    "attempt": 1,
    "created_at": "2026-01-01T00:00:00Z",
    "cost": {"max_usd": "1.00", "held_usd": "1.00", "actual_usd": None, "currency": "USD"},
    "progress": {"fraction": 0.4, "note": "scoring"},
}


def test_control_characters_never_reach_the_terminal() -> None:
    assert clean("a\x1b[31mred\x9b1m\x07\r\tb\nc") == "a\ufffd[31mred\ufffd1m\ufffd\ufffd\tb\nc"


def test_a_table_shows_markup_of_others_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("note", "n"), [("[bold red]x[/] :smile: \x1b[2J", 1)])

    assert "[bold red]x[/] :smile: \ufffd[2J" in capsys.readouterr().out


def test_json_prints_the_document_and_nothing_else(capsys: pytest.CaptureFixture[str]) -> None:
    out = Output(as_json=True)

    out.say("words")
    out.table(("a",), [("b",)])
    out.result({"ok": True})
    out.result({"ok": False})

    assert capsys.readouterr().out == '{\n  "ok": true\n}\n'


def test_a_run_is_told_without_what_is_not_known_yet() -> None:
    assert run_pairs(Run.of(DOCUMENT)) == {
        "run": "r1",
        "status": "PROCESSING",
        "pack": "decision",
        "idempotency key": "k",
        "attempt": 1,
        "progress": "40% scoring",
        "at most": "1.00 USD",
        "held": "1.00 USD",
        "created": "2026-01-01T00:00:00Z",
    }


def test_a_failure_names_the_code_and_who_pays() -> None:
    error = {"code": "timebox", "detail": "90 s passed", "payer": "tenant"}

    pairs = run_pairs(Run.of({**DOCUMENT, "status": "FAILED", "error": error}))

    assert (pairs["error"], pairs["paid by"]) == ("timebox: 90 s passed", "tenant")


def test_a_ledger_line_is_never_cut_where_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    run_id = "0198d2c4-1111-7222-8333-444455556666"
    line = {"seq": 2, "kind": "reserve", "amount_usd": "0.10", "run_id": run_id}

    show_ledger(Output(), [line], title="Ledger")

    head, columns, row = capsys.readouterr().out.splitlines()
    assert (head.strip(), columns.split()[:3]) == ("Ledger", ["seq", "kind", "amount_usd"])
    assert row.split() == ["2", "reserve", "0.10", run_id]


@pytest.fixture
def _narrow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output, "PIPE_WIDTH", 80)


RUN_ID = "0198d2c4-1111-7222-8333-444455556666"
SUMS = {"deposited_usd": "10.00", "available_usd": "9.95", "held_usd": "0.00", "spent_usd": "0.05"}
TIME = "2026-01-01T00:00:00.123456Z"


@pytest.mark.usefixtures("_narrow")
def test_no_id_is_broken_and_no_line_is_longer_than_80(capsys: pytest.CaptureFixture[str]) -> None:
    run = {**DOCUMENT, "run_id": RUN_ID, "created_at": TIME}
    run["cost"] = {**DOCUMENT["cost"], "max_usd": "100.00", "actual_usd": "10.000001"}
    transfer = {"seq": 12, "kind": "withdraw", "amount_usd": "0.10", "run_id": RUN_ID}
    key = {"key_id": "Ab3dEf6hIj9l", "created_at": TIME, "expires_at": TIME}
    tenant = {"tenant_id": "acme-the-second-of-them", "plan": "unlimited", "budget": SUMS}

    show_runs(Output(), [Run.of(run)])
    show_ledger(Output(), [{**transfer, "reference": f"cli-{RUN_ID}", "created_at": TIME}])
    show_keys(Output(), [{**key, "scopes": SCOPES}, {**key, "scopes": SCOPES[:4]}])
    show_tenants(Output(), [tenant])

    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 9  # heads and rows: none is folded
    assert max(map(len, lines)) <= 80
    assert [line.count(RUN_ID) for line in lines[1:4:2]] == [1, 1]
    assert lines[0].split() == ["run_id", "status", "pack", "max_usd", "actual_usd"]
    assert lines[5].split() == ["Ab3dEf6hIj9l", "active", "2026-01-01T00:00:00Z"]


def test_a_list_of_keys_says_who_made_each(capsys: pytest.CaptureFixture[str]) -> None:
    made = {"Ab3dEf6hIj9l": "alice", "Zz3dEf6hIj9l": "rotation:Ab3dEf6hIj9l", "old": None}
    keys = [{"key_id": key_id, "created_by": name} for key_id, name in made.items()]

    show_keys(Output(), keys)

    head, *rows = capsys.readouterr().out.splitlines()
    place = head.index("created_by")
    assert [row[place:].split("  ")[0].strip() for row in rows] == [
        *("alice", "rotation:Ab3dEf6hIj9l", "")
    ]


@pytest.mark.usefixtures("_narrow")
def test_an_id_wider_than_the_terminal_is_still_whole(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("id", "note"), [("i" * 100, "some words")], ids=("id",))

    assert "i" * 100 in capsys.readouterr().out


def test_a_row_in_a_pipe_is_as_long_as_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    Output().table(("a", "b"), [("x", "y"), ("x", "y" * 90)])

    assert capsys.readouterr().out.splitlines() == ["a  b", "x  y", f"x  {'y' * 90}"]


@pytest.mark.parametrize(
    ("tenant", "state"),
    [
        ({}, "active"),
        ({"suspended": True, "frozen": True}, "suspended"),
        ({"frozen": True}, "frozen"),
    ],
)
def test_a_tenant_is_shown_with_what_keeps_it(tenant: dict[str, Any], state: str) -> None:
    assert tenant_row({"tenant_id": "acme", "plan": "basic", **tenant})[:3] == (
        "acme",
        "basic",
        state,
    )


def test_an_audit_shows_offenders_and_findings(capsys: pytest.CaptureFixture[str]) -> None:
    offenders = [{"tenant_id": f"t{n}"} for n in range(7)]
    audit = {
        "ok": False,
        "invariants": [
            {"name": "01", "claim": "budgets conserve", "offenders": []},
            {"name": "02", "claim": "the fold agrees", "offenders": offenders},
        ],
        "findings": [{"finding_id": "f", "invariant": "02"}],
    }

    show_audit(Output(), audit)

    out = capsys.readouterr().out
    assert "02: tenant_id t4" in out
    assert "02: and 2 more" in out
    assert "open finding: finding_id f, invariant 02" in out
    verdict = "audit NOT ok: 1 of 2 invariants hold, but findings are open: 1\n"
    assert verdict in out
    assert "`dpp audit list`" in out.partition(verdict)[2]


def test_progress_without_a_terminal_is_a_line_a_change(capsys: pytest.CaptureFixture[str]) -> None:
    run = Run.of(DOCUMENT)
    with Lines(Output(as_json=True)) as show:
        for state in (run, run, Run.of({**DOCUMENT, "status": "COMPLETED"})):
            show(state)

    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.splitlines() == ["r1 PROCESSING 40% scoring", "r1 COMPLETED 40% scoring"]
