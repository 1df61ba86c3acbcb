"""What the demo asks and how it judges, without a node."""

from __future__ import annotations

import json
import socket
from typing import Any

import pytest

from dpp.cli.demo import question
from dpp.cli.demo.child import free_listen, lives
from dpp.cli.demo.judge import fold, judge
from dpp.client.values import Budget, Run, Transfer
from dpp.packs.decision.analysis import decide
from dpp.packs.decision.model import DecisionInputs, price_of
from dpp.packs.inputs import structure
from dpp.packs.results import encode
from dpp.urls import Address
from tests.cli.test_tables import DOCUMENT

RESULT_MAX = 65_536  # runs.inline_max_bytes
PRICE, DEPOSIT = 12_176, 10_000_000


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
