"""Small file systems to fill, and one directory under several names. All of it takes root."""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

MIB = 1 << 20
CHUNK = 64 * 1024


@cache
def why_no_mounts() -> str | None:
    """Say why nothing can be mounted here; None = it can."""
    if os.geteuid() != 0:
        return "only root may mount"
    with tempfile.TemporaryDirectory() as name:
        tried = mount("-t", "tmpfs", "-o", "size=1m", "tmpfs", name)
        if tried.returncode == 0:
            unmount(Path(name))
    return None if tried.returncode == 0 else f"mount: {tried.stderr.strip()}"


def mount(*words: str) -> subprocess.CompletedProcess[str]:
    """Run the command `mount`."""
    return subprocess.run(["mount", *words], capture_output=True, text=True, check=False)


def unmount(path: Path) -> None:
    """Take a file system away, even while somebody has a file open there."""
    subprocess.run(["umount", "--lazy", str(path)], check=True, capture_output=True)


@contextmanager
def bound(source: Path, target: Path) -> Iterator[None]:
    """Show the directory `source` as `target`, too: for real, where no symbolic link is followed."""  # noqa: E501
    done = mount("--bind", str(source), str(target))
    assert done.returncode == 0, done.stderr
    try:
        yield
    finally:
        unmount(target)


@contextmanager
def small_disk(target: Path, size: int) -> Iterator[str]:
    """Mount an empty file system of so many bytes on `target`; says which kind it is.

    An ext4 on a loop device, as disks are; where there is no such device, memory.
    """
    with tempfile.TemporaryDirectory() as name, suppress_leftovers(target):
        yield mount_ext4(Path(name) / "disk", target, size) or mount_memory(target, size)


def mount_ext4(image: Path, target: Path, size: int) -> str | None:
    """Mount a file as a disk; None = there is no loop device, or no ext4."""
    with image.open("wb") as file:
        file.truncate(size)
    made = False
    with suppress(OSError):
        command = ["mkfs.ext4", "-q", "-F", "-m", "0", str(image)]
        made = subprocess.run(command, check=False).returncode == 0
    if made and mount("-o", "loop", str(image), str(target)).returncode == 0:
        (target / "lost+found").rmdir()
        return "ext4"
    return None


def mount_memory(target: Path, size: int) -> str:
    """Mount memory as a disk."""
    done = mount("-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(target))
    assert done.returncode == 0, done.stderr
    return "tmpfs"


@contextmanager
def suppress_leftovers(target: Path) -> Iterator[None]:
    """Take away what was mounted on `target` in the block."""
    try:
        yield
    finally:
        if target.is_mount():
            unmount(target)


def fill(path: Path, *, leave: int = 0) -> None:
    """Write a file until the disk has no room for another byte of it; `leave` some bytes again."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        for size in (CHUNK, 512, 1):
            with suppress(OSError):
                while os.write(descriptor, bytes(size)):
                    pass
        os.truncate(descriptor, os.fstat(descriptor).st_size - leave)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
