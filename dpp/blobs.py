"""Blobs: where large results lie, and what their store may say about one.

An object is found without any pointer: its key is derived from the run and the epoch of the
attempt, so each attempt has a place of its own. It carries its own description, sealed by a digest:
the cost stands there, and a run may be settled by it. `delivery` puts, the reconciler looks, HTTP
reads, the pruner collects.

Three answers must never be taken for one another. `Missing` and `NotVerified` are values: the store
was asked, and said so; each decides what becomes of the attempt. `CouldNotAsk` is an exception, a
`StoreUnavailable`: nothing is known, nothing irreversible may follow, and whoever supervises rides
it out and asks again. A handler for refusals cannot swallow it by accident, nor can a `match`.
"""

import hashlib
import re
from collections.abc import Awaitable, Callable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, date, datetime
from typing import Final, Protocol, TypeAlias
from uuid import UUID

from attrs import field, frozen

from dpp.faults import StoreUnavailable
from dpp.leases import Fence
from dpp.money import AMOUNT_MAX, Micros

FORMAT: Final = "dpp-blob-1"
# Names of the directories that hold a tenant's objects: half a SHA-256 never collides by chance,
# and a collision would only share a directory, since run ids are unique.
TENANT_DIGITS = 32
# What `BlobKey.name` makes, name by name; bigint has 19 digits.
GRAMMAR: Final = (
    rf"[0-9a-f]{{{TENANT_DIGITS}}}",
    r"[0-9]{4}",
    r"(?:0[1-9]|1[0-2])",
    r"(?:0[1-9]|[12][0-9]|3[01])",
    r"(?P<run_id>[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})",
    r"(?P<lease_epoch>[1-9][0-9]{0,18})",
)
NAME: Final = re.compile("/".join(GRAMMAR), re.ASCII)


class CouldNotAsk(StoreUnavailable):
    """The store gave no answer that could be trusted; `why` is for the operator."""

    def __init__(self, why: str) -> None:
        super().__init__(f"the blob store could not be asked: {why}")
        self.why = why


class Away(CouldNotAsk):
    """Silence, or a store that has no time: the same question may be answered a moment later.

    Any other `CouldNotAsk` stays until an operator did something.
    """


@frozen
class Attempt:
    """Whose object it is: the epoch rises with each claim, so no two attempts share one."""

    run_id: UUID
    lease_epoch: int


@frozen(kw_only=True)
class BlobKey:
    """Where an attempt's object lies. `created_on`: the UTC day of the run's `created_at`."""

    tenant_id: str
    created_on: date
    run_id: UUID
    lease_epoch: int

    def __attrs_post_init__(self) -> None:
        assert self.lease_epoch >= 1, "an attempt has been claimed"
        assert not isinstance(self.created_on, datetime), "a day: its zone is settled"

    @classmethod
    def of(cls, tenant_id: str, created_at: datetime, whose: Fence | Attempt) -> "BlobKey":
        """Return the key of an attempt: every node derives the same one, whatever its time zone."""
        assert created_at.tzinfo is not None, "another node would derive another day"
        return cls(
            tenant_id=tenant_id,
            created_on=created_at.astimezone(UTC).date(),
            run_id=whose.run_id,
            lease_epoch=whose.lease_epoch,
        )

    @property
    def attempt(self) -> Attempt:
        """Whose object it is."""
        return Attempt(self.run_id, self.lease_epoch)

    @property
    def parts(self) -> tuple[str, ...]:
        """The names from the top of the store down: digits, letters and hyphens alone."""
        tenant = hashlib.sha256(self.tenant_id.encode()).hexdigest()[:TENANT_DIGITS]
        day = self.created_on
        date_parts = (f"{day.year:04d}", f"{day.month:02d}", f"{day.day:02d}")
        return (tenant, *date_parts, str(self.run_id), str(self.lease_epoch))

    @property
    def name(self) -> str:
        """The key as one string: what an ending keeps as the pointer to its result."""
        return "/".join(self.parts)


@frozen(kw_only=True)
class Label:
    """What the attempt says of its result, beside the body: stored with it."""

    lease_id: UUID
    pack_type: str
    cost: Micros


@frozen(kw_only=True)
class Metadata:
    """What an object says of itself. With the body's digest it is all that settling needs."""

    run_id: UUID
    lease_id: UUID
    lease_epoch: int
    pack_type: str
    cost: Micros
    length: int
    sha256: bytes

    @property
    def attempt(self) -> Attempt:
        """Whose object it says it is."""
        return Attempt(self.run_id, self.lease_epoch)


