"""Cutting bodies: the pieces are what a parser finds, in few steps, wherever windows end."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.http import cutting
from dpp.http.cutting import WINDOW, ArrayCut, LineCut
from dpp.http.decoder import NotJson
from dpp.http.items import BRACKETS_MAX, HOW_MANY, ITEMS_MAX, NO_OBJECT, REST_MAX, read_array
from dpp.http.problems import Problem

text = st.text(st.sampled_from('ab"\\/[]{},:é\n '), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=10,
)


def array_cut(body: bytes) -> ArrayCut:
    return ArrayCut(body, pieces_max=ITEMS_MAX, rest_max=REST_MAX, brackets_max=BRACKETS_MAX)


def walked(cut: ArrayCut | LineCut) -> int:
    """Walk to the end; returns the number of stops."""
    return sum(1 for _ in cut.run())


def items(body: bytes) -> Any:
    cut = array_cut(body)
    walked(cut)
    found = read_array(cut)
    if isinstance(found, Problem):
        return found
    return [item if isinstance(item, Problem) else body[slice(*item)] for item in found]


@given(
    st.lists(values, min_size=1, max_size=5),
    st.sampled_from([1, 2, 3, 7, WINDOW]),
    st.sampled_from([None, 1]),
    st.sampled_from(["utf-8", "ascii"]),
)
def test_pieces_are_what_a_parser_finds(
    runs: list[Any], window: int, indent: int | None, charset: str
) -> None:
    body = json.dumps({"runs": runs}, indent=indent, ensure_ascii=charset == "ascii").encode()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cutting, "WINDOW", window)
        found = items(body)

    read = [item if item is NO_OBJECT else json.loads(item) for item in found]
    assert read == [run if isinstance(run, dict) else NO_OBJECT for run in runs]


@given(st.binary(max_size=60) | st.text(st.sampled_from('{}[]",\\:r1 '), max_size=40))
def test_what_is_no_json_is_never_taken(sent: bytes | str) -> None:
    body = sent.encode() if isinstance(sent, str) else sent
    for whole in (body, b'{"runs":[' + body + b"]}", b'{"runs":[{"a":' + body + b"}]}"):
        found = items(whole)
        if isinstance(found, Problem):
            continue
        try:
            for item in found:
                if item is not NO_OBJECT:
                    json.loads(item)
        except ValueError:
            continue  # that piece is refused, and the body with it
        json.loads(whole)


@pytest.mark.parametrize(
    ("body", "name"),
    [
        (b"", "malformed-json"),
        (b'{"runs": [{"a": 1}', "malformed-json"),
        (b'{"runs": [{"a": 1', "malformed-json"),
        (b'{"runs": [{"a": "' + b"x" * REST_MAX, "malformed-json"),
        (b'{"runs": [[}]}', "malformed-json"),
        (b'{"runs": [{}, {]]}', "malformed-json"),
        (b'{"runs": [{},]}', "malformed-json"),
        (b'{"runs": [{} {}]}', "malformed-json"),
        (b'{"runs": [{}], "runs": [{}]}', "malformed-json"),
        (b'{"runs": [{}]}]', "malformed-json"),
        (b'{"runs": [{}], "more": [{}]}', "invalid-request"),
        (b'{"runs": {"a": {}}}', "invalid-request"),
        (b'{"runs": [' + b"{}," * 1000 + b"{}]}", "invalid-request"),
        (b'{"runs": [' + b"1," * 1000 + b"1]}", "invalid-request"),
        (b'{"runs": [' + b" " * REST_MAX + b"{}]}", "payload-too-large"),
        (b'{"runs": ["' + b"x" * REST_MAX + b'"]}', "payload-too-large"),
        (b'{"runs": [{"a": [' + b"[]," * BRACKETS_MAX + b"1]}]}", "malformed-json"),
    ],
)
def test_what_is_no_batch_is_one_problem(body: bytes, name: str) -> None:
    found = items(body)

    assert isinstance(found, Problem)
    assert found.name == name


def test_a_thousand_items_is_the_most() -> None:
    assert len(items(b'{"runs": [' + b"{}," * 999 + b"{}]}")) == 1000
    found = items(b'{"runs": [' + b"{}," * 1_000_000 + b"{}]}")
    assert found.members["errors"] == [{"pointer": "/runs", "message": HOW_MANY}]


@pytest.mark.parametrize(
    "flood",
    [b'"",', b"1,", b"[],", b"{},", b'\\"', b"\\\\", b" ", b"[", b'"x', b'"a"', b"\\ud83d\\ude00"],
)
@pytest.mark.parametrize("around", [b"%b", b'{"runs":[%b', b'{"runs":[{"a":[%b', b'{"runs":["%b'])
def test_no_step_reads_more_than_a_window(flood: bytes, around: bytes) -> None:
    body = around % (flood * (200_000 // len(flood)))
    cut = array_cut(body)

    before, most = 0, 0
    for _ in cut.run():
        most = max(most, cut.at - before)
        before = cut.at

    assert most <= WINDOW + 1


@pytest.mark.parametrize("flood", [b'"",', b"1,", b"{},", b" ", b'"x",'])
def test_a_walk_ends_soon_after_a_bound(flood: bytes) -> None:
    body = b'{"runs":[' + flood * 3_000_000

    stops = walked(array_cut(body))

    assert stops <= REST_MAX // WINDOW + 2


def test_lines_are_cut_without_blanks_and_without_going_on() -> None:
    body = b"\n\n  \r\n{a}\r\n\t{b} \n" + b"\n" * 50_000 + b"{c}"
    cut = LineCut(body, pieces_max=ITEMS_MAX)
    flood = LineCut(b"ab\n" * 1_000_000, pieces_max=ITEMS_MAX)
    blank = LineCut(b"\n" * 1_000_000, pieces_max=ITEMS_MAX)

    stops = walked(cut), walked(flood), walked(blank)

    assert [body[slice(*piece)] for piece in cut.pieces] == [b"{a}\r", b"{b} ", b"{c}"]
    assert (len(flood.pieces), len(blank.pieces)) == (ITEMS_MAX + 1, 0)
    assert stops == (3 + 50_000 // WINDOW, ITEMS_MAX + 1, -(-1_000_000 // WINDOW))


def test_a_body_with_a_bad_rest_says_why() -> None:
    found = items(b'{"runs": [{}], "a": NaN}')

    assert isinstance(found, Problem)
    assert found.detail == NotJson("NaN is not JSON").detail
