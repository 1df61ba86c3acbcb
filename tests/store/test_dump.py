"""A pg_dump of the schema, as docs/backup.md has it, restores into books that hold."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from dpp.store import audits
from tests.dumps import dump, judged, restored
from tests.store.test_audit import make_busy

if TYPE_CHECKING:
    from pathlib import Path

    from dpp.store.bridge import Bridge
    from dpp.store.postgres import PostgresStore
    from tests.conftest import Database


async def test_a_dump_of_busy_books_restores_into_books_that_hold(
    store: PostgresStore, database: Database, bridge: Bridge, tmp_path: Path
) -> None:
    await make_busy(store)
    file, host, copy = tmp_path / "dpp.dump", database.host, f"{database.name}_dumped"

    await trio.to_thread.run_sync(dump, host, database.name, file)
    with restored(host, file, copy):
        audit, found = await bridge.run(partial(judged, host, copy))

    assert audit.ok
    assert found == []
    assert len(audit.verdicts) == len(audits.invariants())
