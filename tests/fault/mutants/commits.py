"""Bugs of COMMIT: it says yes, no or nothing, and nothing may be made up."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

TRANSACTIONS = "dpp/store/transactions.py"
COMMIT = "tests/store/test_commit.py::TestOnSharedDatabase::"
ASKED_AFRESH = """\
        tried: list[object] = []

        async def afresh(connection, *, batch, **values):
            from attrs import evolve

            if tried:
                batch = [evolve(one, {fresh}) for one in batch]
            tried.append(None)
            return await {verb}(connection, batch, **values)

        verb = partial(
            afresh,
"""

BUGS = (
    Bug(
        "an unknown COMMIT is taken for a commit",
        (
            Change(
                TRANSACTIONS,
                "                raise CommitUnknown(str(error)) from error\n",
                "                return\n",
            ),
        ),
        (COMMIT + "test_a_submit_is_created_or_exists_and_is_one_run",),
    ),
    Bug(
        "the tag ROLLBACK is taken for a commit",
        (Change(TRANSACTIONS, 'if tag != "COMMIT":', "if not tag:"),),
        (COMMIT + "test_an_error_swallowed_inside_is_found_at_commit",),
    ),
    Bug(
        "it is answered whatever COMMIT says",
        (
            Change(
                TRANSACTIONS,
                "    await commit(connection)\n    at(",
                "    try:\n        await commit(connection)\n    except Exception:\n"
                "        pass\n    at(",
            ),
        ),
        (COMMIT + "test_an_error_swallowed_inside_is_found_at_commit",),
    ),
    Bug(
        "it is answered before COMMIT is",
        (
            Change(
                TRANSACTIONS,
                "    await commit(connection)\n    at(",
                "    import asyncio\n\n"
                "    connection.committing = asyncio.ensure_future(commit(connection))\n    at(",
            ),
            Change(
                "dpp/store/connections.py",
                "        if self._closed or connection.is_closed()"
                " or connection.is_in_transaction():\n",
                "        committing = getattr(connection, 'committing', None)\n"
                "        if committing is not None and not committing.done():\n"
                "            committing.add_done_callback("
                "lambda done: (done.exception(), self._give_back(connection)))\n"
                "            return\n"
                "        if self._closed or connection.is_closed()"
                " or connection.is_in_transaction():\n",
            ),
        ),
        (COMMIT + "test_a_submit_is_created_or_exists_and_is_one_run",),
    ),
    Bug(
        "a COMMIT whose connection was lost is taken for a failure",
        (
            Change(
                "dpp/store/sqlstates.py",
                '{"08000", "08003", "08006",',
                '{"08000", "08006",',
            ),
        ),
        (COMMIT + "test_a_claim_is_unknown_until_it_is_asked_for",),
    ),
    Bug(
        "an abandoned wait cancels its COMMIT",
        (
            Change(
                "dpp/store/bridge.py",
                "            call.waiter = None\n",
                "            call.waiter = None\n"
                "            self._loop.call_soon_threadsafe(call.task.cancel)\n",
            ),
        ),
        (COMMIT + "test_a_caller_cancelled_at_commit_leaves_it_to_be_done",),
    ),
    Bug(
        "an unknown end is asked again under a fresh id",
        (
            Change(
                "dpp/store/for_nodes.py",
                '        """See `dpp.store.endings`."""\n'
                "        verb = partial(\n            endings.end_runs, batch=batch,",
                '        """See `dpp.store.endings`."""\n'
                + ASKED_AFRESH.format(fresh="ending_id=uuid4()", verb="endings.end_runs")
                + "            batch=batch,",
            ),
        ),
        (COMMIT + "test_an_end_is_settled_once",),
    ),
    Bug(
        "an unknown submit is asked again as another one",
        (
            Change(
                "dpp/store/for_nodes.py",
                '        """See `dpp.store.submissions`."""\n'
                "        verb = partial(\n            submissions.submit_runs,\n",
                '        """See `dpp.store.submissions`."""\n'
                + ASKED_AFRESH.format(
                    fresh="run_id=uuid4(), idempotency_key=str(uuid4())",
                    verb="submissions.submit_runs",
                ),
            ),
        ),
        (COMMIT + "test_a_submit_is_created_or_exists_and_is_one_run[after]",),
    ),
)
