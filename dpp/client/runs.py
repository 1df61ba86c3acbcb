"""A tenant's client: submit a run, follow it to its end, ask for budget and ledger.

One idempotency key names a submission over all its retries, so a lost answer never buys twice.
"""

from __future__ import annotations

import threading
import uuid
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
from attrs import define, field, frozen

from dpp.client.keys import Bearer, Renewed
from dpp.client.transport import Connected, Document, Retries, Transport
from dpp.client.values import Budget, Run, Transfer

PAGE = 200  # the most that a list gives at once
LOOK_S = 1  # how long one question of `watch` waits for the end; progress is as fresh as this
PAUSE_S = 0.1  # a node that drains answers every wait at once: do not spin on it


@frozen(kw_only=True)
class Submission:
    """What to run, and the most it may cost. None = the server's default."""

    pack_type: str
    max_cost_usd: str
    inputs: Mapping[str, Any] = field(factory=dict)
    timebox_s: int | None = None
    priority: int | None = None

    def document(self) -> Document:
        """Return the request's body."""
        members = {
            "pack_type": self.pack_type,
            "inputs": dict(self.inputs),
            "max_cost_usd": self.max_cost_usd,
            "timebox_s": self.timebox_s,
            "priority": self.priority,
        }
        return {name: value for name, value in members.items() if value is not None}


@frozen
class Page:
    """One page of runs, newest first; `next_cursor` asks for the next."""

    runs: tuple[Run, ...]
    next_cursor: str | None


@define(eq=False)
class Client(Connected):
    """A context manager. `key` is an API key, or what signs requests."""

    url: str
    key: str | httpx.Auth = field(repr=False)
    retries: Retries = field(factory=Retries)
    _closed: threading.Event = field(factory=threading.Event, init=False)

    def __attrs_post_init__(self) -> None:
        auth = Bearer(self.key) if isinstance(self.key, str) else self.key
        self._transport = Transport(self.url, auth, self.retries)

    def close(self) -> None:
        """Close the connections, and end the pauses of a `watch` in another thread."""
        self._closed.set()
        super().close()
        if isinstance(self.key, Renewed):
            self.key.end()

    def submit(self, submission: Submission, *, idempotency_key: str | None = None) -> Run:
        """Submit once, however often it has to be asked; returns the run, new or of before."""
        key = idempotency_key or str(uuid.uuid4())
        return Run.of(
            self._transport.post(
                "/v1/runs",
                submission.document(),
                headers={"Idempotency-Key": key},
                repeatable=True,
            )
        )

    def get(self, run_id: str, *, wait_s: int = 0) -> Run:
        """Return the run as it is, or as it is when it ended or `wait_s` passed."""
        params = {"wait": wait_s} if wait_s else None
        return Run.of(self._transport.get(_path(run_id), params, wait_s=wait_s))

    def watch(self, run_id: str) -> Iterator[Run]:
        """Yield the run about once a second while it lasts; the last one has ended."""
        while True:
            run = self.get(run_id, wait_s=LOOK_S)
            yield run
            if run.ended:
                return
            self._closed.wait(PAUSE_S)

    def wait(self, run_id: str) -> Run:
        """Return the run when it has ended."""
        *_, run = self.watch(run_id)
        return run

    def cancel(self, run_id: str) -> Run:
        """Ask for the end of a run; one that has ended stays as it is."""
        return Run.of(self._transport.post(f"{_path(run_id)}:cancel", repeatable=True))

    def page(
        self, *, limit: int = PAGE, cursor: str | None = None, idempotency_key: str | None = None
    ) -> Page:
        """Return one page of runs, newest first."""
        asked = {"limit": limit, "cursor": cursor, "idempotency_key": idempotency_key}
        params = {name: value for name, value in asked.items() if value is not None}
        answer = self._transport.get("/v1/runs", params)
        return Page(tuple(map(Run.of, answer["items"])), answer.get("next_cursor"))

    def budget(self) -> Budget:
        """Return the tenant's budget."""
        return Budget.of(self._transport.get("/v1/budget"))

    def transfers(self) -> Iterator[Transfer]:
        """Yield the tenant's ledger, newest first, page by page."""
        cursor: str | None = None
        while True:
            params: dict[str, str | int] = {"limit": PAGE, **({"cursor": cursor} if cursor else {})}
            answer = self._transport.get("/v1/transfers", params)
            yield from map(Transfer.of, answer["items"])
            cursor = answer.get("next_cursor")
            if cursor is None:
                return


def _path(run_id: str) -> str:
    return f"/v1/runs/{quote(run_id, safe='')}"
