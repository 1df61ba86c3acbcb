"""`dpp database run`: PostgreSQL's programs on an embedded database, with its node and without."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dpp.cli.exits import Exit

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cli.conftest import Dpp
    from tests.cli.test_commands import Served

WHO = "select current_user || ' ' || count(*) from tenants"


def run(data_dir: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """Run a command as an operator does: what it starts writes past the test's own streams."""
    command = [sys.executable, "-m", "dpp", "database", "run", "--data-dir", str(data_dir)]
    return subprocess.run([*command, *words], check=False, capture_output=True, text=True)


@pytest.fixture
def unmade() -> Iterator[Path]:
    """Give a data directory that no node was on."""
    path = Path(tempfile.mkdtemp(prefix="dpp-test-"))
    path.chmod(0o711)
    yield path / "dpp"
    shutil.rmtree(path)


def test_beside_a_node_a_program_reads_and_may_not_write(served_node: Served) -> None:
    asked = run(served_node.data_dir, "--", "psql", "-Atc", WHO)
    written = run(served_node.data_dir, "--", "psql", "-c", "delete from tenants")
    owned = run(served_node.data_dir, "--role", "dpp_owner", "--", "psql", "-Atc", WHO)

    assert asked.returncode == 0, asked.stderr
    assert asked.stdout.startswith("dpp_audit ")
    assert written.returncode == 1
    assert "permission denied" in written.stderr or "read-only" in written.stderr
    assert owned.stdout.startswith("dpp_owner ")


def test_as_json_there_is_one_document_and_the_status_is_the_programs_own(
    served_node: Served,
) -> None:
    ended = run(served_node.data_dir, "--json", "--", "sh", "-c", "echo said; exit 5")

    assert (ended.returncode, json.loads(ended.stdout)) == (5, {"status": 5})
    assert ended.stderr.startswith("said\n")


def test_without_a_node_postgresql_runs_for_as_long_as_the_program(
    unmade: Path, dpp: Dpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(unmade))
    none = run(unmade, "--", "psql", "-c", "select 1")
    assert dpp("migrate", "up").status == Exit.GOOD

    asked = run(unmade, "--", "psql", "-Atc", WHO)

    assert (none.returncode, none.stdout) == (Exit.UNREACHABLE, "")
    assert "There is no database" in none.stderr
    assert (asked.returncode, asked.stdout) == (0, "dpp_audit 0\n")
    assert not (unmade / "postgres" / "postmaster.pid").exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="needs another user's directory")
def test_the_directory_of_another_user_is_left_to_that_user(
    unmade: Path, dpp: Dpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(unmade))
    (unmade / "postgres").mkdir(parents=True)
    os.chown(unmade, pwd.getpwnam("nobody").pw_uid, -1)

    asked = [dpp("migrate", "status", "--json"), dpp("migrate", "up", "--json")]
    asked.append(dpp("database", "run", "--json", "--", "psql"))
    asked.append(dpp("backup", str(unmade.parent / "backups"), "--json"))
    asked.append(dpp("receive-wal", str(unmade.parent / "backups"), "--json"))

    assert {ended.status for ended in asked} == {Exit.UNREACHABLE}
    assert {ended.document["error"]["code"] for ended in asked} == {"other-user"}
    assert f"runuser -u nobody -- dpp … --data-dir {unmade}" in asked[0].err + asked[0].out


def test_a_program_that_is_not_there_and_a_database_of_somebody_elses_are_named(
    served_node: Served, dpp: Dpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run(served_node.data_dir, "--json", "--", "no-such-program")
    monkeypatch.setenv("DPP_DATABASE__URL", "postgresql://dpp_app@db.example.com/dpp")
    foreign = dpp("database", "run", "--json", "--", "psql")

    assert (missing.returncode, "no-program" in missing.stdout) == (Exit.USAGE, True)
    assert foreign.status == Exit.NEGATIVE
    assert foreign.document["error"]["code"] == "external-database"
