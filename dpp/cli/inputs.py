"""Inputs of a run from the command line: K=V words, and a file of JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, Never

import click

Pairs = dict[str, Any]


def _no_json(word: str) -> Never:
    raise ValueError(word)


def value_of(text: str) -> object:
    """Return the text as JSON if it parses as JSON, else as the string it is.

    NaN and Infinity are words of Python's parser, not JSON: they stay strings.
    """
    try:
        return json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError):
        return text


def pairs(words: Iterable[str]) -> Pairs:
    """Return K=V words as members; a word without `=` and a name given twice are refused."""
    return {name: value_of(text) for name, text in texts(words).items()}


def texts(words: Iterable[str]) -> dict[str, str]:
    """Return K=V words whose V stays a string, whatever it looks like; refused are the same."""
    members: dict[str, str] = {}
    for word in words:
        name, equals, text = word.partition("=")
        if not equals or not name:
            message = f"{word!r} is not K=V"
            raise click.UsageError(message)
        if name in members:
            message = f"{name!r} is given twice"
            raise click.UsageError(message)
        members[name] = text
    return members


def read_object(text: bytes, name: str) -> Pairs:
    """Return the JSON object in a file."""
    try:
        read = json.loads(text, parse_constant=_no_json)
    except (ValueError, RecursionError) as error:
        message = f"{name} is not JSON: {error}"
        raise click.UsageError(message) from None
    if not isinstance(read, dict):
        message = f"{name} does not hold a JSON object"
        raise click.UsageError(message)
    return read
