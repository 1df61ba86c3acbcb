"""What PostgreSQL is and lets the node do: between, version, primary, limits and rights."""

from collections.abc import Iterator, Sequence

from attrs import frozen

from dpp.diagnosis.checks import Check, Unknown, listed, unseen, well, wrong


@frozen(kw_only=True)
class Rights:
    """What the node's role may do, by the catalog."""

    role: str
    astray: bool  # it does not find DPP's tables under their names
    powers: Sequence[str]  # "superuser", "owns the tables", …
    lacking: Sequence[str]  # "select on budgets", …
    facts: Sequence[str]  # tables of facts that it may change: "delete on endings", …


@frozen(kw_only=True)
class Refusal:
    """Why a node would not start on this server, and what to do."""

    what: str
    fix: str


@frozen(kw_only=True)
class Server:
    """An answering server. `pooler`: what was found; `refusals`: why no node would start on it."""

    asked_pooler: str
    pooler: str
    version: str
    standby: bool
    has_transaction_timeout: bool
    refusals: Sequence[Refusal]
    unsynced: Sequence[str]
    unlimited: Sequence[str]
    rights: Rights | Unknown


def diagnose(facts: Server | Refusal | Unknown, *, production: bool) -> Iterator[Check]:
    """Judge the server; a `Refusal`: one of the operator's own that does not answer."""
    if isinstance(facts, Refusal):
        yield wrong("database", f"does not answer: {facts.what}", facts.fix)
        return
    if isinstance(facts, Unknown):
        yield unseen("database", facts, "Start the node: its database runs as long as it does.")
        return
    yield well("database", f"PostgreSQL {facts.version} answers")
    yield _pooler(facts)
    yield _fitness(facts)
    yield _primary(facts)
    yield _limits(facts)
    yield _rights(facts.rights, production=production)


def _pooler(facts: Server) -> Check:
    name = "pooler"
    told = {
        "direct": "none: connections lead to the server itself",
        "session": "one in session mode",
        "transaction": "one in transaction mode",
    }[facts.pooler]
    safe = facts.pooler == "session" and facts.asked_pooler == "transaction"  # maybe two of them
    if safe or facts.asked_pooler in {"auto", facts.pooler}:
        return well(name, f'{told}; database.pooler = "{facts.asked_pooler}"')
    fix = f'Set database.pooler to "{facts.pooler}" or "auto", or correct database.url.'
    return wrong(name, f'{told}, and database.pooler is "{facts.asked_pooler}"', fix)


def _fitness(facts: Server) -> Check:
    name = "server"
    if facts.refusals:
        whats = " ".join(one.what for one in facts.refusals)
        return wrong(name, whats, " ".join(one.fix for one in facts.refusals))
    told = f"PostgreSQL {facts.version}"
    if not facts.has_transaction_timeout:
        told += ", without transaction_timeout (17 has it): the node cuts by its own clock"
    if facts.unsynced:
        told += f"; a crash may lose commits: {', '.join(facts.unsynced)}"
    return well(name, told)


def _primary(facts: Server) -> Check:
    name = "primary"
    if facts.standby:
        fix = (
            "Let database.url name the primary, or all servers that may be it "
            "(HOST:PORT,HOST:PORT); or promote this one."
        )
        return wrong(name, "this server is a standby: it only reads", fix)
    return well(name, "this server is the primary")


def _limits(facts: Server) -> Check:
    name = "role limits"
    if facts.unlimited:
        fix = "`dpp migrate roles` gives them; docs/database.md has the statements."
        return wrong(name, f"missing or too wide: {', '.join(facts.unlimited)}", fix)
    return well(name, "statements, locks and idle transactions have an end")


def _rights(facts: Rights | Unknown, *, production: bool) -> Check:
    name = "role rights"
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    role = facts.role
    if facts.astray:
        fix = f"alter role {role} set search_path = dpp;"
        return wrong(name, f"{role} does not look for tables in the schema dpp", fix)
    if facts.lacking:
        fix = "As dpp_owner, compare with `dpp migrate check`, and grant what it names."
        return wrong(name, f"{role} lacks {listed(facts.lacking)}", fix)
    if facts.powers or facts.facts:
        told = f"{role} may more than a node needs: {listed([*facts.powers, *facts.facts])}"
        if not production:
            return well(name, f"{told}; in production that is wrong")
        fix = "Let database.url name dpp_app, which `dpp migrate roles` makes; or take it back."
        return wrong(name, told, fix)
    return well(name, f"{role} has what a node needs, and cannot change facts")
