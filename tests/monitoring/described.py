"""The files that operators give to Prometheus and Grafana, and the page about metrics, as read."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from attrs import frozen

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "config" / "prometheus"
DASHBOARDS = sorted((ROOT / "config" / "grafana").glob("*.json"))
METRICS_PAGE = (ROOT / "docs" / "metrics.md").read_text()
ALERTS_PAGE = (ROOT / "docs" / "alerts.md").read_text()
ALERTS = (PROMETHEUS / "alerts.yml").read_text()
RECORDS = (PROMETHEUS / "records.yml").read_text()

needs_prometheus = pytest.mark.skipif(
    shutil.which("promtool") is None, reason="no prometheus (Debian: apt-get install prometheus)"
)


@frozen
class Described:
    """A row of the page: what a metric is, and the alerts that read it."""

    kind: str
    labels: frozenset[str]
    alerts: frozenset[str]


def words(cell: str) -> frozenset[str]:
    """Return what stands in backquotes."""
    return frozenset(re.findall(r"`([^`]+)`", cell))


def described() -> dict[str, Described]:
    """Return the rows of the page by metric."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", METRICS_PAGE, flags=re.MULTILINE)
    cells = {name: [cell.strip() for cell in rest.split("|")] for name, rest in rows}
    return {
        name: Described(kind, words(labels), words(alerts))
        for name, (kind, labels, _, _, alerts) in cells.items()
    }


def rules(text: str, kind: str) -> list[tuple[str, str]]:
    """Return the rules of a file, each with all that stands of it, in order."""
    parts = re.split(rf"^ +- {kind}: (\S+)$", text, flags=re.MULTILINE)
    return list(zip(parts[1::2], parts[2::2], strict=True))


def expression(rule: str) -> str:
    """Return what a rule asks for."""
    found = re.search(r"^        expr: (?:\|\n((?:          .*\n)+)|(.*)\n)", rule, re.MULTILINE)
    assert found is not None, rule
    return found[1] or found[2]


def alerts() -> dict[str, str]:
    """Return what each alert asks for."""
    return {name: expression(rule) for name, rule in rules(ALERTS, "alert")}


def records() -> dict[str, str]:
    """Return what each recording rule asks for; of several of one name all of it."""
    found: dict[str, str] = {}
    for name, rule in rules(RECORDS, "record"):
        found[name] = found.get(name, "") + expression(rule) + "\n"
    return found


def names_in(query: str) -> set[str]:
    """Return the metrics and recorded series that a query reads."""
    bare = re.sub(r'"[^"]*"|\{[^}]*\}|\[[^\]]*\]|#.*', "", query)
    bare = re.sub(r"\b(?:by|on|without|ignoring|group_left)\s*\([^)]*\)", "", bare)
    return {
        re.sub(r"_(?:bucket|sum|count)$", "", name)
        for name in re.findall(r"(?<![\w:])(?:dpp|http|sqs|process|actor|log)[_:][\w:]+", bare)
    }


def metrics_in(query: str) -> set[str]:
    """Return the metrics that a query reads, those behind recorded series among them."""
    found: set[str] = set()
    for name in names_in(query):
        found |= metrics_in(records()[name]) if ":" in name else {name}
    return found


def panels() -> list[tuple[str, str, str]]:
    """Return dashboard, panel and query of every query of every dashboard."""
    return [
        (path.stem, panel["title"], target["expr"])
        for path in DASHBOARDS
        for panel in json.loads(path.read_text())["panels"]
        for target in panel.get("targets", ())
    ]


def promtool(*arguments: str) -> str:
    """Run promtool among the rules; returns what it said, and fails as it does."""
    done = subprocess.run(
        ["promtool", *arguments], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def dashboard(path: Path) -> dict[str, Any]:
    """Return a dashboard."""
    document: dict[str, Any] = json.loads(path.read_text())
    return document
