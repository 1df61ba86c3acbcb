"""What tests of faults share: the store's fixtures, and a place on the wire told by message."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.fault.scissors import Scissors, open_scissors
from tests.store.conftest import admin, judged, sessions, wired, wired_address
from tests.store.wire import Wire, open_wire

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.conftest import Database

__all__ = ["admin", "judged", "sessions", "wired", "wired_address"]


@pytest.fixture
async def scissors(database: Database) -> AsyncIterator[Scissors]:
    """Put scissors before the test's server."""
    async with open_scissors(database.entrance) as one:
        yield one


@pytest.fixture
async def wire(scissors: Scissors) -> AsyncIterator[Wire]:
    """Put a wire before them, which counts the cancel requests of whoever talks through both."""
    async with open_wire(scissors.host) as one:
        yield one
    assert one.cancel_requests == 0
