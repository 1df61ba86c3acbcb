"""The strict JSON decoder: what it takes, and every kind of input that it must not."""

from __future__ import annotations

import itertools
import json
import math
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.http.decoder import (
    DEPTH_MAX,
    INTEGER_MAX,
    NODES_MAX,
    NotJson,
    count_nodes,
    decode_object,
    measure,
)

if TYPE_CHECKING:
    from hypothesis.strategies import SearchStrategy

REFUSED: dict[str, bytes | str] = {
    "empty": "",
    "blank": " \n\t ",
    "null root": "null",
    "array root": "[]",
    "string root": '"x"',
    "number root": "1",
    "duplicate member": '{"max_cost_usd": "1", "max_cost_usd": "2"}',
    "duplicate by an escape": r'{"a": 1, "\u0061": 2}',
    "nested duplicate": '{"a": [{"b": 1, "b": 1}]}',
    "NaN": '{"a": NaN}',
    "Infinity": '{"a": Infinity}',
    "-Infinity": '{"a": -Infinity}',
    "number over a double": '{"a": 1e400}',
    "negative number over a double": '{"a": -1e400}',
    "integer over 2^53": f'{{"a": {INTEGER_MAX + 1}}}',
    "integer under -2^53": f'{{"a": {-INTEGER_MAX - 1}}}',
    "2^63": f'{{"a": {2**63}}}',
    "2^64": f'{{"a": {2**64}}}',
    "4,301 digits": '{"a": ' + "9" * 4301 + "}",
    "10^6 digits": '{"a": ' + "9" * 1_000_000 + "}",
    "leading zero": '{"a": 01}',
    "plus sign": '{"a": +1}',
    "bare point": '{"a": .5}',
    "trailing point": '{"a": 5.}',
    "hexadecimal": '{"a": 0x5}',
    "depth 33": '{"a": ' * (DEPTH_MAX + 1) + "1" + "}" * (DEPTH_MAX + 1),
    "depth 1,000": '{"a": ' + "[" * 1000 + "]" * 1000 + "}",
    "depth 100,000": '{"a": ' + "[" * 100_000 + "]" * 100_000 + "}",
    "depth without end": '{"a": ' + "[" * 5000,
    "closing only": "]" * 5000,
    "array of 10^6": '{"a": [' + "0," * 999_999 + "0]}",
    "too many values": '{"a": [' + "0," * NODES_MAX + "0]}",
    "lone high surrogate": r'{"a": "\ud800"}',
    "lone low surrogate": r'{"a": "\udc00"}',
    "surrogates the wrong way round": r'{"a": "\udc00\ud800"}',
    "surrogate before a letter": r'{"a": "\ud800\u0041"}',
    "lone surrogate as a key": r'{"\ud800": 1}',
    "surrogate after an escaped backslash": r'{"a": "\\\ud800"}',
    "surrogates around an escaped backslash": r'{"a": "\ud800\\\udc00"}',
    "surrogates around two escaped backslashes": r'{"a": "\ud800\\\\\udc00"}',
    "surrogates around an escaped quote": r'{"a": "\ud800\"\udc00"}',
    "surrogates around a pair": r'{"a": "\ud800\ud83d\ude00\udc00"}',
    "such a key": r'{"\ud800\\\udc00": 1}',
    "U+0000 as a value": r'{"a": "\u0000"}',
    "U+0000 as a key": r'{"\u0000": 1}',
    "U+0000 nested": r'{"a": [{"b": "x\u0000"}]}',
    "U+0000 after an escaped backslash": r'{"a": "\\\u0000"}',
    "raw NUL": b'{"a": "\0"}',
    "raw control character": '{"a": "\x1f"}',
    "raw line break in a string": '{"a": "\n"}',
    "invalid UTF-8": b'{"a": "\xff"}',
    "cut UTF-8": b'{"a": "\xc3',
    "overlong UTF-8": b'{"a": "\xc0\xaf"}',
    "raw surrogate": b'{"a": "\xed\xa0\x80"}',
    "over U+10FFFF": b'{"a": "\xf4\x90\x80\x80"}',
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "UTF-16 without mark": '{"a": 1}'.encode("utf-16-le"),
    "UTF-32": '{"a": 1}'.encode("utf-32"),
    "latin-1": b'{"a": "\xe9"}',
    "byte order mark": b'\xef\xbb\xbf{"a": 1}',
    "trailing comma": '{"a": 1,}',
    "trailing comma in an array": '{"a": [1,]}',
    "trailing garbage": '{"a": 1} x',
    "two documents": '{"a": 1}{"b": 2}',
    "comment": '{"a": 1 /* x */}',
    "single quotes": "{'a': 1}",
    "bare key": "{a: 1}",
    "unfinished": '{"a": 1',
    "unfinished string": '{"a": "x',
    "bad escape": r'{"a": "\x41"}',
    "short escape": r'{"a": "\u41"}',
    "mismatched brackets": '{"a": [1}]',
    "form": "a=1&b=2",
    "gzip": b"\x1f\x8b\x08\x00\x00\x00\x00\x00",
}
TAKEN: dict[str, Any] = {
    "{}": {},
    ' \r\n\t{"a": 1} \n': {"a": 1},
    r'{"a": "\\u0000 \\ud800"}': {"a": r"\u0000 \ud800"},
    r'{"a": "\"[[[{{{,,,\\"}': {"a": '"[[[{{{,,,\\'},
    r'{"a": "\ud83d\ude00"}': {"a": "😀"},
    '{"a": "😀"}': {"a": "😀"},
    '{"a": [1.5, -0, 1e-400, true, false, null]}': {"a": [1.5, 0, 0.0, True, False, None]},
    f'{{"a": [{INTEGER_MAX}, {-INTEGER_MAX}]}}': {"a": [INTEGER_MAX, -INTEGER_MAX]},
    '{"__proto__": 1, "constructor": 2}': {"__proto__": 1, "constructor": 2},
    '{"' + "k" * 10_000 + '": 1}': {"k" * 10_000: 1},
    '{"а": 1, "a": 2}': {"а": 1, "a": 2},
}

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-INTEGER_MAX, INTEGER_MAX)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)


