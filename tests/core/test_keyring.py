"""What a key may hand on, decided: the rules that no store and no clock takes part in."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from dpp.keyring import (
    KEYS_MAX,
    MADE_A_DAY,
    CallerDead,
    Exceeds,
    Standing,
    TooFast,
    TooMany,
    Turn,
    Wider,
    decide_new,
    decide_rotation,
)
from dpp.keys import OVERLAP_MAX_S, SCOPES, Key, NewKey, Rotation
from dpp.money import Micros
from dpp.spending import Allowance

NOW = datetime(2026, 3, 1, tzinfo=UTC)
ALLOWANCES = {name: Allowance(name, Micros(5), Micros(3)) for name in ("one", "two")}


def key(key_id: str = "caller", **values: Any) -> Key:
    """Return a key of acme's, with all rights."""
    ends_at = values.get("expires_at")
    return Key(
        key_id=key_id,
        tenant_id="acme",
        secret_sha256=bytes(32),
        scopes=values.pop("scopes", SCOPES),
        created_at=NOW - timedelta(days=1),
        expires_in_s=None if ends_at is None else (ends_at - NOW).total_seconds(),
        **values,
    )


def new(**values: Any) -> NewKey:
    """Return a key that is asked for."""
    scopes = values.pop("scopes", SCOPES)
    return NewKey(key_id="new", tenant_id="acme", secret_sha256=bytes(32), scopes=scopes, **values)


def standing(caller: Key | None, *, alive: int = 1, made: int = 0) -> Standing:
    return Standing(caller=caller, alive=alive, made=made, now=NOW)


def turning(caller: str | None, overlap_s: int = 60) -> Rotation:
    return Rotation(
        key_id="old",
        tenant_id="acme",
        new_key_id="new",
        secret_sha256=bytes(32),
        overlap_s=overlap_s,
        caller=caller,
    )


ends = st.none() | st.integers(1, 10).map(lambda days: NOW + timedelta(days=days))
scopes = st.lists(st.sampled_from(SCOPES), min_size=1, unique=True).map(tuple)
allowances = st.sampled_from([None, *ALLOWANCES.values()])
rights = {"expires_at": ends, "scopes": scopes, "allowance": allowances}
some_keys = st.fixed_dictionaries(rights)


def within(less: NewKey | Key, more: Key) -> bool:
    """Say whether one key may do no more than another, in words of its own."""
    forever = NOW + timedelta(days=100)
    return (
        set(less.scopes) <= set(more.scopes)
        and (less.expires_at or forever) <= (more.expires_at or forever)
        and more.allowance_id in (None, less.allowance_id)
    )


@given(
    some_keys, scopes, ends, st.none() | st.integers(1, 10 * 86_400), st.sampled_from([None, 4, 5])
)
def test_a_made_key_may_do_no_more_than_its_maker(
    maker: dict[str, Any],
    asked: tuple[str, ...],
    ends_at: datetime | None,
    lives_s: int | None,
    limit: int | None,
) -> None:
    caller = key(**maker)
    wanted = new(
        scopes=asked,
        expires_at=ends_at if lives_s is None else None,
        lives_s=lives_s,
        spend_limit=None if limit is None else Micros(limit),
        caller="caller",
    )

    made = decide_new(wanted, standing(caller))

    if isinstance(made, NewKey):
        assert within(made, caller)
        assert made.scopes == asked  # nothing was narrowed
        assert made.lives_s is None
        assert made.spend_limit is None or caller.allowance is None
        if ends_at is not None and lives_s is None:
            assert made.expires_at == ends_at
    else:
        assert isinstance(made, Exceeds)


@given(
    asking=some_keys,
    asked=some_keys,
    heirs=some_keys,
    used=st.booleans(),
    expired=st.booleans(),
    overlap=st.integers(0, OVERLAP_MAX_S),
)
def test_a_rotation_gives_nobody_more_than_it_had(
    asking: dict[str, Any],
    asked: dict[str, Any],
    heirs: dict[str, Any],
    *,
    used: bool,
    expired: bool,
    overlap: int,
) -> None:
    caller, old = key(**asking), key("old", **asked)
    heir = key("heir", **heirs, last_used_at=NOW if used else None)
    heir = evolve(heir, expires_in_s=-1.0) if expired else heir
    before = old if used or expired else heir

    turn = decide_rotation(turning("caller", overlap), old, heir, standing(caller))

    if isinstance(turn, Turn):
        assert within(turn.new, caller)
        assert turn.old_ends_at <= (old.expires_at or turn.old_ends_at)
        assert turn.old_ends_at <= NOW + timedelta(seconds=overlap)
        assert (turn.new.scopes, turn.new.allowance_id) == (old.scopes, old.allowance_id)
        assert turn.new.expires_at == before.expires_at
    else:
        assert isinstance(turn, Wider)
        assert not within(evolve(old, expires_at=before.expires_at), caller)


def test_an_operator_is_bound_by_no_number() -> None:
    crowd = standing(None, alive=KEYS_MAX + 1, made=MADE_A_DAY + 1)

    assert isinstance(decide_new(new(), crowd), NewKey)
    assert isinstance(decide_rotation(turning(None), key("old"), None, crowd), Turn)


@pytest.mark.parametrize(
    ("alive", "made", "answer"),
    [
        (KEYS_MAX - 1, MADE_A_DAY - 1, NewKey),
        (KEYS_MAX, 0, TooMany),
        (1, MADE_A_DAY, TooFast),
        (KEYS_MAX, MADE_A_DAY, TooMany),
    ],
)
def test_a_tenants_keys_are_bounded_in_number_and_by_day(
    alive: int, made: int, answer: type
) -> None:
    crowd = standing(key(), alive=alive, made=made)

    assert isinstance(decide_new(new(caller="caller"), crowd), answer)
    turn = decide_rotation(turning("caller"), key("old"), None, crowd)
    assert isinstance(turn, Turn if answer is NewKey else answer)


def test_a_key_that_ends_at_once_makes_room_for_its_heir() -> None:
    crowd = standing(key(), alive=KEYS_MAX)

    assert isinstance(decide_rotation(turning("caller", 0), key("old"), None, crowd), Turn)
    assert isinstance(decide_rotation(turning("caller", 1), key("old"), None, crowd), TooMany)


@pytest.mark.parametrize("gone", [{"revoked": True}, {"expires_at": NOW}])
def test_a_dead_caller_is_told_nothing_else(gone: dict[str, Any]) -> None:
    dead = standing(key(**gone), alive=KEYS_MAX)

    assert decide_new(new(scopes=("more",), caller="caller"), dead) == CallerDead()
    assert decide_rotation(turning("caller"), None, None, dead) == CallerDead()
