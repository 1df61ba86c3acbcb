"""The place of a directory store: opened anew for each verb, known by the id that is written in it.

A volume that is not mounted, or a directory of another machine, would answer "missing" with
authority. So the id is read through the same descriptor as everything after it, and what the
operating system refuses is `CouldNotAsk`: never an answer.
"""

from __future__ import annotations

import errno
import os
import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final
from uuid import UUID, uuid4

from dpp.blobs import GRAMMAR, CouldNotAsk
from dpp.files import sync_dir
from dpp.store.blob_files import DIRECTORY, READ_FILE, publish

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

STORE_ID: Final = "store_id"
# A directory of objects, of the run's last name but one.
NAMES: Final = tuple(re.compile(grammar, re.ASCII) for grammar in GRAMMAR[:-1])
# Only a bug of ours gives these; everything else the system says is the state of the disk.
BUGS: Final = frozenset({errno.EBADF, errno.EFAULT})


@contextmanager
def opened(path: Path) -> Iterator[int]:
    """Open the directory, and turn what the system refuses meanwhile into `CouldNotAsk`."""
    try:
        root = os.open(path, DIRECTORY)
        try:
            yield root
        finally:
            os.close(root)
    except OSError as error:
        if error.errno in BUGS:
            raise
        code = errno.errorcode.get(error.errno or 0, "no number")
        at = "" if error.filename in {None, path} else f", at {error.filename}"
        raise CouldNotAsk(f"{path}: {error.strerror} ({code}){at}") from error


@contextmanager
def insisted(path: Path, store_id: UUID) -> Iterator[int]:
    """Open the directory as `opened`; another one than `store_id` is not asked."""
    with opened(path) as root:
        there = read_id(root)
        if there != store_id:
            has = f"has the id {there}" if there else "has no id"
            raise CouldNotAsk(f"{path} {has}, and should have {store_id}: is its volume mounted?")
        yield root


def identify(path: Path, known: UUID | None) -> UUID | None:
    """Return the id in the directory; with nothing known and none there, it is given one."""
    with opened(path) as root:
        there = read_id(root)
        if there is not None or known is not None:
            return there
        if _holds_objects(root):
            raise CouldNotAsk(f"{path} holds objects and no {STORE_ID}: put that file back")
        publish(root, STORE_ID, f"{uuid4()}\n".encode())
        os.fsync(root)
        sync_dir(path.parent)
        return read_id(root)


def read_id(root: int) -> UUID | None:
    """Return the id that is written there; None: there is none. Raises where it is no id."""
    try:
        descriptor = os.open(STORE_ID, READ_FILE, dir_fd=root)
    except FileNotFoundError:
        return None
    try:
        text = os.read(descriptor, 100).decode("ascii", "replace").strip()
    finally:
        os.close(descriptor)
    try:
        return UUID(text)
    except ValueError as error:
        raise CouldNotAsk(f"its {STORE_ID} says {text!r}, which is no id") from error


def now(root: int) -> float:
    """Return the time by the clock that stamps the files, which need not be this machine's.

    It is read off the file with the id, so that it can be asked on a full disk.
    """
    descriptor = os.open(STORE_ID, READ_FILE, dir_fd=root)
    try:
        os.utime(descriptor)
        return os.fstat(descriptor).st_mtime
    finally:
        os.close(descriptor)


def _holds_objects(root: int) -> bool:
    return any(NAMES[0].fullmatch(name) for name in os.listdir(root))
