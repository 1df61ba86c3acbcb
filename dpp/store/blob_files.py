"""The files of the directory store: one object a file, a line of metadata and then the body.

One file, so that a crash leaves either nothing under the name or all of it; a second file beside it
could be without its other half. A file is written under a temporary name in the same directory,
synced, linked under its own name (`link` never replaces, `rename` does), and the directories above
are synced. So what has a name is whole, and `sync_chain` makes the name last. Every name is opened
relative to a directory's descriptor, and no symbolic link is followed.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
import uuid
from contextlib import ExitStack, contextmanager, suppress
from io import FileIO
from typing import TYPE_CHECKING

from dpp.blobs import (
    BlobKey,
    Content,
    Fetched,
    Found,
    Looked,
    Metadata,
    Missing,
    NotVerified,
    to_strings,
    verify,
)
from dpp.files import UNFINISHED

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# O_NONBLOCK: a pipe that lies under an object's name must not hold the thread; files ignore it.
READ_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
HEADER_MAX = 4096  # eight short strings: under 600 bytes with the longest name of a pack


@contextmanager
def descend(root: int, names: Sequence[str], *, make: bool = False) -> Iterator[list[int]]:
    """Open the directories `names`, each in the one before; `root` is the first of the chain."""
    with ExitStack() as opened:
        chain = [root]
        for name in names:
            if make:
                with suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=chain[-1])
            chain.append(os.open(name, DIRECTORY, dir_fd=chain[-1]))
            opened.callback(os.close, chain[-1])
        yield chain


def sync_chain(chain: Sequence[int]) -> None:
    """Make the names in these directories durable, from the lowest up.

    All of them, each time: whoever made one may have died before it was synced, and a directory
    without changes takes 0.1 ms.
    """
    for directory in reversed(chain):
        os.fsync(directory)


def publish(directory: int, name: str, *parts: bytes) -> None:
    """Give `name` a whole and synced file of these parts, unless it has one already.

    The caller syncs the directory. Raises OSError; then the name is as it was.
    """
    temporary = f"{UNFINISHED}{uuid.uuid4()}"
    descriptor = os.open(temporary, NEW_FILE, 0o600, dir_fd=directory)
    try:
        try:
            for part in parts:
                _write(descriptor, part)
            # An error here is final for this file: a second fsync would forget it and say yes.
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        with suppress(FileExistsError):
            os.link(temporary, name, src_dir_fd=directory, dst_dir_fd=directory)
    finally:
        with suppress(OSError):  # what is left of it is swept, as after a crash
            os.unlink(temporary, dir_fd=directory)


def header(metadata: Metadata) -> bytes:
    """Return the first line of a file: only this one, byte for byte, is ever accepted."""
    line = json.dumps(to_strings(metadata), separators=(",", ":")).encode() + b"\n"
    assert len(line) <= HEADER_MAX
    return line


def look(directory: int, name: str, key: BlobKey, *, settle: bool = True) -> Looked:
    """Verify the file `name`; to `settle` by it, make it durable: a copy may have been restored."""
    opened = _open(directory, name)
    if not isinstance(opened, FileIO):
        return opened
    with opened as file:
        if settle:
            os.fsync(file.fileno())
        strings, length = _read_header(file)
        digest = hashlib.file_digest(file, "sha256").digest()
    checked = _verify(strings, key, length, digest)
    return checked if isinstance(checked, NotVerified) else Found(checked)


def load(directory: int, name: str, key: BlobKey) -> Fetched:
    """Return the file `name` with its body; what is returned is what was hashed."""
    opened = _open(directory, name)
    if not isinstance(opened, FileIO):
        return opened
    with opened as file:
        strings, length = _read_header(file)
        body = file.readall()
    checked = _verify(strings, key, length, hashlib.sha256(body).digest())
    return checked if isinstance(checked, NotVerified) else Content(checked, body)


def piece(directory: int, name: str, there: Metadata, start: int, length: int) -> bytes:
    """Return a part of the body of the file that was verified as `there`.

    Its first line is compared once more: nothing is hashed here. Raises OSError where the file is
    gone, is another one by now, or ends too soon.
    """
    opened = _open(directory, name)
    if not isinstance(opened, FileIO):
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    with opened as file:
        line, size = _read_header(file)
        if line != header(there) or size != there.length:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
        at = len(line) + start
        parts: list[bytes] = []
        while length and (part := os.pread(file.fileno(), length, at)):
            parts.append(part)
            at, length = at + len(part), length - len(part)
        if length:
            raise OSError(errno.ESTALE, os.strerror(errno.ESTALE), name)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _write(descriptor: int, data: bytes) -> None:
    """Write all of it: a write may be short, at the kernel's limit or just before an error."""
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(descriptor, rest) :]


def _open(directory: int, name: str) -> FileIO | Missing | NotVerified:
    try:
        descriptor = os.open(name, READ_FILE, dir_fd=directory)
    except FileNotFoundError:
        return Missing()
    except OSError as error:
        if error.errno == errno.ELOOP:
            return NotVerified("it is a symbolic link")
        raise
    with ExitStack() as unused:
        unused.callback(os.close, descriptor)
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return NotVerified("it is no regular file")
        unused.pop_all()
    return FileIO(descriptor)


def _read_header(file: FileIO) -> tuple[bytes, int]:
    """Return the first line, empty where there is none; the file then stands at its body.

    Beside it how long the body is.
    """
    size = os.fstat(file.fileno()).st_size
    line, newline, _ = os.pread(file.fileno(), HEADER_MAX, 0).partition(b"\n")
    if not newline:
        return b"", size
    return line + newline, size - file.seek(len(line) + 1)


def _verify(line: bytes, key: BlobKey, length: int, sha256: bytes) -> Metadata | NotVerified:
    try:
        strings = json.loads(line)
    except (ValueError, RecursionError):
        strings = None
    if not isinstance(strings, dict) or not all(isinstance(v, str) for v in strings.values()):
        return NotVerified("its first line cannot be read")
    checked = verify(strings, key, length=length, sha256=sha256)
    if isinstance(checked, Metadata) and header(checked) != line:
        return NotVerified("its first line was written by somebody else")
    return checked
