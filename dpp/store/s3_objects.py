"""The objects of a bucket: the few requests that DPP makes, each with its answer as a value.

The bucket holds the results below `PREFIX`, each under its key's name, and one object with the
store's id. The metadata of a result are headers, so their values are escaped: HTTP has no way to
carry a line's end or a blank at the edge. All of this runs in the bridge's thread; what is raised
is the driver's, for `aws.ask` to judge.
"""

from __future__ import annotations

import hashlib
import io
from base64 import b64encode
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import quote, unquote
from uuid import UUID

from attrs import frozen

from dpp.blobs import CouldNotAsk
from dpp.store.aws import code_of, status_of

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

# Apart from the id, so that a rule of the bucket may let results expire and nothing else.
PREFIX: Final = "results/"
STORE_ID: Final = "dpp-store-id"
LINK_S: Final = 600  # that a presigned URL holds: a slow client begins within ten minutes
READ: Final = 256 * 1024  # bytes at a time: a millisecond of hashing, on a thread that others need
JSON: Final = "application/json"
ID_BYTES_MAX: Final = 100
# Storage classes whose bytes are hours away; GLACIER_IR answers at once.
ARCHIVES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE"})
RESTORED: Final = 'ongoing-request="false"'  # a copy that can be read lies beside the archived one


class NoId(CouldNotAsk):
    """What stands where the store's id belongs is none."""


@frozen
class Head:
    """What the store says of an object, without its body."""

    strings: Mapping[str, str]
    length: int
    archived: bool


@frozen
class Body:
    """An object that was read: what is said of it, and what its bytes came to."""

    head: Head
    sha256: bytes
    data: bytes


@frozen
class Row:
    """One object of a page: its name without the prefix, and its age by the store's clock."""

    name: str
    age_s: float


