"""The wheel carries what the program reads, and finds it there."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

from dpp import resources
from dpp.version import VERSION

ROOT = Path(__file__).resolve().parents[1]
ASSETS = "dpp/http/openapi/assets"
ASK = "from dpp import resources as r; print(r.sql_dir()); print(r.config_dir())"


def test_a_wheel_has_the_sql_and_the_config_and_finds_them(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    unpacked = tmp_path / "site"

    with zipfile.ZipFile(tmp_path / f"dpp-{VERSION}-py3-none-any.whl") as wheel:
        wheel.extractall(unpacked)
    found = subprocess.run(
        [sys.executable, "-c", ASK], cwd=unpacked, check=True, capture_output=True, text=True
    )

    sql, config = map(Path, found.stdout.splitlines())
    assert files(unpacked / ASSETS) == files(ROOT / ASSETS) == {"page.html", "page.css", "page.js"}
    assert files(sql) == files(ROOT / "sql")
    assert files(config) == files(ROOT / "config")
    assert sql.is_relative_to(unpacked)


def test_a_checkout_reads_its_own_files() -> None:
    assert (resources.sql_dir(), resources.config_dir()) == (ROOT / "sql", ROOT / "config")


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
