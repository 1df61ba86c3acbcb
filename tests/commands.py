"""Whether a command line that a page shows is one that can be typed."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click

from dpp.cli.main import cli

MAKEFILE = (Path(__file__).resolve().parents[1] / "Makefile").read_text("utf-8")


def has_command(line: str) -> bool:
    """Say whether `dpp …` names a command, with options and no more arguments than it has.

    `make …` must name a target. What an argument says is not looked at; neither is what an option
    is given: a page may show options alone.
    """
    program, *words = shlex.split(line)
    if program == "make":
        return re.search(rf"^{re.escape(words[0])}:", MAKEFILE, re.MULTILINE) is not None
    found: click.Command = cli
    while isinstance(found, click.Group) and words and words[0] in found.commands:
        found = found.commands[words.pop(0)]
    if isinstance(found, click.Group) and (words or not found.invoke_without_command):
        return False
    return program == "dpp" and _takes(found, words)


def _takes(command: click.Command, words: list[str]) -> bool:
    options = {
        name: one
        for one in command.params
        if isinstance(one, click.Option)
        for name in (*one.opts, *one.secondary_opts)
    }
    arguments = 0
    valued = False
    for word in words:
        if word.startswith("--"):
            if word not in options:
                return False
            valued = not options[word].is_flag
        elif valued:
            valued = False
        else:
            arguments += 1
    return arguments <= sum(isinstance(one, click.Argument) for one in command.params)
