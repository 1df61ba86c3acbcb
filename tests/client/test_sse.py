"""Server-sent events by the rules of the WHATWG, wherever the network cuts them."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp.client.sse import CHARS_MAX, Parser, ServerEvent, TooLong


def parsed(*pieces: bytes) -> list[tuple[str, str, str]]:
    parser = Parser()
    events = [event for piece in pieces for event in parser.feed(piece)]
    return [(event.event_id, event.kind, event.data) for event in events]


@pytest.mark.parametrize(
    ("stream", "events"),
    [
        (b"data: YHOO\ndata: +2\ndata: 10\n\n", [("", "message", "YHOO\n+2\n10")]),
        (
            b": a test\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third\n\n",
            [
                ("1", "message", "first event"),
                ("", "message", "second event"),
                ("", "message", " third"),
            ],
        ),
        (b"data\n\ndata\ndata\n\ndata:", [("", "message", ""), ("", "message", "\n")]),
        (b"data:test\n\ndata: test\n\n", [("", "message", "test")] * 2),
        (b"event: a\nid: 7\n\ndata: x\n\n", [("7", "message", "x")]),
        (b"event: a\r\ndata: x\r\n\r\nevent: b\rdata: y\r\r", [("", "a", "x"), ("", "b", "y")]),
        (b"\xef\xbb\xbfdata: x\n\n", [("", "message", "x")]),
        (
            b"id: 1\ndata: x\n\nid: 2\x00\ndata: y\n\n",
            [("1", "message", "x"), ("1", "message", "y")],
        ),
        (b"nonsense: z\ndata: \xff\n\n", [("", "message", "\ufffd")]),
        (b"data: lost at the end", []),
        (b"data: lost too\n", []),
    ],
)
def test_a_stream_is_read_as_the_standard_says(
    stream: bytes, events: list[tuple[str, str, str]]
) -> None:
    assert parsed(stream) == events
    assert parsed(*(stream[at : at + 1] for at in range(len(stream)))) == events


@given(st.binary(max_size=60), st.lists(st.integers(0, 60), max_size=6))
def test_where_a_stream_is_cut_does_not_matter(noise: bytes, cuts: list[int]) -> None:
    stream = b"id: 1\r\ndata: \xe2\x82\xac\r\n\r\n" + noise.replace(b"z", b"\ndata:") + b"\r\r\n\n"
    places = [0, *sorted(cuts), len(stream)]
    pieces = [stream[a:b] for a, b in itertools.pairwise(places)]

    assert parsed(*pieces) == parsed(stream)


@given(
    st.lists(
        st.tuples(
            st.from_regex(r"[0-9]\.[a-z0-9]{1,8}", fullmatch=True),
            st.sampled_from(["status", "progress", "charge"]),
            st.text(st.characters(exclude_characters="\r\n", exclude_categories=["Cs"])),
        )
    ),
    st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_what_is_written_is_what_is_read(events: list[tuple[str, str, str]], end: str) -> None:
    text = "".join(
        f"event: {kind}{end}id: {event_id}{end}data: {data}{end}{end}"
        for event_id, kind, data in events
    )

    assert parsed(text.encode()) == events


def test_the_last_id_goes_on_in_the_next_stream_and_counts_without_data() -> None:
    first = Parser()
    first.feed(b"id: 5\ndata: x\n\nid: 6\n\nid: 7\ndata: not whole")
    second = Parser(first.last_event_id)

    assert first.last_event_id == "6"
    assert second.feed(b"data: y\n\n") == [ServerEvent("6", "message", "y")]


@pytest.mark.parametrize(
    ("line", "retry_ms"),
    [
        (b"retry: 1500\n", 1500),
        (b"retry: 1.5\n", None),
        (b"retry: \xd9\xa1\n", None),
        (b"retry:\n", None),
    ],
)
def test_a_pause_is_digits_alone(line: bytes, retry_ms: int | None) -> None:
    parser = Parser()
    parser.feed(line)

    assert parser.retry_ms == retry_ms


@pytest.mark.parametrize(
    "piece", [b"x" * (1 << 16), b"data: " + b"x" * (1 << 16) + b"\n", b"data\n" * (1 << 13)]
)
def test_what_a_server_may_make_us_hold_is_bounded(piece: bytes) -> None:
    parser = Parser()

    def feed_for_ever() -> None:
        for _ in range(CHARS_MAX):
            parser.feed(piece)

    with pytest.raises(TooLong):
        feed_for_ever()
