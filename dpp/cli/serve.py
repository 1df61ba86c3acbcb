"""`dpp serve`: a node, until it is told to stop."""

from __future__ import annotations

from functools import partial

import click

from dpp.cli.command import Command, with_session
from dpp.cli.session import Session


@click.command("serve", cls=Command)
@click.option("--listen", metavar="HOST:PORT", help="Public API; else http.listen.")
@click.option(
    "--management", metavar="HOST:PORT", help="Metrics, admin API; else management.listen."
)
@click.option("--demo", is_flag=True, hidden=True, help="The data directory is a demo's.")
@with_session
def serve(session: Session, listen: str | None, management: str | None, *, demo: bool) -> None:
    """Run a node until SIGTERM or Ctrl-C, then drain it."""
    config = session.node_config(tell=False, listen=listen, management=management)
    import trio

    from dpp import node

    trio.run(partial(node.serve, config, data_dir=session.data_dir(), demo=demo))
    session.out.result({"status": "stopped"})
