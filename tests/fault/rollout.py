"""Three nodes behind a balancer: killed in turn, or restarted in turn, under load of plain clients.

    python -m tests.fault.rollout kills [--seconds 300] [--every 10] [--broken redis,sqs,s3]
    python -m tests.fault.rollout restarts [--rounds 2]; either with [--seed N] [--json]

The shop has all helpers: Redis, SQS and S3, where large results go. `--broken` names those that are
down, slow and wrong by turns meanwhile. A client repeats a request that got no answer or a 503,
under the same key, at most so many times: twice where nodes are killed, once where they are
restarted in order. Judged: which requests succeeded, the books, that every run ended once and at
its price, that each large result lies in S3 as it was recorded, and, of a restart in order, that no
attempt was spent.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, redirect_stdout, suppress
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import httpx
import trio

from dpp.store import roles
from dpp.store.bridge import Bridge, open_bridge
from tests.aws.cloud import open_cloud
from tests.cluster import Cluster, start_cluster
from tests.fault.balancer import balanced
from tests.fault.breakage import SERVICES, Breakage
from tests.fault.customers import Customers, Tally, whole
from tests.fault.fleet import Fleet, Member, gather
from tests.fault.traffic import LARGE_KINDS
from tests.fault.verdict import of_objects, sums
from tests.node.load import KINDS, Load
from tests.node_client import until

NODES = 3
TENANTS = [f"acme-{n}" for n in range(4)]
CLIENTS = 16
SHOP_KINDS = (*KINDS * 6, *LARGE_KINDS)  # one result in ten goes to S3
CALM_S = 3.0  # between two restarts
SHARE_MIN = 0.999  # of requests, where nodes are killed
RETRIES = {"kills": 2, "restarts": 1}


async def kill_in_turn(fleet: Fleet, given: argparse.Namespace) -> int:
    """Kill one node after the other, each started again at once; returns how many were killed.

    All others are up: a turn waits for the start of the one before.
    """
    began_at, killed = trio.current_time(), 0
    until = began_at + given.seconds
    while (at := began_at + (killed + 1) * given.every) <= until > trio.current_time():
        await trio.sleep_until(at)
        member = fleet.members[killed % NODES]
        member.node.kill9()
        await trio.to_thread.run_sync(member.start)
        killed += 1
    await trio.sleep_until(until)
    return killed


async def restart_in_turn(fleet: Fleet, given: argparse.Namespace) -> int:
    """Let one node after the other drain and start again; returns how many did."""
    restarted = 0
    for _ in range(given.rounds):
        for member in fleet.members:
            await trio.sleep(CALM_S)
            await trio.to_thread.run_sync(restart, member)
            restarted += 1
    await trio.sleep(CALM_S)
    return restarted


def restart(member: Member) -> None:
    """Let a node drain, and start it."""
    assert member.node.terminate() == 0
    member.start()


TURNS: dict[str, Callable[[Fleet, argparse.Namespace], Awaitable[int]]] = {
    "kills": kill_in_turn,
    "restarts": restart_in_turn,
}


async def roll(cluster: Cluster, base: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Set up, load, take turns, check; returns the table."""
    async with open_bridge() as bridge:
        await bridge.run(partial(roles.make_database, cluster.host))
        async with open_cloud(bridge, given.seed) as cloud:
            with ExitStack() as stack:
                fleet = gather(stack, cluster, base, count=NODES, seed=given.seed, cloud=cloud)
                await fleet.start()
                return await shift(fleet, bridge, cluster.host, given)


async def shift(
    fleet: Fleet, bridge: Bridge, host: str, given: argparse.Namespace
) -> dict[str, Any]:
    """Let customers come while nodes go, and helpers too; returns the table."""
    keys = {name: fleet.first.tenant(name, "10000.00") for name in TENANTS}
    dice, inline = Random(given.seed), fleet.inline_max_bytes
    load = Load(keys, dice, kinds=SHOP_KINDS, inline_max_bytes=inline)
    breakage = Breakage(fleet, partial(books, fleet, bridge, host))
    stop = trio.Event()
    async with balanced([member.node for member in fleet.members]) as (balancer, url):
        customers = Customers(load, url, RETRIES[given.how], breakage)
        async with trio.open_nursery() as clients:
            for n in range(given.clients):
                clients.start_soon(customers.shop, TENANTS[n % len(TENANTS)], stop)
            turns = await beside(breakage, given.broken, partial(TURNS[given.how], fleet, given))
            stop.set()
    unknown = await load.replay(fleet.first.url)
    await load.check(fleet.first.url)
    drift, audit = await books(fleet, bridge, host)
    return {
        "seed": given.seed,
        given.how: turns,
        **counted(customers),
        "connections with no node": balancer.unserved,
        "unknown until replayed": unknown,
        **await bridge.run(partial(sums, host)),
        **{f"{name}: {what}": n for name in given.broken for what, n in of(name, customers)},
        "violations": customers.wrong + await bridge.run(partial(of_objects, host, fleet)),
        "drift in micro-dollars": drift,
        "audit": audit,
    }


