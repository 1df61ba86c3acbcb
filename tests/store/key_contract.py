"""What every store does with API keys: no more is handed on than a key has, and old ones end."""

from __future__ import annotations

from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING, Any

import pytest
from attrs import evolve

from dpp.keyring import (
    KEYS_MAX,
    CallerDead,
    Exceeds,
    KeyGone,
    Rotated,
    TooMany,
    Wider,
)
from dpp.keys import Key, KeyPlace, NewKey, Rotation, by_key, by_rotation
from dpp.money import Micros
from dpp.pricing import InputError
from dpp.spending import Allowance
from tests.store.examples import DOLLAR, key_of, new_key
from tests.store.steps import ALL, make_tenant

if TYPE_CHECKING:
    from dpp.ports import Store
    from tests.store.worlds import World

DAY_S = 86_400
OWNER = key_of("acme")


def asked(key_id: str, **values: Any) -> NewKey:
    """Return a key that the tenant's first key asks for."""
    return evolve(new_key(key_id, "acme"), **{"caller": OWNER, **values})


async def made(store: Store, new: NewKey) -> Key:
    """Make a key, as an operator or as the key that asks."""
    operator = "ops" if new.caller is None else by_key(new.caller)
    key = await store.create_key(new, operator=operator)
    assert isinstance(key, Key), key
    return key


def rotation(
    key_id: str, new_key_id: str, *, caller: str | None = None, overlap_s: int = DAY_S
) -> Rotation:
    """Return a rotation that the key asks for itself."""
    return Rotation(
        key_id=key_id,
        tenant_id="acme",
        new_key_id=new_key_id,
        secret_sha256=sha256(new_key_id.encode()).digest(),
        overlap_s=overlap_s,
        caller=caller or key_id,
    )


async def rotated(store: Store, one: Rotation) -> Rotated:
    """Rotate a key."""
    outcome = await store.rotate_key(one)
    assert isinstance(outcome, Rotated), outcome
    return outcome


async def listed(store: Store, *, ended: bool = True) -> list[str]:
    """Return the ids of the tenant's keys."""
    keys = await store.list_keys("acme", before=None, limit=ALL, ended=ended)
    return [key.key_id for key in keys]


