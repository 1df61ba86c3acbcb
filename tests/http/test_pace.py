"""How long an answer may wait for its peer: pure, a moment is a number."""

from __future__ import annotations

import pytest
from attrs import define

from dpp.http.pace import Pace

SEND_S, RATE, PIECE = 10.0, 1000.0, 4000  # a piece each 4 s is the rate


@define
class Peer:
    """A peer that takes pieces of one answer."""

    pace: Pace
    now: float = 5000.0

    def takes(self, size: int, took_s: float, sharing: int = 1) -> bool:
        """Say whether a piece was taken in time."""
        by = self.pace.begin(self.now, size, sharing)
        self.now += took_s
        self.pace.end(self.now)
        return self.now <= by

    def pieces(self, took_s: float, at_most: int, sharing: int = 1) -> int:
        """Return how many pieces are taken before one is late."""
        for n in range(at_most):
            if not self.takes(PIECE, took_s, sharing):
                return n
        return at_most


@pytest.fixture
def peer() -> Peer:
    """Give a peer that has taken nothing yet."""
    return Peer(Pace(SEND_S, RATE))


def test_first_piece_has_all_the_time_that_any_has(peer: Peer) -> None:
    assert peer.pace.begin(peer.now, PIECE) == peer.now + SEND_S
    assert peer.pace.begin(peer.now, 0) == peer.now + SEND_S


def test_peer_that_takes_each_piece_just_before_it_is_late_is_let_go_soon(peer: Peer) -> None:
    assert peer.pieces(SEND_S - 0.5, at_most=1000) == 1


def test_peer_at_the_rate_may_take_for_ever(peer: Peer) -> None:
    assert peer.pieces(PIECE / RATE, at_most=1000) == 1000


def test_answer_takes_no_longer_than_its_size_at_the_rate_and_one_wait(peer: Peer) -> None:
    began_at = peer.now

    taken = peer.pieces(PIECE / RATE + 0.1, at_most=1000)

    assert taken < 1000
    assert peer.now - began_at <= SEND_S + (taken + 1) * PIECE / RATE + 0.1


def test_stream_that_is_silent_between_its_pieces_is_never_late(peer: Peer) -> None:
    for _ in range(1000):
        assert peer.takes(100, took_s=5.0)
        peer.now += 5.0


def test_silence_saves_nothing_up(peer: Peer) -> None:
    peer.takes(PIECE, took_s=0.0)
    peer.now += 3600.0

    assert peer.pieces(SEND_S - 0.5, at_most=1000) == 1


def test_answers_that_share_a_peer_share_the_rate(peer: Peer) -> None:
    assert peer.pieces(2 * PIECE / RATE, at_most=1000, sharing=2) == 1000
