"""Wall clocks that are wrong, by libfaketime: of one process, from its start or from any moment on.

Only the wall clock is: what counts time by the monotonic one must not notice anything.
"""

from __future__ import annotations

import os
from pathlib import Path

from attrs import frozen

LIBRARIES = (  # the one for processes with threads
    "/usr/lib/*/faketime/libfaketimeMT.so.1",  # Debian
    "/usr/lib*/faketime/libfaketimeMT.so.1",
    "/usr/local/lib/faketime/libfaketimeMT.so.1",
)
HOUR_S = 3600


def library() -> Path | None:
    """Return libfaketime; None = it is not installed (`apt-get install faketime`)."""
    for pattern in LIBRARIES:
        for found in Path("/").glob(pattern.lstrip("/")):
            return found
    return None


def skewed(seconds: int) -> dict[str, str]:
    """Return the environment of a process whose wall clock is off for good; nothing where it cannot be."""  # noqa: E501
    found = library()
    if found is None:
        return {}
    return {"LD_PRELOAD": str(found), "FAKETIME": f"{seconds:+d}", "DONT_FAKE_MONOTONIC": "1"}


@frozen
class Clock:
    """A wall clock that can be stepped: `file` says by how much it is off, in seconds."""

    file: Path

    @property
    def environment(self) -> dict[str, str]:
        """Return the environment of whoever goes by this clock."""
        found = library()
        assert found is not None, "ask `library` first"
        return {
            "LD_PRELOAD": str(found),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds: read at each look, it would slow a node down
            "DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        """Set the clock so far off the real time, in one go: nobody reads half of a number."""
        new = self.file.with_suffix(".new")
        new.write_text(f"{seconds:+d}\n")
        new.chmod(0o644)
        os.replace(new, self.file)  # noqa: PTH105