class KeyContract:
    async def test_keys_expire_and_are_revoked_once(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        await world.advance(1)
        brief = await made(store, new_key("brief", "acme", lives_s=10))
        again = await store.create_key(new_key("brief", "acme", lives_s=99), operator="ops")

        assert (brief.expires_at, brief.expires_in_s) == (world.now + timedelta(seconds=10), 10.0)
        assert again == brief
        await world.advance(11)
        expired = await store.find_key("brief")
        assert expired == evolve(brief, expires_in_s=-1.0)

        assert await store.revoke_key("other", "brief", operator="ops") is False
        assert await store.revoke_key("acme", "unknown", operator="ops") is False
        assert await store.revoke_key("acme", "brief", operator="ops") is True
        assert await store.revoke_key("acme", "brief", operator="ops") is True
        revoked = await store.find_key("brief")
        assert revoked is not None
        assert (revoked.revoked, revoked.ended) == (True, True)

    async def test_keys_are_listed_newest_first_by_page_and_ended_ones_where_asked(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        for name in ("one", "two", "three", "four"):
            await world.advance(1)
            await made(store, new_key(name, "acme", lives_s=3 if name == "two" else None))
        await store.revoke_key("acme", "three", operator="ops")
        await world.advance(10)

        first = await store.list_keys("acme", before=None, limit=2, ended=True)
        behind = KeyPlace(first[-1].created_at, first[-1].key_id)
        rest = await store.list_keys("acme", before=behind, limit=ALL, ended=True)

        assert [key.key_id for key in first] == ["four", "three"]
        assert [key.key_id for key in rest] == ["two", "one", OWNER]
        assert [key.ended for key in (*first, *rest)] == [False, True, True, False, False]
        assert await listed(store, ended=False) == ["four", "one", OWNER]

    async def test_a_key_says_who_made_it(self, world: World) -> None:
        store = world.store
        await make_tenant(store)

        mine = await made(store, asked("mine"))
        theirs = await made(store, new_key("theirs", "acme"))
        turned = await rotated(store, rotation("mine", "heir"))

        assert (mine.created_by, theirs.created_by) == (by_key(OWNER), "ops")
        assert turned.new.created_by == by_rotation("mine")

    async def test_what_is_left_out_is_the_callers(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        limit = Micros(5 * DOLLAR)
        brief = await made(store, asked("brief", lives_s=60, spend_limit=limit))
        await world.advance(30)

        child = await made(store, asked("child", caller="brief"))
        same = await made(store, asked("same", caller="brief", spend_limit=limit, lives_s=30))

        assert brief.allowance == child.allowance == same.allowance
        assert brief.allowance == Allowance("brief", limit, Micros(0))
        assert child.expires_at == same.expires_at == brief.expires_at
        assert child.expires_in_s == 30

    async def test_nothing_is_handed_on_that_a_key_does_not_have(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        limit = Micros(5 * DOLLAR)
        brief = await made(store, asked("brief", lives_s=60, spend_limit=limit))
        assert brief.expires_at is not None
        end = brief.expires_at.isoformat()
        more = asked(
            "more", caller="brief", scopes=("runs", "all"), lives_s=61, spend_limit=Micros(DOLLAR)
        )

        refused = await store.create_key(more, operator="x")
        late = await store.create_key(
            asked("late", caller="brief", expires_at=brief.expires_at + timedelta(seconds=1)),
            operator="x",
        )

        wrong = f"must not be after this key's own end, {end}"
        assert refused == Exceeds(
            [
                InputError("/scopes", "may be of this key's own: runs"),
                InputError("/expires_in_s", wrong),
                InputError(
                    "/spend_limit_usd",
                    "is shared with this key, whose limit is 5.00: leave it out",
                ),
            ]
        )
        assert late == Exceeds([InputError("/expires_at", wrong)])
        assert await listed(store) == sorted(["brief", OWNER], reverse=True)

    @pytest.mark.parametrize("caller", [None, OWNER])
    async def test_a_key_that_would_have_ended_already_is_not_made(
        self, world: World, caller: str | None
    ) -> None:
        store = world.store
        await make_tenant(store)

        dead = await store.create_key(
            asked("dead", caller=caller, expires_at=world.now), operator="x"
        )
        barely = asked("barely", caller=caller, expires_at=world.now + timedelta(microseconds=1))

        assert dead == Exceeds([InputError("/expires_at", "must be later than now")])
        assert (await made(store, barely)).expires_at == barely.expires_at

    async def test_a_key_that_has_ended_hands_nothing_on(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await made(store, asked("brief", lives_s=60))
        await made(store, asked("gone"))
        await store.revoke_key("acme", "gone", operator="ops")
        await world.advance(60)

        answers = [
            await store.create_key(asked("new", caller=caller), operator="x")
            for caller in ("brief", "gone")
        ]
        turns = [
            await store.rotate_key(rotation(OWNER, "new", caller=caller))
            for caller in ("brief", "gone")
        ]

        assert answers == turns == [CallerDead()] * 2
        assert await listed(store, ended=False) == [OWNER]

    async def test_a_rotation_hands_all_of_a_key_on_and_ends_it_after_the_overlap(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        old = await made(store, asked("old", lives_s=9 * DAY_S, spend_limit=Micros(DOLLAR)))
        await world.advance(1)

        turned = await rotated(store, rotation("old", "heir", overlap_s=60))

        assert turned.new == evolve(
            old,
            key_id="heir",
            secret_sha256=sha256(b"heir").digest(),
            created_at=world.now,
            created_by=by_rotation("old"),
            expires_in_s=9 * DAY_S - 1,
        )
        assert turned.old == evolve(
            old, expires_at=world.now + timedelta(seconds=60), expires_in_s=60.0
        )
        assert await store.find_key("heir") == turned.new
        assert await store.find_key("old") == turned.old

    async def test_a_rotation_asked_again_under_its_ids_is_the_same(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        one = rotation(OWNER, "heir", overlap_s=0)

        turned = await rotated(store, one)

        assert turned.old.ended
        assert await rotated(store, one) == turned
        assert await listed(store) == sorted(["heir", OWNER], reverse=True)

    async def test_a_rotation_never_lets_a_key_live_longer(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        brief = await made(store, asked("brief", lives_s=60))

        turned = await rotated(store, rotation("brief", "heir", overlap_s=DAY_S))

        assert turned.old == brief
        assert turned.new.expires_at == brief.expires_at

    async def test_a_rotation_whose_answer_was_lost_gives_the_whole_life_again(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await rotated(store, rotation(OWNER, "lost"))
        await world.advance(1)

        found = await rotated(store, rotation(OWNER, "found"))
        await store.revoke_key("acme", "found", operator="ops")
        once_more = await rotated(store, rotation(OWNER, "more"))

        assert found.new.expires_at is once_more.new.expires_at is None
        assert found.old.expires_in_s == DAY_S - 1  # the overlap began with the first

    async def test_no_key_is_made_that_has_ended_at_its_birth(self, world: World) -> None:
        """The first heir was handed on, and ended by that."""
        store = world.store
        await make_tenant(store)
        await rotated(store, rotation(OWNER, "heir", overlap_s=60))
        await rotated(store, rotation("heir", "second", overlap_s=0))
        await world.advance(1)

        again = await rotated(store, rotation(OWNER, "third"))

        assert again.new.expires_in_s == 59

    async def test_once_the_new_key_was_used_the_old_ones_end_counts(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        turned = await rotated(store, rotation(OWNER, "heir"))
        await store.note_uses({"heir": 0.0})

        again = await rotated(store, rotation(OWNER, "second"))

        assert again.new.expires_at == turned.old.expires_at is not None

    async def test_a_key_rotates_another_that_is_no_more_than_itself(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await made(store, asked("less", lives_s=60, spend_limit=Micros(DOLLAR)))

        turned = await rotated(store, rotation("less", "heir", caller=OWNER))

        assert turned.new.allowance == Allowance("less", Micros(DOLLAR), Micros(0))

    @pytest.mark.parametrize(
        ("values", "what"),
        [
            ({"lives_s": 60}, "a later end"),
            ({"scopes": ()}, "scopes"),
            ({"spend_limit": Micros(DOLLAR)}, "another spend limit"),
        ],
    )
    async def test_a_key_does_not_rotate_one_that_is_more_than_itself(
        self, world: World, values: dict[str, Any], what: str
    ) -> None:
        store = world.store
        await make_tenant(store)
        await made(store, asked("less", **values))

        outcome = await store.rotate_key(rotation(OWNER, "heir", caller="less"))

        assert outcome == Wider(what)
        assert await store.find_key("heir") is None
        owner = await store.find_key(OWNER)
        assert owner is not None
        assert owner.expires_at is None

    async def test_there_is_nothing_to_rotate_where_no_key_lives(self, world: World) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        await made(store, asked("gone"))
        await store.revoke_key("acme", "gone", operator="ops")

        outcomes = [
            await store.rotate_key(rotation(key_id, "heir", caller=OWNER))
            for key_id in ("gone", "unknown", key_of("other"))
        ]

        assert outcomes == [KeyGone()] * 3
        other = await store.find_key(key_of("other"))
        assert other is not None
        assert not other.ended

    async def test_a_tenant_has_so_many_good_keys_and_operators_come_in_beyond(
        self, world: World
    ) -> None:
        store = world.store
        await make_tenant(store)
        await make_tenant(store, "other")
        for n in range(KEYS_MAX - 1):
            await made(store, asked(f"k{n:02}"))

        refused = await store.create_key(asked("over"), operator="x")
        overlapping = await store.rotate_key(rotation("k00", "heir"))
        at_once = await rotated(store, rotation("k00", "heir", overlap_s=0))
        await made(store, new_key("help", "acme"))
        await store.revoke_key("acme", "k01", operator="x")
        still = await store.create_key(asked("over"), operator="x")
        await store.revoke_key("acme", "k02", operator="x")

        assert refused == overlapping == still == TooMany()
        assert at_once.old.ended
        assert (await made(store, asked("over"))).key_id == "over"

    async def test_a_use_is_noted_at_most_hourly(self, world: World) -> None:
        store = world.store
        await make_tenant(store)

        async def noted_at() -> float | None:
            key = await store.find_key(OWNER)
            assert key is not None
            return None if key.last_used_at is None else (key.last_used_at - begin).total_seconds()

        begin = world.now
        never = await noted_at()
        first = await store.note_uses({OWNER: 30.0, "unknown": 0.0})
        after_first = await noted_at()
        await world.advance(3569)
        early = await store.note_uses({OWNER: 0.0})
        after_early = await noted_at()
        await world.advance(1)
        late = await store.note_uses({OWNER: 0.0})

        assert (never, after_first, after_early, await noted_at()) == (None, -30.0, -30.0, 3570.0)
        assert (first, early, late) == (1, 0, 1)
        assert await store.note_uses({}) == 0
