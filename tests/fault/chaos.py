"""A storm over several nodes on one PostgreSQL: load, faults, heal, wait, check, one table.

    python -m tests.fault.chaos [--seconds S] [--seed N] [--nodes N] [--pooler MODE]
                                [--results s3|directory] [--json]

The seed and the log of faults are printed first. Every acknowledged run must end once and at its
price, and soon, whatever was killed, frozen, cut, slowed or restarted meanwhile; three judges, two
of them not DPP's own code, look at the books and at what clients were told. Exit 1 on anything that
must not be; after a long storm also where some kind of fault never came.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Mapping
from contextlib import AsyncExitStack, ExitStack, redirect_stdout
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import trio

from dpp.store import roles
from dpp.store.bridge import open_bridge
from tests.aws.cloud import open_cloud
from tests.cluster import Cluster, start_cluster
from tests.dumps import judged, restored
from tests.fault.clouds import NAMES as CLOUDS
from tests.fault.clouds import TROUBLES
from tests.fault.faults import EVERY, no_room
from tests.fault.fleet import Fleet, gather
from tests.fault.mailroom import Mailroom, open_mailroom
from tests.fault.operators import OPERATORS
from tests.fault.storm import LOST, ROOM, Storm
from tests.fault.traffic import CLOUD_KINDS, STORM_KINDS, Operator, send
from tests.fault.verdict import judge, of_logs, of_orphans, sums
from tests.fault.zombies import REFUSED, outlive
from tests.node.load import Load
from tests.pgbouncer import MODES, PROGRAM

NAMES = [f"acme-{n}" for n in range(4)]  # of tenants
LONG_S = 120  # from here on every kind of fault and of its traces must have come
ROUNDS = 6  # of late writes: each kind of them comes in nearly every one
# How their names begin.
MUSTS = ("hits: ", "zombie", "commits unknown,", "webhook ", "s3 faults: ", "sqs faults: ")
CANCEL_SHARE, BATCH_SHARE = 0.1, 0.05


async def ride(cluster: Cluster, base: Path, given: argparse.Namespace) -> dict[str, Any]:
    """Set up, load with faults, heal, wait, check; returns the table."""
    async with open_bridge() as bridge:
        await bridge.run(partial(roles.make_database, cluster.host))
        async with AsyncExitStack() as opened:
            cloud = None
            if given.results == "s3":
                cloud = await opened.enter_async_context(open_cloud(bridge, given.seed + 4))
            stack = opened.enter_context(ExitStack())
            fleet = gather(
                stack,
                cluster,
                base,
                count=given.nodes,
                seed=given.seed,
                mode=given.pooler,
                cloud=cloud,
            )
            await fleet.start()
            storm = Storm(cluster, fleet, bridge, Random(given.seed + 1), base / "books.dump")
            async with open_mailroom(storm, Random(given.seed + 3), NAMES) as mailroom:
                return await weather(storm, mailroom, given)


async def weather(storm: Storm, mailroom: Mailroom, given: argparse.Namespace) -> dict[str, Any]:
    """Let the storm pass over a fleet that is up."""
    fleet, bridge, host = storm.fleet, storm.bridge, storm.cluster.host
    load = Load(
        {name: fleet.first.tenant(name, "10000.00") for name in NAMES},
        Random(given.seed),
        kinds=CLOUD_KINDS if fleet.cloud else STORM_KINDS,
        inline_max_bytes=fleet.inline_max_bytes,
        batch_share=BATCH_SHARE,
        cancel_share=CANCEL_SHARE,
    )
    operator = Operator(fleet, load, Random(given.seed + 2))
    await mailroom.register(fleet.first.url, load.tenants)
    stop = trio.Event()
    async with trio.open_nursery() as senders:
        for n, tenant in enumerate(NAMES * 2):
            node = fleet.members[n % len(fleet.members)].node
            senders.start_soon(send, load, node, tenant, stop)
        senders.start_soon(operator.post_until, stop)
        senders.start_soon(mailroom.rage, given.seconds)
        await storm.rage(given.seconds)
        mailroom.calm()
        stop.set()
    asked, rested = len(load.asked), [await storm.rest()]
    await outlive(storm, load, ROUNDS if given.seconds >= LONG_S else 1)
    unknown = await load.replay(fleet.first.url, partial(storm.rest, ROOM))
    await operator.replay()
    rested.append(await storm.rest())
    emptied_s = await mailroom.emptied()
    await load.check(fleet.first.url)
    audit = fleet.first.admin("GET", "/admin/v1/audit")
    for member in fleet.members:
        await storm.count(member)
        if await member.wire.order("cancel_requests"):
            storm.blame(f"{member.name} sent a CancelRequest")
    if any(ended := await fleet.terminate()):
        storm.blame(f"the nodes drained with {ended}")
    found = await bridge.run(partial(judge, host, load, operator, mailroom, fleet))
    logs = [member.node.text() for member in fleet.members]
    found += [*of_logs(logs), *of_orphans(logs), *await of_dump(storm)]
    hits = [
        *(
            fault.name
            for fault in (*EVERY, *OPERATORS)
            if not (fleet.cloud and fault.hit is no_room)
        ),
        "every lease taken",
        *((*CLOUDS, LOST) if fleet.cloud else ()),
    ]
    return {
        "seed": given.seed,
        "seconds": given.seconds,
        "nodes": given.nodes,
        "clock an hour ahead": fleet.skewed or "none: no libfaketime",
        "pooler before all but node 0": given.pooler or "none: no PgBouncer",
        "redis between the nodes": "yes" if fleet.redis else "none: no redis-server here",
        "S3 and SQS": "yes" if fleet.cloud else "none",
        "shared store of results": "yes" if fleet.shares_results else "none: no mounts here",
        **{f"hits: {name}": storm.hits[name] for name in hits},
        "asked": len(load.asked),
        "asked a second": round(asked / given.seconds, 1),
        "acknowledged": sum(asked.run_id is not None for asked in load.asked),
        "answers lost": load.lost,
        "answers 503": load.refused,
        "unknown until replayed": unknown,
        "batches": load.batches,
        "cancels": load.cancels,
        "deposits and refunds": len(operator.posted),
        "answers to them": operator.answered,
        "looks at runs": len(load.history.looks),
        "looks at budgets": len(load.history.balances),
        **mailroom.table,
        **traces(storm),
        **made(fleet),
        "at rest after s": [round(took_s, 1) for took_s in rested],
        "webhooks all told after s": round(emptied_s, 1),
        **await bridge.run(partial(sums, host)),
        "violations": [*storm.blames, *found],
        "audit": "clean" if audit["ok"] else audit,
    }


async def of_dump(storm: Storm) -> list[str]:
    """Say what is wrong with the last dump of the books that was taken in the storm."""
    if not storm.dumped.exists():
        return []
    host, copy = storm.cluster.host, "restored"
    with restored(host, storm.dumped, copy):
        audit, found = await storm.bridge.run(partial(judged, host, copy))
    wrong = [verdict for verdict in audit.verdicts if verdict.offenders]
    return [f"in the dump: {one}" for one in (*wrong, *audit.findings, *found)]


def traces(storm: Storm) -> dict[str, int]:
    """Return what the nodes counted, those that must come in a long storm even where they are 0."""
    musts = [f"zombie writes refused: {verb}" for verb in REFUSED] + ["reconcile: rolled_forward"]
    counted = storm.counted
    unknown = sum(n for name, n in counted.items() if name.startswith("commits unknown"))
    seen = {name: n for name, n in counted.items() if n} | {name: counted[name] for name in musts}
    return dict(sorted({**seen, "commits unknown, resolved": unknown}.items()))


def made(fleet: Fleet) -> dict[str, int]:
    """Return how often each fault of S3 and SQS was met."""
    if fleet.cloud is None:
        return {}
    proxies = {"s3": fleet.cloud.s3, "sqs": fleet.cloud.sqs}
    return {
        f"{name} faults: {fault.name}": proxy.made[fault]
        for name, proxy in proxies.items()
        for one in TROUBLES
        for fault in one.faults
    }


def main() -> int:
    """Run the storm and print one table, or JSON."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None)
    parser.add_argument("--nodes", type=int, default=3)
    parser.add_argument("--pooler", choices=MODES, default=default_mode())
    parser.add_argument("--results", choices=("s3", "directory"), default="s3")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    given.seed = Random().randrange(10**6) if given.seed is None else given.seed
    table = run(given)
    if given.json:
        print(json.dumps(table))
    else:
        for name, value in table.items():
            print(f"{name:>38}  {value}")
    for trouble in troubles(table):
        print(f"FAILED: {trouble}", file=sys.stderr)
    return 1 if troubles(table) else 0


