"""The runbooks: one for each alert, and whatever they tell to look at or to type is there."""

from __future__ import annotations

import re
from itertools import chain
from typing import TYPE_CHECKING

import asyncpg
import pytest

from dpp.advice import ADVICE
from dpp.config import SCHEMA
from tests.commands import has_command
from tests.monitoring.described import ALERTS, ROOT, alerts, described, records

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import Database

FOLDER = ROOT / "docs" / "runbooks"
PAGES = {path.stem: path.read_text("utf-8") for path in FOLDER.glob("DPP_*.md")}
SECTIONS = ["Look at", "Do", "Over when"]
ROLES = {"dpp_app", "dpp_owner", "dpp_audit"}
STATEMENTS = [
    statement
    for page in PAGES.values()
    for block in re.findall(r"^```sql\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    for statement in block.splitlines()
]
each_page = pytest.mark.parametrize("name", sorted(PAGES))


def commands(page: str) -> list[str]:
    """Return what the page tells to type of ours: at a prompt, or within a sentence."""
    return re.findall(r"^\$ (dpp .*)$", page, re.MULTILINE) + re.findall(r"`(dpp [^`]+)`", page)


def test_each_alert_has_the_runbook_that_its_rule_names() -> None:
    named = re.findall(r"^ +runbook: docs/runbooks/(\w+)\.md$", ALERTS, re.MULTILINE)

    assert sorted(named) == sorted(PAGES) == sorted(alerts())


@each_page
def test_a_runbook_says_what_it_means_where_to_look_what_to_do_and_when_it_is_over(
    name: str,
) -> None:
    title, *parts = re.split(r"^##? (.+)\n", PAGES[name], flags=re.MULTILINE)[1::2]
    texts = re.split(r"^##? .+\n", PAGES[name], flags=re.MULTILINE)[1:]

    assert (title, parts) == (name, SECTIONS)
    assert all(text.strip() for text in texts)


@each_page
def test_the_commands_of_a_runbook_exist(name: str) -> None:
    assert [line for line in commands(PAGES[name]) if not has_command(line)] == []


@each_page
def test_the_metrics_alerts_and_settings_of_a_runbook_exist(name: str) -> None:
    page = PAGES[name]
    words = set(re.findall(r"(?<![\w:])(?:dpp|http|sqs|actor)_[a-z_]+\b", page))
    metrics = {re.sub(r"_(?:bucket|sum|count)$", "", word) for word in words}
    settings = {
        word
        for word in re.findall(r"`([a-z0-9]+\.[a-z_0-9]+)`", page)
        if word.partition(".")[0] in {key.partition(".")[0] for key in SCHEMA.keys}
    }

    assert metrics - ROLES - described().keys() == set()
    assert set(re.findall(r"dpp:[\w:]+", page)) <= records().keys()
    assert set(re.findall(r"\bDPP_[A-Z][a-z]\w+|\bDPP_(?:API|SQS)_\w+", page)) <= alerts().keys()
    assert settings <= set(SCHEMA.keys)


@each_page
def test_the_lines_that_a_runbook_looks_for_are_those_of_the_log(name: str) -> None:
    patterns = re.findall(r"\| grep (?:-E )?'([^']+)'", PAGES[name])
    events = set(chain.from_iterable(pattern.split("|") for pattern in patterns))
    fields = {'"reconcile_type"', '"logger":"postgres"', '"taken_back":[1-9]'}  # of any line

    assert [
        event
        for event in events - fields
        if not any(known.startswith(event) for known in ADVICE)
    ] == []  # fmt: skip


@each_page
def test_the_links_of_a_runbook_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)", PAGES[name])

    assert [link for link in links if not (FOLDER / link).is_file()] == []


async def test_what_a_runbook_asks_postgresql_is_answered(
    bridge: Bridge, database: Database
) -> None:
    async def refused() -> list[str]:
        connection = await database.connect()
        said = []
        for statement in STATEMENTS:
            try:
                await connection.fetch(statement)
            except asyncpg.PostgresError as refusal:
                said.append(f"{refusal}: {statement}")
        await connection.close()
        return said

    assert STATEMENTS
    assert await bridge.run(refused) == []
