"""What the demo asks and how it judges, without a node."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from dpp import datadir
from dpp.cli.demo import question, showing
from dpp.cli.demo.child import Child, free_listen, lives
from dpp.cli.demo.command import stays
from dpp.cli.demo.judge import fold, judge
from dpp.cli.exits import Stop
from dpp.cli.main import call
from dpp.cli.output import Output
from dpp.client import Budget, Run, Transfer
from dpp.packs.decision.analysis import decide
from dpp.packs.decision.model import DecisionInputs, price_of
from dpp.packs.inputs import structure
from dpp.packs.results import encode
from dpp.urls import Address
from tests.cli.test_tables import DOCUMENT

RESULT_MAX = 65_536  # runs.inline_max_bytes
PRICE, DEPOSIT = 12_176, 10_000_000
COLUMNS = 80
PROOF = {"method": "topsis", "inputs_sha256": ""}


def decision() -> DecisionInputs:
    inputs = structure(question.inputs(), DecisionInputs)
    assert isinstance(inputs, DecisionInputs)
    return inputs


def test_the_question_is_decided_and_its_answer_is_small_enough() -> None:
    decided = decide(decision())

    assert (decided.verdict, decided.flip is not None) == ("decided", True)
    assert len(encode(json.loads(json.dumps(question.inputs())))) < RESULT_MAX * 4


def test_the_price_is_the_packs() -> None:
    assert question.price_micros() == price_of(decision()) == PRICE


def transfer(seq: int, kind: str, amount: str, **more: Any) -> Transfer:
    line = {"seq": seq, "kind": kind, "amount_usd": amount, "created_at": "2026-01-01T00:00:00Z"}
    return Transfer.of({**line, **more})


def books(**change: Any) -> dict[str, Any]:
    """Return what a right demo gives to the judge, with what is to be wrong."""
    right = {
        "run": Run.of(
            {
                **DOCUMENT,
                "status": "COMPLETED",
                "result": {"verdict": "decided"},
                "cost": {"max_usd": "0.50", "held_usd": "0.00", "actual_usd": "0.012176"},
            }
        ),
        "price": PRICE,
        "deposit": DEPOSIT,
        "budget": Budget.of(
            {
                "deposited_usd": "10.00",
                "available_usd": "9.987824",
                "held_usd": "0.00",
                "spent_usd": "0.012176",
            }
        ),
        "transfers": [
            transfer(3, "settle", "0.50", cost_usd="0.012176", returned_usd="0.487824"),
            transfer(2, "reserve", "0.50"),
            transfer(1, "deposit", "10.00"),
        ],
        "audit": {"ok": True},
    }
    return {**right, **change}


def test_a_right_demo_is_judged_right() -> None:
    assert all(judge(**books()).values())


@pytest.mark.parametrize(
    ("change", "claim"),
    [
        ({"run": Run.of({**DOCUMENT, "status": "FAILED"})}, "the run is COMPLETED"),
        ({"price": PRICE + 1}, "it cost what the pack's price says"),
        ({"deposit": DEPOSIT + 1}, "the ledger adds up to the budget"),
        ({"transfers": books()["transfers"][1:]}, "the ledger has three lines"),
        ({"audit": {"ok": False}}, "the audit is clean"),
        ({"audit": {}}, "the audit is clean"),
    ],
)
def test_whatever_is_wrong_is_found(change: dict[str, Any], claim: str) -> None:
    assert judge(**books(**change))[claim] is False


def test_a_ledger_is_added_up_to_the_micro_dollar() -> None:
    assert fold(books()["transfers"]) == {
        "deposited": DEPOSIT,
        "available": DEPOSIT - PRICE,
        "held": 0,
        "spent": PRICE,
    }


def test_a_taken_port_is_left_to_its_owner() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert free_listen(Address("127.0.0.1", port)) == "127.0.0.1:0"

    assert free_listen(Address("127.0.0.1", port)) == f"127.0.0.1:{port}"


def test_the_first_process_lives_and_the_impossible_one_does_not() -> None:
    assert lives(1)
    assert not lives(2**22 + 1)


SLEEPER = "print(flush=True); import time; time.sleep(60)"
# Holds the directory and says that it listens where nobody gets.
UNREACHABLE = """
import sys, time
from pathlib import Path
from dpp import datadir

with datadir.hold(Path(sys.argv[1]), demo=True) as held:
    held.publish(url=sys.argv[2], management_url=sys.argv[2])
    time.sleep(60)
"""


@contextmanager
def started(code: str, *more: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", code, *more]
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=cwd) as process:
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def child_of(path: Path, process: subprocess.Popen[bytes]) -> Iterator[Child]:
    with tempfile.TemporaryFile() as log:
        yield Child(path, process, log)


@pytest.mark.parametrize("ours", [True, False])
def test_only_the_postgres_that_its_own_node_left_is_ended(
    tmp_path: Path,
    ours: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    data = tmp_path / datadir.POSTGRES
    data.mkdir()
    with started("") as node, started(SLEEPER, cwd=data) as postmaster:
        assert postmaster.stdout is not None
        postmaster.stdout.readline()
        (data / "postmaster.pid").write_text(f"{postmaster.pid}\n")
        (tmp_path / "node.json").write_text(json.dumps({"pid": node.pid if ours else 1}))

        with child_of(tmp_path, node) as child:
            child.stop_postgres()

        assert (postmaster.poll() is not None) is ours


def test_a_node_that_runs_where_nobody_gets_is_said_at_once(closed_url: str) -> None:
    with tempfile.TemporaryDirectory(prefix="dpp-test-") as place:
        Path(place).chmod(0o711)  # PostgreSQL's user can search it
        path = Path(place) / "dpp-demo"
        with started(UNREACHABLE, str(path), closed_url) as node, child_of(path, node) as child:
            with pytest.raises(Stop) as stop:
                child.wait_ready()

            assert node.poll() is None

    assert f"{closed_url}/readyz cannot be reached" in stop.value.trouble.what
    assert "loopback" in stop.value.trouble.todo


@pytest.mark.parametrize("text", ["", "0", "no", "No", "false", "off"])
def test_a_demo_that_is_not_told_to_leave_stays(text: str) -> None:
    assert stays({})
    assert stays({"DEMO_EXIT": text})
    assert not stays({"DEMO_EXIT": "1"})


def test_the_help_says_which_configuration_and_directory_a_demo_takes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    call(["demo", "--help"])
    shown = " ".join(capsys.readouterr().out.split())

    assert "DPP_CONFIG" not in shown
    assert "DIR-demo" in shown


def test_the_tables_fit_a_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    widest = sorted(question.scores(), key=len)[-6:]
    ranking = [{"rank": 1, "option": offer, "score": 0.5} for offer in widest]
    result = {"ranking": ranking, "verdict": "decided", "dominated": [], "proof": PROOF}
    line = {"seq": 3, "kind": "settle", "amount_usd": "0.50", "cost_usd": "0.012176"}
    line |= {"returned_usd": "0.487824", "created_at": "2026-01-01T00:00:00.000000Z"}

    showing.show_decision(Output(), result)
    showing.show_ledger(Output(), [line], title="Ledger")

    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(len(line) for line in lines) <= COLUMNS
    assert all(any(offer in line for line in lines) for offer in widest)
