from __future__ import annotations

import sys
from pathlib import Path

import pytest

from dpp.cli.exits import Exit
from tests.cli.conftest import Dpp

NAMES = {
    "usr/local/lib/systemd/system/dpp.service",
    "usr/local/lib/systemd/system/dpp@.service",
    "usr/local/lib/systemd/system/dpp.socket",
    "usr/local/lib/systemd/system/dpp-management.socket",
    "usr/local/lib/systemd/system/dpp-backup.service",
    "usr/local/lib/systemd/system/dpp-backup.timer",
    "usr/local/lib/systemd/system/dpp-wal.service",
    "usr/local/lib/sysusers.d/dpp.conf",
    "usr/local/lib/tmpfiles.d/dpp.conf",
}


def files(root: Path) -> set[str]:
    return {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}


def test_they_are_written_into_a_tree_and_start_the_program_of_its_prefix(
    dpp: Dpp, tmp_path: Path
) -> None:
    ended = dpp("install-units", "--root", str(tmp_path), "--json")

    written = files(tmp_path)
    drop_ins = {name for name in written if name.startswith("usr/local/share/dpp/dropins/")}
    service = (tmp_path / "usr/local/lib/systemd/system/dpp.service").read_text()
    assert ended.status == Exit.GOOD
    assert written == NAMES | drop_ins
    assert "usr/local/share/dpp/dropins/pack-jit.conf" in drop_ins
    assert {str(tmp_path / name) for name in written} == set(ended.document["written"])
    assert "\nExecStart=/usr/local/bin/dpp serve\n" in service


def test_another_prefix_and_another_program(dpp: Dpp, tmp_path: Path) -> None:
    ended = dpp("install-units", "--prefix", str(tmp_path / "usr"), "--dpp", "/opt/dpp/bin/dpp")

    unit = tmp_path / "usr/lib/systemd/system/dpp@.service"
    assert ended.status == Exit.GOOD
    assert "\nExecStart=/opt/dpp/bin/dpp serve --external-database\n" in unit.read_text()
    assert unit.stat().st_mode & 0o777 == 0o644
    assert "there is no program at /opt/dpp/bin/dpp yet" in ended.err


@pytest.fixture
def binary(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Be the binary, in a tree of a package to be."""
    program = tmp_path / "tree/opt/dpp-0.5.0/dpp"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    monkeypatch.setattr(sys, "frozen", True, raising=False)
    monkeypatch.setattr(sys, "executable", str(program))
    return program


def test_the_binary_has_itself_started_from_where_it_lies(
    dpp: Dpp, tmp_path: Path, binary: Path
) -> None:
    there = dpp("install-units", "--root", str(tmp_path / "tree"), "--json")
    elsewhere = dpp("install-units", "--root", str(tmp_path / "other"), "--json")

    assert there.document["program"] == "/opt/dpp-0.5.0/dpp"
    assert elsewhere.document["program"] == str(binary)
    service = (tmp_path / "tree/usr/local/lib/systemd/system/dpp.service").read_text()
    assert "\nExecStart=/opt/dpp-0.5.0/dpp serve\n" in service


def test_a_link_to_the_binary_in_the_prefix_is_kept_since_an_upgrade_moves_it(
    dpp: Dpp, tmp_path: Path, binary: Path
) -> None:
    link = tmp_path / "tree/usr/local/bin/dpp"
    link.parent.mkdir(parents=True)

    link.symlink_to(tmp_path)  # to something else
    other = dpp("install-units", "--root", str(tmp_path / "tree"), "--json").document["program"]
    link.unlink()
    link.symlink_to(binary)
    own = dpp("install-units", "--root", str(tmp_path / "tree"), "--json").document["program"]

    assert (other, own) == ("/opt/dpp-0.5.0/dpp", "/usr/local/bin/dpp")


def test_what_was_written_before_is_replaced(dpp: Dpp, tmp_path: Path) -> None:
    dpp("install-units", "--root", str(tmp_path))
    unit = tmp_path / "usr/local/lib/systemd/system/dpp.service"
    unit.write_text("of an earlier release")

    dpp("install-units", "--root", str(tmp_path))

    assert "WatchdogSec=30" in unit.read_text()


@pytest.mark.parametrize("words", [("--dpp", "/home/me/bin/dpp"), ("--prefix", "here")])
def test_what_a_unit_cannot_start_is_refused_and_nothing_is_written(
    dpp: Dpp, tmp_path: Path, words: tuple[str, ...]
) -> None:
    ended = dpp("install-units", "--root", str(tmp_path), *words, "--json")

    assert ended.status == Exit.USAGE
    assert ended.document["error"]["code"] == "not-a-program"
    assert files(tmp_path) == set()


def test_a_node_beside_others_refuses_a_postgresql_of_its_own(dpp: Dpp, tmp_path: Path) -> None:
    ended = dpp("serve", "--external-database", "--json")

    assert ended.status == Exit.CONFIGURATION
    assert ended.document["error"]["code"] == "database-embedded"
    assert not (tmp_path / "data").exists()
