"""Try every seeded bug: a copy of the tree with the bug in it, and the tests that must catch it.

    python -m tests.fault.mutants.run [--only TEXT] [--json]

A bug counts as caught when its tests fail, and pass without it. Ends with `mutants: N of N caught`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fault.mutants.bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[3]
COPIED = ("dpp", "sql", "config", "tests", "pyproject.toml", "README.md")
FAILED = 1  # pytest: some tests failed; anything else is no verdict


def main() -> int:
    """Try them one after another; exit 0 only if all were caught."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--only", default="", help="those whose name has this text")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    bugs = [bug for bug in BUGS if given.only in bug.name]
    verdicts = {}
    for bug in bugs:
        verdicts[bug.name] = tried(bug)
        print(f"{verdicts[bug.name]:>8}  {bug.name}", file=sys.stderr, flush=True)
    caught = sum(verdict == "caught" for verdict in verdicts.values())
    if given.json:
        print(json.dumps(verdicts))
    print(f"mutants: {caught} of {len(bugs)} caught")
    return 0 if caught == len(bugs) else 1


def tried(bug: Bug) -> str:
    """Return what became of one bug."""
    base = Path(tempfile.mkdtemp(prefix="dpp-mutant-"))
    try:
        for name in COPIED:
            source = ROOT / name
            if source.is_dir():
                shutil.copytree(source, base / name, ignore=shutil.ignore_patterns("__pycache__"))
            else:
                shutil.copy(source, base / name)
        base.chmod(0o755)
        plant(bug, base)
        return judged(bug, base)
    finally:
        shutil.rmtree(base)


def plant(bug: Bug, base: Path) -> None:
    """Put the bug into the copy."""
    file = base / bug.file
    text = file.read_text()
    assert text.count(bug.old) == 1, f"{bug.name}: {bug.file} has its text {text.count(bug.old)} ×"
    file.write_text(text.replace(bug.old, bug.new))


def judged(bug: Bug, base: Path) -> str:
    """Run the tests that must catch it, up to the first failure."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider"]
    ended = subprocess.run(
        [*command, "--timeout", "60", *bug.tests.split()],
        cwd=base,
        env={**os.environ, "PYTHONPATH": str(base)},
        capture_output=True,
        text=True,
        check=False,
    )
    if ended.returncode == 0:
        return "MISSED"
    if ended.returncode != FAILED:
        print(ended.stdout[-3000:], ended.stderr[-1000:], file=sys.stderr)
        return "unknown"
    return "caught"


if __name__ == "__main__":
    sys.exit(main())
