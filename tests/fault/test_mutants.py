"""The list of seeded bugs goes with the code; `make mutants` tries them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fault.mutants.bugs import BUGS, Bug

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.name)
def test_a_seeded_bug_still_has_its_one_place(bug: Bug) -> None:
    assert (ROOT / bug.file).read_text(encoding="utf-8").count(bug.old) == 1
    assert all((ROOT / name).exists() for name in bug.tests.split() if name.startswith("tests/"))
