"""What tests of packs share: a ctx, as an executor would make it."""

from collections.abc import Callable
from typing import TypeAlias
from uuid import UUID

import pytest
import trio

from dpp import money
from dpp.packs.ctx import Ctx

NewCtx: TypeAlias = Callable[..., Ctx]


@pytest.fixture
def new_ctx() -> NewCtx:
    """Make the ctx of a first attempt with a reserve of a dollar; inside a trio run."""

    def new(ceiling: str = "1.00", timebox_s: float = 90) -> Ctx:
        return Ctx(
            run_id=UUID(int=1),
            tenant_id="tenant",
            attempt=1,
            ceiling=money.parse(ceiling),
            deadline=trio.current_time() + timebox_s,
        )

    return new
