"""What `dpp run` fetches and follows, and the options of a submission, on a real node."""

from __future__ import annotations

import hashlib
import json
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from dpp.cli.exits import Exit
from dpp.cli.main import call
from tests.cli.conftest import Dpp, Ended
from tests.node_process import NodeProcess

BIG = "x" * 200_000  # past what a row of an ending holds


@pytest.fixture(autouse=True)
def _tenant(served_node: NodeProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(served_node.data_dir))
    monkeypatch.setenv("DPP_API_KEY", served_node.tenant(f"cli-{uuid.uuid4().hex[:12]}"))


@pytest.fixture
def submit(dpp: Dpp) -> Any:
    def one(*more: str) -> Ended:
        return dpp("run", "submit", "--pack", "echo", "--max-cost", "0.10", "--json", *more)

    return one


def paid(submit: Any, *more: str) -> str:
    ended = submit("--input", 'cost_usd="0.05"', "--wait", *more)
    assert ended.status == Exit.GOOD, ended.err
    return str(ended.document["run_id"])


def test_the_options_of_a_submission_are_taken(dpp: Dpp, submit: Any) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)  # noqa: TID251 - far enough from any clock
    until = tomorrow + timedelta(hours=1)

    made = submit(
        *("--run-at", tomorrow.isoformat(), "--start-before", until.isoformat()),
        *("--priority", "0", "--timebox", "5"),
        *("--metadata", "order=7", "--metadata", 'note="x" = y'),
    )
    shown = dpp("run", "show", made.document["run_id"])
    dpp("run", "cancel", made.document["run_id"])

    assert made.document["metadata"] == {"order": "7", "note": '"x" = y'}
    assert datetime.fromisoformat(made.document["expires_at"]) == until
    assert made.document["status"] == "QUEUED"
    assert "note" in shown.out


@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--run-at", "soon"), "--run-at"),
        (("--start-before", "soon"), "--start-before"),
        (("--webhook-url", "https://nowhere.example.com/x"), "--webhook-url"),
        (("--priority", "10"), "--priority"),
    ],
)
def test_an_option_that_is_wrong_is_named_as_it_was_typed(
    submit: Any, option: tuple[str, str], words: str
) -> None:
    refused = submit(*option)

    assert (refused.status, refused.document["error"]["code"]) == (1, "invalid-request")
    assert words in refused.err


@pytest.mark.parametrize(
    "wrong", [("--metadata", "order"), ("--metadata", "a=1", "--metadata", "a=2")]
)
def test_metadata_that_is_no_pair_is_usage(submit: Any, wrong: tuple[str, ...]) -> None:
    assert submit(*wrong).status == Exit.USAGE


@pytest.mark.parametrize("key", ["two words", "é", "x" * 256])
def test_an_idempotency_key_that_cannot_be_sent_is_usage(submit: Any, key: str) -> None:
    refused = submit("--idempotency-key", key)

    assert (refused.status, refused.document["error"]["code"]) == (Exit.USAGE, "usage")
    assert "an idempotency key has" in refused.err


def test_events_are_shown_as_they_happen(dpp: Dpp, submit: Any) -> None:
    run_id = submit("--input", "sleep_s=0.3", "--input", 'cost_usd="0.05"').document["run_id"]

    shown = dpp("run", "events", run_id)
    printed = dpp("run", "events", run_id, "--json")
    told = printed.document["events"]
    rest = dpp("run", "events", run_id, "--json", "--after", told[-2]["id"])

    assert (shown.status, printed.status) == (Exit.GOOD, Exit.GOOD)
    assert [line.split()[0] for line in shown.out.splitlines()] == [one["id"] for one in told]
    assert "charge" in shown.out
    assert [one["data"].get("status") for one in told if one["event"] == "status"] == [
        "QUEUED",
        "PROCESSING",
        "COMPLETED",
    ]
    assert len(printed.err.splitlines()) == len(told)
    assert rest.document == {"run_id": run_id, "events": told[-1:]}


def test_an_event_that_never_was_is_named_as_it_was_typed(dpp: Dpp, submit: Any) -> None:
    refused = dpp("run", "events", paid(submit), "--after", "nonsense", "--json")

    assert (refused.status, refused.document["error"]["code"]) == (1, "invalid-request")
    assert "--after" in refused.err


@pytest.mark.parametrize("message", ["hi", BIG], ids=["small", "large"])
def test_a_result_is_fetched_byte_for_byte(
    dpp: Dpp, submit: Any, tmp_path: Path, message: str
) -> None:
    inputs = tmp_path / "inputs.json"
    inputs.write_text(json.dumps({"message": message}))
    run_id, file = paid(submit, "--inputs", str(inputs)), tmp_path / "result.json"

    raw = dpp("run", "result", run_id)
    printed = dpp("run", "result", run_id, "--json").document
    saved = dpp("run", "result", run_id, "--output", str(file), "--json").document

    assert json.loads(raw.out) == printed["result"] == {"message": message}
    assert file.read_text() == raw.out
    assert saved["size_bytes"] == len(raw.out)
    assert saved["sha256"] == printed["sha256"] == hashlib.sha256(raw.out.encode()).hexdigest()
    assert f"sha256 {saved['sha256']}" in dpp("run", "result", run_id, "--output", str(file)).out


def test_a_receipt_is_shown(dpp: Dpp, submit: Any) -> None:
    run_id = paid(submit)

    document = dpp("run", "receipt", run_id, "--json").document
    shown = dpp("run", "receipt", run_id)

    assert (document["run_id"], document["cost_usd"]) == (run_id, "0.05")
    lines = dict(line.split(maxsplit=1) for line in shown.out.splitlines())
    assert (lines["cost"], lines["returned"]) == ("0.05 USD", "0.05 USD")


@pytest.mark.parametrize("command", ["result", "receipt"])
def test_what_is_not_there_yet_ends_with_1_and_says_what_to_do(
    dpp: Dpp, submit: Any, command: str, tmp_path: Path
) -> None:
    run_id = submit("--input", "sleep_s=60").document["run_id"]
    to = ("--output", str(tmp_path / "file")) if command == "result" else ()

    refused = dpp("run", command, run_id, "--json", *to)
    dpp("run", "cancel", run_id)

    assert (refused.status, refused.document["error"]["code"]) == (1, "run-not-finished")
    assert "dpp run wait" in refused.err
    assert list(tmp_path.iterdir()) == []


def test_a_list_is_filtered(dpp: Dpp, submit: Any) -> None:
    done = paid(submit)
    waits = submit("--input", "sleep_s=60").document["run_id"]

    def listed(*only: str) -> list[str]:
        items = dpp("run", "list", "--json", *only).document["items"]
        return [one["run_id"] for one in items]

    assert listed() == [waits, done]
    assert listed("--status", "COMPLETED") == [done]
    assert listed("--pack", "decision") == listed("--created-before", "2020-01-01T00:00:00Z") == []
    wrong = dpp("run", "list", "--status", "DONE", "--json")
    assert (wrong.status, "--status" in wrong.err) == (Exit.NEGATIVE, True)
    dpp("run", "cancel", waits)


def test_a_result_that_cannot_be_written_is_said(
    submit: Any, capfd: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    run_id = paid(submit)
    capfd.readouterr()

    status = call(["run", "result", run_id, "--output", str(tmp_path / "no" / "file")])

    assert status == Exit.NEGATIVE
    assert "No such file or directory" in capfd.readouterr().err
