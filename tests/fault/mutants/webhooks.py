"""Bugs of webhooks: an event is told because its ending is committed, and for no other reason."""

from __future__ import annotations

from tests.fault.mutants.bug import Bug, Change

ENDINGS = "dpp/store/endings.py"
CONTRACT = "tests/store/test_contract.py::TestPostgres::"
TOLD = """\
TOLD = (
    "select d.delivery_id, w.url from webhook_deliveries d join webhooks w using (webhook_id)"
    " where d.run_id = any($1)"
)
"""
SETTLE = '    async with transaction(connection, "settle", begin_for(connection, len(batch))):\n'
COUNTED = "    assert counts is not None\n"

BUGS = (
    Bug(
        "an event's row is written in a transaction of its own",
        (
            Change(
                ENDINGS,
                SETTLE,
                """\
    async with transaction(connection):
        await connection.execute(
            "insert into webhook_deliveries"
            " (tenant_id, webhook_id, run_id, event, created_at, next_at)"
            " select w.tenant_id, w.webhook_id, r, 'run.completed', dpp.now(), dpp.now()"
            "   from webhooks w, unnest($1::uuid[]) r where w.tenant_id = any($2)"
            " on conflict do nothing", [end.fence.run_id for end in batch], tenant_ids
        )
"""  # noqa: S608 - a bug as text
                + SETTLE,
            ),
            Change(
                "sql/queries/write_endings.sql",
                "   where w.disabled_at is null and w.deleted_at is null\n",
                "   where w.disabled_at is null and w.deleted_at is null\n"
                "  on conflict do nothing\n",
            ),
        ),
        (CONTRACT + "test_an_ending_that_came_too_late_is_not_told",),
    ),
    Bug(
        "the webhook is sent before the commit",
        (
            Change(ENDINGS, "async def end_runs(\n", TOLD + "\n\nasync def end_runs(\n"),
            Change(
                ENDINGS,
                COUNTED,
                COUNTED
                + """\
    import urllib.request

    sent = [ending.run_id for ending in endings]
    for row in await connection.fetch(TOLD, sent):
        names = {"webhook-id": str(row["delivery_id"])}
        urllib.request.urlopen(urllib.request.Request(row["url"], b"{}", names))
""",
            ),
        ),
        ("tests/fault/test_webhooks.py::test_every_ending_is_told_and_is_committed_when_it_is",),
    ),
)
