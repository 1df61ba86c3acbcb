"""The page on money, command by command: what it shows is what a node says."""

from __future__ import annotations

import re
import shlex
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from dpp.money import parse, show
from dpp.pricing import FeeRule
from tests.cli.conftest import Dpp
from tests.node_process import NodeProcess

PAGE = Path(__file__).resolve().parents[2] / "docs" / "money.md"


def shown() -> Iterator[tuple[str, str]]:
    """Yield each command of the page with what follows it."""
    for block in re.findall(r"^```\n(.*?)^```$", PAGE.read_text("utf-8"), re.DOTALL | re.MULTILINE):
        for step in re.split(r"^\$ dpp ", block, flags=re.MULTILINE)[1:]:
            command, _, said = step.partition("\n")
            yield command, said


def test_each_command_says_what_the_page_shows(
    dpp: Dpp, served_node: NodeProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(served_node.data_dir))
    name = f"acme-{uuid.uuid4().hex[:12]}"
    dpp("tenant", "create", name, "--plan", "basic", "--deposit", "10.00")
    echo = ("run", "submit", "--pack", "echo", "--input", 'cost_usd="0.05"', "--max-cost", "0.10")
    run = dpp(*echo, "--tenant", name, "--wait", "--json").document

    steps = list(shown())
    for command, said in steps:
        typed = command.replace("$RUN_ID", run["run_id"]).replace("adjust acme", f"adjust {name}")
        ended = dpp(*shlex.split(typed))

        assert ended.out + ended.err == said, command

    assert len(steps) == 4


@pytest.mark.parametrize(
    ("reserve", "fee"), [("0.10", "0.005"), ("1.00", "0.02"), ("5.00", "0.10"), ("9.00", "0.10")]
)
def test_the_fees_on_the_page_are_those_of_the_formula(reserve: str, fee: str) -> None:
    assert show(FeeRule().fee(parse(reserve))) == fee
