"""The wheel carries what the program reads, and finds it there; the sdist makes the same wheel."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

from dpp import resources
from dpp.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
ASSETS = "dpp/http/openapi/assets"
WHEEL, SDIST = f"dpp-{VERSION}-py3-none-any.whl", f"dpp-{VERSION}.tar.gz"
ASK = """from dpp import resources as r
print(r.sql_dir(), r.config_dir(), r.units_dir(), sep="\\n")"""
PURELIB = "import sysconfig; print(sysconfig.get_path('purelib'))"
EPOCH = {"SOURCE_DATE_EPOCH": "1600000000"}


def run(*command: str | Path, cwd: Path = ROOT) -> str:
    env = {**os.environ, **EPOCH}
    env.pop("PYTHONPATH", None)
    ended = subprocess.run(
        command, cwd=cwd, env=env, check=False, capture_output=True, text=True, timeout=60
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def build(source: Path, into: Path, kinds: Sequence[str]) -> None:
    wanted = [word for kind in kinds for word in ("-t", kind)]
    run(sys.executable, "-m", "hatchling", "build", *wanted, "-d", str(into), cwd=source)


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build both from the checkout."""
    folder = tmp_path_factory.mktemp("dist")
    build(ROOT, folder, ("sdist", "wheel"))
    return folder


@pytest.fixture(scope="module")
def site(dist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Install the wheel into an environment that has no other package of its own.

    What DPP needs it finds in ours, as no index may be asked; DPP itself is not found there.
    """
    home = tmp_path_factory.mktemp("installed")
    run(sys.executable, "-m", "venv", "--without-pip", home)
    program = home / "bin/python"
    site = Path(run(program, "-c", PURELIB).strip())
    (site / "needed.pth").write_text(f"{sysconfig.get_path('purelib')}\n")
    words = ("--no-index", "--no-deps", "--ignore-installed", "--root-user-action", "ignore")
    run(sys.executable, "-m", "pip", "--python", program, "install", *words, dist / WHEEL)
    return site


def test_an_installed_wheel_has_the_sql_the_config_and_the_units_and_finds_them(
    site: Path, tmp_path: Path
) -> None:
    found = run(site.parents[2] / "bin/python", "-c", ASK, cwd=tmp_path)

    sql, config, units = map(Path, found.splitlines())
    assert files(site / ASSETS) == files(ROOT / ASSETS) == {"page.html", "page.css", "page.js"}
    assert files(sql) == files(ROOT / "sql")
    assert files(config) == files(ROOT / "config")
    assert files(units) == files(ROOT / "systemd")
    assert sql.is_relative_to(site)


def test_an_installed_wheel_is_the_command_dpp(site: Path, tmp_path: Path) -> None:
    program = site.parents[2] / "bin/dpp"

    assert run(program, "version", cwd=tmp_path) == f"dpp {VERSION}\n"
    assert "dpp.service" in run(program, "install-units", "--root", tmp_path)


def test_the_sdist_makes_the_same_wheel_to_the_byte(dist: Path, tmp_path: Path) -> None:
    run("/bin/tar", "--extract", "--file", dist / SDIST, cwd=tmp_path)

    build(tmp_path / f"dpp-{VERSION}", tmp_path, ("wheel",))

    assert (tmp_path / WHEEL).read_bytes() == (dist / WHEEL).read_bytes()


def test_the_sdist_has_what_a_checkout_builds_and_tests_with(dist: Path) -> None:
    with tarfile.open(dist / SDIST) as sdist:
        names = {name.partition("/")[2] for name in sdist.getnames()}

    tracked = {"Makefile", ".ci/run", "requirements-dev.lock", "scripts/dpp.spec", "README.md"}
    assert tracked | {f"sql/{name}" for name in files(ROOT / "sql")} <= names
    assert not [name for name in names if name.startswith((".venv", "dist/", "build/", ".git/"))]


def test_a_checkout_reads_its_own_files() -> None:
    assert (resources.sql_dir(), resources.config_dir()) == (ROOT / "sql", ROOT / "config")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
