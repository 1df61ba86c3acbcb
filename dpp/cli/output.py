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

GAP = 2  # blanks between columns
PIPE_WIDTH = 200  # no terminal: tables wide enough to be cut by nobody
_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: object) -> str:
    """Return the text without control characters."""
    return _CONTROL.sub("\N{REPLACEMENT CHARACTER}", str(text))


def fitting(
    columns: Sequence[str], widths: Sequence[int], spare: Sequence[str], width: int
) -> list[int]:
    """Return the places of the columns that stay: of those in `spare` go as many as must."""
    kept = list(range(len(columns)))
    for name in spare:
        if sum(widths[place] + GAP for place in kept) - GAP <= width:
            break
        kept.remove(columns.index(name))
    return kept


def _cell(value: object) -> str:
    return "" if value is None else clean(value)


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
        ids: Sequence[str] = (),
        spare: Sequence[str] = (),
        heads: bool = True,
    ) -> None:
        """Print a table for people; the columns in `numbers` stand to the right.

        Where it is too wide, columns in `spare` are left out, the first one first; then cells are
        folded, those of `ids` never: an id in two lines cannot be copied.
        """
        if self.as_json:
            return
        from rich.cells import cell_len
        from rich.table import Table
        from rich.text import Text

        lines = [columns, *([*map(_cell, row)] for row in rows)]
        widths = [max(map(cell_len, column)) for column in zip(*lines, strict=True)]
        console = self.console()
        kept = fitting(columns, widths, spare, console.width)
        whole = sum(widths[place] for place in kept if columns[place] in ids)
        console.width = max(console.width, whole + (GAP + 1) * len(kept))
        look: dict[str, Any] = {"box": None, "pad_edge": False, "padding": (0, GAP, 0, 0)}
        table = Table(title=title, title_justify="left", show_header=heads, **look)
        for name in (columns[place] for place in kept):
            justify: Any = "right" if name in numbers else "left"
            table.add_column(name, justify=justify, overflow="fold", no_wrap=name in ids)
        for line in lines[1:]:
            table.add_row(*(Text(line[place]) for place in kept))
        with console.capture() as captured:
            console.print(table)
        for printed in captured.get().splitlines():  # without the blanks that fill up a column
            sys.stdout.write(f"{printed.rstrip()}\n")
        sys.stdout.flush()

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
        texts = (trouble.what, trouble.did, trouble.todo)
        head, *rest = (line for text in texts for line in text.splitlines())
        self.note(f"dpp: {head}")
        for line in rest:
            self.note(f"     {line}")
        self.result({"error": trouble.document()})
