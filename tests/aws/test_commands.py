"""`dpp aws bootstrap` and `dpp doctor`: what they print, and how they end."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from dpp.cli.exits import Exit
from dpp.cli.main import call

Command = Callable[..., tuple[int, Any]]


@pytest.fixture
def dpp(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Command:
    """Call a command with --json, where no node was ever started; returns status and document."""
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("DPP_DATA_DIR", str(tmp_path / "none"))

    def run(*arguments: str) -> tuple[int, Any]:
        capfd.readouterr()
        status = call([*arguments, "--json"])
        return status, json.loads(capfd.readouterr().out)

    return run


def verdicts(document: Any) -> dict[str, bool]:
    """Return what came of each check but the database's, which could not be asked."""
    found = {one["check"]: one["ok"] for one in document["checks"]}
    assert found.pop("database") is None
    return found


def test_a_bucket_that_is_missing_is_found_made_and_then_well(
    dpp: Command, moto: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_RESULT_BUCKET", "dpp-commands")
    monkeypatch.setenv("S3_ENDPOINT_URL", f"http://127.0.0.1:{moto}")

    before, first = dpp("doctor"), dpp("aws", "bootstrap")
    second, after = dpp("aws", "bootstrap"), dpp("doctor")

    assert (before[0], after[0]) == (Exit.NEGATIVE, Exit.UNREACHABLE)
    assert [name for name, ok in verdicts(before[1]).items() if not ok] == ["bucket"]
    (bucket,) = [one for one in before[1]["checks"] if one["check"] == "bucket"]
    assert "dpp aws bootstrap" in bucket["fix"]
    assert set(verdicts(after[1]).values()) == {True}
    assert {one["outcome"] for one in first[1]["parts"]} == {"made"}
    assert {one["outcome"] for one in second[1]["parts"]} == {"as it was"}


def test_a_queue_that_is_missing_is_found_made_and_then_well(
    dpp: Command, moto: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQS_QUEUE_URL", f"http://127.0.0.1:{moto}/123456789012/dpp-commands")

    before, first = dpp("doctor"), dpp("aws", "bootstrap")
    second, after = dpp("aws", "bootstrap"), dpp("doctor")

    assert (before[0], after[0]) == (Exit.NEGATIVE, Exit.UNREACHABLE)
    (queue,) = [one for one in before[1]["checks"] if one["ok"] is False]
    assert queue["check"] == "queue"
    assert set(verdicts(after[1]).values()) == {True}
    assert "dpp aws bootstrap" in queue["fix"]
    assert {"sqs endpoint", "queue"} <= verdicts(after[1]).keys()
    assert [one["outcome"] for one in first[1]["parts"] if one["part"] == "queue"] == ["made"] * 2
    assert {one["outcome"] for one in second[1]["parts"]} == {"as it was"}


def test_a_queue_of_another_account_is_told(
    dpp: Command, moto: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SQS_QUEUE_URL", f"http://127.0.0.1:{moto}/000000000001/dpp-foreign")

    status, document = dpp("aws", "bootstrap")

    assert (status, document["error"]["code"]) == (Exit.NEGATIVE, "aws-refused")
    assert "000000000001/dpp-foreign" in document["error"]["what"]


def test_in_production_the_driver_is_asked_where_it_really_goes(
    dpp: Command, moto: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name may resolve to this machine, and variables of the driver's own may lead there."""
    monkeypatch.setenv("DPP_NODE__PROFILE", "production")
    monkeypatch.setenv("S3_RESULT_BUCKET", "dpp-none")
    monkeypatch.setenv("AWS_REGION", "eu-central-1")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", f"http://localhost:{moto}")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIACANARY")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "canary")

    status, document = dpp("doctor")

    assert status == Exit.NEGATIVE
    wrong = [name for name, ok in verdicts(document).items() if ok is False]
    assert wrong == ["s3 endpoint", "credentials", "caller identity", "bucket"]
    assert all(one["fix"] for one in document["checks"] if one["ok"] is False)
    assert "canary" not in json.dumps(document).lower()


def test_a_setting_for_this_machine_is_refused_in_production(
    dpp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_NODE__PROFILE", "production")
    for host in ("127.0.0.1", "localhost", "[::1]", "0.0.0.0", "127.1", "s3.localhost"):  # noqa: S104 - it leads here too
        monkeypatch.setenv("S3_ENDPOINT_URL", f"http://{host}:4566")

        status, document = dpp("doctor")

        assert (host, status) == (host, Exit.CONFIGURATION)
        assert [one["key"] for one in document["error"]["errors"]] == ["s3.endpoint_url"]


def test_without_bucket_and_queue_there_is_nothing_to_make(dpp: Command) -> None:
    status, document = dpp("aws", "bootstrap")

    assert (status, document["error"]["code"]) == (Exit.CONFIGURATION, "nothing-to-make")


def test_what_aws_refuses_is_said_and_changes_the_status(
    dpp: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("S3_RESULT_BUCKET", "dpp-none")
    monkeypatch.setenv("S3_ENDPOINT_URL", "http://127.0.0.1:9")

    status, document = dpp("aws", "bootstrap")

    assert (status, document["error"]["code"]) == (Exit.NEGATIVE, "aws-refused")
    assert "127.0.0.1:9" in document["error"]["what"]
