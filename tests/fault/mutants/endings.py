"""Bugs of endings: a run ends once, at the cost that its outcome says, by who holds it."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

SETTLEMENT = "dpp/settlement.py"
CONTRACT = "tests/store/test_contract.py::TestPostgres::"
CORE = "tests/core/test_settlement.py::"
COUNTS = "tests/store/test_counts.py::"
INTAKE = "tests/actors/test_intake.py::"
RACES = "tests/store/test_races.py::"
SPENDING = "tests/store/test_spending.py::"
COUNTED = 'counts["ended"] == counts["endings"] == counts["budgeted"] == len(endings)'

BUGS = (
    Bug(
        "what a run returns is not counted back on its day",
        (
            Change(
                "sql/queries/write_endings.sql",
                "         day_spend = b.day_spend - t.day_returned,\n",
                "",
            ),
        ),
        (SPENDING + "test_counters_are_their_facts_and_caps_hold_wherever_the_clock_goes",),
    ),
    Bug(
        "what a run returns is not given back to its key's allowance",
        (
            Change(
                "sql/queries/write_endings.sql",
                "     set used = w.used - s.returned\n",
                "     set used = w.used - 0 * s.returned\n",
            ),
        ),
        (SPENDING + "test_counters_are_their_facts_and_caps_hold_wherever_the_clock_goes",),
    ),
    Bug(
        "the primary key of endings is dropped",
        (
            Change(
                "sql/migrations/0001_books_pre.sql",
                "  constraint endings_run primary key (run_id), -- at most one resolution a run\n",
                "",
            ),
        ),
        ("tests/store/test_constraints.py::test_each_constraint_refuses_what_it_should",),
    ),
    Bug(
        "settle without the epoch's guard",
        (
            Change(
                SETTLEMENT,
                "run.lease_id == fence.lease_id and run.lease_epoch == fence.lease_epoch",
                "run.lease_id == fence.lease_id",
            ),
        ),
        (CORE + "test_only_the_attempt_that_holds_the_run_ends_it",),
    ),
    Bug(
        "an ending is inserted although no live row was deleted",
        (
            Change(
                "sql/queries/write_endings.sql",
                """\
  select run_id, tenant_id, seq, status, kind, cost, max_cost - cost, lease_epoch, attempts_spent, cancel_asked,
         ending_id, started_at, dpp.now(), error_code, error_detail, coalesce(result_sha256, sha256(result)), result,
         result_key
    from gone
""",  # noqa: E501
                """\
  select i.run_id, s.tenant_id, i.seq, i.status, i.kind, i.cost, s.max_cost - i.cost, i.lease_epoch, 0, false,
         i.ending_id, null, dpp.now(), i.error_code, i.error_detail,
         coalesce(i.result_sha256, sha256(i.result)), i.result, i.result_key
    from item i
    join submissions s on s.run_id = i.run_id
""",  # noqa: E501
            ),
            Change(
                "sql/queries/write_endings.sql",
                """\
    join gone g on g.run_id = e.run_id
    left join budgets b on b.tenant_id = e.tenant_id
""",
                """\
    left join gone g on g.run_id = e.run_id
    left join budgets b on b.tenant_id = e.tenant_id
