"""The store under SERIALIZABLE: the same results, where every lock wait may end in 40001.

Every transaction that moves money or leases begins so here; what the server cannot serialize is
asked again by the desk, and by the caller where the desk has given up, as clients do. The tests are
those of READ COMMITTED: a part of them, or with `DPP_ISOLATION=all` the whole contract, the storm
and all that contend.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from dpp.store import transactions
from dpp.store.transactions import transaction
from tests.fault import test_contention as contention
from tests.fault.test_contention import nodes
from tests.store import test_storm as storm
from tests.store.contract import BusyContract, EndContract
from tests.store.test_contract import Contract
from tests.store.worlds import postgres_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from dpp.store.connections import Connection
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session, Sessions
    from tests.store.worlds import World

__all__ = ["nodes"]

ALL = os.environ.get("DPP_ISOLATION") == "all"
SERIALIZABLE = transactions.BEGIN.replace("read committed", "serializable")
CONTENDING = ("of_64_reserves", "whoever_comes_first")  # a budget row, and a run's


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


@pytest.fixture(autouse=True)
def serializable(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin every transaction so that names no other isolation."""
    begun = transaction.__wrapped__  # type: ignore[attr-defined]  # contextlib keeps it
    name, begin = begun.__defaults__
    assert begin == transactions.BEGIN != SERIALIZABLE
    monkeypatch.setattr(begun, "__defaults__", (name, SERIALIZABLE))
    for one in ("BEGIN", "BEGIN_KEPT", "BEGIN_AFRESH"):
        there = getattr(transactions, one)
        assert "read committed" in there
        monkeypatch.setattr(transactions, one, there.replace("read committed", "serializable"))


async def test_transactions_are_serializable_here(sessions: Sessions) -> None:
    async def isolation(connection: Connection) -> str:
        async with transaction(connection):
            (row,) = await connection.fetch("show transaction_isolation")
        return str(row["transaction_isolation"])

    assert await (await sessions.open()).run(isolation) == "serializable"


class Part(BusyContract, EndContract):
    """What waits for rows, and what ends runs."""


class TestContract(Contract if ALL else Part):  # type: ignore[misc]  # one of the two
    @pytest.fixture
    async def world(
        self, store: PostgresStore, admin: Session, database: Database
    ) -> AsyncIterator[World]:
        """PostgreSQL, judged after each test."""
        one = await postgres_world(store, admin, database)
        yield one
        await one.judge()


def picked() -> Iterator[tuple[str, object]]:
    """Yield the tests of other modules that are repeated here."""
    for name, test in vars(contention).items():
        if name.startswith("test_") and (ALL or any(word in name for word in CONTENDING)):
            yield name, test
    if ALL:
        yield from ((name, test) for name, test in vars(storm).items() if name.startswith("test_"))


globals().update(picked())
