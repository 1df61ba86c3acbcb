"""The list of seeded bugs goes with the code; `make mutants` tries them."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from tests.fault.mutants.bug import Bug, Change
from tests.fault.mutants.bugs import BUGS
from tests.fault.mutants.tree import changed

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_seeded_bug_still_has_its_place(bug: Bug) -> None:
    texts = {change.file: (ROOT / change.file).read_text("utf-8") for change in bug.changes}

    for change in bug.changes:
        texts[change.file] = changed(texts[change.file], change)

    for file, text in texts.items():
        assert text != (ROOT / file).read_text("utf-8")
        if file.endswith(".py"):
            compile(text, file, "exec")


def test_a_place_that_is_gone_or_there_twice_is_told() -> None:
    change = Change("a.py", "x = 1\n", "x = 2\n")

    assert changed("x = 1\n", change) == "x = 2\n"
    for text in ("", "x = 1\nx = 1\n"):
        with pytest.raises(AssertionError, match=r"a\.py has"):
            changed(text, change)


def test_no_two_seeded_bugs_have_one_name() -> None:
    assert [name for name, times in Counter(bug.name for bug in BUGS).items() if times > 1] == []


def test_every_test_that_must_catch_a_bug_is_there() -> None:
    """Collected, not run: a name that pytest does not find is an error of its own."""
    names = sorted({name for bug in BUGS for name in bug.tests})

    told = subprocess.run(
        [sys.executable, "-m", "pytest", "--collect-only", "-qq", "-p", "no:cacheprovider", *names],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )

    assert told.returncode == 0, told.stdout[-3000:] + told.stderr[-1000:]
