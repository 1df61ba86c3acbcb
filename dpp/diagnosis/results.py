"""Whether the store of large results and the books agree, by a sample of each."""

from collections.abc import Iterator, Sequence

from attrs import frozen

from dpp.diagnosis.checks import Check, Unknown, listed, unseen, well, wrong

# The collector takes what is older than a day; two of its passes, an hour apart, may not have come.
OLD_S = 86_400.0 + 7_200.0


@frozen
class Orphans:
    """Of so many objects looked at, the names of those that are old and of no run."""

    looked: int
    more: bool  # there are others, which were not looked at
    names: Sequence[str]


@frozen
class Missing:
    """Of so many endings looked at, those whose object is not what it must be: run and why."""

    looked: int
    astray: Sequence[tuple[str, str]]


def diagnose(
    orphans: Orphans | Unknown | None, missing: Missing | Unknown | None
) -> Iterator[Check]:
    """Judge both; None: no large result was ever stored."""
    yield _orphans(orphans)
    yield _missing(missing)


def _orphans(facts: Orphans | Unknown | None) -> Check:
    name = "orphan objects"
    if facts is None:
        return well(name, "no large result was stored yet")
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    of = f"of the first {facts.looked}" if facts.more else f"of {facts.looked}"
    if facts.names:
        fix = (
            "A running node deletes them hourly, the first time an hour after its start; if one "
            "runs, look for `collector` in its log, and whether it may delete there."
        )
        told = f"{of}, {len(facts.names)} are of no run and over a day old: "
        return wrong(name, told + listed(facts.names, 3), fix)
    return well(name, f"{of} objects none is left over")


def _missing(facts: Missing | Unknown | None) -> Check:
    name = "missing objects"
    if facts is None:
        return well(name, "no large result was stored yet")
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    if facts.astray:
        told = [f"run {run}: {why}" for run, why in facts.astray]
        fix = "Put the object back from a backup (docs/backup.md); `dpp audit` names the findings."
        return wrong(name, f"of {facts.looked}: {listed(told, 3)}", fix)
    return well(name, f"of {facts.looked} results looked at, each is what its ending says")
