"""A node of its own for a benchmark: the runner of the tests, with the defaults and a quiet log."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from tests.node_process import NodeProcess, node_process

Served = NodeProcess


@contextmanager
def serve(data_dir: Path | None = None, env: Mapping[str, str] | None = None) -> Iterator[Served]:
    """Run a node for the length of the block, on free ports; then SIGTERM, and wait for it."""
    with node_process(env={"DPP_LOG__LEVEL": "WARNING", **(env or {})}, data_dir=data_dir) as node:
        yield node.start()
