"""What every blob store must do, whatever it is made of. Each has a depot and runs these classes.

A depot is a store and the ways in which the world damages it behind its back.
"""

from __future__ import annotations

from collections import Counter
from datetime import date
from functools import partial
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID, uuid4

import pytest
import trio
from attrs import evolve
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dpp.blobs import (
    Attempt,
    BlobKey,
    Blobs,
    Collected,
    Content,
    CouldNotAsk,
    Found,
    Label,
    Metadata,
    Missing,
    NotVerified,
    PutConflict,
    Stored,
    describe,
)
from dpp.faults import StoreUnavailable
from dpp.money import Micros

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence
    from collections.abc import Set as AbstractSet

DAY_S = 86_400
BODY = b'{"best":"a"}' * 9_000  # 105 KiB: more than a result that is kept inline


class Depot(Protocol):
    """A blob store, identified, and what can happen to it."""

    blobs: Blobs
    store_id: UUID

    def another(self) -> Blobs:
        """Open the same store once more, as a restarted node does; it is not identified yet."""
        ...

    def elsewhere(self) -> Blobs:
        """Open a store that nobody has used yet; it is not identified."""
        ...

    async def flip(self, key: BlobKey) -> None:
        """Change a byte of the object's body."""
        ...

    async def cut(self, key: BlobKey) -> None:
        """Drop the last byte of the object's body."""
        ...

    async def misplace(self, key: BlobKey, to: BlobKey) -> None:
        """Lay the object, as it is, under another key."""
        ...

    async def age(self, key: BlobKey, seconds: float) -> None:
        """Let the object have been written so long ago."""
        ...

    async def lose_id(self) -> None:
        """Take the id away, as when a volume is not mounted."""
        ...

    async def swap_id(self) -> None:
        """Put another store's id in its place."""
        ...


def new_key(**values: Any) -> BlobKey:
    """Return the key of a new run's first attempt."""
    given_values = {
        "tenant_id": "acme",
        "created_on": date(2026, 3, 4),
        "run_id": uuid4(),
        "lease_epoch": 1,
    }
    return BlobKey(**(given_values | values))


def new_label(cost: int = 125, pack_type: str = "decision") -> Label:
    """Return what an attempt under a lease of its own says of its result."""
    return Label(lease_id=uuid4(), pack_type=pack_type, cost=Micros(cost))


def described(key: BlobKey, label: Label, body: bytes) -> Metadata:
    """Return what the object of this result must say of itself."""
    return describe(key, label, length=len(body), sha256=sha256(body).digest())


async def put(blobs: Blobs, key: BlobKey, body: bytes = BODY) -> Metadata:
    """Store a result, which must succeed."""
    label = new_label()
    assert await blobs.put(key, label, body) == Stored(described(key, label, body))
    return described(key, label, body)


async def collect(blobs: Blobs, *kept: BlobKey, older_than_s: float = DAY_S) -> Collected:
    """Collect one page, and keep these."""
    return await blobs.collect(older_than_s=older_than_s, keep=keeping(*kept))


def keeping(*keys: BlobKey) -> Callable[[Sequence[Attempt]], Awaitable[AbstractSet[Attempt]]]:
    """Return a `keep` that keeps these and nothing else."""

    async def keep(asked: Sequence[Attempt]) -> AbstractSet[Attempt]:
        await trio.lowlevel.checkpoint()
        return {key.attempt for key in keys} & set(asked)

    return keep


