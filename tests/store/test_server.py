"""What an external server says of itself, and what comes of it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import pytest
from attrs import evolve

from dpp.store.place import over
from dpp.store.refusal import StartRefused
from dpp.store.server import Server, assert_fit, describe

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import Database

GOOD = Server(
    version_number=150_018,
    version="15.18",
    role="dpp_app",
    fsync="on",
    full_page_writes="on",
    synchronous_commit="on",
    statement_timeout_ms=10_000,
    lock_timeout_ms=2_000,
    idle_timeout_ms=5_000,
    client_check_ms=1_000,
    transaction_timeout_ms=None,
)


async def test_the_roles_that_we_make_have_their_limits_and_others_do_not(
    bridge: Bridge, database: Database
) -> None:
    ours = await bridge.run(partial(over, database.address(), describe))
    other = await bridge.run(partial(over, database.address("postgres"), describe))

    assert (ours.role, ours.unlimited) == ("dpp_app", ())
    assert other.unlimited == (
        "statement_timeout=0ms",
        "lock_timeout=0ms",
        "idle_in_transaction_session_timeout=0ms",
    )


def test_a_limit_that_is_too_wide_is_none() -> None:
    wide = evolve(GOOD, lock_timeout_ms=2_001)

    assert (GOOD.unlimited, wide.unlimited) == ((), ("lock_timeout=2001ms",))


def fits(server: Server, *, production: bool = True, allowed: bool = False) -> bool:
    try:
        assert_fit(server, is_production=production, allow_unsynced=allowed)
    except StartRefused:
        return False
    return True


@pytest.mark.parametrize("mode", ["on", "remote_apply", "remote_write", "local"])
def test_what_flushes_before_it_acknowledges_fits(mode: str) -> None:
    assert fits(evolve(GOOD, synchronous_commit=mode))


def test_what_may_lose_commits_is_refused_as_far_as_it_can_be_told() -> None:
    unsynced = [evolve(GOOD, fsync="off"), evolve(GOOD, full_page_writes="off")]

    assert not fits(evolve(GOOD, synchronous_commit="off"), production=False, allowed=True)
    assert not any(fits(server) for server in unsynced)
    assert all(fits(server, allowed=True) for server in unsynced)
    assert all(fits(server, production=False) for server in unsynced)


def test_a_server_before_15_is_refused() -> None:
    assert not fits(evolve(GOOD, version_number=140_099), production=False)
