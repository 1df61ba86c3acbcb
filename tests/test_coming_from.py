"""docs/coming-from-0.4: what the guide of 0.4 names has its row, and what that leads to exists.

The guide is not part of the repository: how much it names of each kind is pinned here.
"""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from dpp.config import SCHEMA
from dpp.diagnosis import launch
from dpp.diagnosis.aws import Endpoint, Facts, diagnose
from dpp.diagnosis.checks import Unknown
from dpp.environment import EARLIER, REDIS_PASSWORD, RESERVED, THRESHOLD
from dpp.http.routes import ROUTES
from dpp.metrics import REGISTRY
from tests.commands import has_command
from tests.monitoring.described import RECORDS, alerts, described, panels, records

ROOT = Path(__file__).resolve().parents[1]
DATA = ROOT / "docs" / "coming-from-0.4.toml"
READ = tomllib.loads(DATA.read_text("utf-8"))
ROWS: Mapping[str, list[dict[str, Any]]] = {
    kind: rows for kind, rows in READ.items() if kind != "introduction"
}
# What the guide names, of each kind.
COUNTS = {
    "metric": 15,  # 8 names, 6 queries, the scrape job
    "alert": 5,
    "panel": 17,  # 4, 5, 4 and 4 on its dashboards
    "command": 65,
    "environment": 27,  # 24 of nodes, 3 of its own shell
    "check": 59,
    "iam": 12,  # 3 of the API, 6 of the worker, 3 of the reaper
    "criterion": 18,  # 8 of the first day, 5 of a week, 5 of a month
}
OF_THE_GUIDES_SHELL = {"AWS_ACCOUNT_ID", "DB_PASSWORD", "TEST_API_KEY"}
REASON = 20  # characters: fewer say no reason
EACH = [(kind, row) for kind, rows in ROWS.items() for row in rows]
LED = [(row["name"], place) for _, row in EACH for place in row.get("here", [])]


def test_the_page_is_made_from_the_data(tmp_path: Path) -> None:
    script = ROOT / "scripts" / "generate-coming-from"
    subprocess.run([sys.executable, script, tmp_path], check=True)

    page = DATA.with_suffix(".md").name
    assert (tmp_path / page).read_text("utf-8") == (DATA.parent / page).read_text("utf-8")


def test_as_many_things_of_each_kind_have_a_row_as_the_guide_names() -> None:
    assert {kind: len(rows) for kind, rows in ROWS.items()} == COUNTS


def test_each_thing_has_one_row() -> None:
    for kind, rows in ROWS.items():
        names = [row["name"] for row in rows]
        assert [name for name in names if names.count(name) > 1] == [], kind


def test_a_row_has_its_place_and_says_what_differs_or_why_it_is_gone() -> None:
    for _, row in EACH:
        assert {"name", "where", "note"} <= row.keys() <= {"name", "where", "here", "note"}, row
        assert row["where"], row
        assert row["note"].endswith("."), row
        assert row.get("here") or ("here" not in row and len(row["note"]) > REASON), row


def test_every_earlier_name_of_the_environment_leads_to_its_setting() -> None:
    rows = {row["name"]: row.get("here", []) for row in ROWS["environment"]}

    assert rows.keys() - OF_THE_GUIDES_SHELL == {*EARLIER, REDIS_PASSWORD, THRESHOLD}
    assert {name: f"setting: {key}" for name, key in EARLIER.items()} == {
        name: rows[name][0] for name in EARLIER
    }


@pytest.mark.parametrize("kind", ["alert", "metric"])
def test_a_name_of_alerts_and_metrics_is_the_same_as_before(kind: str) -> None:
    made_by_prometheus = {"up"}
    for row in ROWS[kind]:
        if re.fullmatch(r"\w+", row["name"]) and row["name"] not in made_by_prometheus:
            assert f"{kind}: {row['name'].removesuffix('_bucket')}" in row["here"]


def test_what_rows_lead_to_exists() -> None:
    missing = [(name, place) for name, place in LED if not exists(place)]

    assert missing == []
    assert {place.partition(": ")[0] for _, place in LED} == EXISTS.keys()


