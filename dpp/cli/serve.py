"""`dpp serve`: a node, until it is told to stop."""

from __future__ import annotations

import signal
from functools import partial

import click

from dpp.cli.command import Command, with_session
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session

EMBEDDED = Trouble(
    "database-embedded",
    'database.url is "embedded": this node would run a PostgreSQL of its own.',
    "DPP did not start, and changed nothing.",
    "Set database.url to the server that they share: an external one, or the socket of the node on "
    "this machine that runs one (docs/systemd.md).",
)


@click.command("serve", cls=Command)
@click.option("--listen", metavar="HOST:PORT", help="Public API; else http.listen.")
@click.option(
    "--management", metavar="HOST:PORT", help="Metrics, admin API; else management.listen."
)
@click.option(
    "--external-database",
    is_flag=True,
    help="Refuse to run PostgreSQL: for the second node on a machine.",
)
@click.option("--demo", is_flag=True, hidden=True, help="The data directory is a demo's.")
@with_session
def serve(
    session: Session,
    listen: str | None,
    management: str | None,
    *,
    external_database: bool,
    demo: bool,
) -> None:
    """Run a node until SIGTERM or Ctrl-C, then drain it."""
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # until there is something to reload
    config = session.node_config(tell=False, listen=listen, management=management)
    if external_database and config.database.embedded:
        raise Stop(Exit.CONFIGURATION, EMBEDDED)
    import trio

    from dpp.node import life

    reread = partial(session.config, tell=False, listen=listen, management=management)
    serve = partial(life.serve, config, data_dir=session.data_dir(), reread=reread, demo=demo)
    trio.run(serve)
    session.out.result({"status": "stopped"})
