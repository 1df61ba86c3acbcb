"""Bugs of retention: what leaves too early, uncounted, or without a trace."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

TESTS = "tests/store/test_retention.py::"
SCHEMA = "sql/migrations/0001_books_pre.sql"
IN_ORDER = (TESTS + "test_a_run_leaves_with_its_bodies_first_and_its_key_last",)

BUGS = (
    Bug(
        "what a pruned run cost is not counted as gone",
        (
            Change(
                SCHEMA,
                "closings.gone_spent + cost_gone - refunds_gone",
                "closings.gone_spent - refunds_gone",
            ),
        ),
        IN_ORDER,
    ),
    Bug(
        "runs leave that no closing entry covers",
        (
            Change(
                SCHEMA,
                "where e.tenant_id = whose and e.seq <= closed.seq and e.finished_at",
                "where e.tenant_id = whose and e.finished_at",
            ),
        ),
        (TESTS + "test_nothing_leaves_that_no_closing_entry_covers",),
    ),
    Bug(
        "a run leaves before the books are closed over its refund",
        (Change(SCHEMA, "and t.kind = 'refund' and t.seq > closed.seq", "and false"),),
        (TESTS + "test_a_refund_keeps_its_run_until_the_books_are_closed_over_it",),
    ),
    Bug(
        "bodies leave while they are served",
        (
            Change(
                SCHEMA,
                "e.finished_at + s.result_days * interval '1 day' <= dpp.server_now() as over",
                "true as over",
            ),
            Change(
                "sql/queries/retention_due.sql",
                "coalesce(next.finished_at + next.result_days * interval '1 day' <= dpp.now(),",
                "coalesce(true,",
            ),
        ),
        IN_ORDER,
    ),
    Bug(
        "runs leave by a clock that whoever asks may set",
        (
            Change(
                SCHEMA,
                "e.finished_at < dpp.server_now() - run_days * interval '1 day'",
                "e.finished_at < dpp.now() - run_days * interval '1 day'",
            ),
            Change(
                SCHEMA,
                "       and e.finished_at + s.result_days * interval '1 day' <= dpp.server_now()\n",
                "       and e.finished_at + s.result_days * interval '1 day' <= dpp.now()\n",
            ),
        ),
        ("tests/store/test_constraints.py::test_no_clock_that_is_set_lets_anything_leave_early",),
    ),
    Bug(
        "facts leave by a clock that whoever asks may set",
        (
            Change(
                SCHEMA,
                "stable parallel safe return statement_timestamp();",
                "stable parallel safe return dpp.now();",
            ),
        ),
        ("tests/store/test_constraints.py::test_no_clock_that_is_set_lets_anything_leave_early",),
    ),
    Bug(
        "a key is forgotten with its run",
        (
            Change(
                "dpp/store/retention.py",
                "connection, days=keeping.keys, most=most",
                "connection, days=1, most=most",
            ),
        ),
        IN_ORDER,
    ),
    Bug(
        "the auditor begins before the closing entry",
        (
            Change(
                "dpp/store/auditing.py",
                "        marks = {**marks, **await closings(connection, behind_closing)}\n",
                "",
            ),
        ),
        IN_ORDER,
    ),
    Bug(
        "books are closed over a gap",
        (
            Change(
                "dpp/store/retention.py",
                "    if not sums.entries == sums.seqs == sums.top == window.until:\n",
                "    if False:\n",
            ),
        ),
        (TESTS + "test_books_with_a_gap_are_not_closed",),
    ),
)
