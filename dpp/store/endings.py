"""Ending runs: the one way in which a live row goes and an ending comes, whoever ends it.

Settler, reaper, queue TTL and cancel all lock the tenants' budgets first, then the live rows,
decide by pure code, and write through `write_endings`, whose counts must equal what was decided.
"""

from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from dpp import settlement
from dpp.admission import Busy
from dpp.claims import Seen
from dpp.leases import Fence, Lapse, Requeue
from dpp.metrics import endings_total, returned_micros_total, settled_micros_total
from dpp.money import ZERO, Micros
from dpp.runs import Status, StoredResult
from dpp.settlement import End, EndedRun, Ending, LiveRun, Rows, Settlement
from dpp.store import findings, reads
from dpp.store.connections import Connection
from dpp.store.queries import Row, queries
from dpp.store.transactions import begin_for, transaction


async def end_runs(
    connection: Connection, batch: Sequence[End], *, wait: bool, attempts_max: int
) -> list[Settlement | Busy]:
    """End a batch of attempts in one transaction.

    Asked again under the same `ending_id`s it answers the same.
    """
    tenant_ids = sorted({end.tenant_id for end in batch})
    lock = queries.lock_budgets if wait else queries.lock_budgets_free
    async with transaction(connection, "settle", begin_for(connection, len(batch))):
        budgets = {
            row["tenant_id"]: row for row in await lock.fetch(connection, tenant_ids=tenant_ids)
        }
        assert not wait or len(budgets) == len(tenant_ids), "a budget row is gone"
        ours = [end for end in batch if end.tenant_id in budgets]
        settlements: Sequence[Settlement] = ()
        if ours:
            run_ids = [end.fence.run_id for end in ours]
            rows = await read_rows(connection, run_ids, budgets, wait=wait)
            held = set() if wait else await held_runs(connection, run_ids, rows)
            ours = [end for end in ours if end.fence.run_id not in held]
            plan = settlement.decide(ours, rows, attempts_max=attempts_max)
            requeued = await requeue(connection, plan.requeues)
            assert requeued == len(plan.requeues), "a locked live row was not requeued"
            await write(connection, plan.endings)
            settlements = plan.settlements
    answers = dict(zip([end.ending_id for end in ours], settlements, strict=True))
    return [answers.get(end.ending_id, Busy()) for end in batch]


async def held_runs(connection: Connection, run_ids: Sequence[UUID], rows: Rows) -> set[UUID]:
    """Return the runs that are there, and whose rows somebody else holds."""
    missed = [run_id for run_id in run_ids if run_id not in rows.live and run_id not in rows.ended]
    if not missed:
        return set()
    return {row["run_id"] for row in await queries.seen_runs.fetch(connection, run_ids=missed)}


async def read_rows(
    connection: Connection,
    run_ids: Sequence[UUID],
    budgets: Mapping[str, Row],
    *,
    wait: bool = True,
) -> Rows:
    """Lock the live rows; ask for the endings of those that have none."""
    lock = queries.lock_runs if wait else queries.lock_runs_free
    live = {
        row["run_id"]: live_run(row) for row in await lock.fetch(connection, run_ids=list(run_ids))
    }
    gone = [run_id for run_id in run_ids if run_id not in live]
    ended = await queries.ending_of.fetch(connection, run_ids=gone) if gone else []
    return Rows(
        live=live,
        ended={row["run_id"]: ended_run(row) for row in ended},
        seqs={tenant_id: row["seq"] for tenant_id, row in budgets.items()},
    )


def ended_run(row: Row) -> EndedRun:
    """Read the ending of a run."""
    return EndedRun(row["ending_id"], Status(row["status"]), Micros(row["cost"]))


def live_run(row: Row) -> LiveRun:
    """Read a locked live row."""
    return LiveRun(
        run_id=row["run_id"],
        tenant_id=row["tenant_id"],
        lease_id=row["lease_id"],
        lease_epoch=row["lease_epoch"],
        attempts_spent=row["attempts_spent"],
        max_cost=Micros(row["max_cost"]),
        minimum_fee=Micros(row["minimum_fee"]),
        cancel_asked=row["cancel_asked"],
        quarantined=row["quarantined"],
    )


async def write(connection: Connection, endings: Sequence[Ending]) -> None:
    """Write endings; the budgets and live rows are locked by this transaction."""
    if not endings:
        return
    counts = await queries.write_endings.fetch_one(
        connection,
        run_ids=[ending.run_id for ending in endings],
        lease_ids=[ending.lease_id for ending in endings],
        lease_epochs=[ending.lease_epoch for ending in endings],
        seqs=[ending.seq for ending in endings],
        statuses=[ending.status.value for ending in endings],
        kinds=[ending.kind for ending in endings],
        costs=[ending.cost for ending in endings],
        ending_ids=[ending.ending_id for ending in endings],
        error_codes=[ending.failure and ending.failure.code.value for ending in endings],
        error_details=[ending.failure and ending.failure.detail for ending in endings],
        results=[inline(ending.result) for ending in endings],
        result_keys=[stored and stored.key for stored in map(elsewhere, endings)],
        result_sha256s=[stored and stored.sha256 for stored in map(elsewhere, endings)],
    )
    assert counts is not None
    assert counts["ended"] == counts["endings"] == counts["budgeted"] == len(endings), dict(counts)
    for ending in endings:  # to be shown: one whose COMMIT then fails counts too
        endings_total.labels(ending.status.value).inc()
    settled_micros_total.inc(sum(ending.cost for ending in endings))
    returned_micros_total.inc(sum(ending.returned for ending in endings))


