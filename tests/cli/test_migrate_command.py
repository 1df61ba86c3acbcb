from __future__ import annotations

import os
from pathlib import Path

import pytest

from dpp.cli.exits import Exit
from tests.cli.conftest import Dpp
from tests.cli.test_commands import Served


def test_the_schema_goes_back_and_forward_and_is_what_the_migrations_make(
    dpp: Dpp, alone: Path
) -> None:
    up = dpp("migrate", "up", "--json")
    status = dpp("migrate", "status", "--json")
    check = dpp("migrate", "check", "--json")
    down = dpp("migrate", "down", "--json")

    assert up.status == Exit.GOOD
    assert (status.status, status.document["state"]) == (Exit.GOOD, "current")
    names = [one["name"] for one in status.document["migrations"] if one["applied"]]
    assert (check.status, check.document) == (Exit.GOOD, {"ok": True, "differences": []})
    assert down.document == {"taken_back": names[-1:]}
    assert {up.err, status.err, check.err, down.err} == {""}


def test_beside_a_running_node_one_may_look_but_not_go_back(
    dpp: Dpp, served_node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(served_node.data_dir))

    status = dpp("migrate", "status")
    up = dpp("migrate", "up", "--json")
    check = dpp("migrate", "check")
    down = dpp("migrate", "down", "--json")

    assert (status.status, status.out.splitlines()[-1]) == (Exit.GOOD, "schema: current")
    assert up.document == {"applied": [], "waiting": [], "nodes": []}
    assert check.out == "the catalog is what the migrations make\n"
    assert (down.status, down.document["error"]["code"]) == (Exit.NEGATIVE, "node-running")


@pytest.mark.parametrize("action", ["up", "down", "status", "check"])
def test_an_external_database_that_does_not_answer_is_named_so(
    dpp: Dpp, closed_url: str, monkeypatch: pytest.MonkeyPatch, action: str
) -> None:
    address = closed_url.removeprefix("http://")
    monkeypatch.setenv("DPP_DATABASE__URL", f"postgresql://me:canary@{address}/dpp")

    ended = dpp("migrate", action, "--json")

    assert ended.status == Exit.NEGATIVE
    assert ended.document["error"]["code"] == "database-unreachable"
    assert "canary" not in ended.out + ended.err


def test_a_login_that_the_database_refuses_ends_with_78(
    dpp: Dpp, served_node: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    sockets = next(served_node.data_dir.glob("**/.s.PGSQL.5432")).parent
    url = f"postgresql://nobody_here@/dpp?host={sockets}"
    monkeypatch.setenv("DPP_DATABASE__URL", url)

    ended = dpp("migrate", "status", "--json")

    assert ended.status == Exit.CONFIGURATION, (ended.err, os.geteuid())
    assert ended.document["error"]["code"] == "database-refused"


@pytest.mark.parametrize("action", ["status", "check", "down"])
def test_a_directory_that_is_not_there_is_not_made_by_a_look(
    dpp: Dpp, alone: Path, action: str
) -> None:
    asked = dpp("migrate", action, "--json")

    assert asked.status == Exit.UNREACHABLE
    assert asked.document["error"]["code"] == "no-database"
    assert not alone.exists()