@frozen
class Found:
    """There is an object, and it is what it says: length, digest, seal, run and epoch agree."""

    metadata: Metadata


@frozen
class Content:
    """The object as `Found`, with its body: the bytes whose digest was compared."""

    metadata: Metadata
    body: bytes


@frozen
class Missing:
    """The right store was asked, and has no object under the key."""


@frozen
class NotVerified:
    """Something lies under the key, and it is not the attempt's object; `why` goes to a finding."""

    why: str


@frozen
class Stored:
    """The object is durable under its key: put by this call, or the same one put before."""

    metadata: Metadata


@frozen
class PutConflict:
    """Another object lies under the key; it was left as it is, and ours is not stored."""

    there: Metadata | NotVerified


@frozen(kw_only=True)
class Pointer:
    """What an ending says of its object: the attempt's key, the name it wrote down, the digest."""

    key: BlobKey
    name: str
    sha256: bytes


@frozen
class Collected:
    """One page of a collection: what it looked at, what it deleted, and where to go on.

    `torn`: writes that a crash cut short, swept. `refused`: what the store would not let go of; it
    stops nothing else. `after`: None = the end was reached.
    """

    looked: int
    deleted: int
    torn: int
    refused: int
    after: str | None


@frozen
class Linked:
    """Where whoever holds the URL may fetch the object for a while, and what that object says.

    Its bytes were not looked at: who fetches them compares the digest.
    """

    metadata: Metadata
    url: str = field(repr=False)


@frozen
class Archived:
    """The object is what it says; its bytes lie where they are hours away."""

    metadata: Metadata


Looked: TypeAlias = Found | Missing | NotVerified
Linking: TypeAlias = Linked | Archived | Missing | NotVerified
Fetched: TypeAlias = Content | Missing | NotVerified
Putting: TypeAlias = Stored | PutConflict
# Answers which of these objects must stay. What it is not sure of stays: a deletion is for good.
Keep: TypeAlias = Callable[[Sequence[Attempt]], Awaitable[AbstractSet[Attempt]]]


class Blobs(Protocol):
    """Every verb asked of a blob store. Each may be asked again; each raises `CouldNotAsk`."""

    async def identify(self, known: UUID | None) -> UUID | None:
        """Return the id written in the store; from then on every verb insists on it.

        `known`: the id that PostgreSQL has. With None, a store at its first use is given an id.
        With an id, nothing is written; an answer of None means a store without one. The caller
        refuses to work unless what comes back is what PostgreSQL has.
        """
        ...

    async def put(self, key: BlobKey, label: Label, body: bytes) -> Putting:
        """Store an object, verified and durable, never over another one."""
        ...

    async def look(self, key: BlobKey) -> Looked:
        """Verify the object under `key`; what is `Found` is durable and may be settled by."""
        ...

    async def read(self, key: BlobKey) -> Fetched:
        """Return the verified object under `key`, body and all."""
        ...

    async def check(self, key: BlobKey) -> Looked:
        """Verify the object under `key` to serve it; unlike `look` it makes nothing durable.

        One that is archived is `Found` by what it says of itself, its bytes unread.
        """
        ...

    async def piece(self, key: BlobKey, there: Metadata, start: int, length: int) -> bytes:
        """Return these bytes of the body of the object that was checked, and no fewer.

        Only that it is the same object still is looked at, not its digest.
        """
        ...

    async def link(self, key: BlobKey, method: str) -> Linking | None:
        """Return where a client may fetch the object by itself; None = this store has no links.

        `method`: GET or HEAD, which the link is good for.
        """
        ...

    async def collect(
        self, *, older_than_s: float, keep: Keep, after: str = "", limit: int = 1000
    ) -> Collected:
        """Delete one page of what is older and not kept; age is by the store's own clock."""
        ...


def attempt_in(name: str) -> Attempt | None:
    """Return whose object lies under a name; None: no key has that name, and it is not ours."""
    match = NAME.fullmatch(name)
    return match and Attempt(UUID(match.group("run_id")), int(match.group("lease_epoch")))


