"""What one setting may be: how it is read, what is allowed, how it is shown.

Each field of the configuration carries one rule as its annotation. A rule reads what TOML holds
(numbers, strings, arrays), or a `Text`, which is what the environment and flags hold: words,
whatever the setting's type. It answers the value or raises `NotAllowed`, whose words complete the
sentence "must be …". Nothing here knows where a value came from.
"""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

from attrs import frozen

from dpp import money

MASK = "***"
TEXT_MAX = 4096  # longer than any URL that a driver takes; bounds what an error repeats
_DIGITS = re.compile(r"-?[0-9]{1,18}")  # 18 digits always fit a bigint
_SIZE = re.compile(r"([0-9]{1,12}) ?(B|KiB|MiB|GiB)")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_PERCENT = re.compile(r"(0|[1-9][0-9]{0,2})(?:\.([0-9]{1,4}))?")


class Text(str):
    """A value of the environment or of a flag: not typed yet."""

    __slots__ = ()


class NotAllowed(ValueError):
    """The value is not what its rule allows; the message says what is."""


class Rule(Protocol):
    """How one setting is read, described and shown."""

    @property
    def allowed(self) -> str: ...
    @property
    def secret(self) -> bool: ...
    def read(self, value: object) -> object: ...
    def show(self, value: object) -> object: ...


@frozen
class Plain:
    """A rule of a setting that may be shown as it is."""

    @property
    def secret(self) -> bool:
        return False

    def show(self, value: object) -> object:
        return value


