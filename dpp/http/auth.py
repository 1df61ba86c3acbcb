"""Who asks: bearer keys, their scopes, and the limit on guessing them.

A key is recognised by its check before anything is looked up. Among well-formed keys there is one
answer and one amount of work: unknown, wrong, revoked and expired look the same. A key that was
good is good for at most `CACHE_S` more without asking again, so a revocation is felt everywhere in
that time; nothing bad is remembered but how often. A key that was good lately is never refused for
what others guess from its address or at its id. The intake looks again under its lock.
"""

import hmac
from collections.abc import Awaitable, Callable
from typing import Final

import trio
from attrs import field, frozen

from dpp import keys
from dpp.http.limits import Windows
from dpp.http.problems import Problem, over_quota, unauthorized
from dpp.keys import PresentedKey
from dpp.ports import Key

CACHE_S: Final = 5.0  # a revocation is felt everywhere within this
CACHED_MAX: Final = 10_000  # keys in use on this node; about 5 MB
FAILURES_A_MINUTE: Final = (
    60  # of an address: a fleet behind one address with one bad key, not more
)
GUESSES_A_MINUTE: Final = 20  # at one key id, from anywhere
POLICY: Final = "authentication"

_SCHEME: Final = b"bearer "
_DUMMY: Final = bytes(32)  # what an unknown key is compared with


@frozen
class Principal:
    """The tenant that asks, and what its key may do."""

    tenant_id: str
    key_id: str
    scopes: frozenset[str]
    plan: str


@frozen
class _Lookup:
    """A question to the store that others wait for too."""

    done: trio.Event = field(factory=trio.Event)
    found: list[Key | None] = field(factory=list)


class Authenticator:
    """Knows keys that were good a moment ago; asks the store about all others."""

    def __init__(self, find_key: Callable[[str], Awaitable[Key | None]]) -> None:
        self._find_key = find_key
        self._good: dict[PresentedKey, tuple[Principal, float]] = {}  # until when, in order of use
        self._failures = Windows()
        self._asking: dict[str, _Lookup] = {}

    async def authenticate(self, authorization: list[bytes], address: str) -> Principal | Problem:
        """Return who this is; raises `StoreUnavailable`."""
        presented = _presented(authorization)
        if presented is None:
            return unauthorized()
        principal, until = self._good.get(presented, (None, 0.0))
        if principal is not None and trio.current_time() < until:
            return principal
        if principal is None and (refused := self._over(presented, address)) is not None:
            return refused
        asked_at = trio.current_time()
        principal = self._judge(presented, await self._find(presented.key_id), asked_at)
        if principal is None:
            self._failures.count(f"address {address}")
            self._failures.count(f"key {presented.key_id}")
            return unauthorized()
        return principal

    def _judge(self, presented: PresentedKey, key: Key | None, asked_at: float) -> Principal | None:
        """Compare in constant time; remember what is good, forget what is not."""
        stored = key.secret_sha256 if key is not None else _DUMMY
        same = hmac.compare_digest(stored, presented.secret_sha256)
        self._good.pop(presented, None)
        if key is None or not same or key.revoked:
            return None
        lives_s = CACHE_S if key.expires_in_s is None else key.expires_in_s
        if lives_s <= 0:
            return None
        principal = Principal(key.tenant_id, key.key_id, frozenset(key.scopes), key.plan)
        if len(self._good) >= CACHED_MAX:
            del self._good[next(iter(self._good))]
        self._good[presented] = (principal, asked_at + min(CACHE_S, lives_s))
        return principal

    def _over(self, presented: PresentedKey, address: str) -> Problem | None:
        """Refuse further guesses of this address or at this key id; None = go on."""
        for name, limit in (
            (f"address {address}", FAILURES_A_MINUTE),
            (f"key {presented.key_id}", GUESSES_A_MINUTE),
        ):
            window = self._failures.look(name, limit)
            if window.remaining == 0:
                return over_quota(POLICY, "too many bad keys; try again later", window.reset_s)
        return None

    async def _find(self, key_id: str) -> Key | None:
        """Ask the store once for all that ask at the same time."""
        while (lookup := self._asking.get(key_id)) is not None:
            await lookup.done.wait()
            if lookup.found:
                return lookup.found[0]  # else who asked was cancelled or got no answer
        lookup = self._asking[key_id] = _Lookup()
        try:
            lookup.found.append(await self._find_key(key_id))
        finally:
            del self._asking[key_id]
            lookup.done.set()
        return lookup.found[0]


def _presented(authorization: list[bytes]) -> PresentedKey | None:
    """Return the well-formed key of exactly one bearer header."""
    if len(authorization) != 1 or authorization[0][: len(_SCHEME)].lower() != _SCHEME:
        return None
    token = authorization[0][len(_SCHEME) :].lstrip(b" ")
    return keys.parse(token.decode("latin-1"))
