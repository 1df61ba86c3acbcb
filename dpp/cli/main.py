"""The entry of the command `dpp`: its commands, and how each way of ending becomes a status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import TextIO

import click

from dpp.cli import (
    audit,
    aws,
    backup,
    config,
    database,
    doctor,
    install_units,
    key,
    logs,
    migrate,
    mode,
    money,
    node,
    results,
    run,
    serve,
    tenant,
    version,
)
from dpp.cli.command import Group
from dpp.cli.demo.command import demo
from dpp.cli.exits import Exit, Trouble
from dpp.cli.output import Output
from dpp.cli.session import Session
from dpp.cli.troubles import explain
from dpp.version import VERSION


@click.group("dpp", cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(VERSION, "--version", message="dpp %(version)s")
def cli() -> None:
    """DPP sells runs: money is reserved, a pack executes, the cost is settled exactly once."""


for command in (
    serve.serve,
    demo,
    tenant.tenant,
    key.key,
    money.deposit,
    money.withdraw,
    money.refund,
    money.adjust,
    run.run,
    node.node,
    mode.mode,
    audit.audit,
    logs.logs,
    backup.backup,
    backup.receive_wal,
    backup.verify,
    backup.restore,
    migrate.migrate,
    database.database,
    results.results,
    aws.aws,
    doctor.doctor,
    config.config,
    install_units.install_units,
    version.version,
):
    cli.add_command(command)


def main() -> None:
    """Run the command line of this process."""
    for stream in (sys.stdout, sys.stderr):
        stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    sys.exit(call(sys.argv[1:]))


def call(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit status."""
    before = arguments[: arguments.index("--")] if "--" in arguments else arguments
    session = Session(Output(as_json="--json" in before))  # what comes before parsing, errors too
    try:
        return _call(session, arguments)
    except BrokenPipeError:  # the reader has what it wanted
        _drop_stdout()
        return Exit.NEGATIVE
    except OSError as error:
        if not _takes_nothing(sys.stdout):
            raise
        _drop_stdout()
        what = f"The answer cannot be printed: {error.strerror}."
        did = "What was asked for may have been done all the same."
        session.out.trouble(Trouble("stdout", what, did, "Send stdout where there is room."))
        return Exit.NEGATIVE


def _call(session: Session, arguments: Sequence[str]) -> int:
    try:
        return int(cli.main(arguments, "dpp", standalone_mode=False, obj=session) or Exit.GOOD)
    except click.exceptions.NoArgsIsHelpError as error:
        error.show()
        return Exit.USAGE
    except click.ClickException as error:
        error.show()
        session.out.result({"error": Trouble("usage", error.format_message()).document()})
        return Exit.USAGE
    except (click.Abort, KeyboardInterrupt):
        session.out.note("dpp: interrupted")
        return Exit.INTERRUPTED
    except BrokenPipeError:
        raise
    except Exception as error:
        stop = explain(error)
        if stop is None:
            raise
        session.out.trouble(stop.trouble)
        return stop.status


def _takes_nothing(stream: TextIO) -> bool:
    """Say whether a stream refuses another line: then an error without a name was of printing."""
    try:
        stream.write("\n")
        stream.flush()
    except OSError:
        return True
    return False


def _drop_stdout() -> None:
    """Let the rest go nowhere, what is still held back for the end of the process included."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
