"""The commands that a page of docs/ prints, as a shell takes them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

PROMPTS = ("# ", "$ ")


def blocks(page: Path, heading: str) -> list[str]:
    """Return the commands of each block below a heading, up to the next one; output is left out."""
    text = page.read_text("utf-8")
    [section] = re.findall(
        rf"^#+ {re.escape(heading)}\n(.*?)(?=^#+ [^\n]*\n\n|\Z)",
        _without_prompts(text),
        re.DOTALL | re.MULTILINE,
    )
    return re.findall(r"^```\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)


def _without_prompts(text: str) -> str:
    """Take prompts away, and lines of blocks that are no command."""
    return re.sub(
        r"^```\n(.*?)^```$",
        lambda block: "```\n" + "".join(_commands(block[1].splitlines(keepends=True))) + "```",
        text,
        flags=re.DOTALL | re.MULTILINE,
    )


def _commands(lines: Sequence[str]) -> list[str]:
    kept, goes_on = [], False
    for line in lines:
        if goes_on or line.startswith(PROMPTS):
            kept.append(line if goes_on else line[2:])
            goes_on = line.endswith("\\\n")
    return kept
