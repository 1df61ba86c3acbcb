"""The schema of a release after this one: what it adds, and what it takes away later."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

_ADDS = """\
-- a release from now: a column that it writes, and an index
-- depends: 0001_books_pre

-- migrate: apply
alter table dpp.nodes add column region text;
create index live_runs_ages on dpp.live_runs (available_at);

-- migrate: rollback
drop index dpp.live_runs_ages;
alter table dpp.nodes drop column region;
"""
_TAKES = """\
-- a release from now: an index that it needs no more
-- depends: 0002_region_pre

-- migrate: apply
drop index dpp.live_runs_ages;

-- migrate: rollback
create index live_runs_ages on dpp.live_runs (available_at);
"""
PRE, POST = "0002_region_pre", "0003_region_post"


def add_migrations(directory: Path) -> None:
    """Add its two migrations to a folder that has those of this release."""
    (directory / f"{PRE}.sql").write_text(_ADDS)
    (directory / f"{POST}.sql").write_text(_TAKES)
