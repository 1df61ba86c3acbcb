"""The command `dpp demo`: the order of things, from an empty directory to a node that has drained.

The node runs until Ctrl-C or SIGTERM; with DEMO_EXIT=1 the demo ends it and leaves, with status 0
only if all of it was right.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any

import click
from attrs import frozen

from dpp import datadir, money
from dpp.cli import progress, reach
from dpp.cli.command import Command, with_session
from dpp.cli.demo import judge, question
from dpp.cli.exits import Exit
from dpp.cli.session import Session
from dpp.cli.tables import show_audit, show_budget
from dpp.resources import config_dir

if TYPE_CHECKING:
    from dpp.cli.demo.child import Child
    from dpp.client import Client, Run

TENANT, PLAN, DEPOSIT_USD = "demo", "basic", "10.00"
EXIT = "DEMO_EXIT"
STAYS = frozenset({"", "0", "no", "false", "off"})  # of EXIT, in any case of letters
HELPS = {
    "config": "Configuration of the demo's node; else the shipped defaults alone.",
    "data_dir": "DIR-demo is the demo's; else DPP_DATA_DIR or the usual place, with -demo.",
}


@frozen
class Shown:
    """What the demo has shown: the document, and each claim that was checked."""

    document: dict[str, Any]
    claims: dict[str, bool]


@click.command("demo", cls=Command, helps=HELPS)
@with_session
def demo(session: Session) -> int:
    """Start a disposable node, pay for a decision, prove the books; then stay up.

    Its data directory, the -demo beside that of a node, is made anew at each start. DEMO_EXIT=1
    leaves instead of staying.
    """
    from dpp.cli.demo import child as node
    from dpp.config import load

    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _interrupt)
    file = session.config_file or config_dir() / "dpp.toml"  # never the settings of a real node
    config = load({}, {}, file)
    path = datadir.demo_sibling(session.data_dir())
    session.out.say(f"Starting a node on {path}, a directory that is made anew at each demo …")
    with node.started(
        path,
        listen=node.free_listen(config.http.listen),
        management=node.free_listen(config.management.listen),
        config=file,
    ) as child:
        child.wait_ready()
        session.out.say(f"Ready: {child.node.url}, admin and metrics {child.node.management_url}")
        shown = _show(session, child, config.management.token or child.token())
        if stays(os.environ):
            session.out.result(shown.document)
            return _stay(session, child, shown)
        return _leave(session, child, shown)


def stays(environ: Mapping[str, str]) -> bool:
    """Say whether the demo stays up until it is told to end."""
    return environ.get(EXIT, "").lower() in STAYS


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def _show(session: Session, child: Child, token: str) -> Shown:
    """Make the tenant, submit the run, follow it, and print everything that came of it."""
    from dpp.cli.demo import showing
    from dpp.client import Client
    from dpp.client.admin import Admin

    out = session.out
    with Admin(child.node.management_url, token, reach.operator_name()) as admin:
        made = admin.create_tenant(TENANT, plan=PLAN, deposit_usd=DEPOSIT_USD)
        key = made["api_key"]
        out.say(f"Tenant {TENANT}, plan {PLAN}, deposit ${DEPOSIT_USD}")
        price = question.price_micros()
        showing.show_question(out, money.show(price))
        with Client(child.node.url, key) as client:
            run = _run(session, client)
            budget, transfers = client.budget(), list(client.transfers())
        audit = admin.audit()
    if isinstance(run.result, dict) and run.result.get("ranking"):
        showing.show_decision(out, run.result)
    out.say(f"\nCost ${run.cost.actual_usd} of at most ${run.cost.max_usd}; {run.cost.policy}\n")
    ledger = [line.document for line in reversed(transfers)]
    showing.show_ledger(out, ledger, title=f"Ledger of {TENANT}")
    out.say()
    show_budget(out, budget.document, title="Budget")
    out.say()
    show_audit(out, audit, title="Audit")
    claims = judge.judge(
        run=run,
        price=price,
        deposit=judge.micros(DEPOSIT_USD),
        budget=budget,
        transfers=transfers,
        audit=audit,
    )
    curl = showing.curl_lines(child, key, run.run_id)
    document = {
        "url": child.node.url,
        "management_url": child.node.management_url,
        "data_dir": str(child.path),
        "tenant_id": TENANT,
        "api_key": key,
        "run": dict(run.document),
        "budget": dict(budget.document),
        "transfers": [dict(line) for line in ledger],
        "audit": audit,
        "claims": claims,
        "curl": curl,
    }
    return Shown(document, claims)


def _run(session: Session, client: Client) -> Run:
    submitted = client.submit(question.PACK, question.inputs(), question.MAX_COST_USD)
    return progress.follow(session.out, client, submitted)


def _stay(session: Session, child: Child, shown: Shown) -> int:
    """Say how to go on, and wait for Ctrl-C; then end the node in order."""
    out = session.out
    _complain(session, shown.claims)
    out.say("\nGo on by hand:\n")
    for line in shown.document["curl"]:
        out.say(f"  {line}")
    out.say("\nThe node stays up. Ctrl-C ends it.")
    try:
        child.process.wait()
    except KeyboardInterrupt:
        out.note("\nEnding the node …")
        ended = _end(child)
        _complain(session, ended)
        return _verdict({**shown.claims, **ended})
    raise child.ended()


def _leave(session: Session, child: Child, shown: Shown) -> int:
    """End the node, and say whether all was right, its end included."""
    claims = {**shown.claims, **_end(child)}
    status = _verdict(claims)
    session.out.result({**shown.document, "claims": claims, "ok": status == Exit.GOOD})
    session.out.say()
    rows = [(claim, "yes" if holds else "NO") for claim, holds in claims.items()]
    session.out.table(("checked", "holds"), rows)
    _complain(session, claims)
    return status


def _end(child: Child) -> dict[str, bool]:
    """Drain the node; return what must be true of its end."""
    from dpp.cli.demo.child import lives

    postmaster = child.postmaster()
    ran = postmaster is not None and lives(postmaster)
    status = child.stop()
    return {
        "PostgreSQL ran under the node": ran,
        "the node drained with status 0": status == 0,
        "PostgreSQL is gone": postmaster is not None and not lives(postmaster),
    }


def _complain(session: Session, claims: dict[str, bool]) -> None:
    for claim, holds in claims.items():
        if not holds:
            session.out.note(f"dpp demo: not true: {claim}")


def _verdict(claims: dict[str, bool]) -> int:
    return Exit.GOOD if all(claims.values()) else Exit.NEGATIVE
