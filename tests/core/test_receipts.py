"""Receipts and usage: derived, never kept."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from uuid import UUID

import pytest
from attrs import evolve

from dpp.money import ZERO, Micros
from dpp.receipts import Bought, Receipt, Resolution, receipt_of
from dpp.runs import Status
from dpp.usage import Usage, UsageDay

NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)
BOUGHT = Bought(
    run_id=UUID(int=1),
    tenant_id="acme",
    seq=4,
    pack_type="echo",
    pack_version="1.0.0",
    inputs_sha256=b"i" * 32,
    max_cost=Micros(100),
    policy="5000/20000/100000",
    created_at=NOW,
)
SETTLED = Resolution(
    seq=9,
    status=Status.COMPLETED,
    cost=Micros(60),
    returned=Micros(40),
    attempts_spent=1,
    result_sha256=b"r" * 32,
    finished_at=NOW + timedelta(seconds=3),
)


def test_receipt_says_what_its_two_facts_say() -> None:
    assert receipt_of(BOUGHT, SETTLED) == Receipt(
        run_id=UUID(int=1),
        tenant_id="acme",
        pack_type="echo",
        pack_version="1.0.0",
        status=Status.COMPLETED,
        attempt=2,
        inputs_sha256=b"i" * 32,
        result_sha256=b"r" * 32,
        reserved=Micros(100),
        cost=Micros(60),
        returned=Micros(40),
        policy="5000/20000/100000",
        reserve_seq=4,
        resolution_seq=9,
        created_at=NOW,
        settled_at=NOW + timedelta(seconds=3),
    )


def test_void_has_a_receipt_too() -> None:
    void = evolve(SETTLED, status=Status.EXPIRED, cost=ZERO, returned=Micros(100), seq=5)
    receipt = receipt_of(BOUGHT, evolve(void, result_sha256=None, attempts_spent=0))

    assert (receipt.status, receipt.attempt, receipt.result_sha256) == (Status.EXPIRED, 1, None)
    assert (receipt.reserved, receipt.cost, receipt.returned) == (100, 0, 100)


@pytest.mark.parametrize("changes", [{"cost": Micros(61)}, {"returned": ZERO}, {"seq": 4}])
def test_facts_that_contradict_each_other_make_no_receipt(changes: dict[str, Micros]) -> None:
    with pytest.raises(AssertionError):
        receipt_of(BOUGHT, evolve(SETTLED, **changes))


def test_usage_has_every_day_of_its_period() -> None:
    busy = UsageDay(day=date(2026, 2, 28), runs=2, completed=1, failed=1, cost=Micros(5))
    usage = Usage(date(2026, 2, 27), date(2026, 3, 1), (busy,))

    assert usage.span == 3
    assert list(usage.every_day()) == [
        UsageDay(day=date(2026, 2, 27)),
        busy,
        UsageDay(day=date(2026, 3, 1)),
    ]


def test_period_that_ends_before_it_begins_has_no_days() -> None:
    usage = Usage(date(2026, 3, 2), date(2026, 3, 1), ())

    assert (usage.span, list(usage.every_day())) == (0, [])
    assert Usage(date(2026, 3, 1), date(2026, 3, 1), ()).span == 1
