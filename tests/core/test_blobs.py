"""Blobs: keys that every node derives alike, and objects that say who they are."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from hashlib import sha256
from typing import Any
from uuid import UUID, uuid4

import pytest
from attrs import evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from dpp.blobs import (
    Attempt,
    BlobKey,
    CouldNotAsk,
    Found,
    Label,
    Looked,
    Metadata,
    Missing,
    NotVerified,
    Pointer,
    astray,
    attempt_in,
    belongs,
    describe,
    from_strings,
    to_strings,
    verify,
)
from dpp.faults import StoreUnavailable
from dpp.leases import Fence
from dpp.money import AMOUNT_MAX, Micros

RUN = UUID("01890a5d-ac96-774b-bcce-b302099a8057")
LEASE = UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")
FENCE = Fence(RUN, LEASE, 2)
KEY = BlobKey(tenant_id="acme", created_on=date(2026, 3, 4), run_id=RUN, lease_epoch=2)
LABEL = Label(lease_id=LEASE, pack_type="decision", cost=Micros(125))
BODY = b'{"best":"a"}'
METADATA = describe(KEY, LABEL, length=len(BODY), sha256=sha256(BODY).digest())

metadata_values = st.builds(
    Metadata,
    run_id=st.uuids(),
    lease_id=st.uuids(),
    lease_epoch=st.integers(1, 2**63 - 1),
    pack_type=st.text(max_size=20),
    cost=st.integers(0, AMOUNT_MAX),
    length=st.integers(0, 2**40),
    sha256=st.binary(min_size=32, max_size=32),
)


def checked(key: BlobKey = KEY, body: bytes = BODY) -> Metadata | NotVerified:
    return verify(to_strings(METADATA), key, length=len(body), sha256=sha256(body).digest())


@pytest.mark.parametrize(
    ("there", "wrong"),
    [
        (Found(METADATA), None),
        (Found(evolve(METADATA, sha256=b"\x07" * 32)), "its object has SHA-256 0707"),
        (Missing(), "there is no object under its key"),
        (NotVerified("torn"), "torn"),
    ],
)
def test_what_an_ending_points_to_is_there_or_it_is_said_why_not(
    there: Looked, wrong: str | None
) -> None:
    why = astray(Pointer(key=KEY, name=KEY.name, sha256=METADATA.sha256), there)
    assert why == wrong if wrong is None else why is not None and why.startswith(wrong)


def test_an_ending_that_names_another_object_than_its_attempts_is_astray() -> None:
    pointer = Pointer(key=KEY, name="elsewhere", sha256=METADATA.sha256)
    assert "its ending names elsewhere" in str(astray(pointer, Found(METADATA)))


def test_a_key_names_tenant_day_run_and_epoch() -> None:
    tenant = sha256(b"acme").hexdigest()[:32]

    assert KEY.name == f"{tenant}/2026/03/04/{RUN}/2"
    assert KEY.parts == tuple(KEY.name.split("/"))


def test_no_tenant_id_gets_out_of_its_directory() -> None:
    named = evolve(KEY, tenant_id="../../etc/passwd\0")

    assert attempt_in(named.name) == named.attempt


def test_nodes_of_all_time_zones_derive_the_same_day() -> None:
    created_at = datetime(2026, 3, 4, 0, 30, tzinfo=UTC)

    keys = {
        BlobKey.of("acme", created_at.astimezone(timezone(timedelta(hours=hours))), FENCE)
        for hours in range(-12, 15)
    }

    assert keys == {KEY}


def test_a_time_without_a_zone_makes_no_key() -> None:
    naive = datetime(2026, 3, 4, 0, 30)  # noqa: DTZ001 - it is what is refused

    with pytest.raises(AssertionError):
        BlobKey.of("acme", naive, FENCE)
    with pytest.raises(AssertionError):
        evolve(KEY, created_on=naive)


def test_an_attempt_that_was_never_claimed_has_no_key() -> None:
    with pytest.raises(AssertionError):
        evolve(KEY, lease_epoch=0)


@given(st.text(max_size=9), st.dates(), st.uuids(), st.integers(1, 2**63 - 1))
def test_a_name_tells_whose_object_it_is(
    tenant_id: str, created_on: date, run_id: UUID, lease_epoch: int
) -> None:
    key = BlobKey(
        tenant_id=tenant_id, created_on=created_on, run_id=run_id, lease_epoch=lease_epoch
    )

    assert attempt_in(key.name) == Attempt(run_id, lease_epoch)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "store_id",
        KEY.name + "/",
        "/" + KEY.name,
        KEY.name + "\n",
        KEY.name.upper(),
        KEY.name[:-1] + "0",
        KEY.name[:-1] + "02",
        KEY.name[:-1] + "-1",
        KEY.name[:-1] + "٢",
        KEY.name[:-1] + ".new-1",
        KEY.name[1:],
        KEY.name.replace("/03/", "/13/"),
        KEY.name.replace("/04/", "/32/"),
        KEY.name.replace("-", ""),
        f"../{KEY.name}",
    ],
)
def test_no_other_name_is_taken_for_an_object(name: str) -> None:
    assert attempt_in(name) is None


@given(metadata_values)
def test_metadata_come_back_as_they_went(metadata: Metadata) -> None:
    assert from_strings(to_strings(metadata)) == metadata


@given(metadata_values, metadata_values)
def test_no_two_metadata_share_a_seal(one: Metadata, other: Metadata) -> None:
    assert (to_strings(one)["seal"] == to_strings(other)["seal"]) == (one == other)


@pytest.mark.parametrize("name", sorted(to_strings(METADATA)))
def test_each_string_is_needed_and_sealed(name: str) -> None:
    strings = to_strings(METADATA)
    without = {key: value for key, value in strings.items() if key != name}
    last = strings[name][-1]
    # never a letter of another case, which the same UUID could be written with
    changed = strings | {name: strings[name][:-1] + ("1" if last != "1" else "2")}

    assert isinstance(from_strings(without), NotVerified)
    assert isinstance(from_strings(changed), NotVerified)


@pytest.mark.parametrize(
    "changes",
    [
        {"run-id": str(RUN).upper()},
        {"run-id": f"{{{RUN}}}"},
        {"cost-micros": "0125"},
        {"cost-micros": "1_25"},
        {"cost-micros": " 125"},
        {"cost-micros": "١٢٥"},
        {"cost-micros": "1" * 5000},
        {"cost-micros": ""},
        {"cost-micros": "NaN"},
        {"lease-epoch": "+2"},
        {"sha256": METADATA.sha256.hex().upper()},
        {"pack-type": "\ud800"},
        {"note": "more than we wrote"},
        {"format": "dpp-blob-2"},
    ],
)
def test_only_what_was_written_is_read(changes: dict[str, str]) -> None:
    assert isinstance(from_strings(to_strings(METADATA) | changes), NotVerified)


def test_an_object_is_verified_by_all_that_it_says() -> None:
    assert checked() == METADATA


@pytest.mark.parametrize(
    ("key", "body", "why"),
    [
        (evolve(KEY, run_id=LEASE), BODY, "its key says run 7d444840"),
        (evolve(KEY, lease_epoch=3), BODY, "epoch 2; its key says"),
        (KEY, BODY[:-1], "it says 12 bytes, and has 11"),
        (KEY, BODY + b" ", "it says 12 bytes, and has 13"),
        (KEY, b'{"best":"b"}', "its body has"),
        (KEY, b"", "it says 12 bytes, and has 0"),
    ],
)
def test_another_key_or_body_is_not_verified(key: BlobKey, body: bytes, why: str) -> None:
    found = checked(key, body)

    assert isinstance(found, NotVerified)
    assert why in found.why


def test_a_run_is_settled_by_the_object_of_its_last_attempt_within_its_reserve() -> None:
    found = Found(METADATA)

    assert belongs(found, FENCE, Micros(125)) == found


@pytest.mark.parametrize(
    ("fence", "max_cost", "why"),
    [
        (Fence(uuid4(), LEASE, 2), 125, "it is of epoch"),
        (Fence(RUN, LEASE, 3), 125, "it is of epoch 2, the run's is 3"),
        (Fence(RUN, LEASE, 1), 125, "it is of epoch 2, the run's is 1"),
        (Fence(RUN, RUN, 2), 125, "it is of lease"),
        (FENCE, 124, "a cost of 125 micros, the reserve is 124"),
    ],
)
def test_any_other_object_settles_nothing(fence: Fence, max_cost: int, why: str) -> None:
    found = belongs(Found(METADATA), fence, Micros(max_cost))

    assert isinstance(found, NotVerified)
    assert why in found.why


def test_an_object_with_a_negative_cost_settles_nothing() -> None:
    found = Found(evolve(METADATA, cost=Micros(-1)))

    assert isinstance(belongs(found, FENCE, Micros(125)), NotVerified)


def test_a_result_cannot_be_labelled_with_a_negative_cost() -> None:
    with pytest.raises(AssertionError):
        describe(KEY, evolve(LABEL, cost=Micros(-1)), length=0, sha256=bytes(32))


def test_could_not_ask_is_an_outage_and_no_answer() -> None:
    fault: Any = CouldNotAsk("no volume")

    assert isinstance(fault, StoreUnavailable)
    assert not isinstance(fault, NotVerified)
    assert str(fault) == "the blob store could not be asked: no volume"


def test_an_object_says_all_that_settling_needs() -> None:
    """The reconciler has the live row and the object, and nothing else: the node is dead."""
    assert {field.name for field in fields(Metadata)} == {
        "run_id", "lease_id", "lease_epoch", "pack_type", "cost", "length", "sha256",
    }  # fmt: skip
