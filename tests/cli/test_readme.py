"""The tour of the README, step by step: each command that it shows, on a node of its own."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StartNode
from tests.node_process import NodeProcess

README = Path(__file__).resolve().parents[2] / "README.md"
LINKS = re.compile(r"\]\(([^)#:]+)\)")
SERVE = "dpp serve"
PATH = 'export PATH="$PWD/.venv/bin:$PATH"'


def steps() -> list[str]:
    """Return the commands of the README, those with continued lines as one."""
    blocks = re.findall(r"^```\n(.*?)^```$", README.read_text("utf-8"), re.DOTALL | re.MULTILINE)
    tour = "".join(block for block in blocks if block.startswith("$ "))
    return [step.strip() for step in re.split(r"^\$ ", tour, flags=re.MULTILINE) if step.strip()]


def run(step: str, node: NodeProcess, shown: str) -> str:
    """Do one step; what a reader copies from an earlier answer is copied from `shown`."""
    dpp = f"{shlex.quote(sys.executable)} -m dpp"
    script = f'dpp() {{ {dpp} "$@"; }}\n' + step.replace("http://127.0.0.1:8080", node.url)
    variables = {
        "DPP_API_KEY": "".join(re.findall(r"dpp_live_\w+", shown)[:1]),
        "RUN_ID": "".join(re.findall(r'"run_id": ?"([^"]+)"', shown)[:1]),
        "DPP_DATA_DIR": str(node.data_dir),
        "no_proxy": "127.0.0.1",
    }
    ended = subprocess.run(
        ["bash", "-c", f"set -e\n{script}"],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables},
        check=False,
    )
    assert ended.returncode == 0, (step, ended.stderr)
    return ended.stdout


def test_each_step_of_the_tour_works_as_it_is_written(fresh_node: StartNode) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl: apt-get install curl")
    path, serve, *tour = steps()
    node = fresh_node()

    shown: dict[str, str] = {}
    for step in tour:
        assert not step.startswith(SERVE), "one node is enough"
        if step.startswith("export "):
            assert step.endswith("…"), "a value to fill in"
            continue
        shown[step] = run(step, node, "".join(shown.values()))

    assert (path, serve) == (PATH, SERVE)
    answers = [json.loads(text) for step, text in shown.items() if step.startswith("curl ")]
    submitted, ended, budget, transfers = answers
    assert (ended["run_id"], ended["status"]) == (submitted["run_id"], "COMPLETED")
    assert ended["result"]["winner"] == "Birch"
    assert budget["spent_usd"] == "0.020012"  # 0.010004, as the README says, and 0.010008
    assert [line["kind"] for line in transfers["items"]].count("settle") == 3
    assert list(shown.values())[-1].splitlines()[-1].startswith("audit ok")


def test_what_the_readme_points_to_is_there() -> None:
    assert [
        link
        for link in LINKS.findall(README.read_text("utf-8"))
        if not (README.parent / link).exists()
    ] == []
