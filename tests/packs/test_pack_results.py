"""Results as bytes: one form, and nothing that a column or a client could not read."""

import json
import math
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.packs.results import NotAResult, encode


def test_the_form_is_sorted_and_without_white_space() -> None:
    assert encode({"b": [1, 0.1, None], "a": "é/\n"}) == '{"a":"é/\\n","b":[1,0.1,null]}'.encode()


def circle() -> object:
    ring: list[object] = []
    ring.append(ring)
    return ring


def deep() -> object:
    nested: object = None
    for _ in range(100_000):
        nested = [nested]
    return nested


@pytest.mark.parametrize(
    "make",
    [
        lambda: math.nan,
        lambda: {"x": [math.inf]},
        lambda: {"x": object()},
        lambda: {1, 2},
        lambda: b"bytes",
        lambda: {(1, 2): 3},
        lambda: {"x": 1, 2: 3},
        lambda: "\ud800",
        lambda: {"x": "a\0b"},
        lambda: {"\0": 1},
        lambda: "\\\0",
        circle,
        deep,
    ],
)
def test_what_is_not_json_is_refused(make: Callable[[], object]) -> None:
    with pytest.raises(NotAResult, match="the result"):
        encode(make())


def test_a_text_about_nul_is_not_nul() -> None:
    assert json.loads(encode("\\u0000")) == "\\u0000"


text = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"))
values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | text,
    lambda inner: st.lists(inner) | st.dictionaries(text, inner),
    max_leaves=10,
)


@given(values)
def test_json_comes_back_as_it_was(value: object) -> None:
    encoded = encode(value)

    assert json.loads(encoded) == value
    assert encode(json.loads(encoded)) == encoded
