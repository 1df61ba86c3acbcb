"""Stores and nodes of this run come to PostgreSQL through what the run is about.

The functional suite is run through a pooler, too; a suite that had missed it would pass the same.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest

from dpp.store.poolers import Pooler, find_pooler
from tests.conftest import POOLER

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import Database
    from tests.node_process import NodeProcess


@pytest.mark.parametrize("user", ["dpp_app", "dpp_audit"])
async def test_stores_come_through_what_this_run_is_about(
    bridge: Bridge, database: Database, user: str
) -> None:
    address = database.address(user)

    assert await bridge.run(partial(find_pooler, address.keywords)) is POOLER


def test_the_served_node_comes_through_what_this_run_is_about(served_node: NodeProcess) -> None:
    found = [line["pooler"] for line in served_node.lines() if line["event"] == "database found"]

    assert found == ([] if POOLER is Pooler.NONE else [POOLER])  # its own it need not look for
