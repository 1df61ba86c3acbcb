"""A claim brings every input, whatever they weigh: no answer is longer than its bound and one input."""  # noqa: E501

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpp.faults import ClaimUnknown
from dpp.store import claims
from tests.store.steps import claim_of, create, make_tenant, take_lease

if TYPE_CHECKING:
    from collections.abc import Sequence
    from uuid import UUID

    from dpp.claims import Claimed
    from dpp.leases import LeaseGone
    from dpp.store.connections import Connection
    from dpp.store.postgres import PostgresStore

BOUND = 1000
WEIGHTS = (600, 300, 2000, 10, 700, 400, 900)


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Let little have room in an answer; gives how much each page of inputs brought."""
    read, bytes_read = claims.inputs_of, list[int]()

    async def counted(connection: Connection, runs: Sequence[Claimed]) -> dict[UUID, bytes]:
        page = await read(connection, runs)
        bytes_read.append(sum(map(len, page.values())))
        return page

    monkeypatch.setattr(claims, "ANSWER_BYTES", BOUND)
    monkeypatch.setattr(claims, "inputs_of", counted)
    return bytes_read


async def queue(store: PostgresStore) -> dict[UUID, bytes]:
    """Submit runs of these weights; returns their inputs."""
    await make_tenant(store)
    made = [await create(store, body="x" * weight) for weight in WEIGHTS]
    return {one.run_id: one.inputs for one in made}


def inputs_in(claimed: list[Claimed] | LeaseGone) -> dict[UUID, bytes]:
    assert isinstance(claimed, list)
    return {one.fence.run_id: one.inputs for one in claimed}


async def test_what_has_no_room_is_read_by_the_page(
    store: PostgresStore, answers: list[int]
) -> None:
    wanted = await queue(store)
    lease = await take_lease(store)

    claimed = inputs_in(await store.claim_runs(claim_of(lease)))
    pages = list(answers)
    again = inputs_in(await store.claimed_under(lease))

    assert claimed == again == wanted
    assert len(pages) > 1
    assert max(pages) <= BOUND + max(WEIGHTS) + len('{"body":""}')
    assert sum(pages) >= sum(WEIGHTS) - BOUND


async def test_nothing_more_is_asked_where_all_has_room(
    store: PostgresStore, answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(claims, "ANSWER_BYTES", 2 * sum(WEIGHTS))
    wanted = await queue(store)
    lease = await take_lease(store)

    assert inputs_in(await store.claim_runs(claim_of(lease))) == wanted
    assert inputs_in(await store.claimed_under(lease)) == wanted
    assert answers == []


async def test_a_claim_whose_inputs_could_not_be_read_is_asked_for_again(
    store: PostgresStore, answers: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The runs are stamped: nobody else would have them before the lease is over."""
    wanted = await queue(store)
    lease = await take_lease(store)
    whole = claims.inputs_of

    async def away(*_: object, **__: object) -> dict[UUID, bytes]:
        raise OSError

    monkeypatch.setattr(claims, "inputs_of", away)
    with pytest.raises(ClaimUnknown):
        await store.claim_runs(claim_of(lease))
    monkeypatch.setattr(claims, "inputs_of", whole)

    assert inputs_in(await store.claimed_under(lease)) == wanted
    assert answers
