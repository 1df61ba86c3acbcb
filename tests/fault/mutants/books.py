"""Bugs of the books: transfers, fees, and what operators do about findings."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

CONTRACT = "tests/store/test_contract.py::TestPostgres::"
RESOLUTIONS = "tests/store/test_resolutions.py::"
LEDGER = "tests/core/test_ledger.py::"

BUGS = (
    Bug(
        "the fee is computed by float",
        (
            Change(
                "dpp/pricing.py",
                "reserve * self.percent_ppm // PPM",
                "int(reserve * (self.percent_ppm / PPM))",
            ),
        ),
        ("tests/core/test_pricing.py",),
    ),
    Bug(
        "a replayed deposit credits twice",
        (Change("dpp/ledger.py", "    if read.earlier is not None:\n", "    if False:\n"),),
        (LEDGER + "test_a_reference_names_one_transfer_for_ever",),
    ),
    Bug(
        "refunds of a run come to more than it cost",
        (
            Change(
                "dpp/ledger.py",
                "    if run.refunded + amount > run.cost:\n",
                "    if amount > run.cost:\n",
            ),
        ),
        (LEDGER + "test_refunds_of_a_run_come_to_no_more_than_it_cost",),
    ),
    Bug(
        "a freeze is lifted while another finding is open",
        (
            Change(
                "sql/queries/thaw_tenant.sql",
                "f.tenant_id = t.tenant_id and f.resolved_at is null",
                "f.tenant_id = t.tenant_id and f.resolved_at is null and false",
            ),
        ),
        (CONTRACT + "test_the_last_finding_thaws",),
    ),
    Bug(
        "what is right by the second look is a finding",
        (
            Change(
                "dpp/store/auditing.py",
                "        again = (await Look(marks, offences).inspect(connection, wanted, reached))"
                ".offences\n",
                "        again = offences\n",
            ),
        ),
        (RESOLUTIONS + "test_what_is_right_once_the_lock_is_had_is_no_finding",),
    ),
)
