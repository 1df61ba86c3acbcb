"""The contract suite on PostgreSQL, and on the fake that other tests trust."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.store.chronicle_contract import ChronicleContract
from tests.store.contract import (
    BusyContract,
    CancelContract,
    ClaimContract,
    EndContract,
    FollowContract,
    LargeResultContract,
    LeaseContract,
    QuarantineContract,
    ReadContract,
    ReapContract,
    SubmitContract,
    TenantContract,
    TransferContract,
)
from tests.store.gauge_contract import GaugeContract
from tests.store.key_contract import KeyContract
from tests.store.order_contract import OrderContract
from tests.store.receipt_contract import ReceiptContract, ServedContract, UsageContract
from tests.store.resolve_contract import ResolveContract
from tests.store.webhook_contract import WebhookContract
from tests.store.worlds import FakeWorld, postgres_world

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Session
    from tests.store.worlds import World


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


class Contract(
    SubmitContract,
    BusyContract,
    ClaimContract,
    EndContract,
    CancelContract,
    LeaseContract,
    OrderContract,
    ReapContract,
    QuarantineContract,
    LargeResultContract,
    FollowContract,
    GaugeContract,
    ChronicleContract,
    ReadContract,
    TenantContract,
    KeyContract,
    TransferContract,
    ResolveContract,
    ReceiptContract,
    UsageContract,
    ServedContract,
    WebhookContract,
):
    """All of it."""


class TestPostgres(Contract):
    @pytest.fixture
    async def world(
        self, store: PostgresStore, admin: Session, database: Database
    ) -> AsyncIterator[World]:
        """PostgreSQL, judged after each test."""
        one = await postgres_world(store, admin, database)
        yield one
        await one.judge()


class TestFake(Contract):
    @pytest.fixture
    async def world(self) -> AsyncIterator[World]:
        """The fake, judged by its own audit after each test."""
        one = FakeWorld()
        yield one
        await one.judge()
