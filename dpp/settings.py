"""Settings as they are given: each a value, and the source that gave it.

A layer maps dotted keys ("http.listen", "plans.basic") to what one source says; of several layers
the later one wins. Whatever is wrong becomes a `ConfigError` beside the layer, never an exception,
so that an operator sees all of it at once. A secret may be given as `KEY_file`: the file is read
here and stands in the place of the value.
"""

from __future__ import annotations

import difflib
import json
import os
import re
import stat
import tomllib
from typing import TYPE_CHECKING

from attrs import field, frozen

from dpp.rules import NotAllowed, Text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from pathlib import Path

    from dpp.rules import Rule

DEFAULT = "default"  # the origin of what the shipped file says
PLAN_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
FILE_BYTES_MAX = 1 << 20  # a configuration of a thousand plans is a tenth of it
SECRET_BYTES_MAX = 1 << 16  # far more than any token, URL or certificate
SHOWN_MAX = 200  # of a wrong value, enough to recognise it


@frozen
class Given:
    """One value, and who gave it: a file, a name of the environment, a flag."""

    value: object
    origin: str


@frozen
class ConfigError:
    """One thing wrong: where it stands, what stands there (masked if secret), what is allowed."""

    origin: str
    key: str
    shown: str
    allowed: str

    def __str__(self) -> str:
        subject = " = ".join(part for part in (self.key, self.shown) if part)
        return (
            f"{self.origin}: {subject}: {self.allowed}"
            if subject
            else f"{self.origin}: {self.allowed}"
        )


@frozen
class Schema:
    """Every key that there is. `file_only` are secrets that are given by `KEY_file` alone."""

    rules: Mapping[str, Rule]
    plan_rules: Mapping[str, Rule]
    file_only: frozenset[str] = frozenset()

    @property
    def secret_files(self) -> frozenset[str]:
        """Return the keys `…_file`, one for every secret."""
        return frozenset(f"{key}_file" for key, rule in self.rules.items() if rule.secret)

    @property
    def keys(self) -> frozenset[str]:
        """Return all that a file or the environment may name, plans apart."""
        return (frozenset(self.rules) - self.file_only) | self.secret_files

    @property
    def sections(self) -> frozenset[str]:
        """Return the tables of the file."""
        return frozenset(key.partition(".")[0] for key in self.rules) | {"plans"}


@frozen
class Layer:
    """What one source gives, and what is wrong with it."""

    given: dict[str, Given] = field(factory=dict)
    errors: list[ConfigError] = field(factory=list)
    warnings: list[str] = field(factory=list)

    def refuse(self, origin: str, key: str, value: object, allowed: str) -> None:
        """Add an error. The value is one that may be shown, or None."""
        self.errors.append(ConfigError(origin, key, shown(value), allowed))


def read_file(path: Path, schema: Schema, origin: str | None = None) -> Layer:
    """Return what a TOML file says."""
    layer, origin = Layer(), origin or str(path)
    try:
        with path.open("rb") as file:
            text = file.read(FILE_BYTES_MAX + 1)
        if len(text) > FILE_BYTES_MAX:
            layer.refuse(origin, "", None, f"must be a file of at most {FILE_BYTES_MAX} bytes")
            return layer
        tables = tomllib.loads(text.decode())
    except OSError as error:
        layer.refuse(origin, "", None, f"must be a file that can be read ({error.strerror})")
    except (ValueError, RecursionError) as error:  # bad TOML, bad UTF-8, an integer of 5,000 digits
        layer.refuse(origin, "", None, f"must be TOML in UTF-8 ({_where(error)})")
    else:
        for section, table in tables.items():
            _add_table(layer, schema, origin, section, table)
        resolve_secret_files(layer, schema)
    return layer


def _where(error: Exception) -> str:
    """Say where a file stops being TOML, without the parser's message: it may repeat a secret."""
    place = re.search(r"\(at (line \d+, column \d+|end of document)\)", str(error))
    return place[1] if place else type(error).__name__


