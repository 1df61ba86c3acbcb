"""Server-sent events, read by the rules of the WHATWG HTML standard, section 9.2.6.

Bytes in, events out; where the network cuts them does not matter. What a server may make a client
hold is bounded.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator
from typing import Final

from attrs import define, field, frozen

CHARS_MAX: Final = 4 << 20  # of one event; a run's are far below
BOM: Final = "\N{ZERO WIDTH NO-BREAK SPACE}"


class TooLong(ValueError):
    """An event is longer than any that DPP sends."""


@frozen
class ServerEvent:
    """One event. `event_id`: the last id that was sent, with this event or before it."""

    event_id: str
    kind: str
    data: str


@define(eq=False)
class Parser:
    """The state of one stream. `last_event_id` outlives it: the next stream begins with it."""

    last_event_id: str = ""
    retry_ms: int | None = None  # what the server asked to wait before a stream is opened again
    _decoder: codecs.IncrementalDecoder = field(
        factory=lambda: codecs.getincrementaldecoder("utf-8")("replace"), init=False
    )
    _began: bool = field(default=False, init=False)
    _after_cr: bool = field(default=False, init=False)  # a "\n" that comes next belongs to it
    _line: str = field(default="", init=False)
    _id: str = field(init=False)
    _kind: str = field(default="", init=False)
    _data: list[str] = field(factory=list, init=False)
    _chars: int = field(default=0, init=False)

    def __attrs_post_init__(self) -> None:
        self._id = self.last_event_id

    def feed(self, piece: bytes) -> list[ServerEvent]:
        """Return the events that these bytes complete; raises `TooLong`."""
        text = self._decoder.decode(piece)
        if not self._began and text:
            self._began, text = True, text.removeprefix(BOM)
        events = [event for line in self._lines(text) if (event := self._take(line)) is not None]
        if self._chars + len(self._line) > CHARS_MAX:
            raise TooLong("an event longer than any of a run")
        return events

    def _lines(self, text: str) -> Iterator[str]:
        """Yield the whole lines; a line ends with CR, LF or both. The rest waits for more."""
        if self._after_cr and text:
            text = text.removeprefix("\n")
            self._after_cr = False
        if text.endswith("\r"):
            self._after_cr = True
        *lines, rest = text.replace("\r\n", "\n").replace("\r", "\n").split("\n")
        for line in lines:
            whole, self._line = self._line + line, ""
            yield whole
        self._line += rest

    def _take(self, line: str) -> ServerEvent | None:
        if not line:
            return self._dispatch()
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        match name:  # a comment has no name
            case "event":
                self._kind = value
            case "data":
                self._data.append(value)
                self._chars += len(value) + 1
            case "id" if "\0" not in value:
                self._id = value
            case "retry" if value.isascii() and value.isdigit():
                self.retry_ms = int(value)
        return None

    def _dispatch(self) -> ServerEvent | None:
        """End an event; one without data is none, but its id counts."""
        self.last_event_id = self._id
        kind, data = self._kind or "message", self._data
        self._kind, self._data, self._chars = "", [], 0
        return ServerEvent(self._id, kind, "\n".join(data)) if data else None
