"""A verdict on one thing that was looked at, and how verdicts are told together.

There are three: well, wrong, and "could not look", which is neither. Whoever cannot look says why,
and what would let him: nobody should take a check that did not happen for one that went well.
"""

from collections.abc import Iterable, Mapping, Sequence

from attrs import frozen


@frozen
class Unknown:
    """It could not be found out, and why."""

    why: str


@frozen
class Check:
    """One thing that was looked at: whether it is well, what was found, what to do.

    `ok` is None where it could not be looked at; `found` then says why.
    """

    name: str
    ok: bool | None
    found: str
    fix: str = ""


def well(name: str, found: str) -> Check:
    """Return that it is as it should be."""
    return Check(name, ok=True, found=found)


def wrong(name: str, found: str, fix: str) -> Check:
    """Return that it is not, and what to do."""
    return Check(name, ok=False, found=found, fix=fix)


def unseen(name: str, why: Unknown | str, fix: str = "") -> Check:
    """Return that it could not be looked at."""
    said = why.why if isinstance(why, Unknown) else why
    return Check(name, ok=None, found=f"could not look: {said}", fix=fix)


def overall(checks: Iterable[Check]) -> bool | None:
    """Return False where something is wrong, else None where something could not be looked at."""
    verdicts = {one.ok for one in checks}
    if False in verdicts:
        return False
    return None if None in verdicts else True


def document(checks: Sequence[Check]) -> Mapping[str, object]:
    """Return the verdicts as `--json` prints them."""
    rows = [
        {"check": one.name, "ok": one.ok, "found": one.found, "fix": one.fix or None}
        for one in checks
    ]
    return {"ok": overall(checks), "checks": rows}


def listed(words: Sequence[str], most: int = 5) -> str:
    """Return the first of many, and how many more there are."""
    more = len(words) - most
    return ", ".join(words[:most]) + (f" and {more} more" if more > 0 else "")
