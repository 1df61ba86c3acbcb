"""What the store's tests share: sessions of their own, and a judge after each test."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.oracle.money import Memory, violations
from tests.store.sessions import Sessions, open_sessions

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session

pytest.register_assert_rewrite("tests.store.contract", "tests.store.worlds")


@pytest.fixture
async def sessions(bridge: Bridge, database: Database) -> AsyncIterator[Sessions]:
    """Open sessions on the test's database."""
    async with open_sessions(bridge, database) as one:
        yield one


@pytest.fixture
async def admin(sessions: Sessions) -> Session:
    """Give a superuser's session."""
    return await sessions.open("postgres")


@pytest.fixture
async def judged(store: PostgresStore, admin: Session) -> AsyncIterator[PostgresStore]:
    """Give the store, and let both judges look at its database when the test is over."""
    memory = Memory()
    yield store
    audit = await store.audit()
    found = await admin.run(lambda connection: violations(connection, memory))
    assert [verdict for verdict in audit.verdicts if verdict.offenders] == []
    assert found == []