@frozen
class Whole(Plain):
    """A whole number within bounds, in the unit that the key's last word names."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f"a whole number from {self.least} to {self.most}"

    def read(self, value: object) -> int:
        number = _whole(value)
        if number is None or not self.least <= number <= self.most:
            raise NotAllowed(self.allowed)
        return number


@frozen
class Wholes(Plain):
    """An array of whole numbers within bounds; in the environment, words between commas."""

    least: int
    most: int
    many_max: int

    @property
    def allowed(self) -> str:
        return (
            f"an array of at most {self.many_max} whole numbers from {self.least} to {self.most}"
            " (between commas in the environment)"
        )

    def read(self, value: object) -> tuple[int, ...]:
        items: object = value
        if isinstance(value, Text):
            items = [Text(word.strip()) for word in value.split(",") if word.strip()]
        if not isinstance(items, list) or len(items) > self.many_max:
            raise NotAllowed(self.allowed)
        numbers = [_whole(item) for item in items]
        if any(one is None or not self.least <= one <= self.most for one in numbers):
            raise NotAllowed(self.allowed)
        return tuple(one for one in numbers if one is not None)

    def show(self, value: object) -> object:
        return list(value) if isinstance(value, Sequence) else value


@frozen
class Flag(Plain):
    """Yes or no."""

    @property
    def allowed(self) -> str:
        return "true or false"

    def read(self, value: object) -> bool:
        if isinstance(value, Text):
            value = {"true": True, "false": False}.get(value.lower())
        if not isinstance(value, bool):
            raise NotAllowed(self.allowed)
        return value


@frozen
class Size(Plain):
    """Bytes: a whole number, or a string such as "64 KiB" or "1 MiB"."""

    least: int
    most: int

    @property
    def allowed(self) -> str:
        return f'bytes from {self.least} to {self.most}, or a string such as "64 KiB" or "1 MiB"'

    def read(self, value: object) -> int:
        size = _whole(value)
        if size is None and isinstance(value, str) and (found := _SIZE.fullmatch(value)):
            size = int(found[1]) * _UNITS[found[2]]
        if size is None or not self.least <= size <= self.most:
            raise NotAllowed(self.allowed)
        return size


@frozen
class Choice(Plain):
    """One of a few words, in any case."""

    words: tuple[str, ...]

    @property
    def allowed(self) -> str:
        return "one of " + ", ".join(f'"{word}"' for word in self.words)

    def read(self, value: object) -> str:
        if isinstance(value, str):
            for word in self.words:
                if word.lower() == value.lower():
                    return word
        raise NotAllowed(self.allowed)


@frozen
class Name(Plain):
    """A string of one grammar; "" means that there is none."""

    grammar: str
    what: str

    @property
    def allowed(self) -> str:
        return f'{self.what}, or "" for none'

    def read(self, value: object) -> str | None:
        if value == "":
            return None
        if not isinstance(value, str) or not re.fullmatch(self.grammar, value):
            raise NotAllowed(self.allowed)
        return str(value)

    def show(self, value: object) -> object:
        return value or ""


@frozen
class Names(Plain):
    """An array of strings of one grammar; in the environment, words between commas."""

    grammar: str
    what: str
    many_max: int

    @property
    def allowed(self) -> str:
        return (
            f"an array of at most {self.many_max} {self.what} (between commas in the environment)"
        )

    def read(self, value: object) -> tuple[str, ...]:
        items: object = value
        if isinstance(value, Text):
            items = [word.strip() for word in value.split(",") if word.strip()]
        if not isinstance(items, list) or len(items) > self.many_max:
            raise NotAllowed(self.allowed)
        for item in items:
            if not isinstance(item, str) or not re.fullmatch(self.grammar, item):
                raise NotAllowed(self.allowed)
        return tuple(str(item) for item in items)

    def show(self, value: object) -> object:
        return list(value) if isinstance(value, Sequence) else value


@frozen
class Directory(Plain):
    """An absolute path; a flag or the environment may give one relative to where it was typed."""

    @property
    def allowed(self) -> str:
        return 'an absolute path, or "" for the usual place'

    def read(self, value: object) -> Path | None:
        if value == "":
            return None
        if not isinstance(value, str) or "\0" in value or len(value) > TEXT_MAX:
            raise NotAllowed(self.allowed)
        path = Path(value)
        if not path.is_absolute() and not isinstance(value, Text):
            raise NotAllowed(self.allowed)
        return path.absolute()

    def show(self, value: object) -> object:
        return "" if value is None else str(value)


@frozen
class File(Directory):
    """The absolute path of a file; whether it can be read is seen when it is."""

    @property
    def allowed(self) -> str:
        return 'the absolute path of a file, or "" for none'


@frozen
class Token:
    """A secret of its own: a long word, never shown."""

    least: int

    @property
    def secret(self) -> bool:
        return True

    @property
    def allowed(self) -> str:
        return f"at least {self.least} printable ASCII characters without blanks"

    def read(self, value: object) -> str | None:
        if value == "":
            return None
        grammar = rf"[\x21-\x7e]{{{self.least},{TEXT_MAX}}}"
        if not isinstance(value, str) or not re.fullmatch(grammar, value):
            raise NotAllowed(self.allowed)
        return str(value)

    def show(self, value: object) -> object:
        return "" if value is None else MASK


@frozen
class Amount(Plain):
    """US dollars as a string, so that no float ever touches money."""

    least: int = 0

    @property
    def allowed(self) -> str:
        more = " above zero" if self.least else ""
        return f'US dollars{more} as a string with at most 6 decimals, such as "10.00"'

    def read(self, value: object) -> money.Micros:
        try:
            amount = money.parse(value) if isinstance(value, str) else None
        except money.NotMoney:
            amount = None
        if amount is None or amount < self.least:
            raise NotAllowed(self.allowed)
        return amount


@frozen
class Amounts(Plain):
    """US dollars by name: a table of the file; no other source can say it."""

    grammar: str

    @property
    def allowed(self) -> str:
        return 'a table of amounts by name, such as { echo = "0.10" }'

    def read(self, value: object) -> Mapping[str, money.Micros]:
        if not isinstance(value, Mapping):
            raise NotAllowed(self.allowed)
        amount = Amount(least=1)
        named = {name: amount.read(one) for name, one in value.items()}
        if not all(re.fullmatch(self.grammar, name) for name in named):
            raise NotAllowed(self.allowed)
        return named

    def show(self, value: object) -> object:
        amounts = value if isinstance(value, Mapping) else {}
        return {name: money.show(one) for name, one in amounts.items()}


@frozen
class Percent(Plain):
    """A percentage as a string; read as parts per million."""

    @property
    def allowed(self) -> str:
        return 'a percentage from 0 to 100 as a string with at most 4 decimals, such as "2"'

    def read(self, value: object) -> int:
        found = _PERCENT.fullmatch(value) if isinstance(value, str) else None
        ppm = int(found[1]) * 10_000 + int((found[2] or "").ljust(4, "0")) if found else -1
        if not 0 <= ppm <= 1_000_000:  # noqa: PLR2004 - the whole
            raise NotAllowed(self.allowed)
        return ppm

    def show(self, value: object) -> object:
        whole, part = divmod(value, 10_000) if isinstance(value, int) else (0, 0)
        return f"{whole}.{part:04d}".rstrip("0").rstrip(".")


def _whole(value: object) -> int | None:
    if isinstance(value, Text):
        return int(value) if _DIGITS.fullmatch(value) else None
    return value if isinstance(value, int) and not isinstance(value, bool) else None
