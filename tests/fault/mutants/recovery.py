"""Bugs of recovery: what becomes of runs whose node is gone, and who pays for that."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

CONTRACT = "tests/store/test_contract.py::TestPostgres::"
RACES = "tests/store/test_races.py::"
ENDINGS = "dpp/store/endings.py"

BUGS = (
    Bug(
        "the reaper's guard only in the scan",
        (
            Change(
                ENDINGS,
                'if not as_seen or row["quarantined"]',
                'if row["lease_id"] is None or row["quarantined"]',
            ),
        ),
        (RACES + "test_a_reaper_that_waited_for_the_row_looks_again",),
    ),
    Bug(
        "a take-back is judged by a sub-select for a living lease",
        (
            Change(
                ENDINGS,
                'if not as_seen or row["quarantined"]',
                'if row["lease_id"] is None or row["quarantined"]',
            ),
            Change(
                "sql/queries/lock_runs_free.sql",
                " where run_id = any(:run_ids::uuid[])\n order by run_id\n"
                "   for no key update skip locked",
                " where run_id = any(:run_ids::uuid[])\n"
                "   and not exists (select from node_leases l"
                " where l.lease_id = live_runs.lease_id)\n"
                " order by run_id\n   for no key update",
            ),
        ),
        (RACES + "test_a_run_that_changed_hands_while_a_page_was_taken_back_stays_there",),
    ),
    Bug(
        "a reaper charges for a lost attempt",
        (
            Change(
                "dpp/settlement.py",
                "Status.FAILED, ZERO, failure=failure or lost",
                "Status.FAILED, run.minimum_fee, failure=failure or lost",
            ),
        ),
        ("tests/core/test_settlement.py::test_the_platforms_failure_is_tried_again_and_then_free",),
    ),
    Bug(
        "a reaper ends a run in the moment that its time box passes",
        (
            Change(
                "sql/queries/overdue_runs.sql",
                ":grace_s::float8 * interval '1 second'",
                ":grace_s::float8 * interval '0 second'",
            ),
        ),
        (CONTRACT + "test_a_passed_deadline_is_the_reapers_only_after_the_grace",),
    ),
    Bug(
        "a reaper takes back before living nodes could hand back",
        (
            Change(
                "dpp/actors/reaper.py",
                "is_calm = trio.current_time() >= calm.waits_until",
                "is_calm = True",
            ),
        ),
        ("tests/actors/test_reaper.py::test_after_an_outage_living_nodes_hand_back_first",),
    ),
    Bug(
        "a lost attempt is never spent",
        (
            Change(
                "dpp/leases.py", "    return Requeue(spent=1)\n", "    return Requeue(spent=0)\n"
            ),
        ),
        ("tests/core/test_leases.py::test_every_lost_attempt_has_one_consequence",),
    ),
    Bug(
        "a run that waits again keeps its old place in time",
        (
            Change(
                "sql/queries/requeue_runs.sql",
                "       available_at = dpp.now(),\n       attempts_spent",
                "       attempts_spent",
            ),
        ),
        (CONTRACT + "test_a_run_taken_back_can_be_claimed_at_once",),
    ),
    Bug(
        "a cancelled run waits again",
        (Change("dpp/leases.py", "    if cancel_asked:\n", "    if False:\n"),),
        ("tests/core/test_leases.py::test_every_lost_attempt_has_one_consequence",),
    ),
    Bug(
        "a reserve has a time-out of its own",
        (
            Change(
                ENDINGS,
                '(row["lease_epoch"] > 0 or not row["expired"])',
                'not row["expired"]',
            ),
        ),
        (CONTRACT + "test_a_run_that_was_started_once_never_expires",),
    ),
    Bug(
        "an outage sets runs aside",
        (
            Change(
                "dpp/actors/batches.py",
                "        except (StoreUnavailable, StoreBroken):\n",
                "        except StoreBroken:\n",
            ),
        ),
        ("tests/actors/test_batches.py::test_an_outage_goes_through_at_once",),
    ),
)
