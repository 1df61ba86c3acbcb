"""The strict converter: cattrs without its leniency, with the bounds of `Annotated[…, Meta(…)]`.

Nothing is converted: `true` is no number, `"1"` no integer, a string no array. Numbers are finite.
A whole number is taken where a number is asked for. Every hook raises `Wrong` with what is
allowed, in words for whoever sent the value, and never with the value itself.

Arrays and objects are read by our own loops: cattrs makes an exception of each wrong value, some
20 µs each, and ten thousand of them would hold up a node. Ours stop after `ERRORS_MAX`.
"""

import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sized
from typing import Annotated, Any, Literal, TypeAlias, get_args, get_origin

import attrs
from attrs import frozen
from cattrs import Converter
from cattrs.errors import BaseValidationError, IterableValidationError, IterableValidationNote
from cattrs.gen import make_dict_structure_fn
from msgspec import Meta

from dpp.packs.members import ERRORS_MAX

Form: TypeAlias = Any  # a type, or what stands for one: Literal[…], Annotated[…]
Hook: TypeAlias = Callable[[Any, Any], Any]
Factory: TypeAlias = Callable[[Form, Converter], Hook]


@frozen
class Check:
    """In `Annotated`: one more rule, a function that raises ValueError saying what is allowed."""

    rule: Callable[[Any], object]


class Wrong(ValueError):
    """A value that is not allowed; the text says what is."""


def _exactly(kind: type, words: str) -> Hook:
    def hook(value: object, _: object) -> object:
        if type(value) is not kind:
            raise Wrong(f"must be {words}")
        return value

    return hook


def _number(value: object, _: object) -> float:
    if type(value) is not float and type(value) is not int:
        raise Wrong("must be a number")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise Wrong("must be a finite number")
    return number


def _after(kind: type, words: str, factory: Factory) -> Factory:
    """Return `factory`, whose hooks see only values of exactly this kind."""

    def make(of: Form, converter: Converter) -> Hook:
        check, inner = _exactly(kind, words), factory(of, converter)

        def hook(value: object, _: object) -> object:
            return inner(check(value, of), of)

        return hook

    return make


def _annotated(of: Form, converter: Converter) -> Hook:
    base, *marks = get_args(of)
    inner = converter.get_structure_hook(base)
    rules = [rule for mark in marks for rule in _rules(mark)]

    def hook(value: object, _: object) -> object:
        found = inner(value, base)
        for rule in rules:
            rule(found)
        return found

    return hook


def _rules(mark: object) -> Iterator[Callable[[Any], object]]:
    if isinstance(mark, Check):
        yield mark.rule
    if not isinstance(mark, Meta):
        return
    if mark.gt is not None or mark.ge is not None or mark.lt is not None or mark.le is not None:
        yield _range(mark)
    if mark.min_length is not None or mark.max_length is not None:
        yield _length(mark.min_length or 0, mark.max_length)
    if mark.pattern is not None:
        yield _pattern(mark.pattern)


def _range(mark: Meta) -> Callable[[float], None]:
    def rule(value: float) -> None:
        if mark.gt is not None and not value > mark.gt:
            message = f"must be greater than {mark.gt:g}"
        elif mark.ge is not None and not value >= mark.ge:
            message = f"must be at least {mark.ge:g}"
        elif mark.lt is not None and not value < mark.lt:
            message = f"must be less than {mark.lt:g}"
        elif mark.le is not None and not value <= mark.le:
            message = f"must be at most {mark.le:g}"
        else:
            return
        raise Wrong(message)

    return rule


def _length(least: int, most: int | None) -> Callable[[Sized], None]:
    def rule(value: Sized) -> None:
        unit = "characters" if isinstance(value, str) else "items"
        if len(value) < least:
            message = f"must have at least {least} {unit}" if least > 1 else "must not be empty"
        elif most is not None and len(value) > most:
            message = f"must have at most {most} {unit}"
        else:
            return
        raise Wrong(message)

    return rule


