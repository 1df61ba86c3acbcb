"""`dpp run`: submit a run, look at it, follow it, cancel it, fetch what came of it, as a tenant."""

from __future__ import annotations

import itertools
import sys
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, TypeVar

import click
from attrs import asdict

from dpp.cli import inputs as words
from dpp.cli import progress, reach
from dpp.cli.command import Command, Group, with_session
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session
from dpp.cli.tables import event_document, event_line, receipt_pairs, show_run, show_runs

if TYPE_CHECKING:
    from dpp.client import Client, Run, RunEvent

F = TypeVar("F", bound=Callable[..., Any])


@click.group("run", cls=Group)
def run() -> None:
    """Submit runs and follow them."""


def by_tenant(function: F) -> F:
    """Add the options that say in whose name a command asks."""
    key = click.option(
        "--api-key", envvar="DPP_API_KEY", metavar="KEY", help="The tenant's key; else DPP_API_KEY."
    )
    tenant = click.option(
        "--tenant",
        metavar="NAME",
        help="Ask in the name of NAME, with a key for ten minutes that the admin API makes.",
    )
    return key(tenant(function))


def _client(session: Session, api_key: str | None, tenant: str | None) -> Client:
    """Return the client; a tenant that was named goes before a key of the environment."""
    source = click.get_current_context().get_parameter_source("api_key")
    if tenant and api_key and source is not click.core.ParameterSource.ENVIRONMENT:
        message = "give --api-key or --tenant, not both"
        raise click.UsageError(message)
    return reach.client(session, None if tenant else api_key, tenant)


def _verdict(run: Run) -> int:
    return Exit.GOOD if run.status == "COMPLETED" else Exit.NEGATIVE


@run.command("submit", cls=Command)
@click.option("--pack", "pack_type", required=True, metavar="PACK", help="What to run.")
@click.option("--max-cost", required=True, metavar="USD", help='The most it may cost: "0.10".')
@click.option(
    "--input",
    "members",
    multiple=True,
    metavar="K=V",
    help="An input; V is JSON if it parses so, else a string. The string 0.01: K='\"0.01\"'.",
)
@click.option("--inputs", "file", type=click.File("rb"), help="A file with all inputs as JSON.")
@click.option("--timebox", "timebox_s", type=int, metavar="S", help="How long it may take.")
@click.option("--priority", type=int, metavar="0-9", help="0 goes first; 5 if not given.")
@click.option("--run-at", metavar="TIME", help='Not before: "2026-01-31T12:00:00Z".')
@click.option("--start-before", metavar="TIME", help="It expires if not started by then.")
@click.option("--metadata", multiple=True, metavar="K=V", help="Kept with the run; V is a string.")
@click.option(
    "--webhook-url", metavar="URL", help="Told of the end, where a webhook is registered."
)
@click.option("--idempotency-key", metavar="KEY", help="Names the submission; else one is made.")
@click.option("--wait", is_flag=True, help="Follow it to its end; status 1 unless COMPLETED.")
@by_tenant
@with_session
def submit(  # noqa: PLR0913 - one parameter an option
    session: Session,
    *,
    pack_type: str,
    max_cost: str,
    members: tuple[str, ...],
    file: IO[bytes] | None,
    timebox_s: int | None,
    priority: int | None,
    run_at: str | None,
    start_before: str | None,
    metadata: tuple[str, ...],
    webhook_url: str | None,
    idempotency_key: str | None,
    wait: bool,
    api_key: str | None,
    tenant: str | None,
) -> int:
    """Submit a run; with --wait, follow it to its end."""
    base = words.read_object(file.read(), file.name) if file is not None else {}
    inputs, named = {**base, **words.pairs(members)}, words.texts(metadata)
    key = idempotency_key or f"cli-{uuid.uuid4()}"
    with _client(session, api_key, tenant) as client:
        if idempotency_key is None:
            session.out.note(f"idempotency key {key}")
        submitted = client.submit(
            pack_type,
            inputs,
            max_cost,
            idempotency_key=key,
            timebox_s=timebox_s,
            priority=priority,
            run_at=run_at,
            start_before=start_before,
            metadata=named or None,
            webhook_url=webhook_url,
        )
        if wait:
            submitted = progress.follow(session.out, client, submitted)
    show_run(session.out, submitted)
    return _verdict(submitted) if wait else Exit.GOOD


@run.command("show", cls=Command)
@click.argument("run_id")
@by_tenant
@with_session
def show(session: Session, run_id: str, api_key: str | None, tenant: str | None) -> None:
    """Show a run as it is now."""
    with _client(session, api_key, tenant) as client:
        show_run(session.out, client.run(run_id))


