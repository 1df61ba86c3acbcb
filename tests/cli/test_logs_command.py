"""`dpp logs trace`: lines of several logs become one timeline."""

from __future__ import annotations

import gzip
import io
import json
import sys
from pathlib import Path

import pytest

from dpp.cli.exits import Exit
from tests.cli.conftest import Dpp

TRACE, RUN = "4bf92f3577b34da6a3ce929d0e0e4736", "0193-run"


def line(second: int, event: str, **more: object) -> str:
    stamp = f"2026-11-29T12:00:{second:02}.000000Z"
    return json.dumps({"timestamp": stamp, "level": "info", "event": event, **more})


@pytest.fixture
def two_logs(tmp_path: Path) -> list[str]:
    """Lay down a log as it is, and one that logrotate packed, with systemd's words between."""
    one, other = tmp_path / "one.log", tmp_path / "other.log.gz"
    one.write_text(
        "\n".join(
            [
                line(1, "run submitted", trace_id=TRACE, run_id=RUN),
                "Nov 29 12:00:02 vm systemd[1]: dpp.service: Main process exited",
                line(2, "run submitted", trace_id="another", run_id="another-run"),
                line(9, "run settled", trace_id=TRACE, run_id=RUN),
            ]
        )
    )
    with gzip.open(other, "wt") as packed:
        packed.write(
            "\n".join(
                [
                    "Nov 29 12:00:05 vm dpp[7]: " + line(5, "run requeued", run_id=RUN, attempt=2),
                    line(6, "heartbeat"),
                ]
            )
        )
    return [str(one), str(other)]


def test_all_that_nodes_wrote_of_a_trace_and_its_runs_comes_in_order(
    dpp: Dpp, two_logs: list[str]
) -> None:
    ended = dpp("logs", "trace", TRACE, *two_logs, "--json")
    shown = dpp("logs", "trace", TRACE, *two_logs)

    told = [(one["source"], one["event"]) for one in ended.document["lines"]]
    assert ended.status == Exit.GOOD
    assert told == [
        (two_logs[0], "run submitted"),
        (two_logs[1], "run requeued"),
        (two_logs[0], "run settled"),
    ]
    assert "attempt=2" in shown.out
    assert "heartbeat" not in shown.out


def test_without_a_file_stdin_is_read(
    dpp: Dpp, two_logs: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    text = Path(two_logs[0]).read_bytes()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))

    ended = dpp("logs", "trace", TRACE, "--json")

    assert [one["event"] for one in ended.document["lines"]] == ["run submitted", "run settled"]


def test_a_trace_that_nobody_wrote_of_is_a_negative_answer(dpp: Dpp, two_logs: list[str]) -> None:
    ended = dpp("logs", "trace", "ffff", *two_logs, "--json")

    assert (ended.status, ended.document["lines"]) == (Exit.NEGATIVE, [])


@pytest.mark.parametrize("name", ["missing.log", "torn.log.gz"])
def test_a_log_that_cannot_be_read_is_named(dpp: Dpp, tmp_path: Path, name: str) -> None:
    (tmp_path / "torn.log.gz").write_bytes(gzip.compress(b"{}\n" * 100)[:20])

    ended = dpp("logs", "trace", TRACE, str(tmp_path / name), "--json")

    assert ended.status == Exit.USAGE
    assert name in ended.err + ended.out


def test_a_forgotten_trace_is_asked_for(dpp: Dpp, two_logs: list[str]) -> None:
    """Its log would be taken for the trace, and the command would wait for stdin."""
    ended = dpp("logs", "trace", two_logs[0], "--json")

    assert ended.status == Exit.USAGE
    assert f"{two_logs[0]} is a file" in ended.out + ended.err
    assert "dpp logs trace TRACE_ID FILE" in ended.out + ended.err
