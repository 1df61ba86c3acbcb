"""The rules for Prometheus: its own tool accepts them, and each alert fires when it shall."""

from __future__ import annotations

import re

from dpp.config import defaults
from dpp.node.loops import LONGEST, TURN_S, patience, pauses
from tests.monitoring.described import (
    ALERTS,
    ALERTS_PAGE,
    METRICS_PAGE,
    PROMETHEUS,
    RECORDS,
    alerts,
    described,
    metrics_in,
    needs_prometheus,
    promtool,
    records,
    rules,
)
from tests.monitoring.prometheus import SHORTER, UNIT_MS, shorter

GUIDE = {
    "DPP_AuditRequired_Critical",
    "DPP_API_Down",
    "DPP_Database_Connection_Failed",
    "DPP_SQS_Queue_Backlog",
    "DPP_Worker_Heartbeat_Missing",
}
WHOLE = set(re.findall(r"^\| `(\w+)` .*\*\*whole\*\*", METRICS_PAGE, flags=re.MULTILINE))


@needs_prometheus
def test_prometheus_takes_the_configuration_and_the_rules() -> None:
    assert "FAILED" not in promtool("check", "config", "prometheus.yml")


@needs_prometheus
def test_each_rule_says_of_made_up_series_what_it_shall() -> None:
    assert "SUCCESS" in promtool("test", "rules", "rules_test.yml")


def test_every_alert_is_tested_described_and_names_its_runbook() -> None:
    tests = (PROMETHEUS / "rules_test.yml").read_text()
    quiet = set(re.findall(r'alertname="(\w+)".*\n.*\n +exp_samples: \[\]', tests))
    firing = set(re.findall(r"labels: '\{alertname=\"(\w+)\"", tests))
    described_here = re.findall(r"^## (\w+)$", ALERTS_PAGE, flags=re.MULTILINE)

    assert alerts().keys() >= GUIDE
    assert quiet == firing == alerts().keys()
    assert described_here == list(alerts())
    for name, rule in rules(ALERTS, "alert"):
        assert f"runbook: docs/runbooks/{name}.md\n" in rule


def test_alerts_read_what_the_page_of_metrics_says_they_read() -> None:
    read = {name: metrics_in(query) - {"up"} for name, query in alerts().items()}
    page = described()

    assert {
        name: set(row.alerts) for name, row in page.items() if row.alerts
    } == {
        metric: {name for name, names in read.items() if metric in names}
        for metric in set().union(*read.values())
    }  # fmt: skip


def test_the_shorter_rules_have_no_time_left_as_it_was() -> None:
    for text in (ALERTS, RECORDS):
        short = shorter(text)
        times = re.findall(r"(?:\[|for: |interval: )(\d+\w+)", text)
        shown = re.findall(r"(?:\[|for: |interval: )(\d+)ms\b", short)
        assert len(shown) == len(times)
        assert promised_ms(times) == [int(one) * SHORTER for one in shown]
    assert "> 120 # s" in ALERTS
    assert "> 4.0 # s" in shorter(ALERTS)


def promised_ms(times: list[str]) -> list[int]:
    return [int(one[:-1]) * UNIT_MS[one[-1]] for one in times]


def test_no_loop_that_works_in_its_own_time_is_called_stuck() -> None:
    """The longest pause is given to each, besides the minutes that the watchdog gives as well."""
    query = alerts()["DPP_Loop_Stuck"]
    limits = re.findall(r'loop(=~|!~)"([^"]+)"[^>]*> (\d+) # s', query)
    (_, all_but, soon), (_, these, late) = limits

    assert set(all_but.split("|")) == {*these.split("|"), "tenure"}  # a heartbeat has its own alert
    assert int(late) > int(soon) == TURN_S
    assert query.count(f"{LONGEST} * max by (instance, loop) (dpp_loop_pause_seconds") == 2
    for loop, most_s in patience(defaults()).items():
        assert most_s == LONGEST * pauses(defaults())[loop] + TURN_S


def test_figures_of_the_whole_deployment_are_never_added_up_over_nodes() -> None:
    for name, query in {**alerts(), **records()}.items():
        for metric in WHOLE:
            added = re.search(rf"sum(?: by \(([^)]*)\))? ?\((?:\w+\()?{metric}\b", query)
            assert added is None or "instance" in (added[1] or ""), name
