"""Lease rows: taken by INSERT, renewed in two statements, ended by DELETE alone.

A renewal locks the row in one statement and judges the time in the next: a single statement that
waited for the row would renew a lease that lapsed during the wait. Ending deletes the row, which
waits for open claims, and takes the runs in a second statement with a new snapshot; in one
statement the claim's runs would be missed.
"""

from collections.abc import Sequence
from datetime import datetime

from dpp.leases import Fence, NodeLease, Renewal
from dpp.logs import get_logger
from dpp.metrics import zombie_writes_refused_total
from dpp.neighbours import Neighbour, Offer
from dpp.store.connections import Connection
from dpp.store.queries import queries
from dpp.store.transactions import transaction

# Beyond what any transaction of a node may take: the node cuts it after 8 s, the role's limits end
# it after 15 s where they can.
FROZEN_S = 20.0

log = get_logger(__name__)


async def take_lease(
    connection: Connection, lease: NodeLease, *, lease_s: float, hand_back: Sequence[NodeLease]
) -> datetime:
    """Insert the lease row, after ending tenures that an outage kept open: their runs are free."""
    async with transaction(connection, "take_lease"):
        for owed in hand_back:
            await queries.end_lease.fetch(connection, lease_id=owed.lease_id)
            await queries.hand_back_lease.fetch(connection, lease_id=owed.lease_id)
        await queries.take_lease.fetch(
            connection,
            lease_id=lease.lease_id,
            node_id=lease.node_id,
            lease_s=lease_s,
            digest=str(lease.offer),
        )
        await queries.beat_node.fetch(connection, node_id=lease.node_id)
        row = await queries.ping.fetch_one(connection)
    assert row is not None
    now: datetime = row["now"]
    return now


async def renew_lease(connection: Connection, lease: NodeLease, *, lease_s: float) -> Renewal:
    """Move `lease_until` if the lease still lives, and tell which attempts are stamped with it."""
    async with transaction(connection, "renew_lease"):
        await queries.lock_lease_to_renew.fetch(connection, lease_id=lease.lease_id)
        held = await queries.renew_lease.fetch(
            connection, lease_id=lease.lease_id, lease_s=lease_s, digest=str(lease.offer)
        )
        if held:
            await queries.beat_node.fetch(connection, node_id=lease.node_id)
        rows = await queries.fences_of_lease.fetch(connection, lease_id=lease.lease_id)
        nodes = await queries.living_nodes.fetch(connection)
    if not held:  # counted here: whoever asked has lost its tenure, and waits no more
        zombie_writes_refused_total.labels("renew_lease").inc()
    fences = tuple(
        Fence(row["run_id"], lease.lease_id, row["lease_epoch"])
        for row in rows
        if row["run_id"] is not None
    )
    neighbours = tuple(Neighbour(row["node_id"], Offer.parse(row["digest"])) for row in nodes)
    return Renewal(held=bool(held), now=rows[0]["now"], fences=fences, neighbours=neighbours)


async def end_lease(connection: Connection, lease: NodeLease, *, hand_back: bool) -> int:
    """Delete the lease row; with `hand_back` its runs wait again, no attempt spent.

    Returns how many it could not hand back, because somebody holds them.
    """
    left = 0
    async with transaction(connection, "end_lease"):
        await queries.end_lease.fetch(connection, lease_id=lease.lease_id)
        if hand_back:
            row = await queries.hand_back_lease.fetch_one(connection, lease_id=lease.lease_id)
            await queries.drain_node.fetch(connection, node_id=lease.node_id)
            assert row is not None
            left = row["left"]
    return left


async def end_earlier_leases(connection: Connection, lease: NodeLease) -> int:
    """Delete the lease rows of this node's earlier tenures; waits for claims in flight."""
    async with transaction(connection, "end_earlier"):
        rows = await queries.end_earlier_leases.fetch(
            connection, node_id=lease.node_id, lease_id=lease.lease_id
        )
    return len(rows)


async def end_frozen(connection: Connection) -> int:
    """End transactions of frozen clients; returns how many."""
    rows = await queries.end_frozen.fetch(connection, older_s=FROZEN_S)
    for row in rows:
        log.warning("frozen transaction ended", pid=row["pid"], age_s=round(row["age_s"], 1))
    return len(rows)


async def reap_lease(connection: Connection) -> NodeLease | None:
    """Delete one lapsed lease row that nobody holds."""
    async with transaction(connection, "reap_lease"):
        row = await queries.reap_lease.fetch_one(connection)
    return None if row is None else NodeLease(row["lease_id"], row["node_id"])
