"""A run that the database refuses to end is set aside alone, until an operator has decided.

A trigger refuses what would end the run or let it wait again, as a broken constraint would. Fake
stores show the actors' part of this; here it is real nodes, PostgreSQL, and the command `dpp`.
"""

from __future__ import annotations

import json
import os
import sys
from functools import partial
from typing import TYPE_CHECKING, Any

import trio

from tests.node_books import Books
from tests.node_client import Client, connected, fresh_key, problem, submission, until
from tests.node_process import NodeProcess, nodes_on

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpp.store.bridge import Bridge
    from tests.conftest import Database

CONFIG = """
[lease]
lease_s = 4
heartbeat_interval_s = 1
[reaper]
interval_s = 1
[node]
drain_s = 1
"""
WHY = "refused by a test"
REFUSE = """
create table dpp.refused (run_id uuid primary key);
grant select on dpp.refused to dpp_app;
create function dpp.refuse_some() returns trigger language plpgsql as $$
begin
  if exists (select from dpp.refused where run_id = old.run_id) then
    raise exception 'refused by a test' using errcode = 'check_violation';
  end if;
  return coalesce(new, old);
end $$;
create trigger refused_ending before delete on dpp.live_runs
  for each row execute function dpp.refuse_some();
create trigger refused_requeue before update on dpp.live_runs
  for each row when (old.lease_id is not null and new.lease_id is null)
  execute function dpp.refuse_some()
"""
MEND = "drop trigger refused_ending on dpp.live_runs; drop trigger refused_requeue on dpp.live_runs"
ASIDE = "select run_id from dpp.live_runs where quarantined_at is not null"
RUNS = 5  # of each tenant: the refused one has neighbours of its own tenant and of another
FOUND = 'dpp_findings_total{invariant="write_refused"}'


async def dpp(node: NodeProcess, *arguments: str) -> tuple[int, Any]:
    """Give the node's operator a command; returns its status and what it printed as JSON."""
    ran = await trio.run_process(
        [sys.executable, "-m", "dpp", *arguments, "--json"],
        env={**os.environ, "DPP_DATA_DIR": str(node.data_dir)},
        capture_stdout=True,
        check=False,
    )
    return ran.returncode, json.loads(ran.stdout)


async def submit(client: Client, **inputs: Any) -> list[str]:
    """Submit a batch of runs that cost a tenth of a cent; returns their ids once they work."""
    run = submission(inputs={"cost_usd": "0.001", **inputs})
    items = await client.batch([{**run, "idempotency_key": fresh_key()} for _ in range(RUNS)])
    run_ids = [item["run"]["run_id"] for item in items]
    for run_id in run_ids:
        await client.until_status(run_id, "PROCESSING")
    return run_ids


async def refuse(books: Books, run_id: str) -> None:
    """Let the database refuse whatever would end this run, or its attempt."""
    await books.execute(REFUSE)
    await books.rows("insert into dpp.refused values ($1)", run_id)


async def aside(books: Books) -> list[str]:
    """Return the runs that are set aside."""
    return [str(row["run_id"]) for row in await books.rows(ASIDE)]


def alarms(node: NodeProcess, event: str) -> list[dict[str, Any]]:
    """Return the lines that call a person, of this kind."""
    critical = [line for line in node.lines() if line["level"] == "critical"]
    assert {line["severity"] for line in critical} == {"CRITICAL"}
    return [line for line in critical if line["event"] == event]


def assert_says(line: dict[str, Any], run_id: str) -> None:
    """An alarm says what failed, what DPP did about it, and what to do."""
    names = line["run_id"], line["tenant_id"], line["reconcile_type"]
    assert names == (run_id, "acme", "write_refused")
    assert WHY in line["exception"]
    assert "set aside" in line["did"]
    assert "dpp audit list" in line["remedy"]


async def assert_frozen_alone(acme: Client, other: Client, accepted: Sequence[str]) -> None:
    """The tenant submits nothing new; its accepted runs are answered, and others go on."""
    refused = await acme.submit()
    assert (refused.status_code, problem(refused)) == (403, "tenant-frozen")
    for run_id in accepted:
        assert (await acme.run(run_id))["status"] in {"COMPLETED", "PROCESSING"}
    ended = await other.ended((await other.submitted())["run_id"])
    assert ended["status"] == "COMPLETED"


