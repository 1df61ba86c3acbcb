"""Redis as a node sees it, on a real one: what it counts and carries, and every way it may fail."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio

from dpp import metrics
from dpp.faults import HelperUnavailable
from dpp.ports import Counted
from dpp.store import aside as aside_module
from dpp.store import redis_line
from dpp.store.aside import PAUSE_S, Aside, open_aside
from dpp.store.bridge import Bridge, open_bridge
from tests.redis_server import RedisServer, needs_redis, redis_server

pytestmark = needs_redis

DEPLOYMENT = UUID(int=1)
SOON_S = 10.0  # more than anything here takes


@pytest.fixture(scope="module")
def shared_redis() -> Iterator[RedisServer]:
    """One for tests that leave it as it was; each has a deployment of its own."""
    with redis_server() as server:
        yield server


@pytest.fixture
def own_redis() -> Iterator[RedisServer]:
    with redis_server() as server:
        yield server


@pytest.fixture
async def bridge() -> AsyncIterator[Bridge]:
    async with open_bridge() as bridge:
        yield bridge


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Wait for a Redis that is well as long as a busy machine takes."""
    monkeypatch.setattr(redis_line, "WALL_S", SOON_S)
    monkeypatch.setattr(aside_module, "WAIT_S", SOON_S)


@asynccontextmanager
async def open_to(bridge: Bridge, url: str, deployment: UUID | None = None) -> AsyncIterator[Aside]:
    aside = Aside.to(bridge, url, deployment or uuid4())
    try:
        yield aside
    finally:
        with trio.CancelScope(shield=True):
            await aside.close()


async def together(*asked: Callable[[], Any]) -> list[Any]:
    """Ask all at once; what is unavailable is None."""
    answers: list[Any] = [None] * len(asked)

    async def ask(place: int, one: Callable[[], Any]) -> None:
        try:
            answers[place] = await one()
        except HelperUnavailable:
            return

    async with trio.open_nursery() as nursery:
        for place, one in enumerate(asked):
            nursery.start_soon(ask, place, one)
    return answers


async def until_answered(aside: Aside, name: str = "again") -> Counted:
    """Count until it is answered: Redis is left alone for a while after a fault."""
    with trio.fail_after(PAUSE_S + SOON_S):
        while True:
            with suppress(HelperUnavailable):
                return await aside.count(name)
            await trio.sleep(0.1)


async def heard(aside: Aside, many: int) -> list[bytes]:
    messages: list[bytes] = []
    with trio.fail_after(SOON_S):
        await trio.lowlevel.checkpoint()
        while len(messages) < many:
            messages += await aside.hear()
    return messages


# ── counting ─────────────────────────────────────────────────────────────────────────────────────


async def test_each_count_of_many_at_once_over_two_nodes_is_another(
    bridge: Bridge, patient: None, shared_redis: RedisServer
) -> None:
    deployment = uuid4()
    async with (
        open_to(bridge, shared_redis.url, deployment) as one,
        open_to(bridge, shared_redis.url, deployment) as other,
    ):
        counted = await together(*[partial(one.count, "a"), partial(other.count, "a")] * 300)

    assert sorted(found.count for found in counted) == list(range(1, 601))
    assert all(0 < found.left_s <= 60 for found in counted)


async def test_a_counter_has_its_end_from_its_first_count(
    bridge: Bridge, patient: None, shared_redis: RedisServer
) -> None:
    async with open_to(bridge, shared_redis.url) as aside:
        await aside.count("a")
        key = f"{aside.prefix}count:a"
        shared_redis.ask("PEXPIRE", key, "30000")
        later = await aside.count("a")

    assert later.count == 2
    assert later.left_s <= 30


async def test_two_deployments_on_one_redis_do_not_meet(
    bridge: Bridge, patient: None, shared_redis: RedisServer
) -> None:
    async with (
        open_to(bridge, shared_redis.url) as one,
        open_to(bridge, shared_redis.url) as other,
    ):
        assert await other.hear() == []  # it listens from here on
        counted = [(await aside.count("a")).count for aside in (one, other)]
        await one.publish(b"of one")
        await other.publish(b"of the other")

        assert await heard(other, 1) == [b"of the other"]
    assert counted == [1, 1]


async def test_a_count_that_is_abandoned_gives_nobody_a_foreign_answer(
    bridge: Bridge, patient: None, shared_redis: RedisServer
) -> None:
    """Names tell: each count of a name of its own is its first."""
    async with open_to(bridge, shared_redis.url) as aside:

        async def give_up(n: int) -> None:
            with trio.move_on_after(0.0005 * (n % 5)):
                await aside.count(f"left {n}")

        for n in range(100):
            async with trio.open_nursery() as nursery:
                for m in range(10):
                    nursery.start_soon(give_up, 10 * n + m)
                kept = await aside.count(f"kept {n}")
            assert kept.count == 1


