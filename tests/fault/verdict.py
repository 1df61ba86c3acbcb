"""What is judged after a storm, by others than DPP: the books, what clients were told, the objects."""  # noqa: E501

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import asyncpg

from tests.fault.traffic import Operator
from tests.node.load import Load
from tests.oracle import history as told
from tests.oracle import money

STORED = """
select run_id, result_key, result_sha256 from dpp.endings
 where status = 'COMPLETED' and result_key is not null
"""
ERROR = re.compile(r'"level":"(error|critical)"')
TRANSFERS = "select tenant_id, kind, reference, amount from dpp.transfers"
DRIFT = """
select (select sum(case kind when 'withdraw' then -amount else amount end)
          from dpp.transfers where kind <> 'refund')
     - (select sum(available + held + spent) from dpp.budgets)
"""


async def judge(host: str, load: Load, operator: Operator, results: Path | None) -> list[str]:
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
        if results is not None:
            found += of_objects(results, await connection.fetch(STORED))
        return [str(one) for one in found]
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it


def of_postings(operator: Operator, rows: set[Any], opening: int) -> Iterator[str]:
    """Each posting is booked, once, and nothing else but each tenant's opening deposit."""
    posted = {posting.row for posting in operator.posted}
    for lost in posted - rows:
        yield f"answered and not booked: {lost}"
    if len(rows - posted) != opening:
        yield f"booked and not asked for: {sorted(rows - posted)[:5]}"


def of_objects(results: Path, rows: Sequence[Any]) -> Iterator[str]:
    """M6, for what lies in the store: it is there, and it is what was recorded."""
    for row in rows:
        file = results / row["result_key"]
        if not file.is_file():
            yield f"M6: the result of run {row['run_id']} is not there"
            continue
        _, _, body = file.read_bytes().partition(b"\n")  # what it says of itself is DPP's affair
        if hashlib.sha256(body).digest() != row["result_sha256"]:
            yield f"M6: the result of run {row['run_id']} is another one than was recorded"


def of_logs(texts: Iterable[str]) -> Iterator[str]:
    """No node met anything that is an error: outages and lost leases are warnings."""
    for line in (line for text in texts for line in text.splitlines()):
        if ERROR.search(line):
            yield f"logged: {line[:4000]}"


async def sums(host: str) -> dict[str, int]:
    """Return what the books come to."""
    connection = await asyncpg.connect(host=host, user="postgres", database="dpp")
    try:
        return {
            "attempts retried": int(
                await connection.fetchval("select sum(attempts_spent) from dpp.endings") or 0
            ),
            "results in the store": len(await connection.fetch(STORED)),
            "drift in micro-dollars": int(await connection.fetchval(DRIFT)),
        }
    finally:
        await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it