def _pattern(pattern: str) -> Callable[[str], None]:
    # JSON Schema's `$` is the very end; Python's lets a newline follow.
    compiled = re.compile(re.sub(r"\$$", r"\\Z", pattern))

    def rule(value: str) -> None:
        if compiled.search(value) is None:
            raise Wrong(f"must match {pattern}")

    return rule


def _literal(of: Form, _: Converter) -> Hook:
    allowed = get_args(of)
    words = "must be one of " + ", ".join(f'"{choice}"' for choice in allowed)

    def hook(value: object, _: object) -> object:
        if type(value) is str and value in allowed:
            return value
        raise Wrong(words)

    return hook


def _list(of: Form, converter: Converter) -> Hook:
    """Arrays of one kind of value, as a list."""
    (kind,) = get_args(of) or (object,)
    return _items(of, kind, converter)


def _tuple(of: Form, converter: Converter) -> Hook:
    """Arrays of one kind of value, as a tuple: a schema of ours has no other tuples."""
    kind, *rest = get_args(of)
    assert rest == [...], of
    items = _items(of, kind, converter)
    return lambda value, _: tuple(items(value, of))


def _items(of: Form, kind: Form, converter: Converter) -> Hook:
    inner = converter.get_structure_hook(kind)

    def hook(value: list[object], _: object) -> list[Any]:
        errors: list[Exception] = []
        found = [item for _, item in _each(enumerate(value), inner, kind, errors)]
        _raise(errors, of)
        return found

    return hook


def _dict(of: Form, converter: Converter) -> Hook:
    """Objects of one kind of value; the names are whatever the client chose."""
    name, kind = get_args(of) or (str, object)
    assert name is str, of
    inner = converter.get_structure_hook(kind)

    def hook(value: dict[str, object], _: object) -> dict[str, Any]:
        errors: list[Exception] = []
        found = dict(_each(value.items(), inner, kind, errors))
        _raise(errors, of)
        return found

    return hook


def _each(
    pairs: Iterable[tuple[str | int, object]], inner: Hook, kind: Form, errors: list[Exception]
) -> Iterator[tuple[Any, Any]]:
    """Yield the pairs with structured values; `errors` takes what is wrong, until it is enough."""
    count = 0
    for place, value in pairs:
        try:
            yield place, inner(value, kind)
        except (BaseValidationError, ValueError) as error:
            error.__notes__ = [IterableValidationNote("", place, kind)]
            errors.append(error.with_traceback(None))  # it would hold this frame, and that the list
            count += _leaves(error)
            if count > ERRORS_MAX:
                return


def _raise(errors: list[Exception], of: Form) -> None:
    if errors:
        raise IterableValidationError("", errors, of)


def _leaves(error: Exception) -> int:
    if isinstance(error, BaseValidationError):
        return sum(_leaves(inner) for inner in error.exceptions)
    return 1


def _origin_is(*kinds: object) -> Callable[[Form], bool]:
    return lambda of: of in kinds or get_origin(of) in kinds


def _attrs(of: Form, converter: Converter) -> Hook:
    return make_dict_structure_fn(of, converter, _cattrs_forbid_extra_keys=True)


def make_converter() -> Converter:
    """Return a converter that reads attrs classes made of JSON's types, strictly."""
    converter = Converter(forbid_extra_keys=True, detailed_validation=True)
    factories = converter.register_structure_hook_factory
    factories(attrs.has, _after(dict, "an object", _attrs))
    factories(_origin_is(dict, Mapping), _after(dict, "an object", _dict))
    factories(_origin_is(list), _after(list, "an array", _list))
    factories(_origin_is(tuple), _after(list, "an array", _tuple))
    factories(_origin_is(Literal), _literal)
    factories(_origin_is(Annotated), _annotated)
    converter.register_structure_hook(str, _exactly(str, "a string"))
    converter.register_structure_hook(bool, _exactly(bool, "true or false"))
    converter.register_structure_hook(int, _exactly(int, "an integer"))
    converter.register_structure_hook(float, _number)
    converter.register_structure_hook_func(lambda of: of is object, lambda value, _: value)
    return converter
