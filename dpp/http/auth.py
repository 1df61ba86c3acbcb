"""Who asks: bearer keys, their scopes, and the limit on guessing them.

A key is recognised by its check before anything is looked up. Among well-formed keys there is one
answer and one amount of work: unknown, wrong, revoked and expired look the same. A key that was
good is good for at most `CACHE_S` more without asking again, so a revocation is felt everywhere in
that time; nothing bad is remembered but how often. The intake looks again under its lock.

Guesses lock nobody out: each key is looked up before it is refused, and only a bad one is told that
there were too many, so behind a proxy, and on a node that has just started, a good key always comes
in. The database is kept safe by lanes of so many lookups at a time: a wide one for keys that were
good lately, a narrow one for unknown keys, the narrowest for those of addresses that guess.
"""

import hmac
from collections.abc import Awaitable, Callable
from hashlib import sha256
from typing import Final, TypeAlias

import trio
from attrs import field, frozen

from dpp import keys
from dpp.faults import StoreUnavailable
from dpp.http.limits import Windows
from dpp.http.problems import Problem, over_quota, unauthorized
from dpp.keys import Key, PresentedKey

NoteUse: TypeAlias = Callable[[str], None]
FindKey: TypeAlias = Callable[[str], Awaitable[Key | None]]
Found: TypeAlias = tuple[Key | None, float]  # and when the store was asked

CACHE_S: Final = 5.0  # a revocation is felt everywhere within this
CACHED_MAX: Final = 10_000  # keys in use on this node; about 5 MB
FAILURES_A_MINUTE: Final = (
    60  # of an address: a fleet behind one address with one bad key, not more
)
GUESSES_A_MINUTE: Final = 20  # at one key id, from anywhere
KNOWN_MAX: Final = 64  # lookups at a time of keys that were good: no guess comes here
UNKNOWN_MAX: Final = 4  # half of the pool, as runs must be read and written meanwhile
DOUBTED_MAX: Final = 1  # about 1,000 a second: a fleet that shares an address with a guesser
LOOKUP_WAIT_S: Final = 8.0  # then the node is overloaded: a 503 that is safe to retry
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
    found: list[Found] = field(factory=list)


class _Lane:
    """Asks the store about so many keys at a time, about each once for all that wait for it."""

    def __init__(self, find_key: FindKey, lookups_max: int) -> None:
        self._find_key = find_key
        self._places = trio.CapacityLimiter(lookups_max)
        self._asking: dict[str, _Lookup] = {}

    async def find(self, key_id: str) -> Found:
        """Return the key; raises `StoreUnavailable`, also when the wait is too long."""
        with trio.move_on_after(LOOKUP_WAIT_S):
            return await self._find(key_id)
        raise StoreUnavailable

    async def _find(self, key_id: str) -> Found:
        while (lookup := self._asking.get(key_id)) is not None:
            await lookup.done.wait()
            if lookup.found:
                return lookup.found[0]  # else who asked was cancelled or got no answer
        lookup = self._asking[key_id] = _Lookup()
        try:
            async with self._places:
                await self._ask(key_id, lookup)
        finally:
            del self._asking[key_id]
            lookup.done.set()
        return lookup.found[0]

    async def _ask(self, key_id: str, lookup: _Lookup) -> None:
        """Ask to the end: a client that leaves does not free the place of a query that runs on."""
        asked_at = trio.current_time()
        with trio.move_on_after(LOOKUP_WAIT_S, shield=True):
            lookup.found.append((await self._find_key(key_id), asked_at))
            return
        raise StoreUnavailable


class Authenticator:
    """Knows keys that were good a moment ago; asks the store about all others."""

    def __init__(self, find_key: FindKey, note_use: NoteUse = lambda _key_id: None) -> None:
        self._note_use = note_use
        self._known = _Lane(find_key, KNOWN_MAX)
        self._unknown = _Lane(find_key, UNKNOWN_MAX)
        self._doubted = _Lane(find_key, DOUBTED_MAX)
        # By the digest of the whole key, until when, in order of use.
        self._good: dict[bytes, tuple[Principal, float]] = {}
        self._failures = Windows()

    async def authenticate(self, authorization: list[bytes], address: str) -> Principal | Problem:
        """Return who this is, and note that the key was used; raises `StoreUnavailable`."""
        principal = await self._authenticate(authorization, address)
        if isinstance(principal, Principal):
            self._note_use(principal.key_id)
        return principal

    async def _authenticate(self, authorization: list[bytes], address: str) -> Principal | Problem:
        token = _token(authorization)
        if token is None:
            return unauthorized()
        name = sha256(token).digest()
        principal, until = self._good.get(name, (None, 0.0))
        if principal is not None and trio.current_time() < until:
            return principal
        presented = keys.parse(token.decode("latin-1"))
        if presented is None:
            return unauthorized()
        refused = self._over(presented, address)
        if principal is not None:
            lane = self._known
        else:
            lane = self._unknown if refused is None else self._doubted
        principal = self._judge(name, presented, *await lane.find(presented.key_id))
        if principal is None:
            self._failures.count(f"address {address}")
            self._failures.count(f"key {presented.key_id}")
            return refused or unauthorized()
        return principal

    def forget(self, key_id: str) -> None:
        """Ask about a key when it comes next: it may have ended."""
        for name in [name for name, (one, _) in self._good.items() if one.key_id == key_id]:
            del self._good[name]

    def _judge(
        self, name: bytes, presented: PresentedKey, key: Key | None, asked_at: float
    ) -> Principal | None:
        """Compare in constant time; remember what is good, forget what is not."""
        stored = key.secret_sha256 if key is not None else _DUMMY
        same = hmac.compare_digest(stored, presented.secret_sha256)
        self._good.pop(name, None)
        if key is None or not same or key.ended:
            return None
        lives_s = CACHE_S if key.expires_in_s is None else key.expires_in_s
        principal = Principal(key.tenant_id, key.key_id, frozenset(key.scopes), key.plan)
        if len(self._good) >= CACHED_MAX:
            del self._good[next(iter(self._good))]
        self._good[name] = (principal, asked_at + min(CACHE_S, lives_s))
        return principal

    def _over(self, presented: PresentedKey, address: str) -> Problem | None:
        """Return what a further bad key is told, of this address or at this key id; None = 401."""
        for name, limit in (
            (f"address {address}", FAILURES_A_MINUTE),
            (f"key {presented.key_id}", GUESSES_A_MINUTE),
        ):
            window = self._failures.look(name, limit)
            if window.remaining == 0:
                return over_quota(POLICY, "too many bad keys; try again later", window.reset_s)
        return None


def _token(authorization: list[bytes]) -> bytes | None:
    """Return what exactly one bearer header holds."""
    if len(authorization) != 1 or authorization[0][: len(_SCHEME)].lower() != _SCHEME:
        return None
    return authorization[0][len(_SCHEME) :].lstrip(b" ")
