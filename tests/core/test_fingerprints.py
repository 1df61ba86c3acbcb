"""Fingerprints: when two requests under one key are the same request."""

import json
import unicodedata
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.fingerprints import DIGEST_BYTES, VERSION, canonical, fingerprint
from dpp.money import parse

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(alphabet=st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4),  # noqa: E501
    max_leaves=12,
)  # fmt: skip
REQUEST = {
    "pack_type": "echo",
    "inputs": {"message": {"a": [1, 2], "b": None}},
    "max_cost_usd": 1_000_000,
}


def test_it_is_a_version_byte_and_the_digest_of_the_canonical_form() -> None:
    text = '{"inputs":{"message":{"a":[1,2],"b":null}},"max_cost_usd":1000000,"pack_type":"echo"}'

    digest = fingerprint(REQUEST)

    assert digest == b"\x01" + sha256(b"\x01" + text.encode()).digest()
    assert VERSION == b"\x01"
    assert len(digest) == DIGEST_BYTES


@given(st.dictionaries(st.text(max_size=5), json_values, max_size=5), st.randoms())
def test_neither_order_nor_white_space_matters(value: dict[str, object], random: object) -> None:
    value.pop("idempotency_key", None)
    spaced = json.loads(json.dumps(shuffled(value, random), indent=3))

    assert fingerprint(spaced) == fingerprint(value)


@pytest.mark.parametrize(
    "other",
    [
        {"inputs": {"message": {"a": [1, 2.0], "b": None}}},
        {"inputs": {"message": {"a": [2, 1], "b": None}}},
        {"inputs": {"message": {"a": [1, 2]}}},
        {"inputs": {"message": {"a": [1, 2], "b": False}}},
        {"inputs": {"message": {"a": [True, 2], "b": None}}},
        {"inputs": {"message": {"a": ["1", 2], "b": None}}},
        {"inputs": {"message": {"a": [1, 2], "b": None}, "fail": False}},
        {"max_cost_usd": 1_000_001},
        {"pack_type": "Echo"},
        {"priority": 5},
        {"priority": None},
    ],
)
def test_what_the_client_sent_otherwise_is_another_request(other: dict[str, object]) -> None:
    assert fingerprint(REQUEST | other) != fingerprint(REQUEST)


def test_money_is_compared_as_an_amount() -> None:
    def priced(text: str) -> bytes:
        return fingerprint(REQUEST | {"max_cost_usd": parse(text)})

    assert priced("1") == priced("1.0") == priced("1.000000") == fingerprint(REQUEST)
    assert priced("1.000001") != fingerprint(REQUEST)


def test_unicode_normal_forms_differ() -> None:
    composed, decomposed = (
        fingerprint({"inputs": {"message": unicodedata.normalize(form, "é")}})
        for form in ("NFC", "NFD")
    )

    assert composed != decomposed


def test_text_is_digested_as_utf_8_not_as_escapes() -> None:
    assert canonical({"é": "→"}) == '{"é":"→"}'.encode()


def test_a_key_is_no_part_of_what_it_names() -> None:
    with pytest.raises(AssertionError):
        fingerprint(REQUEST | {"idempotency_key": "one"})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_what_json_cannot_say_has_no_digest(number: float) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        fingerprint({"inputs": {"message": number}})


def shuffled(value: object, random: object) -> object:
    """Return the same value, the members of its objects in another order."""
    if isinstance(value, dict):
        members = [(name, shuffled(member, random)) for name, member in value.items()]
        random.shuffle(members)  # type: ignore[attr-defined]
        return dict(members)
    return [shuffled(item, random) for item in value] if isinstance(value, list) else value
