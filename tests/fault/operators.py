"""What operators do in the middle of a storm: reload, dump, look at the schema.

As a fault does, each takes the storm and a node that no fault has, and returns how often it was
done: 0 where the node or PostgreSQL was away just then.
"""

from __future__ import annotations

import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import trio

from dpp.cli.exits import Exit
from tests.dumps import dump
from tests.fault.faults import Fault

if TYPE_CHECKING:
    from tests.fault.fleet import Member
    from tests.fault.storm import Storm

LOOK_S, TAKEN_OVER_S = 0.1, 10.0
REFUSED = "reload refused"
PLAN = "\n[plans.storm]\nqueued_runs = {}\n"


async def reload(storm: Storm, member: Member) -> int:
    """Give a node another plan, by its file and SIGHUP; it says when the plan is there."""
    queued = storm.dice.randrange(1, 10**6)
    rewrite(member, PLAN.format(queued))
    with trio.move_on_after(TAKEN_OVER_S):
        while await shown(member) != queued:  # noqa: ASYNC110 - it is in another process
            await trio.sleep(LOOK_S)
        return 1
    storm.blame(f"{member.name} did not take over its file in {TAKEN_OVER_S} s")
    return 0


async def reload_what_is_wrong(storm: Storm, member: Member) -> int:
    """Give a node a file that cannot be; it must say so, and go on as it was."""
    before, refused = await shown(member), times_refused(member)
    rewrite(member, PLAN.format('"many"'))
    with trio.move_on_after(TAKEN_OVER_S):
        while times_refused(member) == refused:  # noqa: ASYNC110 - a line of a log rings nothing
            await trio.sleep(LOOK_S)
        if await shown(member) != before:
            storm.blame(f"{member.name} took over a file that it refused")
        return 1
    storm.blame(f"{member.name} did not refuse a file that is wrong")
    return 0


async def dump_books(storm: Storm, member: Member) -> int:
    """Dump the database while it is written to; the last dump is restored and judged at the end."""
    whole, part = storm.dumped, storm.dumped.with_suffix(".part")
    with suppress(subprocess.CalledProcessError):  # PostgreSQL is away, or was stopped meanwhile
        await trio.to_thread.run_sync(dump, storm.cluster.host, "dpp", part)
        part.rename(whole)
        return 1
    return 0


async def migrate(storm: Storm, member: Member) -> int:
    """Bring the schema up, which is up, and compare it with what the migrations make."""
    for action in ("up", "check"):
        status, said = await trio.to_thread.run_sync(asked, member, action)
        if status == Exit.NEGATIVE and "differences" in said:
            storm.blame(f"the schema differs: {said}")
        if status != Exit.GOOD:
            return 0
    return 1


def rewrite(member: Member, added: str) -> None:
    """Write a node's file, and tell it; the next start has the old one again."""
    (member.node.home / "dpp.toml").write_text(member.node.config + added)
    member.node.signal(signal.SIGHUP)


async def shown(member: Member) -> Any:
    """Return what a node says of the plan; None where it says nothing."""
    with suppress(httpx.TransportError):
        said = await trio.to_thread.run_sync(member.node.admin, "GET", "/admin/v1/config")
        return said["config"]["plans"].get("storm", {}).get("value", {}).get("queued_runs")
    return None


def times_refused(member: Member) -> int:
    """Count the reloads that a node refused since it was started."""
    return sum(line["event"] == REFUSED for line in member.node.lines())


def asked(member: Member, action: str) -> tuple[int, str]:
    """Ask `dpp migrate` with a node's file."""
    file = Path(member.node.home) / "migrate.toml"
    file.write_text(member.node.config)
    command = [sys.executable, "-m", "dpp", "migrate", action, "--json", "--config", str(file)]
    ended = subprocess.run(command, check=False, capture_output=True, text=True)
    return ended.returncode, ended.stdout


OPERATORS = (
    Fault(reload, 3),
    Fault(reload_what_is_wrong, 2),
    Fault(dump_books, 1),
    Fault(migrate, 1),
)
