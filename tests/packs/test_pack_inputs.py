"""Strict reading: what is refused, where, and in which words."""

import math
from collections.abc import Iterator
from itertools import chain
from typing import Annotated, Any, Literal

import jsonschema
import msgspec
import pytest
from attrs import field, frozen
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Meta

from dpp import money
from dpp.packs.inputs import ERRORS_MAX, Json, invalid, pointer, structure
from dpp.packs.members import MORE, NAME_MAX
from dpp.packs.strict import Check, Wrong
from dpp.pricing import InputError, InputsInvalid


@frozen
class Part:
    name: Annotated[str, Meta(min_length=2, max_length=4, pattern="^[a-z]+$")]
    size: Annotated[int, Meta(gt=0, lt=10)] = 1


@frozen
class Everything:
    part: Part
    parts: Annotated[list[Part], Meta(max_length=2)] = field(factory=list)
    pair: Annotated[tuple[int, ...], Meta(min_length=1)] = (1,)
    ratios: dict[str, Annotated[float, Meta(ge=0, le=1)]] = field(factory=dict)
    kind: Literal["a", "b"] = "a"
    flag: bool = False
    note: str | None = None
    cost: Annotated[str, Check(money.parse)] = "0"
    extra: Json = None


def read(**members: object) -> Everything | InputsInvalid:
    return structure({"part": {"name": "ab"}, **members}, Everything)


def errors(**members: object) -> list[tuple[str, str]]:
    answer = read(**members)
    assert isinstance(answer, InputsInvalid)
    return [(error.pointer, error.message) for error in answer.errors]


def test_good_inputs_are_read_whole() -> None:
    answer = read(
        parts=[{"name": "cd", "size": 9}],
        pair=[1, 2],
        ratios={"x": 1, "y": 0.5},
        kind="b",
        flag=True,
        note="n",
        cost="0.05",
        extra=[{"any": None}],
    )

    assert answer == Everything(
        part=Part("ab"),
        parts=[Part("cd", 9)],
        pair=(1, 2),
        ratios={"x": 1.0, "y": 0.5},
        kind="b",
        flag=True,
        note="n",
        cost="0.05",
        extra=[{"any": None}],
    )
    assert isinstance(answer, Everything)
    assert type(answer.ratios["x"]) is float


@pytest.mark.parametrize(
    ("members", "at", "message"),
    [
        ({"part": None}, "/part", "must be an object"),
        ({"part": []}, "/part", "must be an object"),
        ({"part": {}}, "/part/name", "is required"),
        ({"part": {"name": "a"}}, "/part/name", "must have at least 2 characters"),
        ({"part": {"name": "abcde"}}, "/part/name", "must have at most 4 characters"),
        ({"part": {"name": "AB"}}, "/part/name", "must match ^[a-z]+$"),
        ({"part": {"name": "ab\n"}}, "/part/name", "must match ^[a-z]+$"),
        ({"part": {"name": "ab", "size": 0}}, "/part/size", "must be greater than 0"),
        ({"part": {"name": "ab", "size": 10}}, "/part/size", "must be less than 10"),
        ({"part": {"name": "ab", "size": 1.0}}, "/part/size", "must be an integer"),
        ({"part": {"name": "ab", "size": True}}, "/part/size", "must be an integer"),
        ({"part": {"name": "ab", "size": "1"}}, "/part/size", "must be an integer"),
        ({"part": {"name": "ab", "~/": 1}}, "/part/~0~1", "is not a member of these inputs"),
        ({"parts": {"name": "ab"}}, "/parts", "must be an array"),
        ({"parts": "ab"}, "/parts", "must be an array"),
        ({"parts": [{"name": "ab"}] * 3}, "/parts", "must have at most 2 items"),
        ({"parts": [{"name": "ab"}, 3]}, "/parts/1", "must be an object"),
        ({"pair": []}, "/pair", "must not be empty"),
        ({"pair": [1, None]}, "/pair/1", "must be an integer"),
        ({"ratios": []}, "/ratios", "must be an object"),
        ({"ratios": {"a/b": 1.5}}, "/ratios/a~1b", "must be at most 1"),
        ({"ratios": {"": -0.5}}, "/ratios/", "must be at least 0"),
        ({"ratios": {"x": True}}, "/ratios/x", "must be a number"),
        ({"ratios": {"x": math.inf}}, "/ratios/x", "must be a finite number"),
        ({"ratios": {"x": math.nan}}, "/ratios/x", "must be a finite number"),
        ({"ratios": {"x": 10**400}}, "/ratios/x", "must be a finite number"),
        ({"kind": "c"}, "/kind", 'must be one of "a", "b"'),
        ({"kind": None}, "/kind", 'must be one of "a", "b"'),
        ({"flag": 1}, "/flag", "must be true or false"),
        ({"flag": "true"}, "/flag", "must be true or false"),
        ({"note": 1}, "/note", "must be a string"),
        ({"cost": "1e3"}, "/cost", f"must be {money.ALLOWED}"),
        ({"cost": 1}, "/cost", "must be a string"),
        ({"nope": 1}, "/nope", "is not a member of these inputs"),
    ],
)
def test_each_wrong_value_is_named(members: dict[str, Any], at: str, message: str) -> None:
    assert errors(**members) == [("/inputs" + at, message)]