@run.command("list", cls=Command)
@click.option("--limit", type=click.IntRange(1), default=20, show_default=True, help="At most.")
@click.option("--cursor", metavar="CURSOR", help="Go on where a list ended (its next_cursor).")
@click.option("--idempotency-key", metavar="KEY", help="Only the run that this key names.")
@click.option("--status", metavar="STATUS", help="Only runs that are so: QUEUED, COMPLETED, …")
@click.option("--pack", "pack_type", metavar="PACK", help="Only runs of this pack.")
@click.option("--created-after", metavar="TIME", help="Only runs made after that.")
@click.option("--created-before", metavar="TIME", help="Only runs made before that.")
@by_tenant
@with_session
def list_(
    session: Session,
    /,
    *,
    limit: int,
    cursor: str | None,
    api_key: str | None,
    tenant: str | None,
    **only: str | None,
) -> None:
    """List the tenant's runs, newest first."""
    with _client(session, api_key, tenant) as client:
        runs: list[Run] = []
        for _ in itertools.count():
            page = client.runs_page(limit=min(limit - len(runs), 200), cursor=cursor, **only)
            runs, cursor = [*runs, *page.items], page.next_cursor
            if cursor is None or len(runs) >= limit:
                break
    session.out.result({"items": [dict(one.document) for one in runs], "next_cursor": cursor})
    show_runs(session.out, runs)
    if cursor is not None:
        session.out.note(f"there are more: --cursor {cursor}")


@run.command("cancel", cls=Command)
@click.argument("run_id")
@by_tenant
@with_session
def cancel(session: Session, run_id: str, api_key: str | None, tenant: str | None) -> None:
    """Ask for the end of a run; one that has ended stays as it is."""
    with _client(session, api_key, tenant) as client:
        show_run(session.out, client.cancel(run_id))


@run.command("wait", cls=Command)
@click.argument("run_id")
@by_tenant
@with_session
def wait(session: Session, run_id: str, api_key: str | None, tenant: str | None) -> int:
    """Follow a run to its end; status 1 unless it is COMPLETED."""
    with _client(session, api_key, tenant) as client:
        ended = progress.follow(session.out, client, client.run(run_id))
    show_run(session.out, ended)
    return _verdict(ended)


@run.command("events", cls=Command)
@click.argument("run_id")
@click.option("--after", metavar="ID", help="Only what happened behind this event.")
@by_tenant
@with_session
def events(
    session: Session, run_id: str, after: str | None, api_key: str | None, tenant: str | None
) -> None:
    """Show what happens to a run, as it happens, until it has ended."""
    told: list[RunEvent] = []
    show = session.out.note if session.out.as_json else session.out.say
    with (
        _client(session, api_key, tenant) as client,
        client.stream_events(run_id, after) as stream,
    ):
        for event in stream:
            told.append(event)
            show(event_line(event))
    session.out.result({"run_id": run_id, "events": [event_document(event) for event in told]})


@run.command("result", cls=Command)
@click.argument("run_id")
@click.option(
    "--output",
    "file",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="Write it there, whole and verified or not at all; else to stdout.",
)
@by_tenant
@with_session
def result(
    session: Session, run_id: str, file: Path | None, api_key: str | None, tenant: str | None
) -> None:
    """Fetch the result of a run, verified against its digest."""
    with _client(session, api_key, tenant) as client:
        if file is not None:
            try:
                saved = client.download_result(run_id, file)
            except OSError as error:
                what = f"{file} cannot be written: {error.strerror}."
                raise Stop(Exit.NEGATIVE, Trouble("file", what, "The run is as it was.")) from error
            session.out.result({"run_id": run_id, "file": str(file), **asdict(saved)})
            session.out.say(f"{file}: {saved.size_bytes} bytes, sha256 {saved.sha256}")
            return
        fetched = client.result(run_id)
    if session.out.as_json:
        read = {"sha256": fetched.sha256, "result": fetched.json()}
        session.out.result({"run_id": run_id, **read})
    elif sys.stdout.isatty():
        session.out.say(fetched.content.decode("utf-8", "replace"))
    else:
        sys.stdout.buffer.write(fetched.content)
        sys.stdout.flush()


@run.command("receipt", cls=Command)
@click.argument("run_id")
@by_tenant
@with_session
def receipt(session: Session, run_id: str, api_key: str | None, tenant: str | None) -> None:
    """Show what a run cost, and by which transfers, once it is settled."""
    with _client(session, api_key, tenant) as client:
        settled = client.receipt(run_id)
    session.out.result(settled.document)
    session.out.pairs(receipt_pairs(settled))