def values() -> SearchStrategy[Any]:
    return st.recursive(
        SCALARS,
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
        max_leaves=12,
    )


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_strict_json_is_refused_with_a_reason(name: str) -> None:
    given_text = REFUSED[name]
    data = given_text if isinstance(given_text, bytes) else given_text.encode()

    refused = decode_object(data)

    assert isinstance(refused, NotJson)
    assert 0 < len(refused.detail) < 200


@pytest.mark.parametrize("text", TAKEN)
def test_what_is_strict_json_is_decoded(text: str) -> None:
    assert decode_object(text.encode()) == TAKEN[text]


def test_depth_is_counted_from_the_root() -> None:
    deepest = '{"a": ' * DEPTH_MAX + "1" + "}" * DEPTH_MAX

    assert isinstance(decode_object(deepest.encode()), dict)


def test_values_are_counted_up_to_the_limit() -> None:
    most = '{"a": [' + "0," * (NODES_MAX - 2) + "0]}"  # a comma or an opening bracket each

    assert isinstance(decode_object(most.encode()), dict)
    assert isinstance(decode_object(most.replace("]", ",0]").encode()), NotJson)


def test_secret_in_a_duplicate_member_name_is_cut() -> None:
    name = "x" * 5000

    refused = decode_object(f'{{"{name}": 1, "{name}": 1}}'.encode())

    assert isinstance(refused, NotJson)
    assert len(refused.detail) < 200


@given(
    value=st.dictionaries(TEXT, values()),
    ascii_only=st.booleans(),
    indent=st.sampled_from([None, 1]),
)
def test_decodes_as_the_standard_library_does(
    *,
    value: dict[str, Any],
    ascii_only: bool,
    indent: int | None,
) -> None:
    text = json.dumps(value, ensure_ascii=ascii_only, indent=indent)

    assert decode_object(text.encode()) == json.loads(text)


PARTS = (r"\\", r"\"", r"\ud800", r"\udc00", r"\u0000", "ud800", "a", "\\")


@pytest.mark.parametrize("first", PARTS)
def test_escapes_side_by_side_are_judged_as_they_are_read(first: str) -> None:
    for others in itertools.product(PARTS, repeat=3):
        text = f'{{"a": "{first}{"".join(others)}"}}'
        try:
            read = json.loads(text)["a"]
            read.encode()
            good = "\0" not in read
        except ValueError:
            good = False

        assert isinstance(decode_object(text.encode()), dict) == good, text


@given(st.binary(max_size=64) | TEXT.map(str.encode))
def test_any_bytes_are_answered_never_raised(data: bytes) -> None:
    decoded = decode_object(data)

    if isinstance(decoded, dict):
        assert decoded == json.loads(data)


@given(values())
def test_measure_counts_the_nodes_and_an_empty_container_twice(value: Any) -> None:
    whole = {"a": value}

    measured = measure(json.dumps(whole).encode(), nodes_max=1 << 30)

    assert measured == count_nodes(whole) - 1 + _empty_containers(whole)


def _empty_containers(value: Any) -> int:
    if isinstance(value, dict):
        return sum(map(_empty_containers, value.values())) if value else 1
    if isinstance(value, list):
        return sum(map(_empty_containers, value)) if value else 1
    return 0


def test_floats_are_finite() -> None:
    decoded = decode_object(b'{"a": 1.7976931348623157e308}')

    assert isinstance(decoded, dict)
    assert math.isfinite(decoded["a"])
