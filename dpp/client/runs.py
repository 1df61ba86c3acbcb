"""Runs: look at one, wait for its end, follow it, cancel it, list them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from attrs import evolve

from dpp.client import asking
from dpp.client.faults import InvalidRequest, WaitTimedOut
from dpp.client.steps import Context, Item, Items, Pause, Steps, now
from dpp.client.values import Page, Run

LOOK_S = 1  # one question of `watch`: progress is as fresh as this
PAUSE_S = 0.1  # a node that drains answers every wait at once: do not spin on it
ALWAYS = 1 << 30  # tries of a wait: its time is what bounds it


def path(run_id: str) -> str:
    """Return where a run is."""
    return f"/v1/runs/{quote(run_id, safe='')}"


def run(context: Context, run_id: str) -> Steps[Run]:
    """Return a run as it is."""
    return asking.fetch(context, asking.get(path(run_id)), Run)


def wait(context: Context, run_id: str, timeout: float | None = None) -> Steps[Run]:
    """Return a run when it has ended, however long that takes, or raise `WaitTimedOut`.

    Restarts of the server are waited out: with a `timeout` (seconds) as long as that allows, else
    each for as long as the client retries.
    """
    until = None if timeout is None else (yield from now()) + timeout
    found = yield from _look(context, run_id, until)
    while not found.ended:
        if until is not None and (yield from now()) >= until:
            raise WaitTimedOut(found)
        found = yield from _look_again(context, run_id, until)
    return found


def waited(context: Context, known: Run, until: float) -> Steps[Run]:
    """Return a run when it has ended, or as it is at `until`."""
    found = known
    while not found.ended and (yield from now()) < until:
        found = yield from _look_again(context, found.run_id, until)
    return found


def watch(context: Context, run_id: str) -> Items[Run]:
    """Give a run about once a second while it lasts; the last one has ended."""
    while True:
        request = asking.get(path(run_id), asking.params(wait=LOOK_S), wait_s=LOOK_S)
        found = yield from asking.fetch(context, request, Run)
        yield Item(found)
        if found.ended:
            return
        yield Pause(PAUSE_S)


def cancel(context: Context, run_id: str) -> Steps[Run]:
    """Ask for the end of a run; one that has ended stays as it is."""
    request = asking.send("POST", f"{path(run_id)}:cancel", {}, repeatable=True)
    return asking.fetch(context, request, Run)


def runs(
    context: Context,
    *,
    status: str | None = None,
    pack_type: str | None = None,
    created_after: datetime | str | None = None,
    created_before: datetime | str | None = None,
    idempotency_key: str | None = None,
) -> Items[Run]:
    """Give the tenant's runs, newest first, page after page."""
    query = _query(status, pack_type, created_after, created_before, idempotency_key)
    return asking.pages(context, "/v1/runs", Run, **query)


def runs_page(
    context: Context,
    *,
    limit: int = asking.PAGE,
    cursor: str | None = None,
    status: str | None = None,
    pack_type: str | None = None,
    created_after: datetime | str | None = None,
    created_before: datetime | str | None = None,
    idempotency_key: str | None = None,
) -> Steps[Page[Run]]:
    """Return one page of runs, at most 200, for who keeps the place in a list himself."""
    query = _query(status, pack_type, created_after, created_before, idempotency_key)
    found, next_cursor = yield from asking.page(
        context, "/v1/runs", Run, limit=limit, cursor=cursor, **query
    )
    return Page(tuple(found), next_cursor)


def _query(
    status: str | None,
    pack_type: str | None,
    created_after: datetime | str | None,
    created_before: datetime | str | None,
    idempotency_key: str | None,
) -> Mapping[str, Any]:
    return {
        "status": status,
        "pack_type": pack_type,
        "created_after": asking.moment(created_after),
        "created_before": asking.moment(created_before),
        "idempotency_key": idempotency_key,
    }


def _look_again(context: Context, run_id: str, until: float | None) -> Steps[Run]:
    yield Pause(PAUSE_S if context.long_s else LOOK_S)
    return (yield from _look(context, run_id, until))


def _look(context: Context, run_id: str, until: float | None) -> Steps[Run]:
    """Ask once, long: the server answers at the run's end, or after a while.

    A server that is set to shorter waits refuses ours; from then on it is asked for half of that.
    """
    wait_s, retries = context.long_s, context.retries
    if until is not None:
        left_s = max(until - (yield from now()), 0.0)
        wait_s = min(context.long_s, int(left_s))
        retries = evolve(retries, attempts=ALWAYS, total_s=left_s)
    request = asking.get(path(run_id), asking.params(wait=wait_s or None), wait_s=wait_s)
    try:
        reply = yield from asking.asked(context, request, retries)
    except InvalidRequest as refused:
        if all(error.pointer != "/query/wait" for error in refused.errors):
            raise
        context.long_s = wait_s // 2
        return (yield from _look(context, run_id, until))
    return asking.value_of(reply, Run)