""",
            ),
            Change(
                "dpp/store/endings.py",
                COUNTED,
                'counts["endings"] == counts["budgeted"] == len(endings)',
            ),
        ),
        (COUNTS + "test_a_run_is_ended_whole_or_not_at_all",),
    ),
    Bug(
        "what was written is not counted",
        (Change("dpp/store/endings.py", COUNTED, "True"),),
        (COUNTS + "test_a_run_is_ended_whole_or_not_at_all",),
    ),
    Bug(
        "any ending is taken for one's own",
        (
            Change(
                SETTLEMENT,
                "if ended is not None and ended.ending_id == end.ending_id:",
                "if ended is not None:",
            ),
        ),
        (CORE + "test_asked_again_only_the_own_ending_tells_that_it_committed",),
    ),
    Bug(
        "a cost over the reserve is accepted",
        (
            Change(
                SETTLEMENT,
                '    assert 0 <= charged <= run.max_cost, "a charge over the reserve got past'
                ' ctx.charge"\n',
                "",
            ),
        ),
        (CORE + "test_a_charge_outside_the_reserve_is_refused_and_never_clamped",),
    ),
    Bug(
        "a cost over the reserve is clamped",
        (
            Change(
                SETTLEMENT,
                '    assert 0 <= charged <= run.max_cost, "a charge over the reserve got past'
                ' ctx.charge"\n    return charged\n',
                "    return min(charged, run.max_cost)\n",
            ),
        ),
        (CORE + "test_a_charge_outside_the_reserve_is_refused_and_never_clamped",),
    ),
    Bug(
        "a pack charges over the reserve",
        (
            Change(
                "dpp/packs/ctx.py",
                "        if self._charged + amount > self.ceiling:\n",
                "        if amount > self.ceiling:\n",
            ),
        ),
        ("tests/actors/test_executor.py::test_a_charge_over_the_reserve_meets_the_ceiling",),
    ),
    Bug(
        "the minimum fee is computed anew at the end",
        (
            Change(
                SETTLEMENT,
                "Micros(max(covered(charged, run), run.minimum_fee))",
                "max(covered(charged, run), FeeRule().fee(run.max_cost))",
            ),
            Change(
                SETTLEMENT,
                "from dpp.money import ZERO, Micros\n",
                "from dpp.money import ZERO, Micros\nfrom dpp.pricing import FeeRule\n",
            ),
        ),
        (CORE + "test_the_outcome_says_who_pays",),
    ),
    Bug(
        "a cancel asks only a run that waits",
        (
            Change(
                "sql/queries/ask_cancel.sql",
                "where run_id = :run_id and tenant_id = :tenant_id",
                "where run_id = :run_id and tenant_id = :tenant_id and lease_id is null",
            ),
        ),
        (CONTRACT + "test_a_running_run_is_asked_and_its_own_outcome_stands",),
    ),
    Bug(
        "a cancel asks for a run that waits, then for one that works",
        (
            Change(
                "sql/queries/ask_cancel.sql",
                "where run_id = :run_id and tenant_id = :tenant_id",
                "where run_id = :run_id and tenant_id = :tenant_id and lease_id is null",
            ),
            Change(
                "dpp/store/cancels.py",
                "        if asked is not None and",
                """\
        if asked is None:
            asked = await connection.fetchrow(
                "update dpp.live_runs set cancel_asked = true"
                " where run_id = $1 and tenant_id = $2 and lease_id is not null"
                " returning lease_id, quarantined_at is not null as quarantined",
                run_id,
                tenant_id,
            )
        if asked is not None and""",
            ),
        ),
        (RACES + "test_a_cancel_that_met_a_hand_back_ends_the_run[drain]",),
    ),
    Bug(
        "a poisoned item fails its neighbours",
        (
            Change(
                "dpp/actors/batches.py",
                "        half = len(items) // 2\n",
                "        for item in items:\n            await self._alone(item, bug)\n"
                "        return\n        half = len(items) // 2\n",
            ),
        ),
        ("tests/actors/test_batches.py::test_a_poisoned_item_harms_only_itself",),
    ),
    Bug(
        "the answers of a batch are swapped",
        (
            Change(
                "dpp/actors/lane.py",
                "for call, answer in zip(calls, answers, strict=True):",
                "for call, answer in zip(calls, reversed(answers), strict=True):",
            ),
        ),
        (INTAKE + "test_a_batch_waits_once_and_answers_in_order",),
    ),
    Bug(
        "the drain drops what waits in a mailbox",
        (
            Change(
                "dpp/actors/lanes.py",
                "            mailbox.close()\n",
                "            mailbox.abandon()\n",
            ),
        ),
        (INTAKE + "test_what_waits_when_the_node_drains_is_committed_and_answered",),
    ),
)
