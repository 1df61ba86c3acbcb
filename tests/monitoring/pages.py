"""What a runbook tells to type: its fenced blocks, so that the page itself is the script."""

from __future__ import annotations

import re
from typing import Literal

from attrs import frozen

from tests.monitoring.described import ROOT

FOLDER = ROOT / "docs" / "runbooks"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
SHELL = re.compile(r"(?:systemctl|journalctl|curl|df|uptime|top|promtool|aws)\b")
Kind = Literal["dpp", "export", "shell", "sql", "promql"]


@frozen
class Typed:
    """A line to type: where it stands, what takes it, and its words."""

    section: str
    kind: Kind
    text: str


def typed(runbook: str) -> list[Typed]:
    """Return every line of the page's fenced blocks, in order."""
    lines = list[Typed]()
    parts = re.split(r"^## (.+)\n", (FOLDER / f"{runbook}.md").read_text(), flags=re.MULTILINE)
    for section, text in zip(parts[1::2], parts[2::2], strict=True):
        for language, body in BLOCK.findall(text):
            lines += [Typed(section, *kind_of(language, line)) for line in body.splitlines()]
    return lines


def kind_of(language: str, line: str) -> tuple[Kind, str]:
    """Return what takes a line, and the line without its prompt."""
    if language == "sql":
        return "sql", line
    words = line.removeprefix("$ ")
    if words != line:
        return ("export" if words.startswith("export ") else "dpp"), words
    return ("shell" if SHELL.match(line) else "promql"), line
