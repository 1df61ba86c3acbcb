"""API keys as text."""

from __future__ import annotations

import random
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp import keys
from dpp.http.keys import refusal
from dpp.keyring import TooFast

RANDOM = random.Random(1).randbytes(keys.RANDOM_BYTES)


@given(st.binary(min_size=keys.RANDOM_BYTES, max_size=keys.RANDOM_BYTES))
def test_minted_key_is_read_back(random_bytes: bytes) -> None:
    minted = keys.mint(random_bytes)

    assert re.fullmatch(r"dpp_live_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", minted.text)
    assert keys.parse(minted.text) == keys.PresentedKey(minted.key_id, minted.secret_sha256)


def test_secret_has_256_bits_and_stands_nowhere_but_in_the_text() -> None:
    least, most = keys.mint(bytes(48)), keys.mint(b"\xff" * 48)

    assert least.text[22:65] == "0" * 43
    assert most.text[22:65] == keys.base62(2**256 - 1, 43)
    assert most.text not in repr(most)
    assert most.secret_sha256.hex() not in repr(keys.parse(most.text))


def test_any_one_wrong_character_is_a_typo() -> None:
    text = keys.mint(RANDOM).text

    for at, character in enumerate(text):
        other = "x" if character != "x" else "y"
        assert keys.parse(text[:at] + other + text[at + 1 :]) is None


def test_two_swapped_characters_are_a_typo() -> None:
    text = keys.mint(RANDOM).text

    for at in range(len(text) - 1):
        swapped = text[:at] + text[at + 1] + text[at] + text[at + 2 :]
        assert swapped == text or keys.parse(swapped) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "dpp_live_",
        "dpp_live_" + "0" * 62,
        keys.mint(RANDOM).text[:-1],
        keys.mint(RANDOM).text + "0",
        keys.mint(RANDOM).text + "\n",
        " " + keys.mint(RANDOM).text,
        keys.mint(RANDOM).text.replace("dpp_live_", "dpp_test_"),
        keys.mint(RANDOM).text.upper(),
        keys.mint(RANDOM).text.replace("_", "-"),
        keys.mint(RANDOM).text.replace("l", "\u217c", 1),  # noqa: RUF100
        "x" * 1_000_000,
    ],
)
def test_what_is_no_key_is_told_without_a_lookup(text: str) -> None:
    assert keys.parse(text) is None


def test_too_many_keys_in_a_day_is_a_quota_that_says_when_to_come_back() -> None:
    problem = refusal(TooFast())

    assert (problem.name, problem.type.status) == ("quota-exceeded", 429)
    assert problem.members == {"violated-policies": ["keys"], "retry_after_s": 3600}
    assert (b"retry-after", b"3600") in problem.headers