@pytest.mark.parametrize("inputs", [None, [], "x", 1, True])
def test_inputs_are_an_object(inputs: object) -> None:
    answer = structure(inputs, Everything)

    assert answer == InputsInvalid((InputError("/inputs", "must be an object"),))


def test_all_errors_come_at_once() -> None:
    found = errors(part={"name": 1, "size": 0}, kind="c", b=1, a=2, ratios={"x": "1", "y": 2})

    assert [at for at, _ in found] == [
        "/inputs/part/name",
        "/inputs/part/size",
        "/inputs/ratios/x",
        "/inputs/ratios/y",
        "/inputs/kind",
        "/inputs/a",
        "/inputs/b",
    ]


def test_errors_are_bounded_and_looked_for_no_further() -> None:
    most = [InputError(pointer("x", i), "is wrong") for i in range(ERRORS_MAX)]

    assert invalid(most).errors == tuple(most)
    assert invalid(chain(most, most[:1], endless())).errors == (
        *most[: ERRORS_MAX - 1],
        InputError("/inputs", MORE),
    )


def endless() -> Iterator[InputError]:
    raise AssertionError("nobody wants to know")
    yield


looked_at = 0


def _never(_: object) -> None:
    global looked_at  # noqa: PLW0603
    looked_at += 1
    raise Wrong("is never right")


Never = Annotated[int, Check(_never)]


@frozen
class Cell:
    a: Never
    b: Never


@frozen
class Matrix:
    array: list[Never] = field(factory=list)
    pair: tuple[Never, ...] = ()
    names: dict[str, Never] = field(factory=dict)
    rows: dict[str, dict[str, Never]] = field(factory=dict)
    cells: tuple[Cell, ...] = ()
    deep: list[list[list[Never]]] = field(factory=list)


@pytest.mark.parametrize(
    ("wrong", "levels"),
    [
        ({"array": [1] * 10_000}, 1),
        ({"pair": [1] * 10_000}, 1),
        ({"names": {f"{i}": 1 for i in range(10_000)}}, 1),
        ({"rows": {f"{i}": {f"{j}": 1 for j in range(100)} for i in range(100)}}, 2),
        ({"rows": {f"{i}": {"x": 1} for i in range(10_000)}}, 1),
        ({"cells": [{"a": 1, "b": 1}] * 5_000}, 2),
        ({"deep": [[[1] * 90] * 90] * 90}, 3),
    ],
)
def test_reading_ends_after_so_many_errors(wrong: dict[str, Any], levels: int) -> None:
    global looked_at  # noqa: PLW0603
    looked_at = 0

    answer = structure(wrong, Matrix)

    assert isinstance(answer, InputsInvalid)
    assert looked_at <= levels * (ERRORS_MAX + 1)
    assert len(answer.errors) == ERRORS_MAX
    assert answer.errors[-1] == InputError("/inputs", MORE)


@pytest.mark.parametrize(
    "inputs",
    [
        {"x" * 100_000: 1},
        {"names": {"x" * 100_000: 1}},
        {"rows": {"🎲/~" * 30_000: {f"{i}" * 5_000: 1 for i in range(200)}}},
        {f"{i}" + "🎲" * 1_000: 1 for i in range(1_000)},
        {"cells": [{f"{i}" + "~" * 10_000: 1 for i in range(50)}] * 50},
    ],
)
def test_a_name_is_cut_wherever_it_stands(inputs: dict[str, Any]) -> None:
    answer = structure(inputs, Matrix)

    assert isinstance(answer, InputsInvalid)
    assert len(answer.errors) <= ERRORS_MAX
    assert all(len(error.pointer) < 2 * 2 * (NAME_MAX + 8) for error in answer.errors)


def test_a_cut_name_shows_that_it_is_cut() -> None:
    whole, cut = "x" * NAME_MAX, "y" * (NAME_MAX + 1)

    assert [at for at, _ in errors(ratios={whole: 2, cut: 2})] == [
        f"/inputs/ratios/{whole}",
        f"/inputs/ratios/{cut[:NAME_MAX]}…",
    ]


def test_values_that_were_sent_are_not_repeated() -> None:
    secret = "dpp_live_secret"

    answer = read(kind=secret, flag=secret, ratios={"x": secret}, cost=secret, part=secret)

    assert secret not in repr(answer)


text = st.text(st.sampled_from("ab~/\0é"), max_size=5)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(text, inner, max_size=3),
    max_leaves=8,
)
members = st.sampled_from([*Everything.__annotations__, "nope"])


@given(st.dictionaries(members, json_values, max_size=9))
def test_whatever_is_sent_is_read_or_refused_and_never_raises(inputs: dict[str, Any]) -> None:
    answer = structure(inputs, Everything)

    assert isinstance(answer, Everything | InputsInvalid)


@given(st.dictionaries(members, json_values, max_size=9))
def test_what_is_read_is_valid_by_the_schema_too(inputs: dict[str, Any]) -> None:
    answer = structure({"part": {"name": "ab"}, **inputs}, Everything)

    if isinstance(answer, Everything):
        jsonschema.validate({"part": {"name": "ab"}, **inputs}, msgspec.json.schema(Everything))
