"""A connection that its wall clock cuts between two steps of the driver is lost, and no bug."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import asyncpg
import pytest

from dpp.settlement import Settled
from tests.store.examples import end
from tests.store.steps import begin, make_tenant, take_lease

if TYPE_CHECKING:
    from dpp.store.postgres import PostgresStore

REAL = asyncpg.Connection._get_statement


@pytest.mark.parametrize("nth", range(1, 5))
async def test_a_connection_cut_between_prepare_and_execute_is_tried_on_another(
    judged: PostgresStore, monkeypatch: pytest.MonkeyPatch, nth: int
) -> None:
    await make_tenant(judged)
    claimed = await begin(judged, await take_lease(judged))
    count = 0

    async def cut(self: Any, *args: Any, **keywords: Any) -> Any:
        nonlocal count
        statement = await REAL(self, *args, **keywords)
        count += 1
        if count == nth:
            self.terminate()  # as the wall clock's alarm does, which may come at any await
        return statement

    monkeypatch.setattr(asyncpg.Connection, "_get_statement", cut)

    (answer,) = await judged.end_runs([end(claimed)], wait=True)

    assert isinstance(answer, Settled)
