"""Chunks: what is content, however the bytes arrive, and how much is read at a time."""

from __future__ import annotations

import pytest

from dpp.http.chunks import CHUNKS_MAX, FRAMING_FREE, PIECE_MAX, Chunks
from dpp.http.heads import Violation

BODY = b'3\r\nabc\r\n00A;x="y"\r\n0123456789\r\n1 ;\tz\r\n\n\r\n0;last\r\nX: y\r\nEmpty:\r\n\r\n'


def read(chunks: Chunks, held: bytearray) -> bytes:
    """Read what is here, as a connection does."""
    content = bytearray()
    while not chunks.complete:
        found = chunks.read(held)
        assert not isinstance(found, Violation), found
        piece, size = found
        content += piece
        del held[:size]
        if not size:
            break
    return bytes(content)


@pytest.mark.parametrize("step", [1, 2, 3, 7, 1000])
def test_content_is_the_same_however_it_arrives(step: int) -> None:
    chunks, held, content = Chunks(), bytearray(), b""

    for start in range(0, len(BODY), step):
        assert not chunks.complete
        held += BODY[start : start + step]
        content += read(chunks, held)

    assert (content, chunks.complete, bytes(held)) == (b"abc0123456789\n", True, b"")


def test_what_follows_the_body_is_left() -> None:
    chunks, held = Chunks(), bytearray(BODY + b"GET / HTTP/1.1\r\n")

    read(chunks, held)

    assert bytes(held) == b"GET / HTTP/1.1\r\n"


def test_so_many_chunks_are_read_at_a_time() -> None:
    found = Chunks().read(bytearray(b"5\r\nabcde\r\n" * 10 * CHUNKS_MAX))

    assert not isinstance(found, Violation)
    assert len(found[0]) <= 5 * CHUNKS_MAX


def test_large_chunk_comes_in_pieces() -> None:
    found = Chunks().read(bytearray(b"%x\r\n" % (3 * PIECE_MAX) + b"x" * (2 * PIECE_MAX)))

    assert not isinstance(found, Violation)
    assert len(found[0]) == PIECE_MAX


def all_of(data: bytes) -> Violation | None:
    """Read to the end of a body, or to what is wrong with it."""
    chunks, held = Chunks(), bytearray(data)
    while not chunks.complete:
        found = chunks.read(held)
        if isinstance(found, Violation):
            return found
        del held[: found[1]]
    return None


def test_framing_may_not_outweigh_the_content_for_long() -> None:
    free = FRAMING_FREE // 5  # a chunk of one byte: five bytes of framing
    last = b"0\r\n\r\n"

    assert all_of(b"1\r\nx\r\n" * free + last) is None
    assert all_of(b"1\r\nx\r\n" * 2 * free + last) == Violation(
        "malformed-http", "the chunks are too small"
    )
    assert all_of(b"1;ext\r\nx\r\n" * free + last) is not None
    assert all_of(b"9\r\n123456789\r\n" * 10 * free + last) is None
