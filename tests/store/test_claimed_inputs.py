"""A claim takes no more inputs than come in time, of each tenant in turn; the rest waits."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dpp.store import claims
from tests.store.steps import claim, create, make_tenant, take_lease

if TYPE_CHECKING:
    from dpp.claims import Claimed
    from dpp.store.postgres import PostgresStore

BOUND = 1000
FRAME = len('{"body":""}')


@pytest.fixture(autouse=True)
def _little(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(claims, "CLAIM_BYTES", BOUND)


async def queue(store: PostgresStore, tenant_id: str, *weights: int) -> list[object]:
    """Submit runs whose inputs have these weights, in this order; returns their ids."""
    await make_tenant(store, tenant_id)
    made = [await create(store, tenant_id, body="x" * (one - FRAME)) for one in weights]
    return [one.run_id for one in made]


def ids(claimed: list[Claimed]) -> set[object]:
    return {one.fence.run_id for one in claimed}


async def test_a_claim_is_cut_short_for_its_inputs(store: PostgresStore) -> None:
    """What begins before the bound is taken: one run at least, and one beyond it at most."""
    first, second, third, fourth, fifth = await queue(store, "acme", 600, 300, 2000, 10, 5000)
    lease = await take_lease(store)

    taken = [ids(await claim(store, lease)) for _ in range(4)]

    assert taken == [{first, second, third}, {fourth, fifth}, set(), set()]


async def test_each_tenant_has_its_first_run_before_any_has_its_second(
    store: PostgresStore,
) -> None:
    """However much the others' weigh: nobody's inputs keep another tenant waiting."""
    heavy = await queue(store, "heavy", 900, 900, 900)
    light = await queue(store, "light", 50, 50, 50)
    lease = await take_lease(store)

    taken = [ids(await claim(store, lease, "heavy", "light")) for _ in range(3)]

    assert taken[0] == {heavy[0], light[0], heavy[1]}
    assert taken[1] == {heavy[2], light[1], light[2]}
    assert taken[2] == set()


async def test_what_is_known_is_not_told_again(store: PostgresStore) -> None:
    """Of an attempt: the run itself may be claimed once more under this lease."""
    await queue(store, "acme", 20, 20)
    lease = await take_lease(store)
    one, other = sorted(await claim(store, lease), key=lambda claimed: claimed.fence.run_id)

    unknown = await store.claimed_under(lease, [one.fence])
    none = await store.claimed_under(lease, [one.fence, other.fence])

    assert unknown == [other]
    assert none == []
