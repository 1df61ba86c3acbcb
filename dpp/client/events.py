"""The events of a run as they happen, over as many connections as that takes."""

from __future__ import annotations

from attrs import evolve

from dpp.client import asking
from dpp.client.faults import BadAnswer, TransportError
from dpp.client.runs import path
from dpp.client.sse import Parser, TooLong
from dpp.client.steps import Context, Item, Items, Pause, Shut, Steps, now, read
from dpp.client.values import Malformed, RunEvent

EVENTS = "text/event-stream"
HEARD_S = 15  # the server says at least a comment so often; reads wait so much longer
OK, NO_CONTENT = 200, 204


def stream_events(
    context: Context, run_id: str, last_event_id: str | None = None
) -> Items[RunEvent]:
    """Give what happens to a run until it has ended: its status, its progress, its charges.

    A connection that is cut is opened again behind the last event. `last_event_id`: where an
    earlier stream has ended; else all from the beginning.
    """
    parser = Parser(last_event_id or "")
    silent = 0  # connections in a row that brought nothing
    while True:
        cut: TransportError | None = None
        heard, began = False, (yield from now())
        url = yield from _opened(context, run_id, parser.last_event_id)
        try:
            while piece := (yield from read()):
                for event in _read(parser, piece, url):
                    heard = True
                    yield Item(event)
                    if event.last:
                        yield Shut()
                        return
        except TransportError as failure:
            cut = failure
        yield Shut()
        lasted_s = (yield from now()) - began
        silent = 0 if heard or lasted_s > HEARD_S else silent + 1
        lost = cut or TransportError(url, "the stream ended before the run", sent=True)
        asked_s = (parser.retry_ms or 0) / 1000
        yield from asking.pause_after(
            context,
            lost,
            repeatable=True,
            attempt=max(silent, 1),
            left_s=context.retries.total_s,
        )
        if asked_s:
            yield Pause(min(asked_s, context.retries.pause_max_s))
        parser = Parser(parser.last_event_id, parser.retry_ms)


def _opened(context: Context, run_id: str, last_event_id: str) -> Steps[str]:
    headers = {"Accept": EVENTS, "Cache-Control": "no-store"}
    if last_event_id:
        headers["Last-Event-ID"] = last_event_id
    request = evolve(asking.get(f"{path(run_id)}/events"), headers=headers, wait_s=HEARD_S)
    reply = yield from asking.opened(context, request)
    kind = reply.headers.get("content-type", "").partition(";")[0].strip()
    if reply.status == NO_CONTENT or kind != EVENTS:
        raise BadAnswer(reply.url, reply.status, "which is no stream of events")
    return reply.url


def _read(parser: Parser, piece: bytes, url: str) -> list[RunEvent]:
    try:
        return [RunEvent.of(said) for said in parser.feed(piece)]
    except (Malformed, TooLong) as error:
        raise BadAnswer(url, OK, f"with {error}") from error
