"""Which blob store holds what the database points to: each has an id, kept in the other.

A directory of another machine, or a volume that is not mounted, would answer "missing" with
authority, and the reconciler would believe it: a node on a store that differs does not start.
"""

from dpp.blobs import Away, Blobs, CouldNotAsk
from dpp.logs import get_logger
from dpp.ports import Reconciling
from dpp.store.place import SchemaRefused

NAME = "results"

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
            "that has them: the one that nodes of this database had at their first start.",
        )
