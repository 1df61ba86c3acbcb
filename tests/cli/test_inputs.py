from __future__ import annotations

import json

import click
import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.cli.inputs import pairs, read_object, value_of

JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(JSON_VALUES)
def test_whatever_is_json_is_read_as_json(value: object) -> None:
    assert value_of(json.dumps(value)) == value


@pytest.mark.parametrize(
    "text", ["hello", "", "01", "NaN", "Infinity", "{", "'x'", "[" * 100_000, "a=b"]
)
def test_whatever_is_not_json_stays_the_string_it_is(text: str) -> None:
    assert value_of(text) == text


def test_words_become_members() -> None:
    words = [
        "message=hi there",
        "sleep_s=0.5",
        'cost_usd="0.05"',
        "fail=true",
        "note=a=b",
        "empty=",
    ]

    read = pairs(words)

    assert read == {
        "message": "hi there",
        "sleep_s": 0.5,
        "cost_usd": "0.05",
        "fail": True,
        "note": "a=b",
        "empty": "",
    }


@pytest.mark.parametrize("words", [["message"], ["=x"], ["a=1", "a=2"]])
def test_a_word_that_names_nothing_or_twice_is_refused(words: list[str]) -> None:
    with pytest.raises(click.UsageError):
        pairs(words)


@pytest.mark.parametrize("text", [b"[]", b"1", b"{", b"\xff", b'{"a": NaN}'])
def test_a_file_without_a_json_object_is_refused(text: bytes) -> None:
    with pytest.raises(click.UsageError):
        read_object(text, "inputs.json")


def test_a_file_with_a_json_object_is_read() -> None:
    assert read_object(b'{"question": "which?"}', "inputs.json") == {"question": "which?"}
