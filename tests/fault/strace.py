"""Errors of system calls, put into processes that run: strace's fault injection, where it may.

A container may forbid to trace; then tests that need it are skipped, and say so.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

ATTACHED_S = 20
PROBE = "import os, tempfile; f = tempfile.TemporaryFile(); os.fsync(f.fileno())"
INJECT = "inject=fsync,fdatasync:error=EIO"


@cache
def why_not() -> str:
    """Say why nothing can be injected here; empty where it can."""
    if shutil.which("strace") is None:
        return "strace is not installed (package strace)"
    command = [
        "strace",
        "-f",
        "-qq",
        "-e",
        "trace=fsync",
        "-e",
        INJECT,
        sys.executable,
        "-c",
        PROBE,
    ]
    tried = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if "Input/output error" in tried.stderr:
        return ""
    return f"strace may not trace here: {tried.stderr.strip()[-200:]}"


@contextmanager
def failing_syncs(pids: Sequence[int], log: Path, when: str = "1+") -> Iterator[None]:
    """Let fsync and fdatasync of these processes, and of what they fork, end in EIO in the block.

    `when`: which of the calls of each process, as strace counts them: `3` is the third alone. `log`
    gets a line for each call. Without an error on the way the block is over when all are let go.
    """
    command = ["strace", "-f", "-tt", "-o", str(log), "-e", "trace=fsync,fdatasync"]
    command += ["-e", f"{INJECT}:when={when}"]
    for pid in pids:
        command += ["-p", str(pid)]
    tracer = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert tracer.stderr is not None
        attached = 0
        while attached < len(pids):
            line = tracer.stderr.readline()
            assert line, f"strace ended with {tracer.wait(ATTACHED_S)}"
            attached += "attached" in line
        yield
    finally:
        tracer.terminate()  # it lets go of all and ends
        tracer.communicate(timeout=ATTACHED_S)


def injected(log: Path) -> int:
    """Count the calls that were made to fail."""
    return log.read_text(errors="replace").count("(INJECTED)")


def descendants(pid: int) -> list[int]:
    """Return a process and all below it."""
    children: dict[int, list[int]] = {}
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = stat.read_text(errors="replace").rpartition(")")[2].split()
        except (FileNotFoundError, ProcessLookupError):
            continue  # gone meanwhile
        children.setdefault(int(words[1]), []).append(int(stat.parent.name))
    found, left = [], [pid]
    while left:
        found.append(left.pop())
        left += children.get(found[-1], [])
    return found