def inline(result: bytes | StoredResult | None) -> bytes | None:
    """Return a result that stands in its row."""
    return None if isinstance(result, StoredResult) else result


def elsewhere(ending: Ending) -> StoredResult | None:
    """Return where a result lies that does not stand in its row."""
    return ending.result if isinstance(ending.result, StoredResult) else None


async def requeue(connection: Connection, requeues: Sequence[tuple[Fence, int]]) -> int:
    """Let attempts wait again, their rows locked by now; returns how many were written."""
    if not requeues:
        return 0
    rows = await queries.requeue_runs.fetch(
        connection,
        run_ids=[fence.run_id for fence, _ in requeues],
        lease_ids=[fence.lease_id for fence, _ in requeues],
        lease_epochs=[fence.lease_epoch for fence, _ in requeues],
        spents=[spent for _, spent in requeues],
    )
    return len(rows)


async def take_back(
    connection: Connection,
    seen: Sequence[Seen],
    lapse: Lapse,
    ending_ids: Sequence[UUID],
    *,
    attempts_max: int,
    storing: bool = False,
) -> int:
    """Requeue or end runs whose attempt was lost, where they are still as seen and free."""
    async with transaction(connection, "take_back"):
        taken: list[tuple[Fence, int]] = []
        endings: list[Ending] = []
        async for run, ending_id, seq in still_as_seen(
            connection, seen, ending_ids, endings, storing=storing
        ):
            decided = settlement.take_back(run, ending_id, seq, lapse, attempts_max)
            if isinstance(decided, Requeue):
                assert run.lease_id is not None
                taken.append((Fence(run.run_id, run.lease_id, run.lease_epoch), decided.spent))
            else:
                endings.append(decided)
        requeued = await requeue(connection, taken)
        assert requeued == len(taken), "a locked live row was not requeued"
        await write(connection, endings)
    return requeued + len(endings)


async def hand_back_runs(
    connection: Connection,
    fences: Sequence[Fence],
    ids: Sequence[UUID],
    *,
    attempts_max: int,
) -> int:
    """Give attempts of a living lease back, no attempt spent; one whose cancel was asked ends.

    One that nobody submitted is set aside: waiting again it would be claimed again, and handed back
    again, for ever. Each id is that of an ending, or of a finding.
    """
    rows = await queries.seen_runs.fetch(connection, run_ids=[fence.run_id for fence in fences])
    held = {(fence.run_id, fence.lease_id, fence.lease_epoch) for fence in fences}
    seen = {
        row["run_id"]: reads.seen(row)
        for row in rows
        if (row["run_id"], row["lease_id"], row["lease_epoch"]) in held
    }
    own_ids = dict(zip(seen, ids, strict=False))  # as many as there were fences
    for stray in await queries.unsubmitted_runs.fetch(connection, run_ids=list(seen)):
        one = seen.pop(stray["run_id"])
        finding_id = own_ids.pop(one.run_id)
        await findings.quarantine_run(connection, one, unsubmitted(one), finding_id)
    runs, ending_ids = [*seen.values()], [*own_ids.values()]
    return await take_back(
        connection, runs, Lapse.HANDED_BACK, ending_ids, attempts_max=attempts_max
    )


def unsubmitted(one: Seen) -> dict[str, object]:
    """Return what an operator needs to know of a live row that nobody submitted."""
    return {
        "verb": "hand_back_runs",
        "error": "nobody submitted this run, so no node can work on it",
        "run_id": str(one.run_id),
        "lease_id": str(one.lease_id),
        "lease_epoch": one.lease_epoch,
    }


async def expire_runs(
    connection: Connection, seen: Sequence[Seen], ending_ids: Sequence[UUID]
) -> int:
    """End runs EXPIRED that still wait and were never started."""
    async with transaction(connection, "expire"):
        endings: list[Ending] = []
        async for run, ending_id, seq in still_as_seen(
            connection, seen, ending_ids, endings, expired=True
        ):
            endings.append(settlement.ending(run, ending_id, seq, Status.EXPIRED, ZERO))
        await write(connection, endings)
    return len(endings)


async def still_as_seen(
    connection: Connection,
    seen: Sequence[Seen],
    ending_ids: Sequence[UUID],
    endings: Sequence[Ending],
    *,
    expired: bool = False,
    storing: bool = False,
) -> Any:  # noqa: ANN401  # an async iterator of (LiveRun, UUID, int); see below
    """Lock budgets, then runs, skipping what is held; yield each run that is still as seen.

    `endings` grows while the caller works: each one takes the next place in its tenant's ledger.
    """
    tenant_ids = sorted({one.tenant_id for one in seen})
    budgets = await queries.lock_budgets_free.fetch(connection, tenant_ids=tenant_ids)
    seqs: dict[str, int] = {row["tenant_id"]: row["seq"] for row in budgets}
    ours = {
        one.run_id: (one, ending_id)
        for one, ending_id in zip(seen, ending_ids, strict=True)
        if one.tenant_id in seqs
    }
    if not ours:
        return
    for row in await queries.lock_runs_free.fetch(connection, run_ids=list(ours)):
        one, ending_id = ours[row["run_id"]]
        as_seen = (row["lease_id"], row["lease_epoch"]) == (one.lease_id, one.lease_epoch)
        if not as_seen or row["quarantined"] or row["storing"] != storing:
            continue
        if expired and (row["lease_epoch"] > 0 or not row["expired"]):  # once started: never
            continue
        run = live_run(row)
        ended = sum(1 for ending in endings if ending.tenant_id == run.tenant_id)
        yield run, ending_id, seqs[run.tenant_id] + ended + 1
