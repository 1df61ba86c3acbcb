"""The dashboards: those of the guide, and every query reads what a node exports or a rule records.

That each finds data on a real Prometheus is shown in `faults.py`.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.monitoring.described import (
    DASHBOARDS,
    dashboard,
    described,
    metrics_in,
    names_in,
    panels,
    records,
)

# What the guide wants to see on each.
GUIDE = {
    "dpp-money-flow": ("Budget balance", "Reserved, settled", "Overcharge", "AUDIT_REQUIRED"),
    "dpp-system-health": (
        *("Requests a second", "Latency", "5xx"),
        *("Connections to PostgreSQL", "Redis memory"),
    ),
    "dpp-workers": ("Runs queued", "Runs a minute", "Average run duration", "Heartbeats"),
    "dpp-reaper": (
        *("Scans for lapsed leases", "Passes of the reconciler"),
        *("Rolled forward, rolled back", "AUDIT_REQUIRED"),
    ),
}


@pytest.mark.parametrize("path", DASHBOARDS, ids=[path.stem for path in DASHBOARDS])
def test_a_dashboard_has_what_the_guide_wants_and_no_two_panels_overlap(path: Path) -> None:
    document = dashboard(path)
    titles = [panel["title"] for panel in document["panels"]]
    places = {
        (x, y)
        for panel in document["panels"]
        for x in range(panel["gridPos"]["x"], panel["gridPos"]["x"] + panel["gridPos"]["w"])
        for y in range(panel["gridPos"]["y"], panel["gridPos"]["y"] + panel["gridPos"]["h"])
    }

    assert document["uid"] == path.stem
    assert [word for word in GUIDE[path.stem] if not any(word in title for title in titles)] == []
    assert len({panel["id"] for panel in document["panels"]}) == len(titles)
    assert len(places) == sum(
        panel["gridPos"]["w"] * panel["gridPos"]["h"] for panel in document["panels"]
    )
    assert max(x for x, _ in places) < 24


def test_there_are_the_four_dashboards_of_the_guide() -> None:
    assert {path.stem for path in DASHBOARDS} == GUIDE.keys()


def test_every_query_reads_what_a_node_exports_or_a_rule_records() -> None:
    page = described()

    for title, panel, query in panels():
        assert names_in(query), (title, panel)
        assert {name for name in names_in(query) if ":" in name} <= records().keys(), panel
        assert metrics_in(query) - {"up"} <= page.keys(), (title, panel)
