"""An external server, as it describes itself: what DPP refuses, and what it says at the start.

What the embedded cluster asserts holds here too, as far as it can be judged from outside. A commit
that was acknowledged must survive a crash: `synchronous_commit = off` is refused always, since the
role can be told otherwise. `fsync` and `full_page_writes` are the server's alone, and a few hosts
turn them off because they keep commits elsewhere; so outside production they are a warning, and in
production a refusal that `database.allow_unsynced` takes back.
"""

from collections.abc import Iterator

from attrs import frozen

from dpp.logs import get_logger
from dpp.store.connections import Connection
from dpp.store.poolers import Pooler
from dpp.store.queries import queries
from dpp.store.refusal import StartRefused

VERSION_MIN = 150_000
# What `sql/roles/roles.sql` gives dpp_app. Without it a frozen node costs the others more.
LIMITS_MS = {
    "statement_timeout": 10_000,
    "lock_timeout": 2_000,
    "idle_timeout": 5_000,
    "client_check": 1_000,
}
NAMES = {
    "idle_timeout": "idle_in_transaction_session_timeout",
    "client_check": "client_connection_check_interval",
}

log = get_logger(__name__)


@frozen
class Server:
    """What `describe_server` returns; times in ms, 0 = no limit, None = it knows none."""

    version_number: int
    version: str
    role: str
    fsync: str
    full_page_writes: str
    synchronous_commit: str
    statement_timeout_ms: int
    lock_timeout_ms: int
    idle_timeout_ms: int
    client_check_ms: int
    transaction_timeout_ms: int | None

    @property
    def unsynced(self) -> tuple[str, ...]:
        """Name what lets a crash of the server's machine take acknowledged commits with it."""
        settings = {"fsync": self.fsync, "full_page_writes": self.full_page_writes}
        return tuple(f"{name}={value}" for name, value in settings.items() if value != "on")

    @property
    def unlimited(self) -> tuple[str, ...]:
        """Name the limits that the role lacks, or has too wide."""
        given = {name: getattr(self, f"{name}_ms") for name in LIMITS_MS}
        return tuple(
            f"{NAMES.get(name, name)}={given[name]}ms"
            for name, most in LIMITS_MS.items()
            if not 0 < given[name] <= most
        )


async def describe(connection: Connection) -> Server:
    """Ask the server; as the role that the node works as."""
    (row,) = await queries.describe_server.fetch(connection)
    return Server(**row)


def judged_pooler(setting: str, found: Pooler) -> Pooler:
    """Return what to go by; refuse a `database.pooler` that contradicts what was found.

    Two poolers behind one address may look as if each connection kept its server process. Who says
    that they are in transaction mode is believed: that mode is right before session mode, too.
    """
    if setting in {"auto", found}:
        return found
    if (setting, found) == (Pooler.TRANSACTION, Pooler.SESSION):
        return Pooler.TRANSACTION
    words = {
        Pooler.NONE: "leads to PostgreSQL itself",
        Pooler.SESSION: "leads through a pooler in session mode",
        Pooler.TRANSACTION: "leads through a pooler in transaction mode",
    }
    raise StartRefused(
        f'database.pooler is "{setting}", but database.url {words[found]}.',
        f'Set database.pooler to "{found}", or to "auto"; or correct database.url.',
    )


def assert_fit(server: Server, *, is_production: bool, allow_unsynced: bool) -> None:
    """Refuse a server that is too old, or loses what it has acknowledged."""
    for refusal in refusals(server, is_production=is_production, allow_unsynced=allow_unsynced):
        raise refusal


def refusals(
    server: Server, *, is_production: bool, allow_unsynced: bool
) -> Iterator[StartRefused]:
    """Yield why no node starts on this server, if anything."""
    if server.version_number < VERSION_MIN:
        yield StartRefused(
            f"The server is PostgreSQL {server.version}; DPP needs 15 or later.",
            "Upgrade it, or name another one in database.url.",
        )
    if server.synchronous_commit == "off":
        yield StartRefused(
            "PostgreSQL would acknowledge commits that a crash can lose: synchronous_commit=off"
            f" for {server.role}.",
            f"As that role or as a superuser: alter role {server.role} set synchronous_commit = on;"
            " then start the node again.",
        )
    if server.unsynced and is_production and not allow_unsynced:
        yield StartRefused(
            "PostgreSQL would acknowledge commits that a crash of its machine can lose: "
            f"{', '.join(server.unsynced)}.",
            "Turn them on; if its host keeps commits elsewhere, and says so, set "
            "database.allow_unsynced = true.",
        )


def tell(server: Server, pooler: Pooler) -> None:
    """Say in the log what was found, and what an operator should mend."""
    log.info(
        "database found",
        version=server.version,
        role=server.role,
        pooler=str(pooler),
        prepared_statements=pooler is not Pooler.TRANSACTION,
        synchronous_commit=server.synchronous_commit,
    )
    if server.transaction_timeout_ms is None:
        log.info(
            "no transaction_timeout before PostgreSQL 17: the node cuts a transaction that takes "
            "too long by its own clock",
            version=server.version,
        )
    if server.unsynced:
        log.warning("a crash may lose commits", settings=", ".join(server.unsynced))
    if server.unlimited:
        log.warning("role without limits", role=server.role, limits=", ".join(server.unlimited))
