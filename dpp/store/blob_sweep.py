"""The sweep of a directory store: which files are old, page by page, and their deletion.

It knows files by their names alone and touches nothing that has none of ours. Whether an object may
go is decided between the two steps, by whoever knows the runs; an unfinished write of a crashed
node may go when it is old. Directories that become empty go with their last file.
"""

from __future__ import annotations

import errno
import os
import stat
from contextlib import closing, suppress
from itertools import islice
from typing import TYPE_CHECKING

from attrs import frozen

from dpp.blobs import Attempt, attempt_in
from dpp.files import UNFINISHED
from dpp.store.blob_files import descend
from dpp.store.blob_place import NAMES, now

if TYPE_CHECKING:
    import re
    from collections.abc import Generator, Sequence


@frozen
class Page:
    """A page of the files: how many, the old ones among them, and its last name (None: the end)."""

    looked: int
    objects: dict[str, Attempt]
    torn: tuple[str, ...]
    after: str | None


@frozen
class Deletion:
    """How many files are gone, and how many the system would not delete."""

    deleted: int
    refused: int


def read_page(
    root: int, *, older_than_s: float, after: str, limit: int, at: float | None = None
) -> Page:
    """Return the next `limit` files in the order of their names, from beyond `after`.

    `at`: the time that they are judged by, in seconds since 1970; by default that of the clock that
    stamps them, which is found by a change to the store.
    """
    assert limit > 0
    at = now(root) if at is None else at
    with closing(_walk(root, NAMES, after.split("/") if after else [])) as files:
        seen = [("/".join(path), at - changed_at) for path, changed_at in islice(files, limit)]
    old = [name for name, age_s in seen if age_s >= older_than_s]
    objects = {name: attempt for name in old if (attempt := attempt_in(name))}
    torn = tuple(name for name in old if name.rpartition("/")[2].startswith(UNFINISHED))
    return Page(len(seen), objects, torn, seen[-1][0] if len(seen) == limit else None)


def delete(root: int, names: Sequence[str]) -> Deletion:
    """Delete these files, and the directories that are empty then."""
    deleted = refused = 0
    for name in names:
        try:
            deleted += _delete_file(root, name.split("/"))
        except PermissionError:  # one that cannot go must not keep the others
            refused += 1
    return Deletion(deleted, refused)


def _walk(
    directory: int, names: Sequence[re.Pattern[str]], after: Sequence[str]
) -> Generator[tuple[list[str], float]]:
    """Yield path and mtime of each file beyond `after`; what has none of our names is passed by."""
    first = after[0] if after else ""
    for name in sorted(name for name in os.listdir(directory) if name >= first):
        with suppress(FileNotFoundError, NotADirectoryError):
            if not names:
                found = os.stat(name, dir_fd=directory, follow_symlinks=False)
                if name != first and stat.S_ISREG(found.st_mode):
                    yield [name], found.st_mtime
            elif names[0].fullmatch(name):
                beyond = after[1:] if name == first else ()
                with descend(directory, [name]) as chain:
                    for path, changed_at in _walk(chain[-1], names[1:], beyond):
                        yield [name, *path], changed_at


def _delete_file(root: int, path: Sequence[str]) -> int:
    *directories, name = path
    try:
        with descend(root, directories) as chain:
            os.unlink(name, dir_fd=chain[-1])
            _remove_empty(chain[:-1], directories)
    except FileNotFoundError:
        return 0
    return 1


def _remove_empty(parents: Sequence[int], names: Sequence[str]) -> None:
    """Remove these directories from the lowest up, to the first that holds something."""
    for parent, name in reversed(list(zip(parents, names, strict=True))):
        try:
            os.rmdir(name, dir_fd=parent)
        except OSError as error:
            if error.errno in {errno.ENOTEMPTY, errno.EEXIST, errno.ENOENT}:
                return
            raise
