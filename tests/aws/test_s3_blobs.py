"""The S3 store: the contract of every blob store, and what a bucket alone can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.blobs import Away, Content, CouldNotAsk, Missing, Stored
from dpp.store import s3_objects
from dpp.store.identity import assert_known_store
from dpp.store.place import SchemaRefused
from dpp.store.s3_blobs import S3Blobs
from dpp.store.s3_objects import Bucket
from tests.store.blob_contract import BlobContract, described, new_key, new_label

if TYPE_CHECKING:
    from dpp.store.postgres import PostgresStore
    from tests.aws.conftest import S3


class TestS3(BlobContract):
    """All of it."""

    large = 8 << 20

    @pytest.mark.parametrize("body", [b"", b"\n\n{}\n"])
    @pytest.mark.parametrize("pack_type", ["decision", "", " a ", "a\r\nx-amz-acl: public-read"])
    async def test_every_result_comes_back_as_it_went(  # type: ignore[override]
        self, depot: S3, body: bytes, pack_type: str
    ) -> None:
        """Few, and the metadata's own test has the rest: each costs a bucket."""
        key, label = new_key(lease_epoch=2**63 - 1), new_label(10**12, pack_type)

        stored = await depot.blobs.put(key, label, body)

        assert stored == Stored(described(key, label, body))
        assert await depot.blobs.read(key) == Content(stored.metadata, body)


@given(st.text() | st.text(st.characters(codec="ascii")))
def test_metadata_come_back_as_they_went_and_are_always_a_header(value: str) -> None:
    sent = s3_objects._escape(value)

    assert sent.isascii()
    assert sent.isprintable()
    assert sent == sent.strip()
    assert s3_objects._unescape(sent) == value


@pytest.mark.parametrize("value", ["%41", "%zz", "a b", "%e2%82%ac"])
def test_metadata_that_we_did_not_write_stay_as_they_are(value: str) -> None:
    """Else two texts would be the same one, and the seal hold for both."""
    assert s3_objects._unescape(value) == value


async def test_another_bucket_than_the_databases_is_refused(
    store: PostgresStore, depot: S3
) -> None:
    for _ in range(2):
        await assert_known_store(store, depot.blobs, "the bucket")

    with pytest.raises(SchemaRefused, match="; the bucket has no id"):
        await assert_known_store(store, depot.elsewhere(), "the bucket")

    await depot.swap_id()
    with pytest.raises(SchemaRefused, match="; the bucket has the id"):
        await assert_known_store(store, depot.another(), "the bucket")


async def test_a_bucket_that_is_away_is_waited_for_once_it_is_known(
    store: PostgresStore, depot: S3
) -> None:
    """Before its first use nothing says which one it should be."""
    depot.proxy.away = True
    with pytest.raises(SchemaRefused, match="could not be asked"):
        await assert_known_store(store, depot.another(), "the bucket")
    depot.proxy.away = False
    await assert_known_store(store, depot.blobs, "the bucket")
    depot.proxy.away = True
    restarted = depot.another()

    await assert_known_store(store, restarted, "the bucket")

    with pytest.raises(Away):
        await restarted.look(new_key())
    depot.proxy.away = False
    assert await restarted.look(new_key()) == Missing()


async def test_a_bucket_that_is_not_there_is_said_to_be_so(depot: S3) -> None:
    none = S3Blobs(depot.bridge, Bucket(depot.client, "dpp-none"))

    with pytest.raises(CouldNotAsk, match="there is no bucket dpp-none") as fault:
        await none.identify(None)

    assert not isinstance(fault.value, Away)
