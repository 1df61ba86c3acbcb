"""Bugs beside Redis: what it counts and carries only narrows, and a retry is answered anyway."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

READING, SHEDDING = "dpp/http/reading.py", "dpp/http/shedding.py"
OF_READING, OF_SHEDDING = "tests/http/test_reading.py::", "tests/http/test_shedding.py::"

BUGS = (
    Bug(
        "what Redis has counted is all that counts: whoever empties it lifts the limit of reads",
        (
            Change(
                READING,
                "        self._here.count(tenant_id, ends_at=ends_at)\n",
                "",
            ),
        ),
        (OF_READING + "test_counters_that_are_lost_give_no_node_more_than_the_limit",),
    ),
    Bug(
        "another node's word that a rate is used up is believed of any time",
        (
            Change(
                SHEDDING,
                "if CLOCKS_S < left_s <= WINDOW_S + CLOCKS_S and tenant_id not in self._marks:",
                "if tenant_id not in self._marks:",
            ),
        ),
        (OF_SHEDDING + "test_a_hint_that_is_old_or_of_no_window_changes_nothing",),
    ),
    Bug(
        "while a rate is used up nothing comes to the intake, not even the retry of a known key",
        (Change(SHEDDING, "        if mark.next_at <= now:\n", "        if False:\n"),),
        (OF_SHEDDING + "test_a_known_key_is_answered_while_the_rate_is_used_up",),
    ),
)
