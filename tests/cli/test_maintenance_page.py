"""The page on maintenance, command by command, on a node of its own: modes are for all nodes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pytest

    from tests.cli.conftest import Dpp
    from tests.conftest import StartNode

PAGE = Path(__file__).resolve().parents[2] / "docs" / "maintenance.md"


def commands() -> list[str]:
    """Return what the page tells to type, without what is only set."""
    text = PAGE.read_text("utf-8")
    blocks = re.findall(r"^```\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    return [line.removeprefix("$ dpp ") for line in "".join(blocks).splitlines() if "dpp" in line]


def test_each_command_does_what_the_page_says(
    dpp: Dpp, fresh_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = fresh_node()
    monkeypatch.setenv("DPP_DATA_DIR", str(node.data_dir))
    said = {}
    for command in commands():
        typed = shlex.split(command.replace("$NODE", node.node_id))
        ended = dpp(*typed, "--json")
        assert ended.status == 0, (command, ended.err)
        said[" ".join(typed[:3])] = ended.document
        assert dpp(*typed[:2], *typed[2:]).status == 0, command  # for people, and asked again

    assert said["mode set no-submit"]["mode"] == "no-submit"
    assert said["mode show"]["changes"][0]["reason"] == "PostgreSQL moves to another VM"
    assert said["mode set normal"]["mode"] == "normal"
    assert [one["node_id"] for one in said["node list"]["items"]] == [node.node_id]
    drain = said[f"node drain {node.node_id}"]["drain"]
    assert drain["reason"] == "upgrade to the next release"
    assert said[f"node show {node.node_id}"]["state"] in ("draining", "drained")
    assert said[f"node undrain {node.node_id}"]["drain"] is None


def test_what_is_not_there_is_said(
    dpp: Dpp, fresh_node: StartNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(fresh_node().data_dir))

    for command in ("node show nobody", "node undrain nobody", "node drain nobody --reason why"):
        ended = dpp(*command.split())
        assert (ended.status, "no such node" in ended.err) == (1, True), command
    assert dpp("mode", "set", "sleepy", "--reason", "why").status == 2
    assert dpp("mode", "set", "drain").status == 2
    assert dpp("mode", "set", "drain", "--reason", " ").status == 1
