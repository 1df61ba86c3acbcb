"""What a driver's error means for us: the retry taxonomy, as data.

Judged by the type of the exception and by whether COMMIT had been handed over, then by SQLSTATE.
asyncpg raises `ConnectionDoesNotExistError` (08003) for every loss during an operation, and
`InterfaceError` when the loss happened between operations, so a state alone decides nothing.
Classes of states are not retried as a whole.
"""

from enum import StrEnum
from typing import Final

import asyncpg


class Fault(StrEnum):
    """What to do about it."""

    AGAIN = "again"  # not committed: the whole transaction may be tried again at once, a few times
    RECONNECT = "reconnect"  # not committed, the connection is gone: try again on another
    DEMOTED = "demoted"  # not committed, and this server is no primary any more: nor are its others
    UNKNOWN = (
        "unknown"  # COMMIT was handed over and not answered: ask again under the same identity
    )
    AWAY = "away"  # nothing was started; the server is not to be had now
    BROKEN = "broken"  # no item can be to blame: schema, grants, prepared statements
    TORN = "torn"  # corruption: one page, or everything
    BUG = "bug"  # our own error, or one that trying again cannot mend


BY_SQLSTATE: Final[dict[str, Fault]] = {
    "40001": Fault.AGAIN,  # serialization failure
    "40P01": Fault.AGAIN,  # deadlock
    "55P03": Fault.AGAIN,  # lock_timeout
    "57014": Fault.AGAIN,  # statement_timeout, or somebody's pg_cancel_backend
    "08000": Fault.RECONNECT,
    "08001": Fault.AWAY,
    "08003": Fault.RECONNECT,
    "08006": Fault.RECONNECT,
    "08007": Fault.RECONNECT,
    "25006": Fault.DEMOTED,  # read-only: this is no primary any more
    "25P03": Fault.RECONNECT,  # idle_in_transaction_session_timeout
    "25P04": Fault.RECONNECT,  # transaction_timeout
    "40003": Fault.RECONNECT,
    "08004": Fault.AWAY,  # the server rejected the connection
    "08P01": Fault.RECONNECT,  # how poolers say that they lost theirs
    "28000": Fault.AWAY,  # the login is refused: a password that is changed, a rule of pg_hba.conf
    "28P01": Fault.AWAY,
    "3D000": Fault.AWAY,  # there is no such database now
    "55000": Fault.AWAY,  # not in a state for this: recovering, stopping
    "26000": Fault.BROKEN,  # a prepared statement behind a pooler: a setting contradicts it
    "42P05": Fault.BROKEN,
    "53000": Fault.AWAY,
    "53100": Fault.AWAY,  # disk full
    "53200": Fault.AWAY,  # out of memory
    "53300": Fault.AWAY,  # too many connections
    "57P01": Fault.RECONNECT,  # pg_terminate_backend, shutdown
    "57P02": Fault.RECONNECT,  # crash of another backend
    "57P03": Fault.AWAY,  # starting up
    "57P04": Fault.AWAY,  # the database was dropped
    "57P05": Fault.RECONNECT,  # idle_session_timeout
    "53400": Fault.AWAY,  # a limit of the server's configuration
    "58000": Fault.AWAY,  # the system under the server
    "58030": Fault.AWAY,  # I/O error
    "58P01": Fault.AWAY,  # a file of the server's is missing
}
UNKNOWN_AT_COMMIT: Final = frozenset(
    {"08000", "08003", "08006", "08007", "40003", "57014", "57P01", "57P02", "25P04", "08P01"}
)
# A prepared statement that is not there, or is there already: kept on another server process.
LOST_STATEMENTS: Final = frozenset({"26000", "42P05"})
# A migration beside this node changed a type that a connection remembers: a fresh one does not.
OUTDATED: Final = (asyncpg.InvalidCachedStatementError, asyncpg.OutdatedSchemaCacheError)
BY_CLASS: Final = {"42": Fault.BROKEN, "XX": Fault.TORN}  # schema, grants; corruption


def classify(error: BaseException) -> Fault:
    """Judge an error raised before COMMIT was handed over, or outside a transaction."""
    if isinstance(error, OUTDATED):
        return Fault.RECONNECT
    if isinstance(error, asyncpg.PostgresError):
        return by_sqlstate(error.sqlstate or "")
    if isinstance(error, asyncpg.InterfaceError):
        return Fault.RECONNECT if is_closed(error) else Fault.BUG
    if isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        return Fault.AWAY  # there is no primary just now
    if isinstance(error, asyncpg.InternalClientError):
        return Fault.RECONNECT  # the protocol out of step after a lost connection
    if isinstance(error, (OSError, TimeoutError)):
        return Fault.AWAY
    return Fault.BUG


def classify_commit(error: BaseException) -> Fault:
    """Judge an error raised by COMMIT itself: only what the server said for certain is a no."""
    if isinstance(error, asyncpg.PostgresError):
        state = error.sqlstate or ""
        return Fault.UNKNOWN if state in UNKNOWN_AT_COMMIT else by_sqlstate(state)
    if isinstance(error, asyncpg.InterfaceError) and is_closed(error):
        return Fault.RECONNECT  # the connection was gone before: COMMIT was never sent
    if isinstance(error, (OSError, TimeoutError, asyncpg.InternalClientError)):
        return Fault.UNKNOWN
    return Fault.BUG


def by_sqlstate(state: str) -> Fault:
    """Look a state up; what is not named is a bug, of ours or of the item."""
    return BY_SQLSTATE.get(state, BY_CLASS.get(state[:2], Fault.BUG))


def is_closed(error: asyncpg.InterfaceError) -> bool:
    """Say whether the connection was lost before; a ValueError quotes what it was given."""
    return not isinstance(error, ValueError) and "closed" in str(error)
