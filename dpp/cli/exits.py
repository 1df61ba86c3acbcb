"""How a command ends: the exit statuses, and the exception that carries one with its words."""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import Any

from attrs import field, frozen


class Exit(IntEnum):
    """The exit statuses; scripts and the systemd unit rely on them."""

    GOOD = 0
    NEGATIVE = 1  # the answer is no: audit not ok, run not COMPLETED, refused, exists already
    USAGE = 2
    UNREACHABLE = 3  # no node answers
    CONFIGURATION = 78  # EX_CONFIG: what a restart cannot mend; systemd does not try
    INTERRUPTED = 130  # by Ctrl-C, as shells count it


@frozen
class Trouble:
    """What to tell an operator: what failed, what DPP did about it, what to do now."""

    code: str
    what: str
    did: str = ""
    todo: str = ""
    more: Mapping[str, Any] = field(factory=dict)

    def document(self) -> dict[str, Any]:
        """Return it as `--json` prints it."""
        words = {"code": self.code, "what": self.what, "did": self.did, "todo": self.todo}
        return {**{name: text for name, text in words.items() if text}, **self.more}


class Stop(Exception):
    """End the command with this status and these words."""

    def __init__(self, status: Exit, trouble: Trouble) -> None:
        super().__init__(trouble.what)
        self.status, self.trouble = status, trouble