def describe(key: BlobKey, label: Label, *, length: int, sha256: bytes) -> Metadata:
    """Return the metadata of a body of this length and digest."""
    assert 0 <= label.cost <= AMOUNT_MAX
    return Metadata(
        run_id=key.run_id,
        lease_id=label.lease_id,
        lease_epoch=key.lease_epoch,
        pack_type=label.pack_type,
        cost=label.cost,
        length=length,
        sha256=sha256,
    )


def to_strings(metadata: Metadata) -> dict[str, str]:
    """Return the metadata as a store keeps it: names and strings, and the seal over them all."""
    strings = {
        "format": FORMAT,
        "run-id": str(metadata.run_id),
        "lease-id": str(metadata.lease_id),
        "lease-epoch": str(metadata.lease_epoch),
        "pack-type": metadata.pack_type,
        "cost-micros": str(metadata.cost),
        "length": str(metadata.length),
        "sha256": metadata.sha256.hex(),
    }
    return strings | {"seal": _seal(strings)}


def from_strings(strings: Mapping[str, str]) -> Metadata | NotVerified:
    """Read metadata back; whatever `to_strings` would not have written is not verified."""
    try:
        metadata = Metadata(
            run_id=UUID(strings["run-id"]),
            lease_id=UUID(strings["lease-id"]),
            lease_epoch=int(strings["lease-epoch"]),
            pack_type=strings["pack-type"],
            cost=Micros(int(strings["cost-micros"])),
            length=int(strings["length"]),
            sha256=bytes.fromhex(strings["sha256"]),
        )
    except (KeyError, ValueError) as error:
        return NotVerified(f"its metadata cannot be read ({type(error).__name__}: {error})")
    if to_strings(metadata) != dict(strings):
        return NotVerified("its metadata and their seal disagree")
    return metadata


def verify(
    strings: Mapping[str, str], key: BlobKey, *, length: int, sha256: bytes
) -> Metadata | NotVerified:
    """Compare what an object says of itself with its key and with the body that was read."""
    metadata = from_strings(strings)
    if isinstance(metadata, NotVerified):
        return metadata
    if metadata.attempt != key.attempt:
        return NotVerified(
            f"it says run {metadata.run_id}, epoch {metadata.lease_epoch}; its key says "
            f"run {key.run_id}, epoch {key.lease_epoch}"
        )
    if metadata.length != length:
        return NotVerified(f"it says {metadata.length} bytes, and has {length}")
    if metadata.sha256 != sha256:
        return NotVerified(f"it says SHA-256 {metadata.sha256.hex()}, its body has {sha256.hex()}")
    return metadata


def said(strings: Mapping[str, str], key: BlobKey, *, length: int) -> Metadata | NotVerified:
    """Compare what an object says of itself with its key and its length; its body was not read."""
    metadata = from_strings(strings)
    if isinstance(metadata, NotVerified):
        return metadata
    return verify(strings, key, length=length, sha256=metadata.sha256)


def belongs(found: Found, fence: Fence, max_cost: Micros) -> Found | NotVerified:
    """Say whether a run may be settled by this object: its last attempt's, within its reserve.

    The lease is compared too: after a restore to an earlier time an epoch can be given twice.
    """
    there = found.metadata
    if there.attempt != Attempt(fence.run_id, fence.lease_epoch):
        return NotVerified(f"it is of epoch {there.lease_epoch}, the run's is {fence.lease_epoch}")
    if there.lease_id != fence.lease_id:
        return NotVerified(f"it is of lease {there.lease_id}, the run's is {fence.lease_id}")
    if not 0 <= there.cost <= max_cost:
        return NotVerified(f"it says a cost of {there.cost} micros, the reserve is {max_cost}")
    return found


def astray(pointer: Pointer, there: Looked) -> str | None:
    """Say what is wrong with what an ending points to; None = it is there."""
    if pointer.name != pointer.key.name:
        return f"its ending names {pointer.name}, its key is {pointer.key.name}"
    if isinstance(there, Missing):
        return "there is no object under its key"
    if isinstance(there, NotVerified):
        return there.why
    if there.metadata.sha256 != pointer.sha256:
        return f"its object has SHA-256 {there.metadata.sha256.hex()}"
    return None


def _seal(strings: Mapping[str, str]) -> str:
    """Digest names and values, each led by its length: no two metadata share a text."""
    text = "".join(f"{len(part)}:{part}" for pair in sorted(strings.items()) for part in pair)
    # a lone surrogate, which JSON lets through, is no reason to raise: it will not verify
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
