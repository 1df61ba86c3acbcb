"""A stand-in for AWS: moto's server as a process of its own, on a port that the system chose."""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import IO, TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

READY_S = 60  # a machine that is busy with other tests
STEP_S = 0.02  # between two looks
RUNNING = re.compile(rb"Running on http://127\.0\.0\.1:([0-9]+)")


@contextmanager
def standin() -> Iterator[int]:
    """Run it; gives its port."""
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", "0"]
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=log)
        try:
            yield wait_for_port(process, log)
        finally:
            process.terminate()
            process.wait()


def wait_for_port(process: subprocess.Popen[bytes], log: IO[bytes]) -> int:
    """Wait until it says where it listens."""
    said = b""
    for _ in range(int(READY_S / STEP_S)):
        log.seek(0)
        said = log.read()
        found = RUNNING.search(said)
        if found is not None:
            return int(found[1])
        assert process.poll() is None, said.decode()
        time.sleep(STEP_S)  # noqa: TID251 - no loop runs here
    raise AssertionError(said.decode())