async def look(node: NodeProcess, run_id: str) -> str:
    """Find out by the runbook why a run is set aside; returns the id of its finding."""
    _, listed = await dpp(node, "audit", "list")
    (finding,) = listed["items"]
    assert (finding["invariant"], finding["subject"]) == ("write_refused", run_id)
    _, shown = await dpp(node, "audit", "show", finding["finding_id"])
    assert WHY in shown["evidence"]["error"]
    finding_id: str = finding["finding_id"]
    return finding_id


async def resolve(node: NodeProcess, finding_id: str, *way: str) -> tuple[int, Any]:
    """Resolve a finding."""
    return await dpp(node, "audit", "resolve", finding_id, *way, "--reason", "a test")


async def test_a_run_whose_ending_is_refused_stops_no_settler_and_waits_for_an_operator(
    bridge: Bridge, database: Database
) -> None:
    with nodes_on(database.host, database.name, CONFIG) as (node,):
        await trio.to_thread.run_sync(node.start)
        books = Books(node, bridge)
        async with (
            connected(node.url, node.tenant("acme")) as acme,
            connected(node.url, node.tenant("other")) as other,
        ):
            bad, *mine = await submit(acme, sleep_s=1)
            await refuse(books, bad)
            others = await submit(other, sleep_s=1)
            ended = [await acme.ended(run_id) for run_id in mine]
            ended += [await other.ended(run_id) for run_id in others]
            assert await until(partial(aside, books)) == [bad]
            await assert_frozen_alone(acme, other, [bad, *mine])
            (alarm,) = alarms(node, "ending refused")
            (told,) = alarms(node, "AUDIT_REQUIRED")
            counted = [node.counted(FOUND), node.counted('actor_restarts_total{actor="settler"}')]

            finding_id = await look(node, bad)
            assert (told["finding_id"], told["run_id"]) == (finding_id, bad)
            # Resolving ends the run: while the cause is there that is refused, too.
            too_early, why = await resolve(node, finding_id, "--settle", "0.001")
            assert await aside(books) == [bad]
            await books.execute(MEND)
            status, answer = await resolve(node, finding_id, "--settle", "0.001")
            resolved = await acme.run(bad)
            assert (await acme.ended((await acme.submitted())["run_id"]))["status"] == "COMPLETED"
        await books.judge()

    assert {(run["status"], run["cost"]["actual_usd"]) for run in ended} == {("COMPLETED", "0.001")}
    assert_says(alarm, bad)
    assert counted == [1, 0]
    assert (status, answer["tenant_frozen"]) == (0, False)
    assert too_early != 0
    assert "resolution-refused" in str(why)
    assert WHY in str(why)
    assert (resolved["status"], resolved["cost"]["actual_usd"]) == ("FAILED", "0.001")
    assert resolved["error"]["code"] == "resolved_by_operator"


async def test_a_dead_nodes_run_that_cannot_be_taken_back_stops_no_reaper(
    bridge: Bridge, database: Database
) -> None:
    with nodes_on(database.host, database.name, CONFIG, CONFIG) as (dying, living):
        async with trio.open_nursery() as nursery:
            for node in (dying, living):
                nursery.start_soon(trio.to_thread.run_sync, node.start)
        books = Books(living, bridge)
        keys = dying.tenant("acme"), dying.tenant("other")
        async with connected(dying.url, keys[0]) as acme, connected(dying.url, keys[1]) as other:
            bad, *mine = await submit(acme, sleep_s=2)
            others = await submit(other, sleep_s=2)
            await refuse(books, bad)
            dying.kill9()
        async with connected(living.url, keys[0]) as acme, connected(living.url, keys[1]) as other:
            ended = [await acme.ended(run_id) for run_id in mine]
            ended += [await other.ended(run_id) for run_id in others]
            assert await until(partial(aside, books)) == [bad]
            await assert_frozen_alone(acme, other, [bad, *mine])
            (alarm,) = alarms(living, "recovery refused")
            counted = [
                living.counted(FOUND),
                living.counted('actor_restarts_total{actor="reaper"}'),
            ]

            await books.execute(MEND)
            status, answer = await resolve(living, await look(living, bad), "--void")
            resolved = await acme.run(bad)
            assert (await acme.ended((await acme.submitted())["run_id"]))["status"] == "COMPLETED"
        await books.judge()

    assert {(run["status"], run["cost"]["actual_usd"]) for run in ended} == {("COMPLETED", "0.001")}
    assert_says(alarm, bad)
    assert alarm["verb"] == "take_back"
    assert counted == [1, 0]
    assert (status, answer["tenant_frozen"]) == (0, False)
    assert (resolved["status"], resolved["cost"]["actual_usd"]) == ("FAILED", "0.00")
