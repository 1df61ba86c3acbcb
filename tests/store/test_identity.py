"""A database forgets its store of results only while nothing lies there and nobody works."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dpp.money import Micros
from dpp.runs import StoredResult
from dpp.settlement import Completed
from dpp.store import identity
from dpp.store.directory_blobs import DirectoryBlobs
from tests.store.steps import begin, end_one, make_tenant, take_lease

if TYPE_CHECKING:
    from pathlib import Path

    from dpp.store.postgres import PostgresStore
    from tests.store.sessions import Session, Sessions


async def forget(sessions: Sessions) -> identity.Forgotten:
    """Ask as the command does, as the owner."""
    owner = await sessions.open("dpp_owner")
    return await owner.run(identity.forget)


async def test_the_next_node_may_bring_another_store(
    store: PostgresStore, sessions: Sessions, tmp_path: Path
) -> None:
    none = await forget(sessions)
    for name in ("first", "other"):
        (tmp_path / name).mkdir()
    first, other = DirectoryBlobs(tmp_path / "first"), DirectoryBlobs(tmp_path / "other")
    await identity.assert_known_store(store, first, "first")
    known = await store.store_id(identity.NAME)

    gone = await forget(sessions)

    await identity.assert_known_store(store, other, "other")
    assert none == identity.Forgotten(None, 0, 0, ())
    assert none.done
    assert gone == identity.Forgotten(known, 0, 0, ())
    assert gone.done


async def test_not_while_a_node_lives_a_run_stores_or_a_result_lies_there(
    store: PostgresStore, sessions: Sessions, admin: Session, tmp_path: Path
) -> None:
    await make_tenant(store)
    await identity.assert_known_store(store, DirectoryBlobs(tmp_path), "first")
    known = await store.store_id(identity.NAME)
    lease = await take_lease(store)
    claimed = await begin(store, lease)

    lives = await forget(sessions)
    await admin.execute("update dpp.node_leases set lease_until = now() - interval '1 s'")
    await admin.execute("update dpp.nodes set reported_at = now() - interval '50 s'")
    rests = await forget(sessions)
    await admin.execute("update dpp.nodes set reported_at = now() - interval '1 hour'")
    await admin.execute("update dpp.live_runs set storing = true")
    stores = await forget(sessions)
    await admin.execute("update dpp.live_runs set storing = false")
    await admin.execute("update dpp.node_leases set lease_until = now() + interval '1 minute'")
    await end_one(store, claimed, Completed(StoredResult("a/b/1", b"\x07" * 32), Micros(1)))
    await admin.execute("delete from dpp.node_leases")
    kept = await forget(sessions)

    assert lives == identity.Forgotten(None, 0, 0, (lease.node_id,))
    assert rests == lives
    assert stores == identity.Forgotten(None, 0, 1, ())
    assert kept == identity.Forgotten(None, 1, 0, ())
    assert {lives.done, stores.done, kept.done} == {False}
    assert await store.store_id(identity.NAME) == known
