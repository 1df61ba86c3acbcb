"""The results' facts: objects that no run refers to, and endings whose object is not there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import trio

from dpp import cloud
from dpp.blob_store import open_blobs
from dpp.blobs import CouldNotAsk
from dpp.diagnosis.checks import Unknown
from dpp.diagnosis.results import OLD_S, Missing, Orphans
from dpp.http.admin.books import sample
from dpp.store import examining, leftovers
from dpp.store.identity import NAME
from dpp.store.refusal import StartRefused

if TYPE_CHECKING:
    from datetime import datetime
    from pathlib import Path
    from uuid import UUID

    from dpp.config import Config
    from dpp.store.bridge import Bridge
    from dpp.store.connections import Address

SAMPLE = 20  # endings whose object is read whole, of up to 64 MiB each

Found = tuple[Orphans | Unknown | None, Missing | Unknown | None]


async def gather(
    config: Config, directory: Path, app: Address, bridge: Bridge, now: datetime
) -> Found:
    """Look at a page of objects and at some endings; None: no store was ever used."""
    known = await bridge.run(partial(examining.seen, partial(examining.store_id, app, NAME)))
    if known is None or isinstance(known, Unknown):
        return known, known
    return (
        await _orphans(config, directory, app, bridge, known, now),
        await _missing(config, directory, app, bridge, known),
    )


async def _orphans(
    config: Config, directory: Path, app: Address, bridge: Bridge, known: UUID, now: datetime
) -> Orphans | Unknown:
    try:
        if config.s3.bucket is None:
            at = now.timestamp()
            look = partial(leftovers.in_directory, directory, known, older_than_s=OLD_S, at=at)
            old = await trio.to_thread.run_sync(look)
        else:
            service, name = cloud.results(config), config.s3.bucket
            ask = partial(leftovers.in_bucket, service, name, older_than_s=OLD_S)
            old = await bridge.run(ask)
    except CouldNotAsk as error:
        return Unknown(error.why)  # noqa: ASYNC910 - it was asked
    attempts = tuple(old.objects.values())
    kept = await bridge.run(partial(examining.seen, partial(examining.kept, app, attempts)))
    if isinstance(kept, Unknown):
        return kept
    lost = [name for name, attempt in old.objects.items() if attempt not in kept]
    return Orphans(old.looked, old.more, lost)


async def _missing(
    config: Config, directory: Path, app: Address, bridge: Bridge, known: UUID
) -> Missing | Unknown:
    ask = partial(examining.seen, partial(examining.pointers, app, SAMPLE))
    pointers = await bridge.run(ask)
    if isinstance(pointers, Unknown):
        return pointers
    try:
        async with open_blobs(config, directory, bridge) as store:
            there = await store.blobs.identify(known)
            if there != known:
                return Unknown(f"{store.where} has the id {there}, and should have {known}")
            seen = await sample(store.blobs, pointers)
    except CouldNotAsk as error:
        return Unknown(error.why)
    except StartRefused as refused:
        return Unknown(refused.what)
    if seen.could_not_ask is not None:
        return Unknown(seen.could_not_ask)
    return Missing(seen.looked, [(one["run_id"], one["why"]) for one in seen.astray])
