"""`dpp results`: which store of results the database knows."""

from __future__ import annotations

from functools import partial
from typing import Any

import click

from dpp.cli.command import Command, Group, with_session
from dpp.cli.database import assert_there
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session


@click.group("results", cls=Group)
def results() -> None:
    """See to the store of results, a directory or a bucket."""


@results.command("forget", cls=Command)
@with_session
def forget(session: Session) -> None:
    """Let the database forget its store of results, so that the next node may bring another.

    Stop all nodes first. Only where no result lies there: nothing is ever lost by it.
    """
    config = session.node_config(quiet=True)
    if config.database.embedded:
        assert_there(session)
    import trio

    from dpp.database import migrate_database

    ask = partial(migrate_database, config, "forget_results", data_dir=session.data_dir())
    answer: dict[str, Any] = trio.run(ask)
    if not answer["done"]:
        raise Stop(Exit.NEGATIVE, in_use(answer))
    session.out.result(answer)
    gone = answer["store_id"]
    session.out.say(f"forgot {gone}" if gone else "no store was known")


def in_use(answer: dict[str, Any]) -> Trouble:
    """Say what the store is needed for."""
    uses = []
    if answer["results"]:
        uses.append(f"{answer['results']} results lie there")
    if answer["storing"]:
        uses.append(f"{answer['storing']} runs are storing one")
    if answer["nodes"]:
        uses.append(f"nodes live: {', '.join(answer['nodes'])}")
    return Trouble(
        "results-in-use",
        f"The store of results is in use: {'; '.join(uses)}.",
        "DPP changed nothing.",
        "Stop the nodes. Where results lie, go on with that store: mount it, or name its bucket.",
        answer,
    )
