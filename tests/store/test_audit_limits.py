"""A whole audit may take longer than a node's transactions: their limit does not cut it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpp.store.audits import BEGIN_AUDIT

if TYPE_CHECKING:
    from tests.store.sessions import Sessions


@pytest.mark.direct
async def test_the_limit_of_a_nodes_transactions_is_not_the_audits(sessions: Sessions) -> None:
    auditor = await sessions.open()
    limits = await auditor.fetch("select from pg_settings where name = 'transaction_timeout'")
    if limits:  # from 17 on
        await auditor.execute("set transaction_timeout = '200ms'")

    await auditor.execute(BEGIN_AUDIT)
    await auditor.execute("select pg_sleep(0.5)")

    assert await auditor.fetchval("select 1") == 1
    await auditor.execute("commit")
