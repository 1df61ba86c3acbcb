"""What is judged after a storm, by others than DPP: books, answers to clients, objects, events."""

from __future__ import annotations

import itertools
import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import asyncpg

from tests.fault.mailroom import Event, Mailroom
from tests.fault.traffic import Operator
from tests.node.load import Load, micros
from tests.oracle import history as told
from tests.oracle import money

if TYPE_CHECKING:
    from tests.fault.fleet import Fleet

SHOWN_MAX = 20  # events: what is wrong with one is often wrong with thousands
STORED = """
select run_id, result_key, result_sha256 from dpp.endings
 where status = 'COMPLETED' and result_key is not null
"""
FORWARD = re.compile(r'"event":"run rolled forward","run_id":"([0-9a-f-]+)"')
REFUSED = '"event":"reload refused"'  # as an operator was to hear
ERROR = re.compile(r'"level":"(error|critical)"')
TRANSFERS = "select tenant_id, kind, reference, amount from dpp.transfers"
RETRIED = "select count(*) from dpp.webhook_deliveries where attempts > 1"
DRIFT = """
select (select sum(case kind when 'withdraw' then -amount else amount end)
          from dpp.transfers where kind <> 'refund')
     - (select sum(available + held + spent) from dpp.budgets)
"""
OUTBOX = """
select d.delivery_id, d.tenant_id, d.event, d.status, d.run_id, e.status as ended, e.cost
  from dpp.webhook_deliveries d
  left join dpp.endings e on e.run_id = d.run_id and e.tenant_id = d.tenant_id
"""
# All endpoints were there before the first run, and none has a reason to be disabled.
UNTOLD = """
select e.run_id, w.webhook_id, count(d.delivery_id) as times
  from dpp.endings e
  join dpp.webhooks w on w.tenant_id = e.tenant_id
  left join dpp.webhook_deliveries d
    on d.run_id = e.run_id and d.webhook_id = w.webhook_id and d.event = 'run.' || lower(e.status)
 group by e.run_id, w.webhook_id having count(d.delivery_id) <> 1 limit 5
"""


async def judge(
    host: str, load: Load, operator: Operator, mailroom: Mailroom, fleet: Fleet
) -> list[str]:
    """Ask everybody; returns what is wrong."""
    connection = await asyncpg.connect(host=host, user="postgres", database="dpp")
    try:
        facts = await told.read_facts(connection)
        found: list[Any] = [
            *await money.violations(connection, None),
            *told.violations(load.history, facts),
        ]
        rows = await connection.fetch(TRANSFERS)
        found += of_postings(operator, {tuple(row) for row in rows}, len(load.tenants))
        found += [f"M11: not told once: {dict(row)}" for row in await connection.fetch(UNTOLD)]
        mail = of_mail(mailroom.events, await connection.fetch(OUTBOX))
        found += itertools.islice(mail, SHOWN_MAX)
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it
    found += await of_objects(host, fleet)
    return [str(one) for one in found]


def of_postings(operator: Operator, rows: set[Any], opening: int) -> Iterator[str]:
    """Each posting is booked, once, and nothing else but each tenant's opening deposit."""
    posted = {posting.row for posting in operator.posted}
    for lost in posted - rows:
        yield f"answered and not booked: {lost}"
    if len(rows - posted) != opening:
        yield f"booked and not asked for: {sorted(rows - posted)[:5]}"


async def of_objects(host: str, fleet: Fleet) -> list[str]:
    """M6, for what lies in the store: it is there, and it is what was recorded."""
    if not fleet.shares_results:
        return []
    connection = await asyncpg.connect(host=host, user="postgres", database="dpp")
    try:
        rows = await connection.fetch(STORED)
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it
    there = await fleet.digests(row["result_key"] for row in rows)
    wrong = [row for row in rows if there.get(row["result_key"]) != row["result_sha256"]]
    return [
        f"M6: the result of run {row['run_id']} "
        + ("is another one than was recorded" if row["result_key"] in there else "is not there")
        for row in wrong
    ]


def of_mail(events: Mapping[str, Event], rows: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """M11: what was committed was told, was taken, and says what was committed; nothing else was.

    `events` by their ids; `rows`: the outbox, each with the ending of its run.
    """
    outbox = {str(row["delivery_id"]): row for row in rows}
    for one in events.keys() - outbox.keys():
        yield f"M11: it came, and no row of the outbox is its own: {one}, {events[one].body!r}"
    for one, row in outbox.items():
        if row["ended"] is None:
            yield f"M11: its run has not ended: {dict(row)}"
        elif row["status"] != "delivered":
            yield f"M11: it was not delivered: {dict(row)}"
        elif one not in events:
            yield f"M11: delivered, and it never came: {dict(row)}"
        elif not events[one].taken:
            yield f"M11: delivered, and nobody took it: {dict(row)}"
        elif not says(events[one], row):
            yield f"M11: it says something else: {events[one].body!r}, {dict(row)}"


def says(event: Event, row: Mapping[str, Any]) -> bool:
    """Say whether an event is the row's, and says how its run ended."""
    told = json.loads(event.body)
    data = told["data"]
    of_whom = (event.tenant, told["type"], data["run_id"])
    if of_whom != (row["tenant_id"], row["event"], str(row["run_id"])):
        return False
    if row["event"] == "budget.low":
        return True
    ended = ("run." + row["ended"].lower(), row["ended"], row["cost"])
    cost = micros(data["cost"]["actual_usd"])
    return (told["type"], data["status"], cost) == ended


def of_logs(texts: Iterable[str]) -> Iterator[str]:
    """No node met anything that is an error, but a file that was wrong: outages are warnings."""
    for line in (line for text in texts for line in text.splitlines()):
        if ERROR.search(line) and REFUSED not in line:
            yield f"logged: {line[:4000]}"


def of_orphans(texts: Iterable[str]) -> Iterator[str]:
    """What nodes say they have settled by a stored object, they have settled once."""
    told = Counter(found for text in texts for found in FORWARD.findall(text))
    for run_id, times in told.items():
        if times > 1:
            yield f"run {run_id} was rolled forward {times} times"


async def sums(host: str) -> dict[str, int]:
    """Return what the books come to."""
    connection = await asyncpg.connect(host=host, user="postgres", database="dpp")
    try:
        return {
            "attempts retried": int(
                await connection.fetchval("select sum(attempts_spent) from dpp.endings") or 0
            ),
            "webhook deliveries retried": int(await connection.fetchval(RETRIED)),
            "results in the store": len(await connection.fetch(STORED)),
            "drift in micro-dollars": int(await connection.fetchval(DRIFT)),
        }
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it
