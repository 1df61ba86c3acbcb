"""The guide's smoke test once more, on a node behind a pooler in session mode."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.conftest import new_database, serving_node
from tests.node import test_smoke_guide
from tests.pgbouncer import needs_pgbouncer, pgbouncer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests.cluster import Cluster
    from tests.node_process import NodeProcess

pytestmark = [needs_pgbouncer, pytest.mark.direct]
SESSIONS = 20  # a node has nine connections, and each keeps a server connection


@pytest.fixture(scope="module")
def served_node(cluster: Cluster) -> Iterator[NodeProcess]:
    with (
        pgbouncer(cluster.host, "session", pool_size=SESSIONS) as pooler,
        new_database(cluster, pooler.host) as database,
        serving_node(database) as node,
    ):
        yield node
        found = next(line for line in node.lines() if line["event"] == "database found")
        assert (found["pooler"], found["prepared_statements"]) == ("session", True)


for _name in dir(test_smoke_guide):
    if _name.startswith("test_"):
        globals()[_name] = getattr(test_smoke_guide, _name)
