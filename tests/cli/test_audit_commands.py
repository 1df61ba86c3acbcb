"""`dpp audit list | show | resolve` on a node whose books are broken by a superuser's hand."""

from __future__ import annotations

import asyncio  # noqa: TID251 - a hand in the database, where no loop runs
import json
import time
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import asyncpg
import pytest

from dpp.cli.exits import Exit
from tests.node_books import judge_now

if TYPE_CHECKING:
    from tests.cli.conftest import Dpp
    from tests.conftest import StartNode
    from tests.node_process import NodeProcess

CONFIG = """
[audit]
interval_s = 1
"""
SUBMIT = ("run", "submit", "--pack", "echo", "--max-cost", "0.10", "--tenant", "acme")


@pytest.fixture
def node(fresh_node: StartNode, monkeypatch: pytest.MonkeyPatch, dpp: Dpp) -> NodeProcess:
    """Run a node whose auditor looks every second, with a tenant that has spent five cents."""
    one = fresh_node(CONFIG)
    monkeypatch.setenv("DPP_DATA_DIR", str(one.data_dir))
    assert dpp("tenant", "create", "acme", "--plan", "basic", "--deposit", "10").status == 0
    assert dpp(*SUBMIT, "--input", 'cost_usd="0.05"', "--wait").status == 0
    return one


def by_hand(node: NodeProcess, *statements: str) -> None:
    """Do what DPP never does."""

    async def execute() -> None:
        host = str(node.socket_dir)
        connection = await asyncpg.connect(host=host, user="postgres", database="dpp")
        await connection.execute("set session_replication_role = replica")
        for statement in statements:
            assert not (await connection.execute(statement)).endswith(" 0")
        await connection.close()

    asyncio.run(execute())


def alarms(node: NodeProcess, count: int) -> list[dict[str, Any]]:
    """Wait until a person was called that often."""
    give_up_at = time.monotonic() + 30  # noqa: TID251 - a process of its own, no loop
    while True:
        lines = [line for line in node.lines() if line.get("event") == "AUDIT_REQUIRED"]
        if len(lines) >= count:
            return lines
        assert time.monotonic() < give_up_at, node.tail()  # noqa: TID251
        time.sleep(0.05)  # noqa: TID251


def test_from_the_alarm_to_good_books(node: NodeProcess, dpp: Dpp) -> None:
    run_id = dpp(*SUBMIT, "--input", "sleep_s=60", "--json").document["run_id"]
    by_hand(
        node,
        f"delete from dpp.live_runs where run_id = '{run_id}'",  # noqa: S608
        "update dpp.budgets set available = available - 10000, spent = spent + 10000",
    )

    lines = alarms(node, 2)
    audit, listed = dpp("audit"), dpp("audit", "list", "--json").document["items"]
    frozen = dpp(*SUBMIT, "--json")

    assert {line["reconcile_type"] for line in lines} == {
        "no_receipt_audit",
        "02_budgets_equal_ledger",
    }
    assert {line["severity"] for line in lines} == {"CRITICAL"}
    assert [line["run_id"] for line in lines if "run_id" in line] == [run_id]
    assert audit.status == Exit.NEGATIVE
    assert audit.out.count("open finding:") == 2
    assert (frozen.status, frozen.document["error"]["code"]) == (1, "tenant-frozen")
    ids = {finding["invariant"][:2]: finding["finding_id"] for finding in listed}
    assert all(one in dpp("audit", "list").out for one in ids.values())
    assert run_id in dpp("audit", "show", ids["04"]).out
    assert (
        run_id not in dpp("run", "list", "--tenant", "acme", "--json").out
    )  # its page is answered all the same

    over = dpp("audit", "resolve", ids["04"], "--settle", "0.2", "--reason", "r", "--json")
    folded = dpp("audit", "resolve", ids["02"], "--refold", "--reason", "a hand", "--json")
    ended = dpp("audit", "resolve", ids["04"], "--settle", "0.04", "--reason", "it worked")
    again = dpp("audit", "resolve", ids["04"], "--settle", "0.04", "--reason", "it worked")
    other = dpp("audit", "resolve", ids["04"], "--void", "--reason", "it worked", "--json")

    assert (over.status, over.document["error"]["code"]) == (1, "invalid-request")
    assert folded.document["tenant_frozen"] is True
    assert folded.document["finding"]["resolution"]["old"]["spent"] == 60_000
    assert (ended.status, again.status) == (0, 0)
    assert ended.out == again.out
    assert ended.out.endswith("tenant acme may submit\n")
    assert (other.status, other.document["error"]["code"]) == (1, "finding-resolved")
    run = dpp("run", "show", run_id, "--tenant", "acme", "--json").document
    assert (run["status"], run["cost"]["actual_usd"]) == ("FAILED", "0.04")
    assert run["error"]["code"] == "resolved_by_operator"
    assert dpp("audit", "list", "--json").document["items"] == []
    assert dpp("audit").status == Exit.GOOD
    assert dpp(*SUBMIT, "--wait").status == 0
    judge_now(node)


@pytest.mark.parametrize(
    "way",
    [
        (),
        ("--void", "--refold"),
        ("--settle", "1", "--accept"),
    ],
)
def test_one_way_and_a_reason_must_be_given(dpp: Dpp, way: tuple[str, ...]) -> None:
    finding_id = str(uuid4())

    assert dpp("audit", "resolve", finding_id, *way, "--reason", "r").status == Exit.USAGE
    assert dpp("audit", "resolve", finding_id, "--void").status == Exit.USAGE


def test_what_is_not_there(node: NodeProcess, dpp: Dpp) -> None:
    for command in (("show",), ("resolve", "--void", "--reason", "r")):
        answer = dpp("audit", command[0], str(uuid4()), *command[1:], "--json")
        assert answer.status == Exit.NEGATIVE
        assert json.loads(answer.out)["error"]["code"] == "not-found"
