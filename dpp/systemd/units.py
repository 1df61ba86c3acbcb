"""The units that DPP ships: where each goes under a prefix, and the program that they start."""

from __future__ import annotations

import re
from pathlib import PurePosixPath
from typing import Final

PROGRAM: Final = "/usr/local/bin/dpp"  # as the shipped units have it
# What systemd takes in ExecStart= as it stands: no blanks, quotes or specifiers.
PLAIN: Final = re.compile(r"/[A-Za-z0-9/._+@-]{1,4094}")
HIDDEN: Final = ("home", "root", "run/user")  # by ProtectHome=
# The folder in systemd/, and the one under the prefix.
PLACES: Final = {
    ".": "lib/systemd/system",
    "sysusers.d": "lib/sysusers.d",
    "tmpfiles.d": "lib/tmpfiles.d",
    "dropins": "share/dpp/dropins",  # nothing reads them there: operators copy what they want
}


def place(name: PurePosixPath) -> PurePosixPath:
    """Return where a file of systemd/ goes, from the prefix."""
    return PurePosixPath(PLACES[str(name.parent)], name.name)


def starting(text: str, program: str) -> str:
    """Return a unit's text that starts this program."""
    return re.sub(rf"(?m)^(Exec\w+=){re.escape(PROGRAM)}(?= )", rf"\g<1>{program}", text)


def objection(program: str) -> str | None:
    """Say why a unit cannot start this program; None = it can."""
    if not PLAIN.fullmatch(program):
        return "it must be an absolute path of letters, digits and ._+@-"
    if program.startswith(tuple(f"/{folder}/" for folder in HIDDEN)):
        return "the units see nothing in /home, /root and /run/user (ProtectHome=)"
    return None
