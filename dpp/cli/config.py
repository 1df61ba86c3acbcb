"""`dpp config`: what a node would start with, and whether it is right."""

from __future__ import annotations

import os

import click

from dpp.cli.command import Command, Group, with_session
from dpp.cli.exits import Exit
from dpp.cli.session import Session
from dpp.cli.troubles import explain


@click.group("config", cls=Group)
def config() -> None:
    """Look at the configuration, and check it."""


def _file(session: Session) -> str | None:
    from dpp.config import choose_file

    chosen = choose_file(session.config_file, os.environ)
    return None if chosen is None else str(chosen)


@config.command("check", cls=Command)
@with_session
def check(session: Session) -> int:
    """Read all of it; status 78 and every mistake at once where it is wrong."""
    from dpp.config import ConfigErrors

    try:
        warnings = list(session.config().warnings)
    except ConfigErrors as error:
        stop = explain(error)
        assert stop is not None
        wrong = stop.trouble.more["errors"]
        session.out.result({"ok": False, "file": _file(session), "errors": wrong})
        session.out.trouble(stop.trouble)
        return stop.status
    file = _file(session)
    session.out.result({"ok": True, "file": file, "warnings": warnings, "errors": []})
    session.out.say(f"{file or 'the defaults'}: ok")
    return Exit.GOOD


@config.command("show", cls=Command)
@with_session
def show(session: Session) -> None:
    """Print every setting, its value and who gave it; secrets are masked."""
    from dpp.config import show

    tables = show(session.config())
    session.out.result(tables)
    rows = [
        (f"{section}.{word}", _text(setting["value"]), setting["origin"])
        for section, table in tables.items()
        for word, setting in table.items()
    ]
    session.out.table(("setting", "value", "from"), rows)


def _text(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} = {_text(part)}" for name, part in value.items())
    return f'"{value}"' if isinstance(value, str) else str(value)
