"""Who asks: keys, their cache, and the limit on guessing. The store behind it is a dictionary."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

import pytest
import trio
from attrs import define, evolve, field

from dpp import keys
from dpp.faults import StoreUnavailable
from dpp.http.auth import (
    CACHE_S,
    DOUBTED_MAX,
    FAILURES_A_MINUTE,
    GUESSES_A_MINUTE,
    LOOKUP_WAIT_S,
    UNKNOWN_MAX,
    Authenticator,
    Principal,
)
from dpp.http.limits import NAMES_MAX
from dpp.http.problems import Problem, render
from dpp.keys import Key

if TYPE_CHECKING:
    from trio.testing import MockClock

DICE = random.Random(7)
MINTED = keys.mint(DICE.randbytes(keys.RANDOM_BYTES))
OTHER = keys.mint(DICE.randbytes(keys.RANDOM_BYTES))
KEY = Key(
    key_id=MINTED.key_id,
    tenant_id="acme",
    secret_sha256=MINTED.secret_sha256,
    scopes=("runs:read",),
    created_at=datetime(2026, 1, 1, tzinfo=UTC),
    plan="basic",
)
PRINCIPAL = Principal("acme", MINTED.key_id, frozenset({"runs:read"}), "basic")


@define
class Keyring:
    """The keys that there are, and how often somebody asked."""

    keys: dict[str, Key] = field(factory=lambda: {KEY.key_id: KEY})
    asked: int = 0
    away: bool = False

    async def find(self, key_id: str) -> Key | None:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        if self.away:
            raise StoreUnavailable
        return self.keys.get(key_id)


@define
class Slow(Keyring):
    """A store whose answers wait until they may come."""

    go_on: trio.Event = field(factory=trio.Event)
    open: int = 0

    async def find(self, key_id: str) -> Key | None:
        self.open += 1
        try:
            await self.go_on.wait()
            return self.keys.get(key_id)
        finally:
            self.open -= 1


def guess(key_id: str | None = None) -> str:
    """Return a well-formed key that is nobody's; maybe with the id of somebody's."""
    minted = keys.mint(DICE.randbytes(keys.RANDOM_BYTES)).text
    if key_id is None:
        return minted
    at = len(keys.PREFIX)
    before = f"{minted[:at]}{key_id}{minted[at + keys.KEY_ID_CHARS : -keys.CHECK_CHARS]}"
    return before + keys.check(before)


def bearer(text: str) -> list[bytes]:
    return [f"Bearer {text}".encode()]


def name(answer: Principal | Problem) -> str:
    return answer.name if isinstance(answer, Problem) else answer.tenant_id


async def test_good_key_is_its_tenant() -> None:
    auth = Authenticator(Keyring().find)

    assert await auth.authenticate(bearer(MINTED.text), "1.2.3.4") == PRINCIPAL
    assert await auth.authenticate([f"bearer {MINTED.text}".encode()], "1.2.3.4") == PRINCIPAL


async def test_a_good_key_is_remembered_once_however_it_is_sent_and_never_itself() -> None:
    keyring = Keyring()
    auth = Authenticator(keyring.find)

    for before in ("Bearer ", "bearer ", "BEARER   "):
        line = f"{before}{MINTED.text}".encode()
        assert await auth.authenticate([line], "1.2.3.4") == PRINCIPAL

    assert keyring.asked == 1
    assert [len(name) for name in auth._good] == [sha256().digest_size]


@pytest.mark.parametrize("at", range(len(MINTED.text)))
async def test_no_other_key_profits_from_one_that_was_good(at: int) -> None:
    auth = Authenticator(Keyring().find)
    await auth.authenticate(bearer(MINTED.text), "1.2.3.4")
    digit = "0" if MINTED.text[at] != "0" else "1"

    other = MINTED.text[:at] + digit + MINTED.text[at + 1 :]

    assert name(await auth.authenticate(bearer(other), "1.2.3.4")) == "unauthorized"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        [MINTED.text.encode()],
        [b"Basic " + MINTED.text.encode()],
        [b"Bearer x" + MINTED.text.encode()],
        [b"Bearer " + MINTED.text.encode() + b" x"],
        [b"Bearer " + MINTED.text.encode()[:-1] + b"?"],
        [b"Bearer " + b"x" * 1_000_000],
        [b"Bearer \xff\xfe"],
        [*bearer(MINTED.text), *bearer(MINTED.text)],
    ],
)
async def test_what_is_no_key_is_refused_without_a_lookup(headers: list[bytes]) -> None:
    keyring = Keyring()

    answer = await Authenticator(keyring.find).authenticate(headers, "1.2.3.4")

    assert (name(answer), keyring.asked) == ("unauthorized", 0)


@pytest.mark.parametrize(
    "stored",
    [
        None,
        evolve(KEY, secret_sha256=OTHER.secret_sha256),
        evolve(KEY, revoked=True),
        evolve(KEY, expires_in_s=0.0),
        evolve(KEY, expires_in_s=-5.0),
    ],
)
async def test_every_bad_key_gets_the_same_answer(stored: Key | None) -> None:
    keyring = Keyring({} if stored is None else {stored.key_id: stored})

    answer = await Authenticator(keyring.find).authenticate(bearer(MINTED.text), "1.2.3.4")
    missing = await Authenticator(keyring.find).authenticate([], "1.2.3.4")

    assert answer == missing


KINDS = {
    "unknown": None,
    "wrong": evolve(KEY, secret_sha256=OTHER.secret_sha256),
    "revoked": evolve(KEY, revoked=True),
    "expired": evolve(KEY, expires_in_s=-5.0),
}


@pytest.mark.parametrize("tries", [1, GUESSES_A_MINUTE, GUESSES_A_MINUTE + 5])
async def test_every_bad_key_looks_the_same_byte_by_byte_and_costs_one_lookup(
    autojump_clock: MockClock, tries: int
) -> None:
    seen = {}
    for kind, stored in KINDS.items():
        keyring = Keyring({} if stored is None else {KEY.key_id: stored})
        used: list[str] = []
        auth = Authenticator(keyring.find, used.append)
        answer: Principal | Problem | None = None
        for _ in range(tries):
            answer = await auth.authenticate(bearer(MINTED.text), "1.2.3.4")
        assert isinstance(answer, Problem)
        told = render(answer, instance="/v1/runs", request_id="r")
        seen[kind] = (told, keyring.asked, auth._good, used)

    assert seen == dict.fromkeys(KINDS, seen["unknown"])
    assert seen["unknown"][1:] == (tries, {}, [])


async def test_ten_thousand_guesses_are_bounded_and_keep_nobody_out(
    autojump_clock: MockClock,
) -> None:
    store = Slow()
    store.go_on.set()
    auth = Authenticator(store.find)
    answers: Counter[str] = Counter()
    most = 0

    async def guesser(n: int) -> None:
        nonlocal most
        for at in range(1_000):
            text = guess(KEY.key_id if at % 2 else None)
            answers[name(await auth.authenticate(bearer(text), f"6.6.6.{n}"))] += 1
            most = max(most, store.open)

    async with trio.open_nursery() as nursery:
        for n in range(10):
            nursery.start_soon(guesser, n)
        while sum(answers.values()) < 10_000:
            assert await auth.authenticate(bearer(MINTED.text), "6.6.6.1") == PRINCIPAL
            await trio.lowlevel.checkpoint()

    assert answers.keys() == {"unauthorized", "quota-exceeded"}
    assert answers["unauthorized"] <= 10 * (FAILURES_A_MINUTE + UNKNOWN_MAX)
    assert most <= UNKNOWN_MAX + DOUBTED_MAX + 1
    assert len(auth._failures._counts) <= NAMES_MAX
    assert len(auth._good) == 1


async def test_use_is_noted_of_good_keys_alone_each_time() -> None:
    used: list[str] = []
    auth = Authenticator(Keyring().find, used.append)

    for text in (MINTED.text, guess(), MINTED.text, guess(KEY.key_id), "x"):
        await auth.authenticate(bearer(text), "1.2.3.4")

    assert used == [KEY.key_id] * 2


async def test_key_is_looked_up_once_in_five_seconds(autojump_clock: MockClock) -> None:
    keyring = Keyring()
    auth = Authenticator(keyring.find)

    for _ in range(5):
        await auth.authenticate(bearer(MINTED.text), "1.2.3.4")
        await trio.sleep(1.1)
    await auth.authenticate(bearer(MINTED.text), "1.2.3.4")

    assert keyring.asked == 2


async def test_revocation_is_felt_within_five_seconds(autojump_clock: MockClock) -> None:
    keyring = Keyring()
    auth = Authenticator(keyring.find)
    await auth.authenticate(bearer(MINTED.text), "1.2.3.4")

    keyring.keys[KEY.key_id] = evolve(KEY, revoked=True)
    await trio.sleep(5)

    assert name(await auth.authenticate(bearer(MINTED.text), "1.2.3.4")) == "unauthorized"


async def test_expiry_is_counted_down_without_asking_again(autojump_clock: MockClock) -> None:
    keyring = Keyring({KEY.key_id: evolve(KEY, expires_in_s=2.0)})
    auth = Authenticator(keyring.find)
    await auth.authenticate(bearer(MINTED.text), "1.2.3.4")
    keyring.keys[KEY.key_id] = evolve(KEY, expires_in_s=-0.1)

    await trio.sleep(1.9)
    before = await auth.authenticate(bearer(MINTED.text), "1.2.3.4")
    await trio.sleep(0.2)
    after = await auth.authenticate(bearer(MINTED.text), "1.2.3.4")

    assert (name(before), name(after)) == ("acme", "unauthorized")


async def test_new_key_works_at_once_after_it_was_refused() -> None:
    keyring = Keyring({})
    auth = Authenticator(keyring.find)
    await auth.authenticate(bearer(MINTED.text), "1.2.3.4")

    keyring.keys[KEY.key_id] = KEY

    assert await auth.authenticate(bearer(MINTED.text), "1.2.3.4") == PRINCIPAL


async def test_many_that_ask_at_once_share_one_lookup() -> None:
    keyring = Keyring()
    auth = Authenticator(keyring.find)
    answers = []

    async def ask() -> None:
        answers.append(await auth.authenticate(bearer(MINTED.text), "1.2.3.4"))

    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask)

    assert answers == [PRINCIPAL] * 100
    assert keyring.asked == 1


async def test_cancelled_lookup_is_taken_over_by_who_waits() -> None:
    keyring = Keyring()
    auth = Authenticator(keyring.find)
    answers = []

    async def ask(scope: trio.CancelScope) -> None:
        with scope:
            answers.append(await auth.authenticate(bearer(MINTED.text), "1.2.3.4"))

    async with trio.open_nursery() as nursery:
        first = trio.CancelScope()
        nursery.start_soon(ask, first)
        for _ in range(3):
            nursery.start_soon(ask, trio.CancelScope())
        first.cancel()

    assert answers == [PRINCIPAL] * 3


async def test_outage_is_no_answer_about_a_key() -> None:
    keyring = Keyring(away=True)
    auth = Authenticator(keyring.find)

    with pytest.raises(StoreUnavailable):
        await auth.authenticate(bearer(MINTED.text), "1.2.3.4")

    keyring.away = False
    assert await auth.authenticate(bearer(MINTED.text), "1.2.3.4") == PRINCIPAL


async def test_guesses_of_an_address_end_in_429(autojump_clock: MockClock) -> None:
    keyring = Keyring()
    auth = Authenticator(keyring.find)

    answers = [name(await auth.authenticate(bearer(guess()), "6.6.6.6")) for _ in range(1000)]

    assert answers == ["unauthorized"] * FAILURES_A_MINUTE + ["quota-exceeded"] * (
        1000 - FAILURES_A_MINUTE
    )
    await trio.sleep(60)
    assert name(await auth.authenticate(bearer(guess()), "6.6.6.6")) == "unauthorized"


async def test_guesses_at_a_key_id_are_limited_from_everywhere_but_not_its_holder(
    autojump_clock: MockClock,
) -> None:
    keyring = Keyring()
    auth = Authenticator(keyring.find)
    await auth.authenticate(bearer(MINTED.text), "1.2.3.4")

    answers = [
        name(await auth.authenticate(bearer(guess(KEY.key_id)), f"6.6.6.{n}"))
        for n in range(GUESSES_A_MINUTE + 5)
    ]
    await trio.sleep(10)

    assert answers == ["unauthorized"] * GUESSES_A_MINUTE + ["quota-exceeded"] * 5
    assert await auth.authenticate(bearer(MINTED.text), "6.6.6.1") == PRINCIPAL


async def test_good_key_that_nobody_saw_here_comes_in_among_guesses() -> None:
    auth = Authenticator(Keyring().find)
    for _ in range(FAILURES_A_MINUTE + 5):
        await auth.authenticate(bearer(guess()), "6.6.6.6")
    for _ in range(GUESSES_A_MINUTE + 5):
        await auth.authenticate(bearer(guess(KEY.key_id)), "6.6.6.6")

    assert name(await auth.authenticate(bearer(guess()), "6.6.6.6")) == "quota-exceeded"
    assert await auth.authenticate(bearer(MINTED.text), "6.6.6.6") == PRINCIPAL


async def test_flood_of_guesses_asks_the_store_one_at_a_time() -> None:
    store = Slow()
    auth = Authenticator(store.find)
    answers = []

    async def ask(text: str, address: str) -> None:
        answers.append(name(await auth.authenticate(bearer(text), address)))

    for _ in range(FAILURES_A_MINUTE):
        store.go_on.set()
        await ask(guess(), "6.6.6.6")
    store.go_on, answers[:] = trio.Event(), []
    async with trio.open_nursery() as nursery:
        for _ in range(100):
            nursery.start_soon(ask, guess(), "6.6.6.6")
        nursery.start_soon(ask, MINTED.text, "6.6.6.6")
        await trio.testing.wait_all_tasks_blocked()
        flooded = store.open
        nursery.start_soon(ask, MINTED.text, "1.2.3.4")
        await trio.testing.wait_all_tasks_blocked()
        with_another = store.open
        store.go_on.set()

    assert (flooded, with_another) == (DOUBTED_MAX, DOUBTED_MAX + 1)
    assert sorted(answers) == ["acme"] * 2 + ["quota-exceeded"] * 100


async def test_key_that_was_good_does_not_wait_behind_guesses(autojump_clock: MockClock) -> None:
    store = Slow()
    auth = Authenticator(store.find)
    store.go_on.set()
    await auth.authenticate(bearer(MINTED.text), "6.6.6.6")
    for _ in range(FAILURES_A_MINUTE):
        await auth.authenticate(bearer(guess()), "6.6.6.6")
    await trio.sleep(CACHE_S)

    store.go_on = trio.Event()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(auth.authenticate, bearer(guess()), "6.6.6.6")
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(auth.authenticate, bearer(MINTED.text), "6.6.6.6")
        await trio.testing.wait_all_tasks_blocked()
        asked = store.open
        store.go_on.set()

    assert asked == DOUBTED_MAX + 1


async def test_client_that_leaves_does_not_free_the_place_of_its_lookup() -> None:
    store = Slow()
    auth = Authenticator(store.find)

    async def ask_many(scope: trio.CancelScope) -> None:
        with scope:
            async with trio.open_nursery() as clients:
                for _ in range(100):
                    clients.start_soon(auth.authenticate, bearer(guess()), "6.6.6.6")

    async with trio.open_nursery() as nursery:
        leaving = trio.CancelScope()
        nursery.start_soon(ask_many, leaving)
        await trio.testing.wait_all_tasks_blocked()
        leaving.cancel()
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(ask_many, trio.CancelScope())
        await trio.testing.wait_all_tasks_blocked()
        asked = store.open
        store.go_on.set()

    assert asked == UNKNOWN_MAX


async def test_wait_for_a_lookup_ends_as_an_outage(autojump_clock: MockClock) -> None:
    auth = Authenticator(Slow().find)

    with pytest.raises(StoreUnavailable):
        await auth.authenticate(bearer(MINTED.text), "1.2.3.4")

    assert trio.current_time() == LOOKUP_WAIT_S


async def test_life_of_a_shared_lookup_counts_from_when_the_store_was_asked(
    autojump_clock: MockClock,
) -> None:
    store = Slow()
    auth = Authenticator(store.find)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(auth.authenticate, bearer(MINTED.text), "1.2.3.4")
        await trio.sleep(4)
        nursery.start_soon(auth.authenticate, bearer(MINTED.text), "1.2.3.4")
        await trio.sleep(0.5)
        store.go_on.set()
    store.keys.clear()
    await trio.sleep(CACHE_S - 4.5)

    assert name(await auth.authenticate(bearer(MINTED.text), "1.2.3.4")) == "unauthorized"


async def test_key_that_is_told_to_have_ended_is_asked_about_at_once() -> None:
    keyring = Keyring()
    auth = Authenticator(keyring.find)
    await auth.authenticate(bearer(MINTED.text), "1.2.3.4")
    keyring.keys[KEY.key_id] = evolve(KEY, revoked=True)

    auth.forget("another id00")
    before = await auth.authenticate(bearer(MINTED.text), "1.2.3.4")
    auth.forget(KEY.key_id)

    assert name(before) == "acme"
    assert name(await auth.authenticate(bearer(MINTED.text), "1.2.3.4")) == "unauthorized"
