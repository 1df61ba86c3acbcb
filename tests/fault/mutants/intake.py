"""Bugs of the intake: what is admitted, refused, and answered to who asks again."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

ADMISSION = "dpp/admission.py"
CONFIG = "tests/core/test_config.py::"
CONTRACT = "tests/store/test_contract.py::TestPostgres::"
CORE = "tests/core/test_admission.py::"
ORDER = "tests/store/test_lock_order.py::"
RACES = "tests/store/test_races.py::"

BUGS = (
    Bug(
        "reserve by read, then write",
        (Change("sql/queries/lock_budgets.sql", "   for no key update", ""),),
        (RACES + "test_a_batch_that_waited_reads_the_books_anew",),
    ),
    Bug(
        "a batch's sums are read before the lock is had",
        (
            Change(
                "sql/queries/lock_budgets.sql",
                "select tenant_id, deposited, available,",
                "select tenant_id, deposited,\n"
                "       (select b.available from budgets b where b.tenant_id = budgets.tenant_id)"
                " as available,",
            ),
        ),
        (RACES + "test_a_batch_that_waited_reads_the_books_anew",),
    ),
    Bug(
        "rows are locked in order of arrival",
        (Change("sql/queries/lock_budgets.sql", " order by tenant_id\n", ""),),
        (ORDER + "test_a_submit_that_waits_for_one_budget_holds_none_that_comes_after",),
    ),
    Bug(
        "a held row holds up the submissions of everybody",
        (
            Change(
                "sql/queries/lock_budgets_free.sql",
                "   for no key update skip locked",
                "   for no key update",
            ),
        ),
        (CONTRACT + "test_submissions_of_other_tenants_are_answered_in_the_same_call",),
    ),
    Bug(
        "the fingerprint drops nested members",
        (
            Change(
                "dpp/fingerprints.py",
                "    return _encode(value).encode()\n",
                "    flat = isinstance(value, Mapping)\n"
                "    return _encode([*value] if flat else value).encode()\n",
            ),
        ),
        ("tests/core/test_fingerprints.py",),
    ),
    Bug(
        "a known key is refused by what came later",
        (
            Change(
                ADMISSION,
                """\
    if earlier is not None:
        if earlier.fingerprint != submission.fingerprint:
            return ExistsWithDifferentRequest()
        return Pruned(earlier.run_id) if earlier.pruned else Exists(earlier.run_id)
    closed = shut(account, books.in_force)
    if closed is not None:
        return closed
""",
                """\
    closed = shut(account, books.in_force)
    if closed is not None:
        return closed
    if earlier is not None:
        if earlier.fingerprint != submission.fingerprint:
            return ExistsWithDifferentRequest()
        return Pruned(earlier.run_id) if earlier.pruned else Exists(earlier.run_id)
""",
            ),
        ),
        (
            CORE
            + "test_a_known_key_is_answered_before_all_that_depends_on_plan_tenant_pack_and_budget",
        ),
    ),
    Bug(
        "keys that share an allowance have one each",
        (
            Change(
                ADMISSION,
                "                allowances[allowance.allowance_id] ="
                " allowance.plus(submission.max_cost)\n",
                "                pass\n",
            ),
        ),
        (CORE + "test_keys_that_share_an_allowance_share_what_is_left_of_it",),
    ),
    Bug(
        "a frozen tenant goes on submitting",
        (Change(ADMISSION, "    if account.frozen:\n", "    if False:\n"),),
        (CORE + "test_the_first_line_that_applies_is_the_answer",),
    ),
    Bug(
        "a key that was revoked meanwhile goes on submitting",
        (
            Change(
                "sql/queries/read_books.sql",
                "filter (where k.revoked_at is not null or k.expires_at <= dpp.now())",
                "filter (where k.expires_at <= dpp.now())",
            ),
        ),
        (CONTRACT + "test_a_key_that_was_revoked_meanwhile_is_dead",),
    ),
    Bug(
        "a rate window begins anew with each submission",
        (
            Change(
                "sql/queries/write_submissions.sql",
                "window_from = case when b.window_from + :window_s::int * interval '1 second'"
                " > :now then b.window_from else :now end,",
                "window_from = :now,",
            ),
        ),
        (CONTRACT + "test_a_window_ends_exactly_and_retry_after_is_exact",),
    ),
    Bug(
        "production takes failpoints",
        (
            Change(
                "dpp/combinations.py",
                "lambda c: c.node.profile != PRODUCTION or not c.testing.failpoints,",
                "lambda c: True,",
            ),
        ),
        (CONFIG + "test_settings_that_contradict_each_other_are_refused[testing.failpoints]",),
    ),
)
