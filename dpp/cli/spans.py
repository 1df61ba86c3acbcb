"""Lengths of time on the command line."""

from __future__ import annotations

import re

import click

UNITS_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
SPAN = re.compile(r"([0-9]{1,9})([smhd])")  # a bare number would be days to one, seconds to another


class Span(click.ParamType["int"]):
    """A length of time: 90s, 15m, 12h, 30d, or 0."""

    name = "time"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int:
        """Return the seconds."""
        if str(value) == "0":
            return 0
        found = SPAN.fullmatch(str(value))
        if found is None:
            self.fail(f"{value!r} is no time such as 90s, 15m, 12h or 30d", param, ctx)
        return int(found.group(1)) * UNITS_S[found.group(2)]
