"""The keyring: what a key may hand on. At most its own scopes, its own life, its own money.

An operator is bound by nothing but sense. A key that has an allowance shares it with all that it
makes, so nobody widens a limit by making keys. What exceeds is refused and named, never narrowed
in silence; what is left out is taken over from the key that asks. Pure: decided while the tenant's
row is locked, and by the fake store on dictionaries.

A rotation gives the rights of a key to a new one and brings the end of the old one forward. Asked
again while no one has used the new key, as somebody does whose answer was lost, it gives the life
that the old key had before; else the second answer would be a key that ends with the overlap.
"""

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Final, TypeAlias

from attrs import evolve, frozen

from dpp.keys import Key, NewKey, Rotation
from dpp.money import show
from dpp.pricing import InputError

KEYS_MAX: Final = 100  # good ones a tenant, those of operators counted: more is a leak or a loop
MADE_A_DAY: Final = 1_000  # by a tenant's own keys; ended ones are rows, too


@frozen(kw_only=True)
class Standing:
    """What was read under the lock; `now` is the database's time of a statement after it.

    `caller`: the key that asks; None = an operator. `alive`: keys of the tenant that are good.
    `made`: keys that its own keys made within a day.
    """

    caller: Key | None
    alive: int
    made: int
    now: datetime


@frozen
class CallerDead:
    """The key that asks was revoked or has expired meanwhile."""


@frozen
class KeyGone:
    """The tenant has no such key, or it has ended: there is nothing to rotate."""


@frozen
class TooMany:
    """The tenant has as many good keys as it may have."""

    limit: int = KEYS_MAX


@frozen
class TooFast:
    """The tenant's keys have made as many keys in a day as they may."""

    limit: int = MADE_A_DAY


@frozen
class Exceeds:
    """It asks for more than the key may hand on."""

    errors: Sequence[InputError]


@frozen
class Wider:
    """The key to be rotated may do what the one that asks may not."""

    what: str


@frozen
class Turn:
    """What a rotation writes: the new key, and when the old one ends."""

    new: NewKey
    old_ends_at: datetime


@frozen
class Rotated:
    """A key that was replaced, and the one that replaces it."""

    new: Key
    old: Key


KeyRefusal: TypeAlias = CallerDead | TooMany | TooFast | Exceeds
TurnRefusal: TypeAlias = CallerDead | KeyGone | TooMany | TooFast | Wider


def decide_new(asked: NewKey, standing: Standing) -> NewKey | KeyRefusal:
    """Return the key to store: its end as a time, and whose allowance it shares."""
    caller = standing.caller
    if caller is not None and caller.ended:
        return CallerDead()
    ends_at = asked.expires_at
    if asked.lives_s is not None:
        ends_at = standing.now + timedelta(seconds=asked.lives_s)
    errors = [*_past(ends_at, standing.now), *_exceeding(asked, ends_at, caller)]
    if errors:
        return Exceeds(errors)
    refused = _bounded(standing, ended=0)
    if refused is not None:
        return refused
    new = evolve(asked, lives_s=None, expires_at=ends_at)
    if caller is None:
        return new
    new = evolve(new, expires_at=caller.expires_at if ends_at is None else ends_at)
    if caller.allowance_id is None:
        return new
    return evolve(new, spend_limit=None, allowance_id=caller.allowance_id)


def decide_rotation(
    asked: Rotation, key: Key | None, heir: Key | None, standing: Standing
) -> Turn | TurnRefusal:
    """Return what to write. `heir`: the newest key that a rotation of this one made before.

    One that was never used, and did not end by itself, may be one that nobody got: then the key, on
    its way out by now, hands on what it had before. Else it hands on what is left of it.
    """
    caller = standing.caller
    if caller is not None and caller.ended:
        return CallerDead()
    if key is None or key.ended:
        return KeyGone()
    lost = heir is not None and heir.last_used_at is None and not heir.expired
    expires_at = heir.expires_at if heir is not None and lost else key.expires_at
    if caller is not None and caller.key_id != key.key_id:
        wider = _wider(key, expires_at, caller)
        if wider:
            return Wider(wider)
    ends_at = standing.now + timedelta(seconds=asked.overlap_s)
    if key.expires_at is not None:
        ends_at = min(ends_at, key.expires_at)
    refused = _bounded(standing, ended=int(ends_at <= standing.now))
    if refused is not None:
        return refused
    new = NewKey(
        key_id=asked.new_key_id,
        tenant_id=asked.tenant_id,
        secret_sha256=asked.secret_sha256,
        scopes=key.scopes,
        expires_at=expires_at,
        allowance_id=key.allowance_id,
        caller=asked.caller,
    )
    return Turn(new, ends_at)


def _bounded(standing: Standing, *, ended: int) -> TooMany | TooFast | None:
    """Hold a tenant's keys to their number; `ended`: how many the same transaction ends."""
    if standing.caller is None:
        return None
    if standing.alive - ended >= KEYS_MAX:
        return TooMany()
    return TooFast() if standing.made >= MADE_A_DAY else None


def _past(ends_at: datetime | None, now: datetime) -> list[InputError]:
    if ends_at is None or ends_at > now:
        return []
    return [InputError("/expires_at", "must be later than now")]


def _exceeding(asked: NewKey, ends_at: datetime | None, caller: Key | None) -> list[InputError]:
    """Say what a key asks for that it does not have itself."""
    if caller is None:
        return []
    errors = []
    if not set(asked.scopes) <= set(caller.scopes):
        errors.append(InputError("/scopes", f"may be of this key's own: {_list(caller.scopes)}"))
    if ends_at is not None and _outlives(ends_at, caller.expires_at):
        pointer = "/expires_at" if asked.lives_s is None else "/expires_in_s"
        errors.append(InputError(pointer, f"must not be after this key's own end{_at(caller)}"))
    limit, shared = asked.spend_limit, caller.allowance
    if limit is not None and shared is not None and limit != shared.limit:
        words = f"is shared with this key, whose limit is {show(shared.limit)}: leave it out"
        errors.append(InputError("/spend_limit_usd", words))
    return errors


def _wider(key: Key, expires_at: datetime | None, caller: Key) -> str:
    """Say in what a key is more than the one that asks; "" = in nothing."""
    more = []
    if not set(key.scopes) <= set(caller.scopes):
        more.append("scopes")
    if _outlives(expires_at, caller.expires_at):
        more.append("a later end")
    if caller.allowance is not None and key.allowance_id != caller.allowance_id:
        more.append("another spend limit")
    return _list(more)


def _outlives(expires_at: datetime | None, own: datetime | None) -> bool:
    if own is None:
        return False
    return expires_at is None or expires_at > own


def _at(key: Key) -> str:
    return "" if key.expires_at is None else f", {key.expires_at.isoformat()}"


def _list(words: Sequence[str]) -> str:
    return ", ".join(words)