def default_mode() -> str | None:
    """Say what kind of pooler there is, where none is named."""
    return "transaction" if PROGRAM.exists() else None


def run(given: argparse.Namespace) -> dict[str, Any]:
    """Run one storm on a PostgreSQL of its own."""
    print(f"seed {given.seed}", file=sys.stderr, flush=True)
    base = Path(tempfile.mkdtemp(prefix="dpp-chaos-"))
    base.chmod(0o755)
    cluster = start_cluster(base, max_connections=100)
    try:
        with redirect_stdout(sys.stderr):  # what nodes logged of trouble
            return trio.run(ride, cluster, base, given)
    finally:
        cluster.stop()
        shutil.rmtree(base, ignore_errors=True)


def troubles(table: Mapping[str, Any]) -> list[str]:
    """Say what must not be; nothing = nothing leaked, and whatever was to come came."""
    found = [*table["violations"]]
    if table["drift in micro-dollars"]:
        found.append("the books drift")
    if table["audit"] != "clean":
        found.append("the audit is not clean")
    if table["acknowledged"] != table["asked"]:
        found.append("some submission was never acknowledged")
    return found + (missing(table) if table["seconds"] >= LONG_S else [])


def missing(table: Mapping[str, Any]) -> list[str]:
    """Name what should have come in a long storm and did not."""
    musts = {name for name in table if name.startswith(MUSTS)}
    if table["shared store of results"] == "yes":
        musts.add("reconcile: rolled_forward")
    else:
        musts.discard("zombie writes refused: mark_storing")
    if table["shared store of results"] != "yes":
        musts.discard("hits: no_room")
    if table["pooler before all but node 0"] != "transaction":
        musts.discard("hits: pause_pooler")
    if table["pooler before all but node 0"] not in MODES:
        musts.discard("hits: restart_pooler")
    if table["redis between the nodes"] != "yes":
        musts.discard("hits: trouble_redis")
    return [f"it never came: {name}" for name in sorted(musts) if not table[name]]


if __name__ == "__main__":
    sys.exit(main())
