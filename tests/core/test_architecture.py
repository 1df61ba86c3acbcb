from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "architecture.md").read_text()
FOLDERS = (".ci", "bench", "config", "scripts", "sql", "systemd", "tests")


def test_the_page_has_a_place_for_every_module_and_folder() -> None:
    modules = {path.stem for path in (ROOT / "dpp").glob("[a-z]*.py")}
    table = PAGE.split("## The folders")[1].split("## Who may import whom")[0]

    assert {
        name for name in modules if f"`{name}`" not in table and f"/{name}.py" not in table
    } == set()
    assert {name for name in FOLDERS if f"`{name}/" not in table} == set()