def _add_table(layer: Layer, schema: Schema, origin: str, section: str, table: object) -> None:
    if section not in schema.sections:
        layer.refuse(origin, section, None, unknown(section, schema.sections))
    elif not isinstance(table, dict):
        layer.refuse(origin, section, None, f"must be a table: [{section}]")
    elif section == "plans":
        for name, plan in table.items():
            _add_plan(layer, schema, origin, name, plan)
    else:
        for key, value in table.items():
            add(layer, schema, f"{section}.{key}", Given(value, origin))


def _add_plan(layer: Layer, schema: Schema, origin: str, name: str, plan: object) -> None:
    key = f"plans.{name}"
    if not PLAN_NAME.fullmatch(name):
        layer.refuse(origin, key, None, f"the name must match {PLAN_NAME.pattern}")
    elif not isinstance(plan, dict):
        layer.refuse(origin, key, None, f"must be a table: [{key}]")
    else:
        for word in plan.keys() - schema.plan_rules.keys():
            layer.refuse(origin, f"{key}.{word}", None, unknown(word, schema.plan_rules))
        known = {word: plan[word] for word in plan if word in schema.plan_rules}
        layer.given[key] = Given(known, origin)


def add(layer: Layer, schema: Schema, key: str, given: Given) -> None:
    """Take one setting into the layer, if there is such a key."""
    if key in schema.keys:
        layer.given[key] = given
        return
    section = key.partition(".")[0]
    beside = [known for known in schema.keys if known.startswith(f"{section}.")]
    # What stands under a mistyped key may be a secret: it is not repeated.
    layer.refuse(given.origin, key, None, unknown(key, beside))


def unknown(name: str, known: Iterable[str]) -> str:
    """Return the words that refuse a name, with the names that it may have meant."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    return "unknown name; " + (
        f"did you mean {near[0]}?" if near else f"known are {', '.join(names)}"
    )


def shown(value: object) -> str:
    """Return a value as an error repeats it: one bounded line; None is not shown at all."""
    if value is None:
        return ""
    try:
        text = json.dumps(value, ensure_ascii=True)
    except (TypeError, ValueError):
        text = f"a value of type {type(value).__name__}"  # a date, an integer too long to print
    return text if len(text) <= SHOWN_MAX else f"{text[:SHOWN_MAX]}… ({len(text)} characters)"


def resolve_secret_files(layer: Layer, schema: Schema) -> None:
    """Put the contents of each `KEY_file` of this layer in the place of KEY."""
    for file_key in schema.secret_files & layer.given.keys():
        path, key = layer.given.pop(file_key), file_key.removesuffix("_file")
        if path.value == "":
            if key in schema.file_only:
                layer.given[key] = path  # the way to say that there is none
            continue
        if layer.given.get(key, Given("", "")).value != "":
            layer.refuse(
                path.origin, file_key, path.value, f"must not stand beside {key}: give one of them"
            )
            continue
        try:
            secret = read_secret(path.value)
        except NotAllowed as refusal:
            layer.refuse(path.origin, file_key, path.value, str(refusal))
        else:
            layer.given[key] = Given(secret, f"{path.origin} ({file_key} {path.value})")


def read_secret(name: object) -> Text:
    """Return the secret in this file, without the blanks around it.

    Refused, as `NotAllowed`: a file that others may read or write, since it is no secret any more.
    """
    if not isinstance(name, str) or "\0" in name:
        raise NotAllowed("must be the path of a file")
    try:
        # Non-blocking, so that a FIFO is refused instead of waited for.
        with open(os.open(name, os.O_RDONLY | os.O_NONBLOCK), "rb") as file:  # noqa: PTH123
            mode = os.fstat(file.fileno()).st_mode
            secret = file.read(SECRET_BYTES_MAX + 1).strip() if stat.S_ISREG(mode) else b""
            text = secret.decode()
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "not UTF-8"
        raise NotAllowed(f"must be a file that can be read ({why})") from None
    if mode & (stat.S_IROTH | stat.S_IWOTH):
        raise NotAllowed(
            f"must not be readable or writable by others (mode {mode & 0o7777:04o}): chmod o= it"
        )
    if not text or len(secret) > SECRET_BYTES_MAX:
        raise NotAllowed(f"must be a regular file with 1 to {SECRET_BYTES_MAX} bytes in it")
    return Text(text)
