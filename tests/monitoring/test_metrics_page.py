"""docs/metrics.md is what a node exports: names, types and labels, no more and no fewer."""

from __future__ import annotations

from typing import TYPE_CHECKING

from prometheus_client import Counter, Gauge, Histogram
from prometheus_client.parser import text_string_to_metric_families

from dpp import metrics
from tests.monitoring.described import described
from tests.node_client import until

if TYPE_CHECKING:
    from tests.node_process import NodeProcess

PARTS = {"le"}  # of a histogram


def test_the_page_has_every_metric_of_a_node_with_its_type_and_labels(
    served_node: NodeProcess,
) -> None:
    text = served_node.ask_admin("GET", "/metrics").text
    exported = {
        line.split()[2]: "untyped" if line.split()[3] == "unknown" else line.split()[3]
        for line in text.splitlines()
        if line.startswith("# TYPE ")
    }
    page = described()

    assert {name: row.kind for name, row in page.items()} == exported
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            name = family.name if family.name in page else f"{family.name}_total"
            assert sample.labels.keys() - PARTS == page[name].labels, sample


def test_the_page_has_the_labels_of_metrics_that_have_no_series_yet() -> None:
    page = described()

    for metric in vars(metrics).values():
        if isinstance(metric, Counter | Gauge | Histogram):
            (family,) = metric.describe()
            name = family.name if family.name in page else f"{family.name}_total"
            assert page[name].labels == set(metric._labelnames), name


async def test_what_alerts_read_is_there_once_the_node_has_read_the_database(
    served_node: NodeProcess,
) -> None:
    """Tables and nodes are known by their first reading; all else stands at 0 before."""

    async def missing() -> set[str]:
        text = served_node.ask_admin("GET", "/metrics").text
        families = {family.name: family for family in text_string_to_metric_families(text)}
        read = {name for name, row in described().items() if row.alerts}
        return {name for name in read if not families[name.removesuffix("_total")].samples}

    async def all_there() -> bool:
        return not await missing()

    assert await missing() <= {"dpp_postgres_dead_tuples", "dpp_worker_last_heartbeat_timestamp"}
    await until(all_there)
