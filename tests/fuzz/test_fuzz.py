"""A slice of the hostile run, its raw inputs one by one, and the judge itself."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest
import trio

from dpp import metrics
from dpp.http import worker
from dpp.http.connection import Connection
from tests.fuzz import answers
from tests.fuzz.cases import Keys, Parting, case
from tests.fuzz.corpus import RAW
from tests.fuzz.run import CONFIG, run
from tests.http.server import echo, get, listening

if TYPE_CHECKING:
    from tests.conftest import StartNode

KEYS = Keys("dpp_live_a", "dpp_live_b")
HEAD = (
    b"HTTP/1.1 %b\r\ndate: x\r\nx-request-id: r\r\nx-content-type-options: nosniff\r\n"
    b"content-security-policy: default-src 'none'\r\n%b\r\n"
)
PROBLEM = (
    b'{"type":"https://dpp.dev/problems/not-found","title":"t","status":404,"detail":"d",'
    b'"instance":"/","request_id":"r"}'
)


@pytest.mark.parametrize(
    ("server", "seed", "requests"),
    [("actor", 1, 5000), ("hypercorn", 2, 2000)],
)
def test_hostile_requests_harm_nothing(
    fresh_node: StartNode, server: str, seed: int, requests: int
) -> None:
    node = fresh_node(CONFIG, {"DPP_HTTP__SERVER": server})
    asked = argparse.Namespace(
        server=server, seed=seed, requests=requests, seconds=float("inf"), only=None
    )

    table = run(node, asked)

    assert table["wrong"] == []
    assert table["requests"] >= requests
    assert table["books"]["acknowledged"] > 0
    assert {int(told[:3]) for told in table["answers"] if told[0].isdigit()} > {200, 201, 400, 422}


@pytest.mark.parametrize("make", [Connection, worker.connections(None)], ids=["actor", "hypercorn"])
async def test_no_raw_input_ends_a_server_or_its_neighbours(make: type[Connection]) -> None:
    before = metrics.http_connection_faults_total._value.get()
    async with listening(echo, make=make) as server, server.connect() as neighbour:
        for name, data in RAW.items():
            with trio.move_on_after(10) as limit:
                async with server.connect() as wire:
                    try:
                        await wire.send(data)
                        await wire.stream.send_eof()
                        came = await wire.rest()
                    except trio.BrokenResourceError:
                        came = b""  # refused, and closed before all was sent
            assert not limit.cancelled_caught, name
            assert b"HTTP/1.1 101" not in came, name
            assert b"HTTP/1.1 5" not in came, name
            assert (await neighbour.ask(get("/alive"))).body == b"GET /alive ", name
    assert metrics.http_connection_faults_total._value.get() == before


def test_same_seed_makes_the_same_cases_and_another_makes_others() -> None:
    made = [[case(seed, number, KEYS) for number in range(200)] for seed in (5, 5, 6)]

    assert made[0] == made[1]
    assert made[0] != made[2]
    assert {one.parting for one in made[0]} == {*Parting}
    assert len({one.kind for one in made[0]}) == 10


def test_good_answers_are_read_one_after_the_other() -> None:
    refused = HEAD % (
        b"404 Not Found",
        b"content-type: application/problem+json\r\ncontent-length: %d\r\n" % len(PROBLEM),
    )
    data = b"".join(
        (
            HEAD % (b"200 OK", b"content-length: 2\r\n") + b"ok",
            answers.CONTINUE,
            HEAD % (b"200 OK", b"content-length: 2\r\n"),  # to a HEAD
            HEAD % (b"204 No Content", b""),
            HEAD % (b"200 OK", b"transfer-encoding: chunked\r\n") + b"2\r\nok\r\n0\r\n\r\n",
            refused + PROBLEM,
        )
    )

    found = answers.read(data, heads_possible=True)

    assert [(one.status, one.body) for one in found[:4]] == [
        *((200, b"ok"), (200, b""), (204, b""), (200, b"ok")),
    ]
    assert (found[4].status, found[4].problem) == (404, "not-found")


@pytest.mark.parametrize(
    "data",
    [
        b"nonsense",
        b"HTTP/1.0 200 OK\r\n\r\n",
        HEAD % (b"200 OK", b""),
        HEAD % (b"200 OK", b"content-length: 3\r\n") + b"ok",
        HEAD % (b"200 OK", b"content-length: 2\r\n") + b"okay",
        HEAD % (b"200 OK", b"content-length: 2\r\ncontent-length: 2\r\n") + b"ok",
        HEAD % (b"200 OK", b"transfer-encoding: chunked\r\n") + b"2\r\nok\r\n",
        HEAD.replace(b"x-request-id: r\r\n", b"") % (b"200 OK", b"content-length: 0\r\n"),
        HEAD % (b"400 Bad", b"content-length: 2\r\n") + b"{}",
        HEAD % (b"429 Many", b"content-type: application/problem+json\r\ncontent-length: 0\r\n"),
        *(
            HEAD
            % (
                b"404 Not Found",
                b"content-type: application/problem+json\r\ncontent-length: %d\r\n" % len(body),
            )
            + body
            for body in (
                PROBLEM.replace(b"not-found", b"internal-error"),
                PROBLEM.replace(b"not-found", b"no-such-problem"),
                PROBLEM.replace(b'"r"', b'"other"'),
                PROBLEM.replace(b'"d"', b'""'),
                PROBLEM.replace(b'"d"', b'"Traceback (most"'),
                b"not JSON",
            )
        ),
        HEAD
        % (
            b"500 Sorry",
            b"content-type: application/problem+json\r\ncontent-length: %d\r\n" % len(PROBLEM),
        )
        + PROBLEM.replace(b"not-found", b"internal-error"),
    ],
)
def test_wrong_answers_are_found(data: bytes) -> None:
    with pytest.raises((answers.Wrong, ValueError)):
        answers.read(data, heads_possible=False)
