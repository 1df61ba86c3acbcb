"""`dpp doctor`: what is wrong with this installation, each thing with its remedy; go or no-go."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from dpp.cli import reach
from dpp.cli.command import Command, with_session
from dpp.cli.exits import Exit, Stop
from dpp.cli.session import Session

if TYPE_CHECKING:
    from dpp.client.admin import Admin
    from dpp.config import Config
    from dpp.diagnosis.checks import Check, Unknown

WORDS = {True: "ok", False: "WRONG", None: "?"}
ROWS = {True: "GO", False: "NO-GO", None: "?"}
# Of all verdicts together. 3 is what commands end with that could not ask.
STATUS = {True: Exit.GOOD, False: Exit.NEGATIVE, None: Exit.UNREACHABLE}
BACKUPS = "/var/backups/dpp"  # where dpp-backup.service puts them


@click.command("doctor", cls=Command)
@click.option("--go-no-go", is_flag=True, help="Go through the list of a launch; 0 only for GO.")
@click.option("--nodes", type=click.IntRange(1), default=1, help="With it: how many shall work.")
@click.option(
    "--backups",
    type=click.Path(file_okay=False, path_type=Path),
    default=BACKUPS,
    show_default=True,
    help="With it: where the backups lie; the newest one is verified.",
)
@click.option(
    "--confirm",
    multiple=True,
    metavar="ROW",
    help='With it: a row marked "?" that you have looked at yourself. Once for each.',
)
@with_session
def doctor(
    session: Session, *, go_no_go: bool, nodes: int, backups: Path, confirm: tuple[str, ...]
) -> Exit:
    """Look at configuration, machine, database, nodes, results, Redis and AWS; it changes nothing.

    Run it as the node runs: as its user, in its environment. Status 1 where something is wrong; 3
    where nothing is, but something could not be looked at.
    """
    config = session.node_config(quiet=True, tell=False)
    import trio

    from dpp.config import choose_file
    from dpp.diagnosis.checks import document, overall
    from dpp.doctor.examination import examine

    file = choose_file(session.config_file, os.environ)
    checks = trio.run(examine, config, session.data_dir(), file)
    if go_no_go:
        return launch(session, config, checks, nodes, backups, confirm)
    session.out.result(document(checks))
    show(session, checks, WORDS)
    return STATUS[overall(checks)]


def launch(
    session: Session,
    config: Config,
    checks: Sequence[Check],
    nodes: int,
    backups: Path,
    confirm: Sequence[str],
) -> Exit:
    """Print the list, and the word."""
    from dpp.diagnosis import launch
    from dpp.doctor.examination import now
    from dpp.doctor.launch import gather

    more: dict[str, Any] = {"wanted_nodes": nodes, "backups_dir": backups, "now": now()}
    with ExitStack() as stack:
        facts = gather(config, checks, _node(session, stack), **more, say=session.out.note)
    rows = launch.rows(facts)
    astray = set(confirm) - {one.name for one in rows}
    if astray:
        names = ", ".join(one.name for one in rows)
        raise click.UsageError(f"no row is named {', '.join(sorted(astray))}; there are: {names}")
    rows = launch.confirmed(rows, confirm, reach.operator_name())
    told = launch.document(rows)
    session.out.result(told)
    show(session, rows, ROWS)
    session.out.say("GO" if told["go"] else "NO-GO")
    return Exit.GOOD if told["go"] else Exit.NEGATIVE


def _node(session: Session, stack: ExitStack) -> tuple[str, str, Admin] | Unknown:
    """Return how to ask the node that runs here, or why nobody can be asked."""
    from dpp.client import ClientError
    from dpp.diagnosis.checks import Unknown

    try:
        url, management = reach.urls(session)
        return url, management, stack.enter_context(reach.admin(session))
    except Stop as stop:
        return Unknown(stop.trouble.what)
    except ClientError as error:
        return Unknown(str(error))


def show(session: Session, checks: Sequence[Check], words: dict[bool | None, str]) -> None:
    """Print a line a check, then what to do about those that are not well."""
    rows = [(words[one.ok], one.name, one.found) for one in checks]
    session.out.table(("", "check", "found"), rows)
    for one in checks:
        if one.ok is not True and one.fix:
            session.out.say(f"{one.name}: {one.fix}")
