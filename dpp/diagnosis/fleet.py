"""Whether nodes, schema and code are of one kind: versions, migrations, plans, packs."""

from collections.abc import Container, Iterator, Mapping, Sequence

from attrs import frozen

from dpp.diagnosis.checks import Check, Unknown, listed, unseen, well, wrong
from dpp.neighbours import PACKS, PLANS, Neighbour

EMPTY, BEHIND, AHEAD = "empty", "behind", "ahead"  # else it is current


@frozen
class Schema:
    """How the schema stands; `names`: migrations that are missing, or unknown to this release."""

    state: str
    names: Sequence[str]
    pending_post: Sequence[str]  # what takes away, and was not applied yet
    waits_for: Sequence[str]  # nodes of other versions
    differences: Sequence[str]  # between the live catalog and what migrations make


@frozen
class Living:
    """A node with a lease that lives; `version` None: it has not told yet."""

    neighbour: Neighbour
    version: str | None


@frozen
class DataFiles:
    """The major version that the embedded cluster's files are of, and that of the programs."""

    files: str
    programs: str


def schema(facts: Schema | Unknown) -> Iterator[Check]:
    """Judge the schema."""
    name = "schema"
    if isinstance(facts, Unknown):
        yield unseen(name, facts)
        return
    names = listed(facts.names)
    if facts.state == AHEAD:
        fix = "Start the release that made them, or take them back with its `dpp migrate down`."
        yield wrong(name, f"newer than this release: {names}", fix)
    elif facts.state in {EMPTY, BEHIND}:
        found = "not made yet" if facts.state == EMPTY else f"lacks {names}"
        yield wrong(name, found, "Run `dpp migrate up`, then start the node.")
    else:
        yield _current(facts)
        yield _drift(facts)


def _current(facts: Schema) -> Check:
    name, names = "schema", listed(facts.pending_post)
    if facts.waits_for:
        fix = "Upgrade those nodes or stop them, then run `dpp migrate up` again."
        return wrong(name, f"{names} waits for {listed(facts.waits_for)}", fix)
    if facts.pending_post:
        return wrong(name, f"{names} is not applied yet", "Run `dpp migrate up`.")
    return well(name, "the one of this release")


def _drift(facts: Schema) -> Check:
    name = "schema drift"
    if facts.differences:
        fix = "`dpp migrate check` prints each; `-` is missing, `+` should not be there."
        return wrong(name, listed(facts.differences, 3), fix)
    return well(name, "the catalog is what the migrations make")


def nodes(living: Sequence[Living] | Unknown, *, ours: str) -> Iterator[Check]:
    """Judge what living nodes are and offer, by the version of this command."""
    if isinstance(living, Unknown):
        for name in ("node versions", PLANS, PACKS):
            yield unseen(name, living)
        return
    yield _versions(living, ours)
    for what in (PLANS, PACKS):
        yield _alike(what, living)


def _versions(living: Sequence[Living], ours: str) -> Check:
    name = "node versions"
    others = [
        f"{one.neighbour.node_id} is {one.version or 'of a version not told yet'}"
        for one in living
        if one.version != ours
    ]
    if others:
        fix = "Upgrade them in turn: two versions work side by side only until that is done."
        return wrong(name, f"this is {ours}; {listed(others)}", fix)
    return well(name, f"{len(living)} alive, each {ours}" if living else "no node is alive")


def _alike(what: str, living: Sequence[Living]) -> Check:
    digests = {getattr(one.neighbour.offer, what) for one in living}
    if len(digests) > 1:
        told = [f"{one.neighbour.node_id} {getattr(one.neighbour.offer, what)}" for one in living]
        fix = (
            "Give all nodes the same [plans] and restart or reload them; `dpp config diff`."
            if what == PLANS
            else "Install the same packs, in the same versions, on all nodes."
        )
        return wrong(what, f"differ between nodes, by digest: {listed(told)}", fix)
    return well(what, "the same on all nodes" if living else "no node is alive")


def plans_in_use(used: Mapping[str, int] | Unknown, configured: Container[str]) -> Check:
    """Judge whether the configuration names each plan that a tenant has."""
    name = "plans in use"
    if isinstance(used, Unknown):
        return unseen(name, used)
    gone = [
        f"{plan}: {tenants} tenants" for plan, tenants in used.items() if plan not in configured
    ]
    if gone:
        fix = "Put [plans.NAME] back and reload, or give them another: dpp tenant plan."
        return wrong(name, f"not in [plans], submits are answered 503: {listed(gone)}", fix)
    return well(name, "each is in [plans]" if used else "there are no tenants")


def files(facts: DataFiles | Unknown | None) -> Check:
    """Judge the files of the embedded cluster by the programs; None: there are none."""
    name = "database files"
    if facts is None:
        return well(name, "none in the data directory")
    if isinstance(facts, Unknown):
        return unseen(name, facts, "Run this as the user of the node.")
    if facts.files != facts.programs:
        fix = f"Start the release of DPP that brings PostgreSQL {facts.files}, or dump and restore."
        return wrong(name, f"of PostgreSQL {facts.files}; this DPP brings {facts.programs}", fix)
    return well(name, f"of PostgreSQL {facts.files}, as the programs")