async def beside(
    breakage: Breakage, services: Sequence[str], turns: Callable[[], Awaitable[int]]
) -> int:
    """Take turns with the nodes while these services are broken in turn, if there are any."""
    async with trio.open_nursery() as nursery:
        if services:
            nursery.start_soon(breakage.take_turns, services)
        taken = await turns()
        nursery.cancel_scope.cancel(reason="all turns were taken")
    return taken


async def books(fleet: Fleet, bridge: Bridge, host: str) -> tuple[int, str]:
    """Return drift in micro-dollars and what the audit of some node says, whichever is up."""
    drift = (await bridge.run(partial(sums, host)))["drift in micro-dollars"]

    async def audit() -> str | None:
        for member in fleet.members:
            ask = partial(member.node.ask_admin, "GET", "/admin/v1/audit")
            with suppress(httpx.TransportError):  # killed
                answer = await trio.to_thread.run_sync(ask, abandon_on_cancel=True)
                if answer.is_success:
                    return "clean" if answer.json()["ok"] else answer.text
        return None

    return drift, await until(audit)


def counted(customers: Customers) -> dict[str, Any]:
    """Return how requests went."""
    submits, reads = whole(customers.submits), whole(customers.reads)
    return {
        "requests": submits.asked,
        **{f"answered after {n} retries": submits.took[n] for n in range(customers.retries + 1)},
        "failed": submits.failed,
        "share that succeeded": round(submits.share, 5),
        "reads": reads.asked,
        "reads that failed": reads.failed,
        "share of reads that succeeded": round(reads.share, 5),
        **{f"result: {how}": n for how, n in sorted(customers.results.items())},
    }


def of(service: str, customers: Customers) -> Iterator[tuple[str, object]]:
    """Yield what happened while one service was broken."""
    submits, reads = (
        tallies.get(service, Tally()) for tallies in (customers.submits, customers.reads)
    )
    yield "requests", submits.asked + reads.asked
    yield "retried", submits.retries + reads.retries
    yield "failed", submits.failed + reads.failed
    yield from customers.breakage.table(service)


def troubles(how: str, table: dict[str, Any]) -> list[str]:
    """Say what must not be."""
    found = leaks(table)
    for name in SERVICES:
        if table.get(f"{name}: times broken") == 0:
            found.append(f"{name} was never broken")
    shares = (table["share that succeeded"], table["share of reads that succeeded"])
    if how == "kills" and min(shares) < SHARE_MIN:
        found.append(f"fewer than {SHARE_MIN:.1%} of the requests succeeded")
    if how == "restarts" and (table["failed"] or table["reads that failed"]):
        found.append("a request failed")
    if how == "restarts" and table["attempts retried"]:
        found.append("a restart in order spent attempts")
    return found


def leaks(table: dict[str, Any]) -> list[str]:
    """Say what must not be on any machine, however busy it is."""
    found = [*table["violations"]]
    if table["drift in micro-dollars"] or table["audit"] != "clean":
        found.append("the books do not hold")
    if not table["results in the store"]:
        found.append("no result lies in the store")
    for name in SERVICES:
        if table.get(f"{name}: drift in micro-dollars", 0) != 0:
            found.append(f"the books drifted while {name} was broken")
        if not {"clean"} >= table.get(f"{name}: audits", {}).keys():
            found.append(f"an audit was not clean after {name} was broken")
    return found


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Take turns on a PostgreSQL of its own."""
    print(f"seed {given.seed}", file=sys.stderr, flush=True)
    base = Path(tempfile.mkdtemp(prefix="dpp-rollout-"))
    base.chmod(0o755)
    cluster = start_cluster(base, max_connections=100)
    try:
        with redirect_stdout(sys.stderr):
            return trio.run(roll, cluster, base, given)
    finally:
        cluster.stop()
        shutil.rmtree(base, ignore_errors=True)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("how", choices=[*TURNS])
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--every", type=float, default=10)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--clients", type=int, default=CLIENTS)
    parser.add_argument("--broken", type=services, default=())
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    if given.broken and given.how != "kills":
        parser.error("--broken goes with kills: a restart in order asks for a shop that is well")
    given.seed = Random().randrange(10**6) if given.seed is None else given.seed
    return given


def services(text: str) -> tuple[str, ...]:
    """Read which services are to be broken, in which order."""
    named = tuple(text.split(",")) if text else ()
    if not {*named} <= {*SERVICES}:
        raise argparse.ArgumentTypeError(f"must be some of {','.join(SERVICES)}")
    return named


def main() -> int:
    """Run, and print one table, or JSON."""
    given = parse()
    table = run(given)
    if given.json:
        print(json.dumps(table))
    else:
        for name, value in table.items():
            print(f"{name:>52}  {value}")
    found = troubles(given.how, table)
    for trouble in found:
        print(f"FAILED: {trouble}", file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
