"""The bugs, by what they are: those that such systems have had, and one a rule of the protocol.

Each replaces one text of one file. A text that is no longer there, or there twice, is an error: the
list goes with the code. A test must fail; which one stands beside it, so that a run is short.
"""

from __future__ import annotations

from attrs import frozen


@frozen
class Bug:
    """One bug: a place, what stands there, what stands there instead, and who must notice."""

    name: str
    file: str
    old: str
    new: str
    tests: str


BUGS = (
    Bug(
        "the primary key of endings is dropped",
        "sql/migrations/0001_books_pre.sql",
        "  constraint endings_run primary key (run_id), -- at most one resolution a run\n",
        "",
        "tests/store/test_constraints.py",
    ),
    Bug(
        "settle without the epoch's guard",
        "dpp/settlement.py",
        "run.lease_id == fence.lease_id and run.lease_epoch == fence.lease_epoch",
        "run.lease_id == fence.lease_id",
        "tests/core/test_settlement.py",
    ),
    Bug(
        "an unknown COMMIT is taken for a commit",
        "dpp/store/transactions.py",
        "                raise CommitUnknown(str(error)) from error\n",
        "                return\n",
        "tests/store/test_commit.py",
    ),
    Bug(
        "the tag ROLLBACK is taken for a commit",
        "dpp/store/transactions.py",
        'if tag != "COMMIT":',
        "if not tag:",
        "tests/store/test_commit.py",
    ),
    Bug(
        "an unknown COMMIT of a claim is forgotten",
        "dpp/store/desk.py",
        'fault = ClaimUnknown if name == "claim_runs" else StoreUnavailable',
        "fault = StoreUnavailable",
        "tests/store/test_commit.py",
    ),
    Bug(
        "reserve by read, then write",
        "sql/queries/lock_budgets.sql",
        "   for no key update",
        "",
        "tests/store/test_races.py",
    ),
    Bug(
        "the reaper's guard only in the scan",
        "dpp/store/endings.py",
        'if not as_seen or row["quarantined"]',
        'if row["lease_id"] is None or row["quarantined"]',
        "tests/store/test_races.py",
    ),
    Bug(
        "a renewal goes on after the lease was lost",
        "dpp/actors/tenure.py",
        "        if not renewal.held:\n",
        "        if False:\n",
        "tests/actors/test_tenure.py",
    ),
    Bug(
        "a lapsed lease is renewed",
        "sql/queries/renew_lease.sql",
        " and lease_until > dpp.now()",
        "",
        "tests/store/test_contract.py tests/store/test_races.py",
    ),
    Bug(
        "a result is stored without a mark",
        "dpp/actors/delivery.py",
        'if not await until_answered("mark_storing", mark):',
        "if False:",
        "tests/actors/test_large_results.py",
    ),
    Bug(
        "a result's key lacks the epoch",
        "dpp/blobs.py",
        "return (tenant, *date_parts, str(self.run_id), str(self.lease_epoch))",
        'return (tenant, *date_parts, str(self.run_id), "1")',
        "tests/core/test_blobs.py tests/actors/test_large_results.py",
    ),
    Bug(
        "an object that is not the attempt's settles it",
        "dpp/actors/reconciler.py",
        "return belongs(there, fence, left.max_cost) if isinstance(there, Found) else there",
        "return there",
        "tests/actors/test_large_results.py",
    ),
    Bug(
        "a store that cannot be asked is taken for one that has nothing",
        "dpp/actors/reconciler.py",
        "            await self._wait(left, fence, unasked.why)\n            return False\n",
        "            there = Missing()\n",
        "tests/actors/test_large_results.py",
    ),
    Bug(
        "the reaper takes what stores a result",
        "sql/queries/orphaned_runs.sql",
        "   and not r.storing\n",
        "",
        "tests/store/test_contract.py",
    ),
    Bug(
        "a reserve has a time-out of its own",
        "dpp/store/endings.py",
        '(row["lease_epoch"] > 0 or not row["expired"])',
        'not row["expired"]',
        "tests/store/test_contract.py",
    ),
    Bug(
        "a cost over the reserve is clamped",
        "dpp/settlement.py",
        '    assert 0 <= charged <= run.max_cost, "a charge over the reserve got past ctx.charge"\n'
        "    return charged\n",
        "    return min(charged, run.max_cost)\n",
        "tests/core/test_settlement.py",
    ),
    Bug(
        "the fee is computed by float",
        "dpp/pricing.py",
        "reserve * self.percent_ppm // PPM",
        "int(reserve * (self.percent_ppm / PPM))",
        "tests/core/test_pricing.py",
    ),
    Bug(
        "the fingerprint drops nested members",
        "dpp/fingerprints.py",
        "    return _encode(value).encode()\n",
        "    flat = isinstance(value, Mapping)\n"
        "    return _encode([*value] if flat else value).encode()\n",
        "tests/core/test_fingerprints.py",
    ),
    Bug(
        "a poisoned item fails its neighbours",
        "dpp/actors/batches.py",
        "        half = len(items) // 2\n",
        "        for item in items:\n            await self._alone(item, bug)\n        return\n"
        "        half = len(items) // 2\n",
        "tests/actors/test_batches.py",
    ),
    Bug(
        "the answers of a batch are swapped",
        "dpp/actors/lane.py",
        "for call, answer in zip(calls, answers, strict=True):",
        "for call, answer in zip(calls, reversed(answers), strict=True):",
        "tests/actors/test_lane.py",
    ),
    Bug(
        "rows are locked in order of arrival",
        "sql/queries/lock_budgets.sql",
        " order by tenant_id\n",
        "",
        "tests/store/test_lock_order.py tests/store/test_plans.py",
    ),
    Bug(
        "a replayed deposit credits twice",
        "dpp/ledger.py",
        "    if read.earlier is not None:\n",
        "    if False:\n",
        "tests/core/test_ledger.py",
    ),
    Bug(
        "the drain drops what waits in a mailbox",
        "dpp/actors/lanes.py",
        "            mailbox.close()\n",
        "            mailbox.abandon()\n",
        "tests/actors",
    ),
    Bug(
        "an unknown claim is read without waiting for it",
        "sql/queries/lock_lease.sql",
        " for update",
        "",
        "tests/store/test_races.py",
    ),
    Bug(
        "a crash hands its runs back free",
        "dpp/actors/tenure.py",
        "    blameless = False  #",
        "    blameless = True  #",
        "tests/actors/test_tenure.py",
    ),
    Bug(
        "a reaper charges for a lost attempt",
        "dpp/settlement.py",
        "Status.FAILED, ZERO, failure=failure or lost",
        "Status.FAILED, run.minimum_fee, failure=failure or lost",
        "tests/core/test_settlement.py",
    ),
    Bug(
        "any ending is taken for one's own",
        "dpp/settlement.py",
        "if ended is not None and ended.ending_id == end.ending_id:",
        "if ended is not None:",
        "tests/core/test_settlement.py",
    ),
    Bug(
        "a claim takes more than it asked for",
        "sql/queries/claim_runs.sql",
        "   limit :limit::int\n",
        "   limit :limit::int + 1\n",
        "tests/store/test_contract.py",
    ),
    Bug(
        "a claim is made under a lease that has lapsed",
        "sql/queries/hold_turns.sql",
        " and lease_until > dpp.now()",
        "",
        "tests/store/test_contract.py",
    ),
    Bug(
        "a cancelled run waits again",
        "dpp/leases.py",
        "    if cancel_asked:\n",
        "    if False:\n",
        "tests/core/test_leases.py",
    ),
    Bug(
        "a quarantined run is claimed",
        "sql/queries/claim_runs.sql",
        "             and r.quarantined_at is null\n",
        "",
        "tests/store/test_contract.py",
    ),
    Bug(
        "a frozen tenant goes on submitting",
        "dpp/admission.py",
        "    if account.frozen:\n",
        "    if False:\n",
        "tests/core/test_admission.py",
    ),
    Bug(
        "a known key is refused by what came later",
        "dpp/admission.py",
        "    if account.suspended:\n",
        "    if account.suspended or account.frozen:\n",
        "tests/core/test_admission.py",
    ),
    Bug(
        "a COMMIT whose connection was lost is taken for a failure",
        "dpp/store/sqlstates.py",
        '{"08000", "08003", "08006",',
        '{"08000", "08006",',
        "tests/store/test_commit.py",
    ),
    Bug(
        "it is answered whatever COMMIT says",
        "dpp/store/transactions.py",
        "    await commit(connection)\n    at(",
        "    try:\n        await commit(connection)\n    except Exception:\n        pass\n    at(",
        "tests/store/test_commit.py",
    ),
    Bug(
        "an unknown end is asked again under a fresh id",
        "dpp/store/endings.py",
        "    tenant_ids = sorted({end.tenant_id for end in batch})\n",
        "    from uuid import uuid4\n"
        "    from attrs import evolve\n"
        "    batch = [evolve(end, ending_id=uuid4()) for end in batch]\n"
        "    tenant_ids = sorted({end.tenant_id for end in batch})\n",
        "tests/store/test_commit.py tests/store/test_contract.py",
    ),
    Bug(
        "a batch's sums are read before the lock is had",
        "sql/queries/lock_budgets.sql",
        "select tenant_id, deposited, available,",
        "select tenant_id, deposited,\n"
        "       (select b.available from budgets b where b.tenant_id = budgets.tenant_id)"
        " as available,",
        "tests/store/test_races.py",
    ),
    Bug(
        "a lease's runs are handed back before its row is gone",
        "dpp/store/leases.py",
        """\
        await queries.end_lease.fetch(connection, lease_id=lease.lease_id)
        if hand_back:
            row = await queries.hand_back_lease.fetch_one(connection, lease_id=lease.lease_id)
""",
        """\
        row = await queries.hand_back_lease.fetch_one(connection, lease_id=lease.lease_id)
        await queries.end_lease.fetch(connection, lease_id=lease.lease_id)
        if hand_back:
""",
        "tests/store/test_races.py",
    ),
    Bug(
        "a cancel asks only a run that waits",
        "sql/queries/ask_cancel.sql",
        "where run_id = :run_id and tenant_id = :tenant_id",
        "where run_id = :run_id and tenant_id = :tenant_id and lease_id is null",
        "tests/store/test_contract.py",
    ),
)
