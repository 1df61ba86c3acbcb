"""Bugs of large results: an object that is there, missing, another's, or cannot be asked for."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

DELIVERY = "dpp/actors/delivery.py"
RECONCILER = "dpp/actors/reconciler.py"
DIRECTORY = "tests/store/test_directory_blobs.py::"
LARGE = "tests/actors/test_large_results.py::"
CONTRACT = "tests/store/test_contract.py::TestPostgres::"

BUGS = (
    Bug(
        "a result is stored without a mark",
        (
            Change(
                DELIVERY,
                'marked = await until_answered("mark_storing", mark)',
                "marked = True",
            ),
        ),
        (LARGE + "test_what_a_dead_node_had_stored_is_settled",),
    ),
    Bug(
        "a result is put after its run was settled",
        (
            Change(
                DELIVERY,
                '        there = await until_answered("put", partial(self.blobs.put, key, label,'
                " body))\n",
                """\
        put = partial(self.blobs.put, key, label, body)
        trio.lowlevel.spawn_system_task(until_answered, "put", put)
        from hashlib import sha256

        return evolve(completed, result=StoredResult(key.name, sha256(body).digest()))
        there = None
""",
            ),
        ),
        (LARGE + "test_a_store_that_is_away_too_long_costs_the_client_nothing",),
    ),
    Bug(
        "another object in its place is taken for the result",
        (
            Change(
                DELIVERY,
                "        if not isinstance(there, Stored):\n",
                "        if not isinstance(there, Stored) and there.there is None:\n",
            ),
            Change(
                DELIVERY,
                "StoredResult(key.name, there.metadata.sha256)",
                "StoredResult(key.name, getattr(there, 'metadata', there.there).sha256)",
            ),
        ),
        (LARGE + "test_another_object_under_the_key_requeues_the_attempt",),
    ),
    Bug(
        "a result's key lacks the epoch",
        (
            Change(
                "dpp/blobs.py",
                "return (tenant, *date_parts, str(self.run_id), str(self.lease_epoch))",
                'return (tenant, *date_parts, str(self.run_id), "1")',
            ),
        ),
        ("tests/core/test_blobs.py::test_a_key_names_tenant_day_run_and_epoch",),
    ),
    Bug(
        "an object that is not the attempt's settles it",
        (
            Change(
                RECONCILER,
                "belongs(there, fence, left.max_cost) if isinstance(there, Found) else there",
                "there",
            ),
        ),
        (LARGE + "test_what_is_not_the_attempts_object_settles_nothing_and_is_a_finding",),
    ),
    Bug(
        "a store that cannot be asked is taken for one that has nothing",
        (
            Change(
                RECONCILER,
                "            await self._wait(left, fence, there.why)\n            return False\n",
                "            there = Missing()\n",
            ),
        ),
        (LARGE + "test_a_store_that_cannot_be_asked_decides_nothing_and_a_person_is_told",),
    ),
    Bug(
        "the reaper takes what stores a result",
        (Change("sql/queries/orphaned_runs.sql", "   and not r.storing\n", ""),),
        (CONTRACT + "test_reaper_and_reconciler_have_runs_of_their_own",),
    ),
    Bug(
        "a store of another machine is believed",
        (Change("dpp/store/identity.py", "    if there != known:\n", "    if False:\n"),),
        (DIRECTORY + "test_another_directory_than_the_databases_is_refused",),
    ),
    Bug(
        "the collector deletes results that endings point to",
        (
            Change(
                "sql/queries/kept_objects.sql",
                "and e.result_key is not null)",
                "and e.result_key is null)",
            ),
        ),
        (CONTRACT + "test_objects_stay_while_an_ending_or_a_live_run_needs_them",),
    ),
)
