"""The retry taxonomy: every row of the table, before COMMIT and at it."""

from __future__ import annotations

import asyncpg
import pytest
from asyncpg.exceptions import _base

from dpp.store.sqlstates import BY_SQLSTATE, UNKNOWN_AT_COMMIT, Fault, classify, classify_commit

AGAIN, RECONNECT, UNKNOWN, AWAY, BROKEN, TORN, BUG = (
    Fault.AGAIN,
    Fault.RECONNECT,
    Fault.UNKNOWN,
    Fault.AWAY,
    Fault.BROKEN,
    Fault.TORN,
    Fault.BUG,
)
# sqlstate: what it means before COMMIT was handed over, and what when COMMIT itself raised it
TABLE = {
    "40001": (AGAIN, AGAIN),  # serialization failure: certainly not committed
    "40P01": (AGAIN, AGAIN),  # deadlock
    "55P03": (AGAIN, AGAIN),  # lock_timeout, of a deferred trigger at COMMIT
    "57014": (AGAIN, UNKNOWN),  # at COMMIT: the wait for a standby may have been cut short
    "08000": (RECONNECT, UNKNOWN),
    "08003": (RECONNECT, UNKNOWN),  # the driver's word for every loss during an operation
    "08006": (RECONNECT, UNKNOWN),
    "08007": (RECONNECT, UNKNOWN),
    "40003": (RECONNECT, UNKNOWN),
    "57P01": (RECONNECT, UNKNOWN),
    "57P02": (RECONNECT, UNKNOWN),
    "25P04": (RECONNECT, UNKNOWN),  # transaction_timeout does end a COMMIT
    "25P03": (RECONNECT, RECONNECT),  # idle in transaction: the server never saw a COMMIT
    "57P05": (RECONNECT, RECONNECT),  # idle session: the same
    "25006": (Fault.DEMOTED, Fault.DEMOTED),  # read-only: no longer the primary
    "08001": (AWAY, AWAY),
    "53300": (AWAY, AWAY),
    "57P03": (AWAY, AWAY),
    "53100": (AWAY, AWAY),  # disk full: an ERROR, rolled back
    "53200": (AWAY, AWAY),
    "58030": (AWAY, AWAY),
    "08004": (AWAY, AWAY),  # the login was refused
    "28000": (AWAY, AWAY),
    "28P01": (AWAY, AWAY),
    "3D000": (AWAY, AWAY),
    "55000": (AWAY, AWAY),
    "53000": (AWAY, AWAY),
    "53400": (AWAY, AWAY),
    "57P04": (AWAY, AWAY),  # the database was dropped
    "58000": (AWAY, AWAY),
    "58P01": (AWAY, AWAY),
    "08P01": (RECONNECT, UNKNOWN),  # a pooler that lost its server
    "XX999": (TORN, TORN),  # whatever is of its class
    "42XXX": (BROKEN, BROKEN),
    "23505": (BUG, BUG),  # of a run's reserve or resolution; keys and references are read first
    "23514": (BUG, BUG),  # a check on budgets or ledger
    "23001": (BUG, BUG),  # append-only
    "22P05": (BUG, BUG),  # input that validation missed: halves find it
    "22021": (BUG, BUG),
    "22003": (BUG, BUG),
    "22P02": (BUG, BUG),
    "26000": (BROKEN, BROKEN),  # prepared statements behind a transaction pooler
    "42P05": (BROKEN, BROKEN),
    "25P02": (BUG, BUG),  # a statement after an error that was swallowed
    "42P01": (BROKEN, BROKEN),
    "42501": (BROKEN, BROKEN),
    "XX000": (TORN, TORN),
    "XX001": (TORN, TORN),  # corruption
    "XX002": (TORN, TORN),
    "99999": (BUG, BUG),  # never heard of
}


def raised(sqlstate: str) -> asyncpg.PostgresError:
    error = asyncpg.PostgresError.new({"C": sqlstate, "M": "closed, said the server", "S": "ERROR"})
    assert isinstance(error, asyncpg.PostgresError)
    return error


@pytest.mark.parametrize(("sqlstate", "faults"), TABLE.items())
def test_each_state_is_judged_by_the_table(sqlstate: str, faults: tuple[Fault, Fault]) -> None:
    error = raised(sqlstate)

    assert (classify(error), classify_commit(error)) == faults


def test_the_table_here_covers_the_table_there() -> None:
    assert set(BY_SQLSTATE) | UNKNOWN_AT_COMMIT <= set(TABLE)


@pytest.mark.parametrize(
    ("error", "before", "at_commit"),
    [
        # between operations the driver notices by itself: nothing was sent, no SQLSTATE
        (asyncpg.InterfaceError("connection is closed"), RECONNECT, RECONNECT),
        (
            asyncpg.InterfaceError("cannot perform operation: connection is closed"),
            RECONNECT,
            RECONNECT,
        ),
        (
            asyncpg.ConnectionDoesNotExistError("connection was closed in the middle of operation"),
            RECONNECT,
            UNKNOWN,
        ),
        (asyncpg.InterfaceError("another operation is in progress"), BUG, BUG),
        (
            asyncpg.InternalClientError("got result for unknown protocol state 3"),
            RECONNECT,
            UNKNOWN,
        ),
        (_base.ProtocolError("insufficient data in buffer"), RECONNECT, UNKNOWN),
        (ConnectionRefusedError(111, "refused"), AWAY, UNKNOWN),
        (ConnectionResetError(104, "reset"), AWAY, UNKNOWN),
        (FileNotFoundError(2, "no socket"), AWAY, UNKNOWN),
        (TimeoutError(), AWAY, UNKNOWN),
        (AssertionError("counts differ"), BUG, BUG),
        (KeyError("tenant"), BUG, BUG),
        (LookupError("neither live nor ended"), BUG, BUG),
    ],
    ids=lambda value: str(value)[:40],
)
def test_an_error_without_a_state_is_judged_by_its_type(
    error: Exception, before: Fault, at_commit: Fault
) -> None:
    assert (classify(error), classify_commit(error)) == (before, at_commit)


@pytest.mark.parametrize("kind", [asyncpg.DataError, _base.DataError])
def test_a_value_that_the_driver_cannot_encode_is_a_bug_whatever_it_says(
    kind: type[Exception],
) -> None:
    """The message quotes the value: text of a client must not pass for a lost connection."""
    error = kind("invalid input for query argument $1: 'closed \\ud800' (surrogates)")

    assert (classify(error), classify_commit(error)) == (BUG, BUG)
