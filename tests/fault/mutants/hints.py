"""Bugs of hints: what is told of a run is no more than that, and the table is the queue."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

POLLER = "dpp/actors/poller.py"
SIGHT = """\
        sighted = {one.run_id: one for one in await self._sight(sorted(run_ids))}
"""
TESTS = "tests/actors/test_poller.py::"

BUGS = (
    Bug(
        "the SQS message is deleted before its run's row was read",
        (
            Change(
                POLLER,
                SIGHT,
                "        await self.queue.delete([one for one, run_id in named if run_id])\n"
                + SIGHT,
            ),
        ),
        (TESTS + "test_nothing_is_deleted_before_its_row_was_read",),
    ),
    Bug(
        "a message that names no run is deleted, and nobody sees what was sent",
        (
            Change(
                POLLER,
                "done = [message for message, run_id in named if run_id in sighted]",
                "done = [message for message, run_id in named]",
            ),
        ),
        (TESTS + "test_what_names_no_run_stays_and_is_a_dead_letter_after_three_times",),
    ),
    Bug(
        "hints are taken out while the database is away, until they are dead letters",
        (
            Change(
                POLLER,
                """\
            except StoreUnavailable:
                await pause()
        return []
""",
                """\
            except StoreUnavailable:
                await pause()
                break
        return []
""",
            ),
        ),
        (TESTS + "test_an_outage_of_the_database_makes_no_dead_letters",),
    ),
)