class PutContract:
    """Storing and getting back."""

    async def test_what_was_put_is_found_and_read(self, depot: Depot) -> None:
        key, label = new_key(), new_label()

        stored = await depot.blobs.put(key, label, BODY)

        metadata = described(key, label, BODY)
        assert stored == Stored(metadata)
        assert await depot.blobs.look(key) == Found(metadata)
        assert await depot.blobs.read(key) == Content(metadata, BODY)

    @given(
        body=st.binary(max_size=200) | st.just(b"\n\n{}\n"),
        tenant_id=st.text(max_size=8),
        pack_type=st.text(st.characters(codec="utf-8"), max_size=20),
        cost=st.integers(0, 10**12),
        created_on=st.dates(),
        lease_epoch=st.integers(1, 2**63 - 1),
    )
    @settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
    async def test_every_result_comes_back_as_it_went(
        self, depot: Depot, body: bytes, pack_type: str, cost: int, **named: Any
    ) -> None:
        key, label = new_key(**named), new_label(cost, pack_type)

        stored = await depot.blobs.put(key, label, body)

        assert stored == Stored(described(key, label, body))
        assert await depot.blobs.read(key) == Content(stored.metadata, body)

    large = 64 << 20  # bytes: as much as a result may have; a stand-in of a network takes less

    async def test_a_body_of_many_mib_is_stored(self, depot: Depot) -> None:
        key = new_key()
        body = bytes(self.large)

        metadata = await put(depot.blobs, key, body)

        assert await depot.blobs.look(key) == Found(metadata)
        assert await depot.blobs.read(key) == Content(metadata, body)

    async def test_a_restarted_node_finds_what_was_put(self, depot: Depot) -> None:
        key = new_key()
        metadata = await put(depot.blobs, key)

        restarted = depot.another()
        await restarted.identify(depot.store_id)

        assert await restarted.look(key) == Found(metadata)

    async def test_a_key_that_was_never_put_is_missing(self, depot: Depot) -> None:
        await put(depot.blobs, new_key())

        key = new_key()

        assert await depot.blobs.look(key) == Missing()
        assert await depot.blobs.read(key) == Missing()

    async def test_each_epoch_has_an_object_of_its_own(self, depot: Depot) -> None:
        first = new_key()
        second = evolve(first, lease_epoch=2)
        lost = await put(depot.blobs, first)

        assert await depot.blobs.look(second) == Missing()
        kept = await put(depot.blobs, second, b"another result")

        assert await depot.blobs.look(first) == Found(lost)
        assert await depot.blobs.look(second) == Found(kept)

    async def test_put_again_is_stored_once(self, depot: Depot) -> None:
        key, label = new_key(), new_label()

        puts = [await depot.blobs.put(key, label, BODY) for _ in range(2)]

        assert puts == [Stored(described(key, label, BODY))] * 2

    async def test_another_body_conflicts_and_changes_nothing(self, depot: Depot) -> None:
        key = new_key()
        first = await put(depot.blobs, key)

        second = await depot.blobs.put(key, new_label(), b"another result")

        assert second == PutConflict(first)
        assert await depot.blobs.read(key) == Content(first, BODY)

    async def test_the_same_body_at_another_cost_conflicts(self, depot: Depot) -> None:
        """The run would be charged one cost, and its object would say the other."""
        key, label = new_key(), new_label(cost=125)
        await depot.blobs.put(key, label, BODY)

        second = await depot.blobs.put(key, evolve(label, cost=Micros(126)), BODY)

        assert second == PutConflict(described(key, label, BODY))

    async def test_puts_of_one_result_at_once_are_all_stored(self, depot: Depot) -> None:
        key, label = new_key(), new_label()

        puts = await at_once([partial(depot.blobs.put, key, label, BODY)] * 8)

        assert puts == [Stored(described(key, label, BODY))] * 8

    async def test_puts_of_different_results_at_once_have_one_winner(self, depot: Depot) -> None:
        key = new_key()

        puts = await at_once(
            [partial(depot.blobs.put, key, new_label(), b"%d" % n * 40_000) for n in range(8)]
        )

        found = await depot.blobs.look(key)
        assert isinstance(found, Found)
        assert Counter(puts) == {Stored(found.metadata): 1, PutConflict(found.metadata): 7}


class ServeContract:
    """What is read for clients: verified as a whole, then in pieces."""

    async def test_what_was_put_is_checked_and_read_in_pieces(self, depot: Depot) -> None:
        key = new_key()
        there = await put(depot.blobs, key)

        assert await depot.blobs.check(key) == Found(there)
        parts = [(0, 1), (1, 4_000), (4_001, len(BODY) - 4_002), (len(BODY) - 1, 1)]
        pieces = [await depot.blobs.piece(key, there, start, size) for start, size in parts]
        assert b"".join(pieces) == BODY
        assert await depot.blobs.piece(key, there, 0, len(BODY)) == BODY

    async def test_what_is_not_there_is_missing_and_has_no_pieces(self, depot: Depot) -> None:
        key, other = new_key(), new_key()
        there = await put(depot.blobs, key)

        assert await depot.blobs.check(other) == Missing()
        with pytest.raises(CouldNotAsk):
            await depot.blobs.piece(other, there, 0, 1)

    async def test_pieces_are_of_the_object_that_was_checked(self, depot: Depot) -> None:
        key, other = new_key(), new_key()
        there, another = await put(depot.blobs, key), await put(depot.blobs, other)

        with pytest.raises(CouldNotAsk):
            await depot.blobs.piece(key, another, 0, 1)
        assert await depot.blobs.piece(key, there, 0, 1) == BODY[:1]

    async def test_object_that_became_shorter_has_no_pieces(self, depot: Depot) -> None:
        key = new_key()
        there = await put(depot.blobs, key)

        await depot.cut(key)

        with pytest.raises(CouldNotAsk):
            await depot.blobs.piece(key, there, 0, 1)


