"""Which objects of a store are old: one page of them, read and left as it is."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from attrs import frozen

from dpp.blobs import Attempt, attempt_in
from dpp.store import aws, blob_place, blob_sweep
from dpp.store.s3_objects import Bucket

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path
    from uuid import UUID

PAGE = 1000  # objects: one request to S3
REPLY_S = 10.0  # of a try


@frozen
class Old:
    """Of so many objects the old ones by name; `more`: there are others, not looked at."""

    looked: int
    more: bool
    objects: Mapping[str, Attempt]


def in_directory(path: Path, store_id: UUID, *, older_than_s: float, at: float) -> Old:
    """Look at files; `at`: now, in seconds since 1970. Raises `CouldNotAsk`."""
    with blob_place.insisted(path, store_id) as root:
        page = blob_sweep.read_page(root, older_than_s=older_than_s, after="", limit=PAGE, at=at)
    return Old(page.looked, page.after is not None, page.objects)


async def in_bucket(service: aws.Service, name: str, *, older_than_s: float) -> Old:
    """Look at a bucket, by its own clock; in the bridge's thread. Raises `CouldNotAsk`."""
    async with aws.client_of(service) as client:
        bucket = Bucket(client, name)
        rows, more = await aws.ask(partial(bucket.page, "", PAGE), wall_s=REPLY_S)
    old = [row.name for row in rows if row.age_s >= older_than_s]
    return Old(len(rows), more, {name: one for name in old if (one := attempt_in(name))})
