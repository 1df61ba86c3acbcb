"""API keys on PostgreSQL, where two meet: counted exactly, and nothing escapes a revocation."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp.keyring import KEYS_MAX, CallerDead, KeyGone, Rotated, TooMany
from dpp.keys import Key, by_key
from dpp.money import Micros
from dpp.store import keys
from tests.store.examples import DOLLAR, key_of
from tests.store.key_contract import asked, made, rotated, rotation
from tests.store.sessions import holding, start
from tests.store.steps import ALL, make_tenant
from tests.store.wire import Cut

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from dpp.keys import NewKey, Rotation
    from dpp.store.connections import Connection
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database
    from tests.store.sessions import Sessions
    from tests.store.wire import Wire

OWNER = key_of("acme")
HOLD_TENANT = "select from tenants where tenant_id = 'acme' for no key update"
HOLD_KEY = "select from api_keys where key_id = $1 for no key update"


@pytest.fixture
def database(emptied: Database) -> Database:
    """Share one database: each test leaves it empty."""
    return emptied


def making(new: NewKey) -> Callable[[Connection], Awaitable[Any]]:
    return partial(keys.create_key, new=new, operator=by_key(OWNER), wait=True)


def turning(one: Rotation) -> Callable[[Connection], Awaitable[Any]]:
    return partial(keys.rotate_key, asked=one, wait=True)


def revoking(key_id: str) -> Callable[[Connection], Awaitable[bool]]:
    return partial(keys.revoke_key, tenant_id="acme", key_id=key_id, operator="ops")


async def alive(store: PostgresStore) -> set[str]:
    """Return the tenant's good keys."""
    found = await store.list_keys("acme", before=None, limit=ALL, ended=False)
    return {key.key_id for key in found}


async def test_of_two_who_make_the_last_key_one_does(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    for n in range(KEYS_MAX - 2):
        await made(judged, asked(f"k{n:02}"))
    session = await sessions.open()

    async with trio.open_nursery() as nursery:
        first = await session.start_and_stop(nursery, making(asked("first", caller="k00")))
        second = start(
            nursery,
            partial(judged.create_key, asked("second", caller="k01"), operator="x"),
        )
        await sessions.until_blocked()
        await session.go_on()
        assert isinstance(await first.result(), Key)
        assert await second.result() == TooMany()

    assert len(await alive(judged)) == KEYS_MAX


@pytest.mark.parametrize("how", ["make", "rotate"])
async def test_a_revocation_waits_for_what_the_key_is_making_and_finds_it(
    judged: PostgresStore, sessions: Sessions, how: str
) -> None:
    await make_tenant(judged)
    await made(judged, asked("one"))
    verb = (
        making(asked("child", caller="one")) if how == "make" else turning(rotation("one", "child"))
    )
    session = await sessions.open()

    async with trio.open_nursery() as nursery:
        standing = await session.start_and_stop(nursery, verb)
        revoked = start(nursery, partial(judged.revoke_key, "acme", "one", operator="ops"))
        await sessions.until_blocked()
        assert not revoked.over
        await session.go_on()
        assert isinstance(await standing.result(), Key | Rotated)
        assert await revoked.result() is True

    assert await alive(judged) == {OWNER, "child"}


@pytest.mark.parametrize("how", ["make", "rotate"])
async def test_a_key_that_is_being_revoked_hands_nothing_on(
    judged: PostgresStore, sessions: Sessions, how: str
) -> None:
    await make_tenant(judged)
    await made(judged, asked("one"))
    session = await sessions.open()
    one: Callable[[], Awaitable[Any]] = (
        partial(judged.create_key, asked("child", caller="one"), operator="x")
        if how == "make"
        else partial(judged.rotate_key, rotation(OWNER, "child", caller="one"))
    )

    async with trio.open_nursery() as nursery:
        standing = await session.start_and_stop(nursery, revoking("one"))
        late = start(nursery, one)
        await sessions.until_blocked()
        await session.go_on()
        assert await standing.result() is True
        answer = await late.result()

    assert answer == CallerDead()
    assert await alive(judged) == {OWNER}


async def test_a_key_that_is_being_revoked_is_not_rotated_back_to_life(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    await made(judged, asked("one"))
    session = await sessions.open()

    async with trio.open_nursery() as nursery:
        await session.start_and_stop(nursery, revoking("one"))
        late = start(nursery, partial(judged.rotate_key, rotation("one", "heir", caller=OWNER)))
        await sessions.until_blocked()
        await session.go_on()
        answer = await late.result()

    assert answer == KeyGone()
    assert await alive(judged) == {OWNER}


async def test_whoever_holds_the_tenant_keeps_no_revocation_waiting(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)

    async with holding(sessions, HOLD_TENANT):
        assert await judged.revoke_key("acme", OWNER, operator="ops") is True

    assert await alive(judged) == set()


async def test_uses_of_keys_that_somebody_holds_are_left_to_another_time(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    await made(judged, asked("one"))

    async with holding(sessions, HOLD_KEY, OWNER):
        during = await judged.note_uses({OWNER: 0.0, "one": 0.0})
    after = await judged.note_uses({OWNER: 0.0, "one": 0.0})

    assert (during, after) == (1, 1)


@pytest.mark.parametrize("cut", [Cut.BEFORE, Cut.AFTER, Cut.DURING])
async def test_a_key_whose_commit_was_cut_off_is_made_once(
    wired: PostgresStore, wire: Wire, cut: Cut
) -> None:
    await make_tenant(wired)
    wire.plan.append(cut)
    one = await made(wired, asked("one", spend_limit=Micros(DOLLAR)))
    wire.plan.append(cut)
    turned = await rotated(wired, rotation("one", "heir", overlap_s=0))

    assert one.allowance == turned.new.allowance
    assert (turned.new.key_id, turned.old.ended) == ("heir", True)
    assert await alive(wired) == {OWNER, "heir"}


async def test_another_tenants_key_costs_a_rotation_the_same_statements_as_an_unknown_one(
    judged: PostgresStore, sessions: Sessions
) -> None:
    await make_tenant(judged)
    await make_tenant(judged, "other")
    asked_for: dict[str, list[str]] = {}
    session = await sessions.open()
    send = session.connection.fetch

    for key_id in (key_of("other"), "unknown"):
        log = asked_for[key_id] = []

        async def fetch(query: str, *args: Any, log: list[str] = log, **more: Any) -> list[Any]:
            log.append(query)
            return await send(query, *args, **more)

        session.connection.fetch = fetch  # type: ignore[method-assign]
        one = rotation(key_id, "heir", caller=OWNER)
        assert await session.run(turning(one)) == KeyGone()

    theirs, unknown = asked_for.values()
    assert theirs == unknown != []
    assert await alive(judged) == {OWNER}
