"""`dpp results forget`, on an embedded database with its node and without."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpp.cli.exits import Exit

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Dpp
    from tests.cli.test_commands import Served


def test_where_no_node_was_yet_there_is_no_store_to_forget(dpp: Dpp, alone: Path) -> None:
    assert dpp("migrate", "up").status == Exit.GOOD

    ended = dpp("results", "forget")

    assert (ended.status, ended.out, ended.err) == (Exit.GOOD, "no store was known\n", "")


def test_a_node_that_lives_keeps_its_store(
    dpp: Dpp, served_node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(served_node.data_dir))

    ended = dpp("results", "forget", "--json")

    error = ended.document["error"]
    assert (ended.status, error["code"]) == (Exit.NEGATIVE, "results-in-use")
    assert (error["store_id"], len(error["nodes"])) == (None, 1)
    assert "Stop the nodes" in error["todo"]
