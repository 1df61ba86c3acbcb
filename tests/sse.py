"""A client of server-sent events over a socket of its own, for streams of a node or of an app in process."""  # noqa: E501

from __future__ import annotations

import json
import socket
import struct
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import trio
from attrs import define, field, frozen

from tests.http.server import Wire, request

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

RESET = struct.pack("ii", 1, 0)  # closing sends RST
TERMINAL = frozenset({"COMPLETED", "FAILED", "CANCELED", "EXPIRED"})


@frozen
class Event:
    """One event as it came."""

    id: str
    name: str
    data: dict[str, Any]

    @property
    def ends(self) -> bool:
        """Say whether it is the last of its run."""
        return self.name == "status" and self.data["status"] in TERMINAL


@define
class EventStream:
    """A stream that is read as it comes."""

    wire: Wire
    status: int = 0
    headers: dict[str, str] = field(factory=dict)
    comments: list[str] = field(factory=list)
    retry: list[str] = field(factory=list)
    _text: bytearray = field(factory=bytearray)
    ended: bool = False

    async def open(self, path: str, key: str | None, after: str | None = None) -> None:
        """Ask, and read the head."""
        lines = [] if key is None else [f"Authorization: Bearer {key}"]
        lines += [] if after is None else [f"Last-Event-ID: {after}"]
        await self.wire.send(request("GET", path, *lines))
        status, *pairs = (await self.wire.until(b"\r\n\r\n")).decode().split("\r\n")[:-2]
        self.status = int(status.split(" ")[1])
        self.headers = {
            name.lower(): value.strip()
            for name, _, value in (pair.partition(":") for pair in pairs)
        }

    async def next(self) -> Event | None:
        """Return the next event; None = the stream has ended, and in order."""
        await trio.lowlevel.checkpoint()
        found = None
        while found is None:
            block = self._take()
            if block is not None:
                found = self._read(block)
            elif self.ended or not await self._chunk():
                assert not self._text, "the stream ended within an event"
                return None
        return found

    async def rest(self) -> list[Event]:
        """Return all events up to the end of the stream."""
        events = []
        while (event := await self.next()) is not None:
            events.append(event)
        return events

    async def until(self, event_id: str) -> list[Event]:
        """Return all events up to the one of this id."""
        events: list[Event] = []
        while not events or events[-1].id != event_id:
            event = await self.next()
            assert event is not None, f"ended before {event_id}: {ids(events)}"
            events.append(event)
        return events

    def _take(self) -> str | None:
        """Take what stands before the next empty line."""
        end = self._text.find(b"\n\n")
        if end < 0:
            return None
        block = self._text[:end].decode()
        del self._text[: end + 2]
        return block

    def _read(self, block: str) -> Event | None:
        fields: dict[str, str] = {}
        for line in block.split("\n"):
            name, _, value = line.partition(":")
            if not name:
                self.comments.append(value.strip())
            assert name not in fields, block
            fields[name] = value.strip()
        if "retry" in fields:
            self.retry.append(fields["retry"])
        if "data" not in fields:
            return None
        return Event(fields["id"], fields["event"], json.loads(fields["data"]))

    async def _chunk(self) -> bool:
        size = int(await self.wire.until(b"\r\n"), 16)
        self._text += await self.wire.exactly(size)
        await self.wire.exactly(2)
        self.ended = size == 0
        return not self.ended


@asynccontextmanager
async def streaming(
    url: str, run_id: str, key: str | None, after: str | None = None
) -> AsyncIterator[EventStream]:
    """Open the stream of a run's events."""
    target = urlsplit(url)
    assert target.hostname is not None
    assert target.port is not None
    async with await trio.open_tcp_stream(target.hostname, target.port) as stream:
        events = EventStream(Wire(stream))
        await events.open(f"/v1/runs/{run_id}/events", key, after)
        yield events
        if not events.ended:  # gone for good: a half-closed connection is answered for a while
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)


def ids(events: list[Event]) -> list[str]:
    """Return the ids of events."""
    return [event.id for event in events]
