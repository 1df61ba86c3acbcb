"""Bugs of leases: who may work on runs, until when, and by whose clock."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

CONTRACT = "tests/store/test_contract.py::TestPostgres::"
RACES = "tests/store/test_races.py::"
TENURE = "tests/actors/test_tenure.py::"

BUGS = (
    Bug(
        "a lapsed lease is renewed",
        (Change("sql/queries/renew_lease.sql", " and lease_until > dpp.now()", ""),),
        (CONTRACT + "test_a_lease_that_lapsed_is_never_renewed_again",),
    ),
    Bug(
        "a renewal that waited judges by the time before it waited",
        (
            Change(
                "dpp/store/leases.py",
                "        await queries.lock_lease_to_renew.fetch(connection,"
                " lease_id=lease.lease_id)\n",
                "",
            ),
        ),
        (RACES + "test_a_renewal_that_waited_past_its_lease_renews_nothing",),
    ),
    Bug(
        "the node's clock decides until when a lease lives",
        (
            Change(
                "sql/queries/take_lease.sql",
                "dpp.now() + :lease_s::float8 * interval '1 second'",
                ":lease_until::timestamptz",
            ),
            Change(
                "dpp/store/leases.py",
                "            node_id=lease.node_id,\n            lease_s=lease_s,\n",
                "            node_id=lease.node_id,\n"
                "            lease_until=datetime.now().astimezone()"
                " + timedelta(seconds=lease_s),\n",
            ),
            Change(
                "dpp/store/leases.py",
                "from datetime import datetime\n",
                "from datetime import datetime, timedelta\n",
            ),
        ),
        (CONTRACT + "test_a_tenure_begins_and_is_seen",),
    ),
    Bug(
        "trust counts from the answer to a renewal",
        (
            Change(
                "dpp/actors/tenure.py",
                "here.trust.deadline = trusted_until(asked_at, lease_s)",
                "here.trust.deadline = trusted_until(trio.current_time(), lease_s)",
            ),
        ),
        (TENURE + "test_slow_renewal_does_not_stretch_trust",),
    ),
    Bug(
        "a renewal goes on after the lease was lost",
        (Change("dpp/actors/tenure.py", "        if not renewal.held:\n", "        if False:\n"),),
        (TENURE + "test_a_lost_lease_ends_the_work_and_the_node_takes_another",),
    ),
    Bug(
        "a crash hands its runs back free",
        (Change("dpp/actors/tenure.py", "    blameless = False  #", "    blameless = True  #"),),
        (TENURE + "test_an_exception_leaves_the_runs_to_the_reaper",),
    ),
    Bug(
        "a stall of the node passes for an outage of the store",
        (
            Change(
                "dpp/actors/tenure.py",
                "blameless = here.unanswered and late_s < margin(lease_s)",
                "blameless = True",
            ),
        ),
        (TENURE + "test_our_own_stall_of_40_s_spends_the_attempt",),
    ),
    Bug(
        "a ghost is worked on by nobody for ever",
        (Change("dpp/actors/tenure.py", "    if ghosts:\n", "    if False:\n"),),
        (TENURE + "test_a_ghost_is_handed_back_at_the_second_renewal",),
    ),
    Bug(
        "a claim on its way is taken for a ghost",
        (
            Change(
                "dpp/actors/tenure.py",
                "    ghosts = unknown & suspects\n",
                "    ghosts = unknown\n",
            ),
        ),
        (TENURE + "test_what_is_known_by_the_second_renewal_is_no_ghost",),
    ),
    Bug(
        "runs are handed back before their lease is gone",
        (
            Change(
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
            ),
        ),
        (RACES + "test_ending_a_lease_waits_for_the_open_claim_and_hands_back_what_it_took",),
    ),
    Bug(
        "a lease is ended and its runs are taken back in one statement",
        (
            Change(
                "dpp/store/leases.py",
                """\
        await queries.end_lease.fetch(connection, lease_id=lease.lease_id)
        if hand_back:
""",
                "        if hand_back:\n",
            ),
            Change(
                "sql/queries/hand_back_lease.sql",
                "with mine as (\n",
                "with ended as (delete from node_leases where lease_id = :lease_id),\nmine as (\n",
            ),
        ),
        (RACES + "test_ending_a_lease_waits_for_the_open_claim_and_hands_back_what_it_took",),
    ),
    Bug(
        "a node ends its own tenure by a question that came late",
        (
            Change(
                "sql/queries/end_earlier_leases.sql",
                "   and tenure < (select",
                "   and tenure <> (select",
            ),
        ),
        (CONTRACT + "test_a_question_that_came_late_ends_no_tenure_that_came_after",),
    ),
    Bug(
        "a drain hands back what is set aside",
        (
            Change(
                "sql/queries/hand_back_lease.sql",
                " and quarantined_at is null\n   order by run_id",
                "\n   order by run_id",
            ),
        ),
        (CONTRACT + "test_nobody_but_an_operator_touches_what_is_set_aside",),
    ),
    Bug(
        "the clock is the transaction's and stands still while it waits",
        (
            Change(
                "sql/migrations/0001_books_pre.sql",
                "::timestamptz, statement_timestamp());",
                "::timestamptz, now());",
            ),
        ),
        (RACES + "test_a_claim_that_waited_past_its_lease_claims_nothing",),
    ),
)
