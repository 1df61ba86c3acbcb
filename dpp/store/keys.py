"""API keys: find one, make, rotate and revoke them, note their use.

Who makes or rotates holds the tenant's row, so keys are counted exactly, and the row of the key
that asks, so one that was revoked hands nothing on: whoever revokes it waits, and finds what it
made. A revocation alone holds nothing but its row.
"""

from collections.abc import Mapping

from attrs import evolve, frozen

from dpp import keyring
from dpp.admission import Busy
from dpp.keyring import KeyRefusal, Rotated, Standing, Turn, TurnRefusal
from dpp.keys import Key, KeyPlace, NewKey, Rotation, by_rotation
from dpp.money import Micros
from dpp.spending import Allowance
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import transaction


@frozen
class _Held:
    """What is locked and read: how the tenant stands, and those keys asked for that are its."""

    standing: Standing
    keys: Mapping[str, Key]


async def find_key(connection: Connection, key_id: str) -> Key | None:
    """Return a key with its tenant's plan and its allowance."""
    row = await queries.find_key.fetch_one(connection, key_id=key_id)
    return None if row is None else key(row)


async def list_keys(
    connection: Connection, tenant_id: str, *, before: KeyPlace | None, limit: int, ended: bool
) -> list[Key]:
    """Return a page of a tenant's keys, newest first."""
    rows = await queries.list_keys.fetch(
        connection,
        tenant_id=tenant_id,
        before_at=None if before is None else before.created_at,
        before_id=None if before is None else before.key_id,
        ended=ended,
        limit=limit,
    )
    return [key(row) for row in rows]


async def create_key(
    connection: Connection, new: NewKey, operator: str, *, wait: bool
) -> Key | KeyRefusal | Busy | None:
    """Store a key; None = no such tenant. Asked again with the same secret it is the same key."""
    async with transaction(connection):
        held = await _hold(connection, new.tenant_id, new.caller, wait=wait)
        if held is None:
            return None if wait else Busy()
        made = await find_key(connection, new.key_id)
        if made is None:
            decided = keyring.decide_new(new, held.standing)
            if not isinstance(decided, NewKey):
                return decided
            made = await _write(connection, decided, operator)
    assert made.secret_sha256 == new.secret_sha256
    return made


async def rotate_key(
    connection: Connection, asked: Rotation, *, wait: bool
) -> Rotated | TurnRefusal | Busy:
    """Replace a key. Asked again with the same secret it is the same new key."""
    async with transaction(connection):
        held = await _hold(connection, asked.tenant_id, asked.caller, asked.key_id, wait=wait)
        if held is None:
            return keyring.KeyGone() if wait else Busy()
        new = await find_key(connection, asked.new_key_id)
        if new is None:
            old, heir = held.keys.get(asked.key_id), await _heir(connection, asked)
            decided = keyring.decide_rotation(asked, old, heir, held.standing)
            if not isinstance(decided, Turn):
                return decided
            new = await _write(connection, decided.new, by_rotation(asked.key_id))
            ended = await queries.end_key.fetch_one(
                connection, key_id=asked.key_id, expires_at=decided.old_ends_at
            )
            assert ended is not None, asked.key_id
        old = await find_key(connection, asked.key_id)
    assert old is not None
    assert new.secret_sha256 == asked.secret_sha256
    return Rotated(new, old)


async def revoke_key(connection: Connection, tenant_id: str, key_id: str, operator: str) -> bool:
    """Revoke a key of this tenant; False = it has no such key."""
    async with transaction(connection):
        row = await queries.revoke_key.fetch_one(
            connection, tenant_id=tenant_id, key_id=key_id, operator=operator
        )
    return row is not None


async def note_uses(connection: Connection, ages_s: Mapping[str, float]) -> int:
    """Note how many seconds ago keys were used, at most hourly a key; returns of how many."""
    async with transaction(connection):
        rows = await queries.note_uses.fetch(
            connection, key_ids=[*ages_s], ages_s=[*ages_s.values()]
        )
    return len(rows)


async def write_key(connection: Connection, new: NewKey, operator: str) -> None:
    """Insert a key, and its allowance where it brings one, within the caller's transaction.

    Asked again with the same secret it changes nothing.
    """
    if new.spend_limit is not None:
        await queries.write_allowance.fetch(
            connection,
            allowance_id=new.key_id,
            tenant_id=new.tenant_id,
            spend_limit=new.spend_limit,
        )
        new = evolve(new, allowance_id=new.key_id)
    await queries.write_key.fetch(
        connection,
        key_id=new.key_id,
        tenant_id=new.tenant_id,
        secret_sha256=new.secret_sha256,
        scopes=list(new.scopes),
        operator=operator,
        lives_s=new.lives_s,
        expires_at=new.expires_at,
        allowance_id=new.allowance_id,
    )


async def _write(connection: Connection, new: NewKey, operator: str) -> Key:
    """Insert a key and read it."""
    await write_key(connection, new, operator)
    made = await find_key(connection, new.key_id)
    assert made is not None, new.key_id
    return made


async def _hold(
    connection: Connection, tenant_id: str, caller: str | None, *others: str, wait: bool
) -> _Held | None:
    """Hold the tenant's row and those of its keys, then read; None = there is no such tenant.

    Without `wait` also where somebody else holds the row.

    A key that is not the tenant's is read no more than one that is nobody's. A caller that is none
    of its keys is a bug of ours, and raises.
    """
    lock = queries.lock_tenant if wait else queries.lock_tenant_free
    if await lock.fetch_one(connection, tenant_id=tenant_id) is None:
        return None
    asked = [*others] if caller is None else [caller, *others]
    rows = await queries.lock_keys.fetch(connection, tenant_id=tenant_id, key_ids=asked)
    keys = {}
    for row in rows:
        found = await find_key(connection, row["key_id"])
        assert found is not None
        keys[found.key_id] = found
    counted = await queries.count_keys.fetch_one(connection, tenant_id=tenant_id)
    assert counted is not None
    standing = Standing(
        caller=None if caller is None else keys[caller],
        alive=counted["alive"],
        made=counted["made"],
        now=counted["now"],
    )
    return _Held(standing, keys)


async def _heir(connection: Connection, asked: Rotation) -> Key | None:
    """Return the newest key that a rotation of this one made before."""
    row = await queries.heir_of_key.fetch_one(
        connection, tenant_id=asked.tenant_id, created_by=by_rotation(asked.key_id)
    )
    return None if row is None else await find_key(connection, row["key_id"])


def key(row: Row) -> Key:
    """Read a key."""
    allowance = None
    if row["allowance_id"] is not None:
        allowance = Allowance(row["allowance_id"], Micros(row["spend_limit"]), Micros(row["used"]))
    return Key(
        key_id=row["key_id"],
        tenant_id=row["tenant_id"],
        secret_sha256=row["secret_sha256"],
        scopes=tuple(row["scopes"]),
        created_at=row["created_at"],
        created_by=row["created_by"],
        expires_at=row["expires_at"],
        expires_in_s=row["expires_in_s"],
        last_used_at=row["last_used_at"],
        revoked=row["revoked"],
        allowance=allowance,
        plan=row["plan"],
        suspended=row["suspended"],
    )
