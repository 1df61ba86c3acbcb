"""What a command prints: one JSON document or tables on stdout, everything else on stderr.

Texts of tenants and packs are printed as they are, never read as markup, and without control
characters: a note from a pack must not paint on the operator's terminal.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from attrs import define

if TYPE_CHECKING:
    from rich.console import Console

    from dpp.cli.exits import Trouble

PIPE_WIDTH = 200  # no terminal: tables wide enough to be cut by nobody
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: object) -> str:
    """Return the text without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


@define(eq=False)
class Output:
    """Where a command's words go."""

    as_json: bool = False
    printed: bool = False  # the one document is out

    def result(self, document: Mapping[str, Any]) -> None:
        """Print the command's document, if JSON is asked for."""
        if self.as_json and not self.printed:
            self.printed = True
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
            sys.stdout.flush()

    def say(self, text: str = "") -> None:
        """Print a line for people: part of the answer."""
        if not self.as_json:
            sys.stdout.write(clean(text) + "\n")
            sys.stdout.flush()

    def note(self, text: str) -> None:
        """Print a line on stderr: not part of the answer."""
        sys.stderr.write(clean(text) + "\n")
        sys.stderr.flush()

    def table(
        self,
        columns: Sequence[str],
        rows: Iterable[Sequence[object]],
        *,
        title: str | None = None,
        numbers: Sequence[str] = (),
        heads: bool = True,
    ) -> None:
        """Print a table for people; the columns in `numbers` stand to the right."""
        if self.as_json:
            return
        from rich.table import Table
        from rich.text import Text

        look: dict[str, Any] = {"box": None, "pad_edge": False, "padding": (0, 2, 0, 0)}
        table = Table(title=title, title_justify="left", show_header=heads, **look)
        for column in columns:  # folded where the terminal is narrow: nothing is cut off
            right = column in numbers
            table.add_column(column, justify="right" if right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(Text("" if cell is None else clean(cell)) for cell in row))
        self.console().print(table)

    def pairs(self, pairs: Mapping[str, object], *, title: str | None = None) -> None:
        """Print names and values, one a line."""
        self.table(("", ""), pairs.items(), title=title, heads=False)

    def console(self) -> Console:
        """Return rich's console on stdout."""
        from rich.console import Console

        width = None if sys.stdout.isatty() else PIPE_WIDTH
        return Console(width=width, markup=False, emoji=False, highlight=False)

    def trouble(self, trouble: Trouble) -> None:
        """Print what went wrong: words on stderr, and the document if JSON is asked for."""
        head, *rest = (text for text in (trouble.what, trouble.did, trouble.todo) if text)
        self.note(f"dpp: {head}")
        for text in rest:
            self.note(f"     {text}")
        self.result({"error": trouble.document()})