@pytest.mark.parametrize(
    "place",
    [
        "metric: dpp_run",
        "record: dpp:runs",
        "criterion: no money",
        "alert: DPP_API",
        "panel: dpp-workers: Runs",
        "command: dpp node",
        "command: dpp node drain --force",
        "command: dpp drain",
        "command: make tests",
        "environment: LOG_FORMAT",
        "setting: log.levels",
        "doctor: endpoint",
        "launch: luck",
        "test: tests/node/test_limits.py::test_exactly_ten",
        "iam: node.json s3:HeadObject",
        "route: POST /readyz",
        "log: Heartbeat",
        "unit: dpp-worker.service",
        "file: config/iam",
        "page: docs/logs.md#Log",
    ],
)
def test_what_is_not_there_is_not_found(place: str) -> None:
    assert not exists(place)


def exists(place: str) -> bool:
    kind, _, target = place.partition(": ")
    return EXISTS[kind](target)


def has_metric(name: str) -> bool:
    """Say whether a node exports it and the page describes it."""
    families = {family.name: family.type for family in REGISTRY.collect()}
    exported = {
        f"{family}_total" if kind == "counter" else family for family, kind in families.items()
    }
    return name in exported and name in described()


def has_criterion(name: str) -> bool:
    return f'criterion: "{name}"' in RECORDS


def has_panel(name: str) -> bool:
    return name in {f"{dashboard}: {title}" for dashboard, title, _ in panels()}


def has_environment(name: str) -> bool:
    return name in {*EARLIER, *RESERVED, REDIS_PASSWORD, THRESHOLD}


@cache
def doctors_checks() -> set[str]:
    """Return what `dpp doctor` looks at where all of AWS is in use."""
    asked = [
        Endpoint(service, "https://a.example", here=False, given=True) for service in ("s3", "sqs")
    ]
    facts = Facts(
        profile="production",
        production=True,
        endpoints=asked,
        credentials=Unknown("not asked"),
        bucket="results",
        queue_url="https://a.example/queue",
        dead_letters=0,
    )
    return {check.name for check in diagnose(facts)}


@cache
def rows_of_a_launch() -> set[str]:
    """Return what `dpp doctor --go-no-go` goes through, where nothing could be asked."""
    none = Unknown("not asked")
    settings = launch.Settings(
        production=True,
        profile="production",
        tls=True,
        public="127.0.0.1:8080",
        loopback=True,
        webhook_ports=[443],
        loopback_webhooks=False,
        log_format="json",
        log_level="INFO",
    )
    asked = dict.fromkeys(("health", "ready", "metrics", "nodes", "books", "mode", "plans"), none)
    facts = launch.Facts(
        checks=[], settings=settings, wanted_nodes=1, external=True, backup=None, **asked
    )
    return {row.name for row in launch.rows(facts)}


def has_test(name: str) -> bool:
    """Say whether a file has this test, or whether there is the file where no test is named."""
    path, _, test = name.partition("::")
    file = ROOT / path
    if not file.is_file() or not test:
        return file.is_file() and not test
    tree = ast.parse(file.read_text("utf-8"))
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    return test in {node.name for node in ast.walk(tree) if isinstance(node, functions)}


def has_right(name: str) -> bool:
    file, _, action = name.partition(" ")
    document = json.loads((ROOT / "config" / "iam" / file).read_text("utf-8"))
    given = [one["Action"] for one in document["Statement"]]
    return action in {each for one in given for each in ([one] if isinstance(one, str) else one)}


def has_event(event: str) -> bool:
    """Say whether a node logs an event of this name."""
    said = re.compile(rf'log\.\w+\(\s*"{re.escape(event)}"')
    return any(said.search(path.read_text("utf-8")) for path in (ROOT / "dpp").rglob("*.py"))


def has_page(name: str) -> bool:
    """Say whether there is the page, and on it the heading that is named."""
    path, _, heading = name.partition("#")
    page = ROOT / path
    if not page.is_file():
        return False
    text = page.read_text("utf-8")
    return not heading or re.search(rf"^#+ {re.escape(heading)}$", text, re.MULTILINE) is not None


EXISTS: Mapping[str, Callable[[str], bool]] = {
    "metric": has_metric,
    "record": lambda name: name in records(),
    "criterion": has_criterion,
    "alert": lambda name: name in alerts(),
    "panel": has_panel,
    "command": has_command,
    "environment": has_environment,
    "setting": lambda key: key in SCHEMA.keys,
    "doctor": lambda name: name in doctors_checks(),
    "launch": lambda name: name in rows_of_a_launch(),
    "test": has_test,
    "iam": has_right,
    "route": lambda name: tuple(name.split()) in {(one.method, one.path) for one in ROUTES},
    "log": has_event,
    "unit": lambda name: (ROOT / "systemd" / name).is_file(),
    "file": lambda path: (ROOT / path).is_file(),
    "page": has_page,
}