# ── what it is when Redis fails ──────────────────────────────────────────────────────────────────


async def test_where_nobody_answers_the_second_question_is_not_asked(bridge: Bridge) -> None:
    async with open_to(bridge, "redis://127.0.0.1:1/0") as aside:
        first, second = await together(partial(aside.count, "a"), partial(aside.publish, b"m"))
        with pytest.raises(HelperUnavailable, match="left alone"):
            await aside.count("a")

    assert (first, second) == (None, None)
    assert not aside.up


async def test_a_killed_redis_is_found_again_empty(
    bridge: Bridge, patient: None, own_redis: RedisServer
) -> None:
    async with open_to(bridge, own_redis.url) as aside:
        assert await aside.hear() == []
        for _ in range(3):
            await aside.count("a")
        own_redis.kill()
        gone = await together(partial(aside.count, "a"), aside.hear, aside.probe)
        own_redis.start()
        again = await until_answered(aside, "a")
        with trio.fail_after(SOON_S):
            while await together(aside.hear) == [None]:
                pass
        await aside.publish(b"here")

        assert await heard(aside, 1) == [b"here"]
        await aside.probe()
    assert gone == [None, None, None]
    assert again.count == 1


async def test_a_frozen_redis_costs_a_fraction_of_a_second_once(
    bridge: Bridge, own_redis: RedisServer
) -> None:
    async with open_to(bridge, own_redis.url) as aside:
        await until_answered(aside, "a")
        own_redis.freeze()
        with trio.fail_after(SOON_S):
            answers = await together(*[partial(aside.count, "a")] * 1000)
        own_redis.thaw()
        found = await until_answered(aside, "b")

    assert answers == [None] * 1000
    assert found.count == 1  # and not what the other line was still owed


async def test_a_redis_that_vanishes_without_a_word_is_noticed_by_who_only_listens(
    bridge: Bridge, own_redis: RedisServer
) -> None:
    async with open_to(bridge, own_redis.url) as aside:
        while await together(aside.hear) == [None]:
            pass
        own_redis.freeze()
        with trio.fail_after(SOON_S):
            while await together(aside.hear) != [None]:
                pass
        own_redis.thaw()

    assert not aside.up


async def test_a_redis_without_room_is_down_and_one_that_evicts_counts_anew(
    bridge: Bridge, patient: None, own_redis: RedisServer
) -> None:
    own_redis.ask("CONFIG", "SET", "maxmemory", "1")
    async with open_to(bridge, own_redis.url) as aside:
        assert await aside.hear() == []
        full = await together(partial(aside.count, "a"), aside.probe)

    own_redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-random")
    async with open_to(bridge, own_redis.url) as aside:
        answers = await together(*[partial(aside.count, "a")] * 20)

    assert full == [None, None]
    assert all(one is None or one.count <= 20 for one in answers)


async def test_a_wrong_password_is_a_redis_that_is_down(
    bridge: Bridge, patient: None, own_redis: RedisServer
) -> None:
    own_redis.ask("CONFIG", "SET", "requirepass", "right")
    right = own_redis.url.replace("//", "//:right@")
    async with (
        open_to(bridge, own_redis.url) as without,
        open_to(bridge, own_redis.url.replace("//", "//:wrong@")) as wrong,
        open_to(bridge, right) as good,
    ):
        asked = [[partial(one.count, "a"), one.hear, one.probe] for one in (without, wrong)]
        refused = [await together(*some) for some in asked]

        assert (await good.count("a")).count == 1
    assert refused == [[None] * 3] * 2


NONSENSE = {
    "closes": b"",
    "http": b"HTTP/1.1 400 Bad Request\r\n\r\n",
    "ok to all": b"+OK\r\n" * 200,
    "no number": b":x\r\n" * 200,
    "zeros": bytes(1000),
    "negative length": b"$-7\r\n" * 200,
    "deep": b"*1\r\n" * 5000,
    "half a reply": b"*4\r\n:1\r\n",
    "a long promise": b"$99999999\r\nabc",
    "another's count": b"+OK\r\n" + b"+QUEUED\r\n" * 4 + b"*4\r\n:1\r\n:1\r\n:60000\r\n$1\r\nx\r\n",
    "no end": b"+OK\r\n" + b"+QUEUED\r\n" * 4 + b"*4\r\n:1\r\n:1\r\n:-1\r\n$%d\r\n%b\r\n",
    "too few": b"+OK\r\n" + b"+QUEUED\r\n" * 4 + b"*1\r\n:1\r\n",
    "aborted": b"+OK\r\n" + b"+QUEUED\r\n" * 4 + b"*-1\r\n",
    "loading": b"-LOADING Redis is loading the dataset in memory\r\n" * 200,
    "moved": b"-MOVED 1 127.0.0.1:1\r\n" * 200,
    "read only": b"-READONLY You can't write against a read only replica.\r\n" * 200,
}