class DamageContract:
    """What lies there is verified, each time, by whoever asks."""

    async def test_a_changed_byte_is_found_and_not_verified(self, depot: Depot) -> None:
        key = new_key()
        await put(depot.blobs, key)

        await depot.flip(key)

        await assert_not_verified(depot.blobs, key, "SHA-256")

    async def test_a_short_body_is_found_and_not_verified(self, depot: Depot) -> None:
        key = new_key()
        await put(depot.blobs, key)

        await depot.cut(key)

        await assert_not_verified(depot.blobs, key, "bytes")

    async def test_an_object_of_another_epoch_is_not_verified(self, depot: Depot) -> None:
        key = new_key()
        await put(depot.blobs, key)

        await depot.misplace(key, evolve(key, lease_epoch=2))

        await assert_not_verified(depot.blobs, evolve(key, lease_epoch=2), "epoch 1; its key says")

    async def test_an_object_of_another_run_is_not_verified(self, depot: Depot) -> None:
        key, other = new_key(), new_key()
        await put(depot.blobs, key)

        await depot.misplace(key, other)

        await assert_not_verified(depot.blobs, other, f"it says run {key.run_id}")

    async def test_a_put_over_a_damaged_object_conflicts(self, depot: Depot) -> None:
        """It is evidence; the run's next attempt has a key of its own."""
        key = new_key()
        label = new_label()
        await depot.blobs.put(key, label, BODY)
        await depot.flip(key)

        again = await depot.blobs.put(key, label, BODY)

        assert isinstance(again, PutConflict)
        assert isinstance(again.there, NotVerified)
        await assert_not_verified(depot.blobs, key, "SHA-256")


class IdentityContract:
    """A store that is not the one we know is not asked."""

    async def test_an_id_is_given_once_and_kept(self, depot: Depot) -> None:
        assert await depot.another().identify(None) == depot.store_id
        assert await depot.another().identify(depot.store_id) == depot.store_id

    async def test_first_uses_at_once_agree_on_one_id(self, depot: Depot) -> None:
        first = depot.elsewhere()

        given_ids = await at_once([partial(first.identify, None)] * 8)

        assert len(set(given_ids)) == 1
        assert given_ids[0] not in {None, depot.store_id}

    async def test_a_store_without_an_id_gets_none_where_one_is_known(self, depot: Depot) -> None:
        unmounted = depot.elsewhere()

        assert await unmounted.identify(depot.store_id) is None
        assert await unmounted.identify(depot.store_id) is None
        await assert_could_not_ask(unmounted, new_key())

    async def test_the_id_that_is_there_is_told_to_whoever_knows_another(
        self, depot: Depot
    ) -> None:
        restarted = depot.another()

        assert await restarted.identify(uuid4()) == depot.store_id
        await assert_could_not_ask(restarted, new_key())

    async def test_without_its_id_nothing_is_missing_nor_stored(self, depot: Depot) -> None:
        key = new_key()
        await put(depot.blobs, key)

        await depot.lose_id()

        await assert_could_not_ask(depot.blobs, key)
        await assert_could_not_ask(depot.blobs, new_key())

    async def test_under_another_id_nothing_is_missing_nor_stored(self, depot: Depot) -> None:
        key = new_key()
        await put(depot.blobs, key)

        await depot.swap_id()

        await assert_could_not_ask(depot.blobs, key)
        await assert_could_not_ask(depot.blobs, new_key())


