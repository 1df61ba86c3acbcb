"""States: the whole table, who pays, and the same words in SQL."""

import itertools
import re
from datetime import UTC, datetime
from uuid import UUID

import pytest

from dpp.ledger import Kind
from dpp.money import ZERO, Micros
from dpp.resources import sql_dir
from dpp.runs import (
    TERMINAL,
    TRANSITIONS,
    ErrorCode,
    Event,
    Refused,
    Run,
    Status,
    advance,
    payer,
)

HAPPENS = {
    (Status.QUEUED, Event.CLAIMED): Status.PROCESSING,
    (Status.QUEUED, Event.CANCEL_ASKED): Status.CANCELED,
    (Status.QUEUED, Event.QUEUE_TTL_PASSED): Status.EXPIRED,
    (Status.PROCESSING, Event.REQUEUED): Status.QUEUED,
    (Status.PROCESSING, Event.COMPLETED): Status.COMPLETED,
    (Status.PROCESSING, Event.FAILED): Status.FAILED,
    (Status.PROCESSING, Event.CANCEL_HONOURED): Status.CANCELED,
    (Status.PROCESSING, Event.ATTEMPTS_USED_UP): Status.FAILED,
}
PAIRS = list(itertools.product(Status, Event))
SCHEMA = (sql_dir() / "schema.sql").read_text()


@pytest.mark.parametrize(("status", "event"), PAIRS)
def test_each_pair_of_status_and_event_leads_where_it_should_or_is_refused(
    status: Status, event: Event
) -> None:
    after = HAPPENS.get((status, event))

    if after is None:
        with pytest.raises(Refused, match=f"{event} does not happen to a {status} run"):
            advance(status, event)
    else:
        assert advance(status, event) is after


def test_the_table_names_every_status_and_nothing_more() -> None:
    assert set(TRANSITIONS) == set(Status)
    assert {
        (status, event): after
        for status, events in TRANSITIONS.items()
        for event, after in events.items()
    } == HAPPENS


def test_what_is_over_stays_over() -> None:
    assert {Status.COMPLETED, Status.FAILED, Status.CANCELED, Status.EXPIRED} == TERMINAL
    assert all(TRANSITIONS[status] == {} for status in TERMINAL)


def test_every_status_is_reached_from_a_queued_run() -> None:
    reached = {Status.QUEUED}
    for _ in Status:
        reached |= {after for status in reached for after in TRANSITIONS[status].values()}

    assert reached == set(Status)


def test_sql_lists_the_same_statuses() -> None:
    assert words("endings_status") == {str(status) for status in TERMINAL}
    live = re.search(r"lease_id IS NULL\)? THEN '(\w+)'.*?ELSE '(\w+)'", SCHEMA, re.DOTALL | re.I)  # noqa: FURB167
    assert live is not None
    assert live.groups() == ("QUEUED", "PROCESSING")


def test_sql_knows_the_kinds_that_are_posted() -> None:
    assert words("transfers_kind") == {str(kind) for kind in Kind} | {"refund", "adjust"}


def test_every_failure_says_who_pays() -> None:
    assert {str(code): payer(code, ZERO) for code in ErrorCode} == {
        "pack_refused": "tenant",
        "pack_error": "tenant",
        "timebox": "tenant",
        "cost_ceiling": "tenant",
        "result_too_large": "tenant",
        "lost_lease": "platform",
        "store_unavailable": "platform",
        "infrastructure": "platform",
        "resolved_by_operator": "platform",
    }
    assert payer(ErrorCode.RESOLVED_BY_OPERATOR, Micros(1)) == "tenant"


@pytest.mark.parametrize("status", Status)
def test_a_run_holds_its_reserve_exactly_until_it_is_over(status: Status) -> None:
    at = datetime(2026, 1, 1, tzinfo=UTC)
    run = Run(
        run_id=UUID(int=1),
        tenant_id="acme",
        status=status,
        pack_type="echo",
        idempotency_key="one",
        attempt=1,
        lease_epoch=0,
        created_at=at,
        started_at=None,
        finished_at=None,
        expires_at=at,
        max_cost=Micros(7),
        minimum_fee=Micros(0),
        actual_cost=None,
        policy="0/0/0",
        priority=5,
        timebox_s=60,
        cancel_asked=False,
        trace_id="",
        progress=None,
        result=None,
        result_key=None,
        result_sha256=None,
        failure=None,
    )

    assert run.held == (7 if status in {Status.QUEUED, Status.PROCESSING} else 0)


def words(constraint: str) -> set[str]:
    """Return the quoted words of a check in the schema."""
    found = re.search(rf"{constraint} CHECK (.*)", SCHEMA, re.IGNORECASE)
    assert found is not None, constraint
    return set(re.findall(r"'(\w+)'", found.group(1)))
