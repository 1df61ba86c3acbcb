"""Results copied as they are stored: soon, whole, once, and only those that no backup has."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import UUID, uuid4

import pytest

from dpp.backups.mirror import FULL_S, Mirror
from dpp.blobs import BlobKey

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)


@pytest.fixture
def mirror(tmp_path: Path) -> Mirror:
    made = Mirror(tmp_path / "blobs", tmp_path / "copies", since_s=NOW.timestamp() - 3600)
    made.source.mkdir()
    made.target.mkdir()
    (made.source / "store_id").write_text("an id\n")
    made.look(NOW.timestamp())  # the full look of the beginning
    return made


def stored(mirror: Mirror, *, days: int = 0, epoch: int = 1, run: UUID | None = None) -> str:
    """Store an object of a run that was bought so many days ago."""
    day = (NOW - timedelta(days=days)).date()
    key = BlobKey(tenant_id="acme", created_on=day, run_id=run or uuid4(), lease_epoch=epoch)
    file = mirror.source / key.name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(b"a result")
    os.utime(file, (NOW.timestamp(), NOW.timestamp()))
    return key.name


def copies(mirror: Mirror) -> set[str]:
    files = (path for path in mirror.target.rglob("*") if path.is_file())
    return {str(path.relative_to(mirror.target)) for path in files}


def test_what_is_new_is_there_after_the_next_look(mirror: Mirror) -> None:
    first = stored(mirror)
    mirror.look(NOW.timestamp() + 1)
    second = stored(mirror, days=1)
    mirror.look(NOW.timestamp() + 2)

    assert copies(mirror) == {first, second}
    assert (mirror.target / first).read_bytes() == b"a result"
    assert mirror.copied == 2


def test_an_old_run_and_another_attempt_are_found_by_the_full_look(mirror: Mirror) -> None:
    run = uuid4()
    first, old = stored(mirror, run=run), stored(mirror, days=9)
    mirror.look(NOW.timestamp() + 1)
    again = stored(mirror, run=run, epoch=2)
    assert copies(mirror) == {first}

    mirror.look(NOW.timestamp() + FULL_S)

    assert copies(mirror) == {first, old, again}


def test_a_directory_without_its_object_yet_is_looked_at_again(mirror: Mirror) -> None:
    run = uuid4()
    name = stored(mirror, run=run)
    file = mirror.source / name
    half = file.rename(file.with_name(".new-half"))
    os.utime(file.parents[1], (1, 1))  # nothing about the day itself changes any more
    mirror.look(NOW.timestamp() + 1)
    assert copies(mirror) == set()

    half.rename(file)
    mirror.look(NOW.timestamp() + 2)

    assert copies(mirror) == {name}


def test_what_every_backup_has_is_left_out(mirror: Mirror) -> None:
    file = mirror.source / stored(mirror)
    os.utime(file, (mirror.since_s - 1, mirror.since_s - 1))

    mirror.look(NOW.timestamp() + FULL_S)

    assert copies(mirror) == set()


def test_a_copy_that_fails_leaves_nothing_and_is_made_the_next_time(
    mirror: Mirror, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    name = stored(mirror)
    with monkeypatch.context() as broken:
        broken.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            mirror.look(NOW.timestamp() + 1)
    assert copies(mirror) == set()

    mirror.look(NOW.timestamp() + 2)

    assert copies(mirror) == {name}
