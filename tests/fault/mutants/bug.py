"""A seeded bug: what of the code it changes, and which tests must notice."""

from __future__ import annotations

from attrs import frozen


@frozen
class Change:
    """One text of one file, which stands there exactly once, and what stands there instead."""

    file: str
    old: str
    new: str


@frozen
class Bug:
    """A bug by what it does wrong; `tests`: names as pytest takes them, few, so that it is fast.

    Most are one change. Where two walls keep a bug out, it is both that are gone.
    """

    name: str
    changes: tuple[Change, ...]
    tests: tuple[str, ...]
