"""Attempts that outlive their lease, on purpose: their late writes must all be refused.

Under load a claim tells a node at once that its lease is gone, and its runs end with it. So this
comes when nothing waits any more: all nodes work on runs that end one after another, then every
lease is taken away. For up to a second, until the next renewal, nodes settle, store and renew in
vain what others have taken back by then.
"""

from __future__ import annotations

import trio

from tests.fault.storm import Storm
from tests.fault.traffic import BIG
from tests.node.load import Load
from tests.node_client import connected, until

REFUSED = ("end_runs", "renew_lease", "mark_storing")
RUNS = 60  # of a tenant and a round
LARGE = {False: 2, True: 6}  # one in so many has a large result; fewer where S3 is asked for each
LAST_S = 2.5  # the longest of them: claimed, and still at work when its lease is taken
QUEUED = "select count(*) from dpp.live_runs where lease_id is null"
TAKE_ALL = "delete from dpp.node_leases"


async def outlive(storm: Storm, load: Load, rounds: int) -> None:
    """Go on until each kind of late write was refused at least once, or for so many rounds."""
    for _ in range(rounds):
        await one_round(storm, load)
        for member in storm.fleet.members:
            await storm.count(member)
        if all(storm.counted[f"zombie writes refused: {verb}"] for verb in REFUSED):
            return


async def one_round(storm: Storm, load: Load) -> None:
    """Let runs be claimed, take the leases away, and wait for the end of all."""
    remote = storm.fleet.cloud is not None
    async with trio.open_nursery() as senders:
        for member, tenant in zip(storm.fleet.members, load.tenants, strict=False):
            senders.start_soon(submit, load, member.node.url, tenant, LARGE[remote])

    async def nothing_waits() -> bool:
        return (await storm.ask(QUEUED))[0][0] == 0

    await until(nothing_waits)
    await storm.ask(TAKE_ALL)
    storm.hits["every lease taken"] += 1
    await storm.rest()


async def submit(load: Load, url: str, tenant: str, large: int) -> None:
    """Submit runs that end one after another; one in `large` has a large result."""
    some = []
    for n in range(RUNS):
        inputs = {"sleep_s": round(LAST_S * n / RUNS, 3), "cost_usd": "0.001"}
        inputs |= {"message": "z" * BIG} if n % large == 0 else {}
        some.append(load.add(tenant, (inputs, "COMPLETED", "0.001")))
    async with connected(url, load.tenants[tenant]) as client:
        await load.ask_batch(client, some)
