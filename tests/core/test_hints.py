from __future__ import annotations

import json
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.hints import BYTES_MAX, EACH_MAX, WAITING_MAX, Bulletin, News, add, decode, encode

ME = "0123456789abcdef"
RUN = UUID("01234567-89ab-7def-8123-456789abcdef")
FULL = Bulletin(("acme",), (RUN,), ("AbCdEf012345",), {"acme": (10, 1_800_000_000_000)})


@pytest.mark.parametrize("bulletin", [FULL, Bulletin(), Bulletin(runs=(RUN,))])
def test_what_is_encoded_is_decoded(bulletin: Bulletin) -> None:
    assert decode(encode(bulletin, ME)) == (ME, bulletin)


def test_the_fullest_bulletin_fits_and_is_read() -> None:
    names = [f"{n:063d}" for n in range(EACH_MAX)]
    runs = tuple(UUID(int=n) for n in range(EACH_MAX))
    keys = tuple(f"{n:012d}" for n in range(EACH_MAX))
    fullest = Bulletin(tuple(names), runs, keys, dict.fromkeys(names, (10**9, 1 << 52)))

    message = encode(fullest, ME)

    assert len(message) < BYTES_MAX
    assert decode(message) == (ME, fullest)


def test_what_a_later_version_adds_is_passed_over() -> None:
    said = json.loads(encode(FULL, ME)) | {"weather": ["fair"]}

    assert decode(json.dumps(said).encode()) == (ME, FULL)


def but(**changed: object) -> bytes:
    return json.dumps(json.loads(encode(FULL, ME)) | changed).encode()


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[]",
        b'"hello"',
        b"{}",
        b"[" * 50_000,
        but(v=2),
        but(v=None),
        but(**{"from": "me"}),
        but(**{"from": None}),
        but(runs="abc"),
        but(runs=[str(RUN)[:-1]]),
        but(runs=[1]),
        but(runs={"a": 1}),
        but(runs=[RUN.hex] * (EACH_MAX + 1)),
        but(queued=["Acme"]),
        but(queued=["a" * 64]),
        but(queued=["acme\n"]),
        but(queued=[["acme"]]),
        but(keys=["short"]),
        but(keys=[None]),
        but(used_up=["acme"]),
        but(used_up={"acme": 7}),
        but(used_up={"acme": [10, -1]}),
        but(used_up={"acme": [0, 1]}),
        but(used_up={"acme": [1.5, 1]}),
        but(used_up={"acme": [10, 1 << 53]}),
        but(used_up={"acme": [10, 1, 2]}),
        but(used_up={"": [10, 1]}),
        but(padding="x" * BYTES_MAX),
    ],
)
def test_what_is_no_bulletin_is_none(message: bytes) -> None:
    assert decode(message) is None


@given(st.binary(max_size=200))
def test_no_bytes_raise(message: bytes) -> None:
    assert decode(message) is None


def test_news_are_taken_once_and_as_much_as_a_bulletin_holds() -> None:
    news = News()
    for n in range(EACH_MAX + 1):
        add(news.runs, UUID(int=n))
        add(news.runs, UUID(int=0))

    first, second = news.take(), news.take()

    assert (len(first.runs), second.runs) == (EACH_MAX, (UUID(int=EACH_MAX),))
    assert not news


def test_past_its_bound_news_is_lost_and_what_is_there_is_kept() -> None:
    news = News()
    assert all(add(news.queued, str(n)) for n in range(WAITING_MAX))

    assert not add(news.queued, "one more")
    assert add(news.queued, "0")
    assert len(news.queued) == WAITING_MAX
