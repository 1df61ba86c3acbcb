"""Which blob store holds what the database points to: each has an id, kept in the other.

A directory of another machine, or a volume that is not mounted, would answer "missing" with
authority, and the reconciler would believe it: a node on a store that differs does not start.
"""

from uuid import UUID

from attrs import frozen

from dpp.blobs import Away, Blobs, CouldNotAsk
from dpp.logs import get_logger
from dpp.ports import Reconciling
from dpp.store.place import SchemaRefused
from dpp.store.queries import Connection, queries

NAME = "results"
HEARD_S = 60.0  # nodes report every ten seconds, while they rest too

log = get_logger(__name__)


async def assert_known_store(store: Reconciling, blobs: Blobs, where: str) -> None:
    """Raise unless the blob store is the database's; at first use they are introduced.

    One that is only away is waited for, if they have met before: the node starts without it.
    """
    known = await store.store_id(NAME)
    try:
        there = await blobs.identify(known)
    except CouldNotAsk as error:
        if known is not None and isinstance(error, Away):
            # It insists on this id whenever it answers, and until then large results wait.
            log.warning("result store unavailable", actor="identify", detail=str(error))
            return
        raise SchemaRefused(
            f"The results in {where} could not be asked: {error.why}.",
            "Mend what is named, or mount the volume with the results there; for a bucket, "
            "`dpp doctor` says what is missing.",
        ) from error
    if known is None and there is not None:
        known = await store.keep_store_id(NAME, there)
    if there != known:
        has = f"has the id {there}" if there else "has no id"
        raise SchemaRefused(
            f"The results of this database lie in the store {known}; {where} {has}.",
            "Mount the volume with the results there, or name the data directory or the bucket "
            "that has them: the one that nodes of this database had at their first start. If no "
            "result lies there yet, stop all nodes and ask `dpp results forget`.",
        )


@frozen
class Forgotten:
    """What came of it: the store that the database knows no more, or what it is needed for."""

    store_id: UUID | None
    results: int
    storing: int
    nodes: tuple[str, ...]

    @property
    def done(self) -> bool:
        """Say whether the next node to start may bring another store."""
        return self.store_id is not None or not (self.results or self.storing or self.nodes)


async def forget(connection: Connection) -> Forgotten:
    """Let the database forget its store of results, where nothing lies in it and no node lives.

    One statement, as the owner. A node that starts at the same moment, or was frozen for longer
    than `HEARD_S`, may have met the old store: whoever asks has stopped them.
    """
    row = await queries.forget_store.fetch_one(connection, name=NAME, heard_s=HEARD_S)
    assert row is not None
    return Forgotten(
        store_id=row["store_id"],
        results=row["results"],
        storing=row["storing"],
        nodes=tuple(row["nodes"]),
    )
