"""How tests read verdicts: by the name of the check."""

from __future__ import annotations

from collections.abc import Iterable

from dpp.diagnosis.checks import Check


def by_name(checks: Iterable[Check]) -> dict[str, Check]:
    """Return them by name; each has one."""
    every = [*checks]
    found = {one.name: one for one in every}
    assert len(found) == len(every)
    return found


def not_well(checks: Iterable[Check]) -> dict[str, bool | None]:
    """Return what is wrong (False) or could not be looked at (None)."""
    return {one.name: one.ok for one in checks if one.ok is not True}
