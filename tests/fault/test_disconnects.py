"""A client goes in each phase of its submit, in each way that a connection can end; then it asks again.

Before its request was whole nothing has happened; after that it has, or the node never saw it. The
replay is answered with a run, the same one each time, and by then there is one run and one reserve.
"""  # noqa: E501

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Callable
from enum import StrEnum
from typing import TYPE_CHECKING

import httpx
import pytest
import trio
from attrs import define

from tests.node_client import connected, fresh_key, submission, until
from tests.node_process import NodeProcess, new_name

if TYPE_CHECKING:
    from tests.node_books import Books
    from tests.node_client import Client

BooksOf = Callable[[NodeProcess], "Books"]
RESET = struct.pack("ii", 1, 0)  # SO_LINGER: on, no time: closing sends RST
TIMES = 3
BODY = json.dumps(submission(inputs={"message": "x" * 200})).encode()
LOCK = "select 1 from budgets where tenant_id = $1 for no key update"
SUBMITTED = "select run_id from dpp.submissions where tenant_id = $1 and idempotency_key = $2"
RESERVES = "select count(*) from dpp.submissions where tenant_id = $1"
BLOCKED = "select count(*) from pg_stat_activity where wait_event_type = 'Lock'"


class Phase(StrEnum):
    """How far the submit has come when its client goes."""

    CONNECTED = "connected"
    IN_HEAD = "in the head"
    BEFORE_BODY = "before the body"
    IN_BODY = "in the body"
    SENT = "sent"  # the node may be anywhere
    HELD = "held"  # its transaction waits for the budget's row
    COMMITTED = "committed"  # the answer is on its way
    ANSWERED = "in the answer"  # its first byte was read


class Way(StrEnum):
    """How the connection ends."""

    CLOSED = "closed"
    RESET = "reset"
    HALF_CLOSED = "half closed"  # and nobody reads


EARLY = {Phase.CONNECTED, Phase.IN_HEAD, Phase.BEFORE_BODY, Phase.IN_BODY}


@define(eq=False)
class Submit:
    """One submit by hand."""

    node: NodeProcess
    books: Books
    tenant: str
    key: str
    idempotency_key: str

    @property
    def head(self) -> bytes:
        return (
            f"POST /v1/runs HTTP/1.1\r\nHost: dpp\r\nAuthorization: Bearer {self.key}\r\n"
            f"Idempotency-Key: {self.idempotency_key}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(BODY)}\r\n\r\n"
        ).encode()

    async def begin(self, phase: Phase, way: Way) -> None:
        """Submit up to this phase, and go in this way."""
        if phase is Phase.HELD:
            held = await self.books.hold(LOCK, self.tenant)
            await self._go(phase, way)
            await self.books.let_go(held)
        else:
            await self._go(phase, way)

    async def _go(self, phase: Phase, way: Way) -> None:
        target = httpx.URL(self.node.url)
        stream = await trio.open_tcp_stream(target.host, target.port)
        await stream.send_all(self.part(phase))
        if phase is Phase.HELD:
            await until(self.is_blocked)
        elif phase is Phase.COMMITTED:
            await until(self.run_id)
        elif phase is Phase.ANSWERED:
            assert await stream.receive_some(1) == b"H"
        if way is Way.RESET:
            stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        if way is Way.HALF_CLOSED:
            await stream.send_eof()
            if phase in EARLY:  # it gets what there is to say of it; the others' answer is read
                await read_to_the_end(stream)
        await stream.aclose()

    def part(self, phase: Phase) -> bytes:
        """Return what is sent before the client goes."""
        return {
            Phase.CONNECTED: b"",
            Phase.IN_HEAD: self.head[:60],
            Phase.BEFORE_BODY: self.head,
            Phase.IN_BODY: self.head + BODY[:100],
        }.get(phase, self.head + BODY)

    async def is_blocked(self) -> bool:
        return bool(await self.books.value(BLOCKED))

    async def run_id(self) -> str | None:
        """Return the run that is committed under the key."""
        rows = await self.books.rows(SUBMITTED, self.tenant, self.idempotency_key)
        return str(rows[0]["run_id"]) if rows else None

    async def replay(self, client: Client) -> httpx.Response:
        """Ask again until the answer is definite."""

        async def ask() -> httpx.Response | None:
            headers = {"Idempotency-Key": self.idempotency_key, "Content-Type": "application/json"}
            answer = await client.ask("POST", "/v1/runs", content=BODY, headers=headers)
            return None if answer.status_code == 503 else answer

        return await until(ask)


async def read_to_the_end(stream: trio.SocketStream) -> None:
    while await stream.receive_some(65_536):
        pass


@pytest.mark.parametrize("phase", Phase)
async def test_a_client_that_goes_in_any_phase_finds_one_run_when_it_asks_again(
    served_node: NodeProcess, books_of: BooksOf, phase: Phase
) -> None:
    name, books = new_name(), books_of(served_node)
    key = served_node.tenant(name)
    submits = [
        (Submit(served_node, books, name, key, fresh_key()), way)
        for way in Way
        for _ in range(TIMES)
    ]
    async with connected(served_node.url, key) as client:
        for submit, way in submits:
            await submit.begin(phase, way)
            before = await submit.run_id()

            first = await submit.replay(client)
            second = await submit.replay(client)

            assert (first.status_code, second.status_code) == (201, 201)
            run_id = first.json()["run_id"]
            assert second.json()["run_id"] == run_id
            assert second.headers["idempotency-replayed"] == "true"
            assert before in (None, run_id)
            replayed = "idempotency-replayed" in first.headers
            if phase in EARLY:
                assert not replayed, "a run was made of half a request"
            elif phase is not Phase.SENT:
                assert replayed, "what had begun was not brought to its end"
        for submit, _ in submits:
            await client.ended(await until(submit.run_id))

    assert await books.value(RESERVES, name) == len(submits)
    await books.judge()
    assert served_node.running
