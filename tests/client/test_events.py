"""Streams of events over real sockets: read on behind the last event when they are cut."""

from __future__ import annotations

import json
from typing import Any

import pytest

from dpp.client import (
    AsyncClient,
    BadAnswer,
    Client,
    InvalidRequest,
    NotFound,
    RunEvent,
    TransportError,
)
from tests.cli.peers import Says, peer
from tests.client.conftest import KEY, QUICK, Ask, problem

HEADERS = {"Content-Type": "text/event-stream"}


def event(event_id: str, kind: str, **data: Any) -> str:
    return f"event: {kind}\nid: {event_id}\ndata: {json.dumps(data)}\n\n"


def stream(*events: str, **more: Any) -> Says:
    return Says(200, "retry: 1\n\n" + "".join(events), HEADERS, streamed=True, **more)


QUEUED = event("0.queued", "status", status="QUEUED", attempt=1)
HALF = event("1.1", "progress", fraction=0.5, note="half")
CHARGE = event("1.2", "charge", amount_usd="0.05", reason="", charged_usd="0.05")
END = event("1.end", "status", status="COMPLETED", attempt=1)


def events(client: Any) -> Any:
    return client.stream_events("r1")


def test_a_stream_ends_with_the_run_and_reads_no_further(ask: Ask) -> None:
    with peer([stream(QUEUED, ": still there\n\n", HALF, CHARGE, END, QUEUED)]) as server:
        told = ask(server.url, events)

    (asked,) = server.asked
    assert (asked.path, asked.headers["Accept"]) == ("/v1/runs/r1/events", "text/event-stream")
    assert "Last-Event-ID" not in asked.headers
    assert [one.event_id for one in told] == ["0.queued", "1.1", "1.2", "1.end"]
    assert [one.last for one in told] == [False, False, False, True]
    assert told[1] == RunEvent(
        event_id="1.1", kind="progress", data={"fraction": 0.5, "note": "half"}
    )
    assert (str(told[2].usd("amount_usd")), told[2].usd("other")) == ("0.05", None)


@pytest.mark.parametrize("half", [HALF, HALF[:-1], HALF[:-20], ""])
def test_a_cut_stream_goes_on_behind_the_last_whole_event(ask: Ask, half: str) -> None:
    rest = stream(CHARGE, END) if half == HALF else stream(HALF, CHARGE, END)
    with peer([stream(QUEUED, half), Says(None), problem(503, "0"), rest]) as server:
        told = ask(server.url, events)

    assert [one.event_id for one in told] == ["0.queued", "1.1", "1.2", "1.end"]
    last_ids = [asked.headers.get("Last-Event-ID") for asked in server.asked]
    seen = "1.1" if half == HALF else "0.queued"
    assert last_ids == [None, seen, seen, seen]


def test_a_stream_may_begin_behind_an_event(ask: Ask) -> None:
    with peer([stream(END)]) as server:
        ask(server.url, lambda client: client.stream_events("r1", "1.2"))

    assert server.asked[0].headers["Last-Event-ID"] == "1.2"


def test_streams_that_bring_nothing_are_not_opened_for_ever(ask: Ask) -> None:
    with peer([stream(QUEUED), stream()]) as server, pytest.raises(TransportError):
        ask(server.url, events)

    assert len(server.asked) == 1 + QUICK.attempts


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(404, name="not-found"), NotFound),
        (problem(422, name="invalid-request"), InvalidRequest),
        (Says(200, "{}"), BadAnswer),
        (Says(204, "", HEADERS), BadAnswer),
        (stream("id: 1\ndata: no json\n\n"), BadAnswer),
        (stream("id: 1\ndata: []\n\n"), BadAnswer),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_what_is_no_stream_is_said_at_once(ask: Ask, answer: Says, error: type[Exception]) -> None:
    with peer([answer]) as server, pytest.raises(error):
        ask(server.url, events)

    assert len(server.asked) == 1


def test_who_leaves_a_stream_hangs_up() -> None:
    with peer([stream(QUEUED, HALF, END)]) as server, Client(server.url, KEY) as client:
        with client.stream_events("r1") as told:
            first = next(told)
        rest = list(told)

    assert (first.status, rest) == ("QUEUED", [])


async def test_who_leaves_a_stream_on_a_loop_hangs_up() -> None:
    with peer([stream(QUEUED, HALF, END)]) as server:
        async with AsyncClient(server.url, KEY) as client:
            async with client.stream_events("r1") as told:
                first = await anext(told)
            rest = [one async for one in told]

    assert (first.status, rest) == ("QUEUED", [])
