"""`dpp config`: what a node would start with, and whether it is right."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import click

from dpp.cli import reach
from dpp.cli.command import Command, Group, with_session
from dpp.cli.exits import Exit
from dpp.cli.session import Session
from dpp.cli.troubles import explain

HOW = {True: "reload", False: "restart"}


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
    tables["node"]["data_dir"]["value"] = str(session.data_dir())  # the one in use
    session.out.result(tables)
    rows = [
        (name, json.dumps(value, ensure_ascii=False), setting["origin"])
        for section, table in tables.items()
        for word, setting in table.items()
        for name, value in _named(f"{section}.{word}", setting["value"])
    ]
    session.out.table(("setting", "value", "from"), rows, ids=("setting",))


@config.command("diff", cls=Command)
@with_session
def diff(session: Session) -> int:
    """Compare what the running node goes by with what it would read now; status 1: they differ.

    SIGHUP (systemctl reload dpp) takes over what is live; the rest needs a restart. What the node
    was given by a flag it keeps, and is left out.
    """
    import attrs

    from dpp.config import show
    from dpp.reload import differences, flat

    read = show(session.config())
    with reach.admin(session) as admin:
        running = admin.config()["config"]
    by_flag = {key for key, one in flat(running).items() if str(one["origin"]).startswith("--")}
    differ = [one for one in differences(running, read) if one.key not in by_flag]
    session.out.result({"differ": [attrs.asdict(one) for one in differ]})
    if not differ:
        session.out.say("the node goes by what is configured")
        return Exit.GOOD
    rows = [
        (one.key, *(json.dumps(value) for value in (one.was, one.now)), one.origin, HOW[one.live])
        for one in differ
    ]
    session.out.table(("setting", "running", "configured", "from", "by"), rows, ids=("setting",))
    return Exit.NEGATIVE


def _named(name: str, value: object) -> Iterator[tuple[str, object]]:
    """Yield a setting with its name; of a plan each of its limits."""
    if isinstance(value, dict):
        for word, part in value.items():
            yield f"{name}.{word}", part
    else:
        yield name, value