@pytest.mark.parametrize("said", NONSENSE.values(), ids=NONSENSE)
async def test_nonsense_is_a_redis_that_is_down(bridge: Bridge, said: bytes) -> None:
    if b"%" in said:
        key = f"dpp:{DEPLOYMENT}:count:a".encode()
        said = said % (len(key), key)

    async def speak(stream: trio.SocketStream) -> None:
        with trio.move_on_after(SOON_S):
            await stream.receive_some(65536)
            await stream.send_all(said)
            if said:
                while await stream.receive_some(65536):
                    pass

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(partial(trio.serve_listeners, speak, [listener]))
        async with open_to(bridge, f"redis://127.0.0.1:{port}/0", DEPLOYMENT) as aside:
            answers = await together(partial(aside.count, "a"), aside.hear, aside.probe)
        nursery.cancel_scope.cancel()

    assert answers == [None, None, None]


async def test_who_answers_drop_by_drop_is_left_together_with_the_connection(
    bridge: Bridge, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(aside_module, "WAIT_S", SOON_S)

    async def drip(stream: trio.SocketStream) -> None:
        with suppress(trio.BrokenResourceError):
            while True:
                await stream.send_all(b":")
                await trio.sleep(0.1)

    async with trio.open_nursery() as nursery:
        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        port = listener.socket.getsockname()[1]
        nursery.start_soon(partial(trio.serve_listeners, drip, [listener]))
        async with open_to(bridge, f"redis://127.0.0.1:{port}/0") as aside:
            with trio.fail_after(SOON_S):
                assert await together(aside.probe) == [None]
            assert aside._probing._connection is None
        nursery.cancel_scope.cancel()


# ── what it is asked by a node ───────────────────────────────────────────────────────────────────


async def test_nothing_is_heard_before_it_was_said_and_nothing_but_messages(
    bridge: Bridge, patient: None, shared_redis: RedisServer
) -> None:
    async with open_to(bridge, shared_redis.url) as aside:
        assert await aside.hear() == []
        assert await aside.hear() == []  # the answer to a ping is none
        for n in range(250):
            await aside.publish(b"%d" % n)

        assert await heard(aside, 250) == [b"%d" % n for n in range(250)]


class Ids:
    """What the database keeps."""

    def __init__(self) -> None:
        self.kept: dict[str, UUID] = {}

    async def store_id(self, name: str) -> UUID | None:
        await trio.lowlevel.checkpoint()
        return self.kept.get(name)

    async def keep_store_id(self, name: str, store_id: UUID) -> UUID:
        await trio.lowlevel.checkpoint()
        return self.kept.setdefault(name, store_id)


async def test_nodes_of_one_database_are_one_deployment(
    bridge: Bridge, shared_redis: RedisServer
) -> None:
    one, other = Ids(), Ids()
    prefixes = []
    for ids in (one, one, other):
        async with open_aside(bridge, shared_redis.url, ids) as aside:
            assert aside is not None
            prefixes.append(aside.prefix)
    async with open_aside(bridge, None, one) as none:
        assert none is None

    assert prefixes[0] == prefixes[1] != prefixes[2]


async def test_a_redis_that_refuses_counts_is_not_up_though_it_tells(
    bridge: Bridge, own_redis: RedisServer, patient: None
) -> None:
    """It is full, and may evict nothing."""
    own_redis.kill()
    own_redis.start("--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
    async with open_to(bridge, own_redis.url) as aside:
        with pytest.raises(HelperUnavailable, match="maxmemory"):
            await aside.count("a")
        for _ in range(3):
            await aside.publish(b"m")
            assert metrics.redis_up._value.get() == 0
            with pytest.raises(HelperUnavailable, match="left alone"):
                await aside.count("a")


async def test_the_memory_that_redis_uses_is_told(
    bridge: Bridge, shared_redis: RedisServer, patient: None
) -> None:
    async with open_to(bridge, shared_redis.url) as aside:
        assert 100_000 < await aside.memory() < 100_000_000


async def test_a_redis_that_tells_no_memory_is_up_all_the_same(
    bridge: Bridge, own_redis: RedisServer, patient: None
) -> None:
    own_redis.kill()
    own_redis.start("--rename-command", "INFO", "")
    async with open_to(bridge, own_redis.url) as aside:
        with pytest.raises(HelperUnavailable):
            await aside.memory()

        assert (aside.up, (await aside.count("one")).count) == (True, 1)
