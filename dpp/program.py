"""How others start this program: a script of an environment, `python -m dpp`, or the binary.

The binary is DPP with its interpreter in one folder (docs/install.md). There `sys.executable` is
DPP itself and takes no `-m`; everywhere else it is Python.
"""

from __future__ import annotations

import shlex
import sys
from pathlib import Path


def binary() -> Path | None:
    """Return where the binary lies, links resolved; None = Python runs this."""
    return Path(sys.executable) if getattr(sys, "frozen", False) else None


def command() -> tuple[str, ...]:
    """Return the words that start this very DPP once more; arguments follow."""
    return (sys.executable,) if binary() else (sys.executable, "-m", "dpp")


def typed() -> str:
    """Return how a shell starts this program again, from wherever it stands."""
    started = binary() or Path(sys.argv[0])
    if started.name == "__main__.py":
        return shlex.join(command())
    return shlex.quote(str(started.absolute()))
