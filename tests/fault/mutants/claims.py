"""Bugs of claims: which runs are taken, how many, and what is known of one without an answer."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

CLAIM = "sql/queries/claim_runs.sql"
TURNS = "sql/queries/hold_turns.sql"
COMMIT = "tests/store/test_commit.py::TestOnSharedDatabase::"
CONTRACT = "tests/store/test_contract.py::TestPostgres::"
RACES = "tests/store/test_races.py::"

BUGS = (
    Bug(
        "a claim takes more than it asked for",
        (Change(CLAIM, "       limit head.places\n", "       limit head.places + 1\n"),),
        (CONTRACT + "test_never_more_than_the_limit",),
    ),
    Bug(
        "a claim is made under a lease that has lapsed",
        (Change(TURNS, " and lease_until > dpp.now()", ""),),
        (CONTRACT + "test_without_a_living_lease_nothing_is_claimed",),
    ),
    Bug(
        "a claim holds up the renewal of its lease",
        (Change(TURNS, "dpp.now() for key share", "dpp.now() for share"),),
        (RACES + "test_an_open_claim_does_not_hold_up_the_renewal",),
    ),
    Bug(
        "two nodes count the same tenant's cap at once",
        (Change(TURNS, "     for no key update skip locked\n", ""),),
        (RACES + "test_a_tenant_whose_turn_another_node_holds_is_passed_over",),
    ),
    Bug(
        "a quarantined run is claimed",
        (
            Change(
                CLAIM,
                "\n             and r.quarantined_at is null\n             and (r.expires_at",
                "\n             and (r.expires_at",
            ),
            Change(
                CLAIM,
                "\n         and r.quarantined_at is null\n         and (r.expires_at",
                "\n         and (r.expires_at",
            ),
        ),
        (CONTRACT + "test_nobody_but_an_operator_touches_what_is_set_aside",),
    ),
    Bug(
        "an unknown claim is read without waiting for it",
        (Change("sql/queries/lock_lease.sql", " for update", ""),),
        (RACES + "test_an_unknown_claim_is_told_only_when_its_old_backend_is_done",),
    ),
    Bug(
        "an unknown COMMIT of a claim is forgotten",
        (
            Change(
                "dpp/store/desk.py",
                'fault = ClaimUnknown if name == "claim_runs" else StoreUnavailable',
                "fault = StoreUnavailable",
            ),
        ),
        (COMMIT + "test_a_claim_is_unknown_until_it_is_asked_for",),
    ),
    Bug(
        "the time box counts from the answer to a claim",
        (
            Change(
                "dpp/actors/attempts.py",
                "deadline = asked_at + claimed.timebox_s",
                "deadline = trio.current_time() + claimed.timebox_s",
            ),
        ),
        (
            "tests/actors/test_executor.py::test_the_time_box_counts_from_before_the_claim_was_asked",
        ),
    ),
    Bug(
        "a claim takes more inputs than come in time",
        (Change(CLAIM, " where sized.before < :bytes)", " where sized.before < :bytes or true)"),),
        ("tests/store/test_claimed_inputs.py::test_a_claim_is_cut_short_for_its_inputs",),
    ),
)