@frozen
class Bucket:
    """A bucket, the client to ask it with, and how its objects are encrypted."""

    client: Any
    name: str
    kms_key_id: str | None = None

    # ── writing ──────────────────────────────────────────────────────────────────────────────────

    async def put(self, name: str, strings: Mapping[str, str], body: bytes, sha256: bytes) -> bool:
        """Store a result under a name that nothing has; False = something has it.

        The store compares the digest before it says yes, and keeps it with the object.
        """
        encryption: dict[str, Any] = {"ServerSideEncryption": "AES256"}
        if self.kms_key_id is not None:
            encryption = {"ServerSideEncryption": "aws:kms", "SSEKMSKeyId": self.kms_key_id}
            encryption["BucketKeyEnabled"] = True  # a key of KMS is asked once for many objects
        return await self._create(
            PREFIX + name,
            Body=io.BytesIO(body),  # a file is sent in pieces, bytes would hold the loop
            ContentType=JSON,
            ChecksumSHA256=b64encode(sha256).decode(),
            Metadata={word: _escape(value) for word, value in strings.items()},
            **encryption,
        )

    async def give_id(self, store_id: UUID) -> bool:
        """Write the store's id, if it has none; False = it has one."""
        return await self._create(STORE_ID, Body=f"{store_id}\n".encode(), ContentType="text/plain")

    async def _create(self, key: str, **said: Any) -> bool:
        try:
            await self._ask("put_object", Key=key, IfNoneMatch="*", **said)
        except self.client.exceptions.ClientError as error:
            if status_of(error) == 412:  # noqa: PLR2004  # Precondition Failed
                return False
            raise
        return True

    # ── reading ──────────────────────────────────────────────────────────────────────────────────

    async def read_id(self) -> UUID | None:
        """Return the id that is written there; None: there is none. Raises `NoId`."""
        try:
            answer = await self._ask("get_object", Key=STORE_ID)
        except self.client.exceptions.ClientError as error:
            self._must_be_none(error)
            return None
        async with answer["Body"] as reply:
            data = b""  # to its end: what came so far may be half of it
            while len(data) < ID_BYTES_MAX and (part := await reply.content.read(ID_BYTES_MAX)):
                data += part
        text = data.decode("ascii", "replace").strip()
        try:
            return UUID(text)
        except ValueError as error:
            raise NoId(f"its {STORE_ID} says {text!r}, which is no id") from error

    async def head(self, name: str) -> Head | None:
        """Return what is said of an object; None: there is none, or no such bucket."""
        try:
            return _head(await self._ask("head_object", Key=PREFIX + name))
        except self.client.exceptions.ClientError as error:
            self._must_be_none(error)
            return None

    async def read(self, name: str, *, keep: bool) -> Body | None:
        """Read and hash a whole object, and `keep` its bytes; None: there is none."""
        try:
            answer = await self._ask("get_object", Key=PREFIX + name)
        except self.client.exceptions.ClientError as error:
            self._must_be_none(error)
            return None
        digest, parts, length = hashlib.sha256(), [], 0
        async with answer["Body"] as reply:
            while part := await reply.content.read(READ):
                digest.update(part)
                length += len(part)
                if keep:
                    parts.append(part)
        head = Head(_strings(answer), length, archived=False)
        return Body(head, digest.digest(), b"".join(parts))

    async def piece(self, name: str, start: int, length: int) -> tuple[Head, bytes] | None:
        """Read some bytes of an object; its head has the length of the whole."""
        span = f"bytes={start}-{start + length - 1}"
        try:
            answer = await self._ask("get_object", Key=PREFIX + name, Range=span)
        except self.client.exceptions.ClientError as error:
            self._must_be_none(error)
            return None
        async with answer["Body"] as reply:
            data: bytes = await reply.read()
        whole = str(answer.get("ContentRange", "")).rpartition("/")[2]
        return Head(_strings(answer), int(whole) if whole.isdecimal() else -1, archived=False), data

    async def link(self, name: str, method: str, filename: str) -> str:
        """Return a URL by which anybody may ask for this object, with this method, for a while."""
        url: str = await self.client.generate_presigned_url(
            "head_object" if method == "HEAD" else "get_object",
            Params={
                "Bucket": self.name,
                "Key": PREFIX + name,
                "ResponseContentType": JSON,
                "ResponseContentDisposition": f'attachment; filename="{filename}"',
                "ResponseCacheControl": "private, no-store",
            },
            ExpiresIn=LINK_S,
        )
        return url

    # ── collecting ───────────────────────────────────────────────────────────────────────────────

    async def page(self, after: str, limit: int) -> tuple[list[Row], bool]:
        """Return some results by name, from beyond `after`, and whether there are more."""
        answer = await self._ask(
            "list_objects_v2", Prefix=PREFIX, StartAfter=PREFIX + after, MaxKeys=limit
        )
        at = _clock(answer)
        rows = [
            Row(
                one["Key"].removeprefix(PREFIX),
                (at - one["LastModified"]).total_seconds(),
            )
            for one in answer.get("Contents", ())
        ]
        return rows, bool(answer["IsTruncated"])

    async def delete(self, names: Sequence[str]) -> int:
        """Delete these results; returns how many the store would not let go of."""
        doomed = [{"Key": PREFIX + name} for name in names]
        answer = await self._ask("delete_objects", Delete={"Objects": doomed, "Quiet": True})
        return len(answer.get("Errors", ()))

    def _must_be_none(self, error: Any) -> None:  # noqa: ANN401  # the driver has no types
        """Raise, unless the store says that there is no such object."""
        if status_of(error) != 404:  # noqa: PLR2004  # Not Found
            raise error
        if code_of(error) == "NoSuchBucket":
            raise CouldNotAsk(f"there is no bucket {self.name}") from error

    async def _ask(self, operation: str, **said: Any) -> Any:  # noqa: ANN401  # the driver's words
        try:
            return await getattr(self.client, operation)(Bucket=self.name, **said)
        except self.client.exceptions.NoSuchBucket as error:
            raise CouldNotAsk(f"there is no bucket {self.name}") from error


def _head(answer: Mapping[str, Any]) -> Head:
    is_archived = answer.get("StorageClass") in ARCHIVES
    is_restored = RESTORED in answer.get("Restore", "")
    return Head(_strings(answer), int(answer["ContentLength"]), is_archived and not is_restored)


def _strings(answer: Mapping[str, Any]) -> dict[str, str]:
    """Return the metadata as they were given; what we would not have written stays as it is."""
    said: Mapping[str, str] = answer.get("Metadata", {})
    return {word: _unescape(value) for word, value in said.items()}


def _escape(value: str) -> str:
    """Return the value in characters that every header takes: a usual one is as it was."""
    return quote(value, safe="", errors="surrogatepass")


def _unescape(value: str) -> str:
    there = unquote(value, errors="surrogatepass")
    return there if _escape(there) == value else value


def _clock(answer: Mapping[str, Any]) -> datetime:
    """Return the time by the store's clock, which stamps the objects too."""
    return parsedate_to_datetime(answer["ResponseMetadata"]["HTTPHeaders"]["date"])