class CollectContract:
    """What nobody needs leaves, and nothing else."""

    async def test_the_old_that_nobody_keeps_is_deleted(self, depot: Depot) -> None:
        lost, kept, young = new_key(), new_key(tenant_id="other"), new_key()
        for key in (lost, kept, young):
            await put(depot.blobs, key)
        await depot.age(lost, DAY_S + 1)
        await depot.age(kept, DAY_S + 1)

        collected = await collect(depot.blobs, kept)

        assert collected == Collected(looked=3, deleted=1, torn=0, refused=0, after=None)
        assert await depot.blobs.look(lost) == Missing()
        assert isinstance(await depot.blobs.look(kept), Found)
        assert isinstance(await depot.blobs.look(young), Found)

    async def test_a_lost_epoch_leaves_and_the_one_that_settled_stays(self, depot: Depot) -> None:
        lost = new_key()
        settled = evolve(lost, lease_epoch=2)
        for key in (lost, settled):
            await put(depot.blobs, key)
            await depot.age(key, 2 * DAY_S)

        await collect(depot.blobs, settled)

        assert await depot.blobs.look(lost) == Missing()
        assert isinstance(await depot.blobs.look(settled), Found)

    async def test_a_day_is_a_day(self, depot: Depot) -> None:
        before, after = new_key(), new_key()
        for key, seconds in ((before, DAY_S - 600), (after, DAY_S + 600)):
            await put(depot.blobs, key)
            await depot.age(key, seconds)

        await collect(depot.blobs)

        assert isinstance(await depot.blobs.look(before), Found)
        assert await depot.blobs.look(after) == Missing()

    async def test_nobody_is_asked_about_the_young(self, depot: Depot) -> None:
        await put(depot.blobs, new_key())

        async def keep(asked: Sequence[Attempt]) -> AbstractSet[Attempt]:
            raise AssertionError(asked)

        collected = await depot.blobs.collect(older_than_s=DAY_S, keep=keep)

        assert collected == Collected(looked=1, deleted=0, torn=0, refused=0, after=None)

    async def test_where_it_cannot_be_asked_what_to_keep_nothing_is_deleted(
        self, depot: Depot
    ) -> None:
        key = new_key()
        await put(depot.blobs, key)
        await depot.age(key, 2 * DAY_S)

        async def keep(asked: Sequence[Attempt]) -> AbstractSet[Attempt]:
            raise StoreUnavailable(asked)

        with pytest.raises(StoreUnavailable):
            await depot.blobs.collect(older_than_s=DAY_S, keep=keep)

        assert isinstance(await depot.blobs.look(key), Found)

    @pytest.mark.parametrize("limit", [1, 2, 3, 7, 100])
    async def test_pages_see_each_object_once(self, depot: Depot, limit: int) -> None:
        tenants = ("acme", "other")
        days = (date(2025, 12, 31), date(2026, 1, 1))
        keys = [new_key(tenant_id=one, created_on=day) for one in tenants for day in days]
        keys += [evolve(keys[0], lease_epoch=epoch) for epoch in (2, 10)]
        for key in keys:
            await put(depot.blobs, key, b"small")
            await depot.age(key, 2 * DAY_S)
        asked: list[Attempt] = []

        async def keep(page: Sequence[Attempt]) -> AbstractSet[Attempt]:
            await trio.lowlevel.checkpoint()
            assert len(page) <= limit
            asked.extend(page)
            return {keys[0].attempt, keys[-1].attempt}

        after: str | None = ""
        deleted = 0
        while after is not None:
            page = await depot.blobs.collect(
                older_than_s=DAY_S, keep=keep, after=after, limit=limit
            )
            deleted, after = deleted + page.deleted, page.after

        assert sorted(asked, key=str) == sorted((key.attempt for key in keys), key=str)
        assert deleted == len(keys) - 2

    async def test_a_key_can_be_put_anew_after_it_was_collected(self, depot: Depot) -> None:
        key = new_key()
        await put(depot.blobs, key)
        await depot.age(key, 2 * DAY_S)
        await collect(depot.blobs)

        metadata = await put(depot.blobs, key, b"another result")

        assert await depot.blobs.look(key) == Found(metadata)


class BlobContract(PutContract, ServeContract, DamageContract, IdentityContract, CollectContract):
    """All of it."""


async def at_once(verbs: Sequence[Callable[[], Awaitable[Any]]]) -> list[Any]:
    """Ask all of them at once; the answers, in the order of the questions."""
    answers: dict[int, Any] = {}

    async def ask(n: int, verb: Callable[[], Awaitable[Any]]) -> None:
        answers[n] = await verb()

    async with trio.open_nursery() as nursery:
        for n, verb in enumerate(verbs):
            nursery.start_soon(ask, n, verb)
    return [answers[n] for n in range(len(verbs))]


async def assert_not_verified(blobs: Blobs, key: BlobKey, why: str) -> None:
    """Whoever asks is told that it is there and not what it should be."""
    for verb in (blobs.look, blobs.read, blobs.check):
        answer = await verb(key)
        assert isinstance(answer, NotVerified)
        assert why in answer.why


async def assert_could_not_ask(blobs: Blobs, key: BlobKey) -> None:
    """No verb gives an answer."""
    verbs: tuple[Callable[[], Awaitable[Any]], ...] = (
        partial(blobs.look, key),
        partial(blobs.read, key),
        partial(blobs.check, key),
        partial(blobs.put, key, new_label(), BODY),
        partial(collect, blobs, older_than_s=0),
    )
    for verb in verbs:
        with pytest.raises(CouldNotAsk):
            await verb()
