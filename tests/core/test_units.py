"""The units as they are shipped: how exposed they are, and what each drop-in costs."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path, PurePosixPath

import pytest

from dpp.http.listener import BACKLOG
from dpp.resources import units_dir
from dpp.systemd import units

DROP_INS = sorted((units_dir() / "dropins").glob("*.conf"))
MOST = 1.5  # of 10; a bare unit has 9.6
HIDDEN = [f"/{folder}/bin/dpp" for folder in units.HIDDEN]
needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="needs systemd-analyze: apt-get install systemd"
)


def exposure(root: Path, unit: str, drop_in: Path | None = None) -> float:
    """Return what systemd says of a unit that is installed in `root`."""
    folder = root / "etc/systemd/system"
    folder.mkdir(parents=True)
    shutil.copy(units_dir() / unit, folder)
    if drop_in is not None:
        (folder / f"{unit}.d").mkdir()
        shutil.copy(drop_in, folder / f"{unit}.d")
    said = subprocess.run(
        ["systemd-analyze", "security", "--offline=yes", f"--root={root}", "--no-pager", unit],
        check=True,
        capture_output=True,
        text=True,
    )
    found = re.search(r"Overall exposure level for \S+: ([0-9.]+)", said.stdout)
    assert found is not None, said.stdout
    return float(found[1])


def settings(unit: str) -> list[str]:
    """Return the lines of a unit that are no comments, those with its names left out."""
    lines = (units_dir() / unit).read_text().splitlines()
    named = re.compile(
        r"(Description|After|Environment|ExecStart|LoadCredential|\w+Directory)=|#|$"
    )
    return [line for line in lines if not named.match(line)]


@needs_systemd
@pytest.mark.parametrize(
    "unit", ["dpp.service", "dpp@.service", "dpp-backup.service", "dpp-wal.service"]
)
def test_a_unit_is_hardly_exposed(tmp_path: Path, unit: str) -> None:
    assert exposure(tmp_path, unit) <= MOST


@needs_systemd
@pytest.mark.parametrize("drop_in", DROP_INS, ids=lambda path: path.stem)
def test_a_drop_in_names_its_price(tmp_path: Path, drop_in: Path) -> None:
    text = drop_in.read_text()
    unit = "dpp@.service" if "%i" in text else "dpp.service"

    found = re.search(r"(?m)^# Exposure: ([0-9.]+)$", text)

    assert "# Price: " in text
    assert found is not None
    assert float(found[1]) == exposure(tmp_path, unit, drop_in)


def test_both_services_are_the_same_but_for_names() -> None:
    assert settings("dpp.service") == settings("dpp@.service")
    assert "MemoryDenyWriteExecute=yes" in settings("dpp.service")


def test_the_socket_queues_as_many_as_the_node_would() -> None:
    assert f"Backlog={BACKLOG}" in settings("dpp.socket")


def test_a_program_is_put_where_the_unit_starts_it_and_nowhere_else() -> None:
    text = (
        "# /usr/local/bin/dpp\nExecStart=/usr/local/bin/dpp serve\nExecReload=/bin/kill /usr/local"
    )

    assert units.starting(text, "/opt/x/dpp") == text.replace("=/usr/local/bin/dpp", "=/opt/x/dpp")
    for unit in ("dpp.service", "dpp@.service"):
        assert "=/opt/x/dpp serve" in units.starting((units_dir() / unit).read_text(), "/opt/x/dpp")


@pytest.mark.parametrize(
    "program", ["dpp", "/opt/a b/dpp", "/opt/%i/dpp", "/home/me/.venv/bin/dpp", *HIDDEN, ""]
)
def test_a_program_that_a_unit_cannot_start_is_refused(program: str) -> None:
    assert units.objection(program) is not None


def test_every_shipped_file_has_its_place() -> None:
    files = [path for path in units_dir().rglob("*") if path.is_file()]

    names = [PurePosixPath(path.relative_to(units_dir())) for path in files]

    assert {str(units.place(name).parent) for name in names} == set(units.PLACES.values())
