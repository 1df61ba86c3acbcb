"""A plain head is taken apart as h11 would; what is not plain is left to h11."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dpp.http import heads

HEAD = (
    b"POST /v1/runs?a=%20 HTTP/1.1\r\nHost: shop.example:8080\r\nContent-Type: application/json\r\n"
    b"Authorization: Bearer dpp_live_x\r\nAccept:\r\nX-Note:a b  c\r\nContent-Length: 12\r\n\r\n"
)
METHODS = st.sampled_from(
    [b"GET", b"POST", b"OPTIONS", b"CONNECT", b"get", b"G@T", b"M-SEARCH", b""]
)
TARGETS = st.sampled_from(
    [b"/", b"/v1/runs", b"*", b"/a?b#c", b"//h/x", b"http://h/x", b"a", b"/\xff", b"/a b", b""]
)
VERSIONS = st.sampled_from([b"1.1", b"1.0", b"2.0", b"1.10", b"11", b""])
NAMES = st.sampled_from(
    [
        *(b"Host", b"host", b"HOST", b"Content-Length", b"content-length", b"Transfer-Encoding"),
        *(
            b"Connection",
            b"Expect",
            b"Upgrade",
            b"Cookie",
            b"X_y",
            b"Na me",
            b"\xc3\xa9",
            b"A!b",
            b"",
        ),
    ]
)
VALUES = st.one_of(
    st.sampled_from(
        [
            *(b"", b"a", b"0", b"12", b"012", b"+1", b"-1", b"1,1", b"1 1", b"9" * 15, b"9" * 16),
            *(b"9" * 30, b"\xb2", b"chunked", b"gzip, chunked", b"close", b"100-continue", b"h2c"),
        ]
    ),
    st.binary(max_size=8),
    st.text('ab \t,:;"\x7f\x0b\x00', max_size=8).map(str.encode),
)
SEPARATORS = st.sampled_from([b":", b": ", b":  ", b":\t", b" :", b" "])
ENDS = st.sampled_from(
    [b"\r\n", b"\r\n", b"\r\n", b"\r\n", b" \r\n", b"\t\r\n", b"\n", b"\r", b"\r\n "]
)
LINES = st.lists(st.tuples(NAMES, SEPARATORS, VALUES, ENDS).map(b"".join), max_size=5)


@st.composite
def made(draw: st.DrawFn) -> bytes:
    """Draw something like a head: good, nearly so, or not at all."""
    line = b"%b %b HTTP/%b\r\n" % (draw(METHODS), draw(TARGETS), draw(VERSIONS))
    host = draw(st.sampled_from([b"Host: h\r\n", b"Host: h\r\n", b""]))
    return line + host + b"".join(draw(LINES)) + b"\r\n"


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """Draw a good head with some bytes of it replaced, taken out or put in."""
    data = bytearray(HEAD)
    for _ in range(draw(st.integers(0, 3))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 2)))
        data[start:stop] = draw(
            st.binary(max_size=2) | st.sampled_from([b"\r\n", b" ", b":", b"\t"])
        )
    return bytes(data)


@settings(max_examples=3000)
@given(made() | mutated())
@example(HEAD)
def test_a_plain_head_is_to_h11_what_it_is_here(data: bytes) -> None:
    plain = heads._plain(data)

    if plain is not None:
        assert plain == heads._by_h11(data)


def test_a_usual_head_is_plain() -> None:
    """Else all of them would take the long way, and nothing would be tried above."""
    head = HEAD.replace(b"  ", b" ")

    assert heads._plain(head) == heads._by_h11(head)


@pytest.mark.parametrize(
    "change",
    [
        (b"Host: shop.example:8080\r\n", b""),
        (b"Accept:", b"Host: other\r\nAccept:"),
        (b"Accept:", b"X-Note: twice\r\nAccept:"),
        (b"Accept:", b"Transfer-Encoding: chunked\r\nAccept:"),
        (b"Accept:", b"Content-Length: 12\r\nAccept:"),
        (b"Length: 12", b"Length: +12"),
        (b"Length: 12", b"Length: 1234567890123456"),
        (b"HTTP/1.1", b"HTTP/1.0"),
        (b"a b", b"a\xe9b"),
        (b"a b", b"a\tb"),
        (b"a b", b"a b "),
        (b"Accept", b"Acc_pt"),
    ],
)
def test_what_needs_a_second_look_is_left_to_h11(change: tuple[bytes, bytes]) -> None:
    assert heads._plain(HEAD.replace(b"  ", b" ").replace(*change, 1)) is None
