"""The operating system as the directory store sees it: watched, failing, or killing the process.

It stands in for `os` in the store's modules, passes every call on, and counts those that a disk can
refuse. `python -m tests.store.blob_system PATH ID` kills a put before and after each of its calls,
every time under a key of its own, and tells where it died.
"""

from __future__ import annotations

import errno
import json
import os
import sys
from contextlib import contextmanager
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

from attrs import define, field, frozen

from dpp.blobs import BlobKey, Label
from dpp.money import Micros
from dpp.store import blob_files, blob_place, blob_sweep, directory_blobs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

CALLS = ("open", "mkdir", "write", "fsync", "link", "unlink", "close", "fstat", "pread", "read")
MODULES = (blob_files, blob_place, blob_sweep, directory_blobs)
RUN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
LABEL = Label(lease_id=RUN, pack_type="decision", cost=Micros(125))
BODY = b"0123456789abcdef" * 8_192
KILLED = 137


@define
class System:
    """`os`, with every call of `CALLS` noted by name and by what it is about."""

    before: Callable[[int, str, str], None] = lambda n, name, what: None  # noqa: ARG005 - as asked
    after: Callable[[int, str, str], None] = lambda n, name, what: None  # noqa: ARG005 - as asked
    calls: list[tuple[str, str]] = field(factory=list)

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        return self._noted(name, real) if name in CALLS else real

    def _noted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any, **options: Any) -> Any:
            n, what = len(self.calls), about(args, options)
            self.calls.append((name, what))
            try:
                self.before(n, name, what)
            except OSError:
                if name == "close":  # Linux has closed the file, whatever it reports
                    real(*args)
                raise
            try:
                return real(*args, **options)
            finally:
                self.after(n, name, what)

        return call


def about(args: tuple[Any, ...], options: dict[str, Any]) -> str:
    """Return the path that a call is about, by its name or by its descriptor."""
    directory = options.get("dir_fd", options.get("dst_dir_fd"))
    if directory is None:
        return str(args[0]) if isinstance(args[0], str | Path) else path_of(args[0])
    return f"{path_of(directory)}/{args[1] if 'dst_dir_fd' in options else args[0]}"


def path_of(descriptor: int) -> str:
    """Return where an open file lies."""
    return str(Path(f"/proc/self/fd/{descriptor}").readlink())


@contextmanager
def seen_by(system: System) -> Iterator[System]:
    """Let the store's modules see this system."""
    for module in MODULES:
        module.os = system  # type: ignore[attr-defined]
    try:
        yield system
    finally:
        for module in MODULES:
            module.os = os  # type: ignore[attr-defined]


class ShortWrites(System):
    """Writes no more than 1,000 bytes a call, as the kernel may."""

    def write(self, descriptor: int, data: memoryview) -> int:
        """Write some of it."""
        return os.write(descriptor, data[:1_000])


@frozen
class Fail:
    """Fails one call, before the system hears of it."""

    at: int
    code: int

    def __call__(self, n: int, _name: str, what: str) -> None:
        """Raise at this call."""
        if n == self.at:
            raise OSError(self.code, os.strerror(self.code), what)


@frozen
class Kill:
    """Ends the process at one call, and says which it was."""

    at: int
    when: str

    def __call__(self, n: int, name: str, what: str) -> None:
        """Die at this call, as by SIGKILL: nothing is cleaned up."""
        if n == self.at:
            print(json.dumps([key_at(n, self.when).lease_epoch, self.when, name, what]), flush=True)  # noqa: T201
            os._exit(KILLED)


def key_at(n: int, when: str) -> BlobKey:
    """Return the key under which the put dies at this point; its directories are its own too."""
    epoch = 2 * n + (1 if when == "before" else 2)
    return BlobKey(
        tenant_id=f"tenant {epoch}",
        created_on=date(2026, 3, 4),
        run_id=RUN,
        lease_epoch=epoch,
    )


def put(path: Path, store_id: UUID, key: BlobKey) -> None:
    """Put, in this thread."""
    with blob_place.insisted(path, store_id) as root:
        directory_blobs._put(key, LABEL, BODY, root)


def die(path: Path, store_id: UUID, kill: Kill) -> None:
    """Put in a process that dies at this point; if it does not come so far, end with 0."""
    child = os.fork()
    if child == 0:
        with seen_by(System(**{kill.when: kill})):
            put(path, store_id, key_at(kill.at, kill.when))
        os._exit(0)
    _, status = os.waitpid(child, 0)
    if os.waitstatus_to_exitcode(status) != KILLED:
        sys.exit(os.waitstatus_to_exitcode(status))


def main() -> None:
    """Die at each point, until a put passes untouched."""
    path, store_id = Path(sys.argv[1]), UUID(sys.argv[2])
    for at in range(1_000):
        for when in ("before", "after"):
            die(path, store_id, Kill(at, when))
    sys.exit(errno.EOVERFLOW)


if __name__ == "__main__":
    main()
