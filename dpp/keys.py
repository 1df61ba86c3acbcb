"""API keys as text: `dpp_live_`, key id (12), `_`, secret (43), check (6), all of it base62.

The key id names the row, the secret (256 bits) proves the right, the check is a CRC-32 of all
before it: scanners and typos are told from keys before anything is looked up. Of the secret only
the SHA-256 is stored; a hash so fast is enough, because nobody guesses 256 bits. Pure: the random
bytes come in as an argument. Parsed by position: no character of a secret is ever a separator.

Below the text is what is stored of a key, and what is asked for one; `keyring` decides about it.
"""

import re
import string
from datetime import datetime
from hashlib import sha256
from typing import Final
from zlib import crc32

from attrs import field, frozen

from dpp.money import Micros
from dpp.spending import Allowance

PREFIX: Final = "dpp_live_"
KEY_ID_CHARS: Final = 12
SECRET_CHARS: Final = 43  # 62**43 > 2**256
CHECK_CHARS: Final = 6  # 62**6 > 2**32
KEY_CHARS: Final = len(PREFIX) + KEY_ID_CHARS + 1 + SECRET_CHARS + CHECK_CHARS
SECRET_BYTES: Final = 32
KEY_ID_BYTES: Final = 16  # 128 bits into 71: no digit is likelier than another
RANDOM_BYTES: Final = SECRET_BYTES + KEY_ID_BYTES

# What a key may be allowed to do; one that says nothing may do all of it.
SCOPES: Final = ("runs:write", "runs:read", "budget:read", "webhooks:write", "keys:write")
LIVES_MAX_S: Final = 10 * 365 * 86_400  # longer is "until revoked"
OVERLAP_MAX_S: Final = 7 * 86_400  # to bring a new key to wherever the old one is

_DIGITS: Final = string.digits + string.ascii_uppercase + string.ascii_lowercase
_BASE: Final = len(_DIGITS)
_KEY: Final = re.compile(
    rf"{PREFIX}([0-9A-Za-z]{{{KEY_ID_CHARS}}})_([0-9A-Za-z]{{{SECRET_CHARS}}})"
    rf"[0-9A-Za-z]{{{CHECK_CHARS}}}",
    re.ASCII,
)


@frozen
class MintedKey:
    """A new key. `text` is shown once and never stored."""

    key_id: str
    secret_sha256: bytes
    text: str = field(repr=False)


@frozen
class PresentedKey:
    """What a well-formed key says: who it claims to be, and the digest of what would prove it."""

    key_id: str
    secret_sha256: bytes = field(repr=False)


def mint(random_bytes: bytes) -> MintedKey:
    """Make a key of `RANDOM_BYTES` random bytes."""
    assert len(random_bytes) == RANDOM_BYTES
    secret = base62(int.from_bytes(random_bytes[:SECRET_BYTES]), SECRET_CHARS)
    number = int.from_bytes(random_bytes[SECRET_BYTES:]) % _BASE**KEY_ID_CHARS
    key_id = base62(number, KEY_ID_CHARS)
    text = f"{PREFIX}{key_id}_{secret}"
    return MintedKey(key_id, digest(secret), text + check(text))


def parse(text: str) -> PresentedKey | None:
    """Read a key; None = it is none: wrong form or wrong check."""
    if len(text) != KEY_CHARS:
        return None
    found = _KEY.fullmatch(text)
    if found is None or check(text[:-CHECK_CHARS]) != text[-CHECK_CHARS:]:
        return None
    return PresentedKey(found.group(1), digest(found.group(2)))


def digest(secret: str) -> bytes:
    """Return what is stored of a secret."""
    return sha256(secret.encode("ascii")).digest()


def check(before: str) -> str:
    """Return the six characters that end a key which begins like this."""
    return base62(crc32(before.encode("ascii")), CHECK_CHARS)


def base62(number: int, width: int) -> str:
    """Write a number with exactly `width` digits, 0-9, A-Z, a-z."""
    assert 0 <= number < _BASE**width
    digits = []
    for _ in range(width):
        number, digit = divmod(number, _BASE)
        digits.append(_DIGITS[digit])
    return "".join(reversed(digits))


@frozen(kw_only=True)
class Key:
    """An API key as stored: never its secret.

    `expires_in_s`: by the database's clock at the time of reading. `created_by`: an operator's
    name, or what `by_key` and `by_rotation` say. `last_used_at`: true to an hour, or never noted.
    """

    key_id: str
    tenant_id: str
    secret_sha256: bytes
    scopes: tuple[str, ...]
    created_at: datetime
    created_by: str = ""
    expires_at: datetime | None = None
    expires_in_s: float | None = None
    last_used_at: datetime | None = None
    revoked: bool = False
    allowance: Allowance | None = None
    plan: str = ""
    suspended: bool = False

    @property
    def ended(self) -> bool:
        """Say whether it opens nothing any more."""
        return self.revoked or self.expired

    @property
    def expired(self) -> bool:
        """Say whether its time is over."""
        return self.expires_in_s is not None and self.expires_in_s <= 0

    @property
    def allowance_id(self) -> str | None:
        """Return which allowance it shares; None = it has no limit."""
        return None if self.allowance is None else self.allowance.allowance_id


@frozen(kw_only=True)
class NewKey:
    """A key to store: until `expires_at`, for `lives_s`, or where neither is given until revoked.

    `caller`: the key that asks for it; None = an operator. `spend_limit` makes an allowance,
    `allowance_id` names one that there is.
    """

    key_id: str
    tenant_id: str
    secret_sha256: bytes
    scopes: tuple[str, ...]
    lives_s: int | None = None
    expires_at: datetime | None = None
    spend_limit: Micros | None = None
    allowance_id: str | None = None
    caller: str | None = None


@frozen(kw_only=True)
class Rotation:
    """A key to be replaced by a new one, and for how long both are good. `caller` as above."""

    key_id: str
    tenant_id: str
    new_key_id: str
    secret_sha256: bytes
    overlap_s: int
    caller: str | None = None


@frozen
class KeyPlace:
    """Where a list of keys, newest first, goes on: behind this key."""

    created_at: datetime
    key_id: str


def by_key(key_id: str) -> str:
    """Return how a key is written down that another one made."""
    return f"key:{key_id}"


def by_rotation(key_id: str) -> str:
    """Return how a key is written down that replaces another one."""
    return f"rotation:{key_id}"


def made_by_key(created_by: str) -> bool:
    """Say whether a key was made by another one, or in its place; else an operator made it."""
    return created_by.startswith((by_key(""), by_rotation("")))
