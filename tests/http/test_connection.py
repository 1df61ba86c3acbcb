"""The connection actor over raw sockets: what HTTP/1.1 asks of a server, point by point."""

from __future__ import annotations

import socket
import tracemalloc
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import trio
from attrs import evolve
from trio.testing import wait_all_tasks_blocked

from dpp import metrics
from dpp.http import worker
from dpp.http.chunks import CHUNKS_MAX
from dpp.http.connection import Connection
from dpp.http.exchange import WRITE_MAX
from dpp.http.inbox import AHEAD_MAX
from tests.http.server import PATIENT, answer, echo, get, listening, read_all, request

if TYPE_CHECKING:
    from collections.abc import Callable

    from dpp.http.asgi import Receive, Scope, Send
    from dpp.http.connection import Served

HASTY = evolve(
    PATIENT, idle_s=0.05, head_s=0.05, body_s=0.05, send_s=0.05, half_close_s=0.05, linger_s=0.05
)


async def ignore_body(_scope: Scope, _receive: Receive, send: Send) -> None:
    await answer(send, b"done")


async def test_answer_has_length_and_date_and_names_no_server() -> None:
    async with listening(echo) as server:
        reply = await server.ask(get("/a%20b?q=1"))

    assert reply.status == 200
    assert reply.body == b"GET /a b "
    assert reply.headers["content-length"] == "9"
    assert "date" in reply.headers
    assert "server" not in reply.headers
    assert "connection" not in reply.headers


async def test_connection_is_kept_for_the_next_request() -> None:
    async with listening(echo) as server, server.connect() as wire:
        first = await wire.ask(request("POST", "/1", body=b"one"))
        second = await wire.ask(request("POST", "/2", body=b"two"))

    assert (first.body, second.body) == (b"POST /1 one", b"POST /2 two")


async def test_whole_answer_goes_out_in_one_segment() -> None:
    async with listening(echo) as server, server.connect() as wire:
        await wire.send(get())
        first = await wire.stream.receive_some(65536)

    assert first.endswith(b"\r\n\r\nGET / ")


@pytest.mark.parametrize("more", [False, True])
async def test_large_answer_is_held_once_while_its_reader_takes_it(*, more: bool) -> None:
    body, begun = b"x" * (64 * WRITE_MAX), trio.Event()
    length = {"content_length": str(len(body))}

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        begun.set()
        if not more:
            await answer(send, body)
            return
        await answer(send, body, more=True, **length)
        await send({"type": "http.response.body", "body": b""})

    async with listening(app) as server, server.connect() as wire:
        tracemalloc.start()
        try:
            await wire.send(get())
            await begun.wait()
            await wait_all_tasks_blocked(0.05)
            held = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
        reply = await wire.reply()

    assert held < len(body) // 8
    assert reply.body == body


async def test_pipelined_requests_are_answered_in_order() -> None:
    asked = b"".join(request("POST", f"/{n}", body=b"x" * n) for n in range(1000))
    async with listening(echo) as server, server.connect() as wire, trio.open_nursery() as nursery:
        nursery.start_soon(wire.send, asked)
        bodies = [(await wire.reply()).body for n in range(1000)]

    assert bodies == [f"POST /{n} ".encode() + b"x" * n for n in range(1000)]


@pytest.mark.parametrize("streamed", [False, True])
async def test_who_asks_and_takes_at_once_holds_up_nobody(*, streamed: bool) -> None:
    """Neither pipelined requests nor pieces of a stream may go on without a turn for others."""
    turns, seen = 0, []

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        pieces = 20 if streamed else 1
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for n in range(1, pieces + 1):
            seen.append(turns)
            await send({"type": "http.response.body", "body": b"x", "more_body": n < pieces})

    async def others() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    asked = get() * (1 if streamed else 20)
    async with listening(app) as server, server.connect() as wire, trio.open_nursery() as nursery:
        nursery.start_soon(others)
        await wire.send(asked)
        for _ in range(1 if streamed else 20):
            await wire.reply()
        nursery.cancel_scope.cancel()

    assert len(seen) == 20
    assert len(set(seen)) >= 10  # within a turn the loop runs its tasks in any order


async def test_request_split_at_every_byte_is_read() -> None:
    async with listening(echo) as server, server.connect() as wire:
        for byte in request("POST", "/split", body=b"body"):
            await wire.send(bytes([byte]))
        reply = await wire.reply()

    assert reply.body == b"POST /split body"


async def test_empty_lines_before_a_request_are_passed_over() -> None:
    async with listening(echo) as server, server.connect() as wire:
        first = await wire.ask(b"\r\n" + get("/1"))
        second = await wire.ask(b"\r\n\r\n" + get("/2"))

    assert (first.body, second.body) == (b"GET /1 ", b"GET /2 ")


async def test_close_is_honoured_and_what_follows_is_ignored() -> None:
    async with listening(echo) as server, server.connect() as wire:
        reply = await wire.ask(get("/last", "Connection: close") + b"\r\n" + get("/after"))

        assert reply.body == b"GET /last "
        assert reply.headers["connection"] == "close"
        assert await wire.ended()


async def test_head_gets_the_length_and_no_body() -> None:
    async with listening(echo) as server, server.connect() as wire:
        head = await wire.ask(request("HEAD", "/x"), "HEAD")
        after = await wire.ask(get("/y"))

    assert head.headers["content-length"] == "8"
    assert after.body == b"GET /y "


@pytest.mark.parametrize("status", [204, 304])
async def test_statuses_without_body_have_none(status: int) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"not sent", status)

    async with listening(app) as server, server.connect() as wire:
        first = await wire.ask(get())
        second = await wire.ask(get())

    assert (first.status, first.body, second.status) == (status, b"", status)
    assert "content-length" not in first.headers


async def test_http_1_0_is_answered_and_closed() -> None:
    async with listening(echo) as server, server.connect() as wire:
        reply = await wire.ask(b"GET /old HTTP/1.0\r\n\r\n")

        assert reply.body == b"GET /old "
        assert reply.headers["connection"] == "close"
        assert await wire.ended()


async def test_expecting_client_is_told_to_go_on_only_when_the_body_is_wanted() -> None:
    head = b"POST /e HTTP/1.1\r\nHost: dpp\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"

    async with listening(echo) as server, server.connect() as wire:
        await wire.send(head)
        told = await wire.until(b"\r\n\r\n")
        reply = await wire.ask(b"body")
    async with listening(ignore_body) as server, server.connect() as wire:
        refused = await wire.ask(head)
        closed = await wire.ended()

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert reply.body == b"POST /e body"
    assert (refused.body, refused.headers["connection"], closed) == (b"done", "close", True)


@pytest.mark.parametrize("reads_first", [True, False])
async def test_an_app_that_reads_and_answers_in_two_tasks_meets_itself_not(
    *, reads_first: bool
) -> None:
    """As Quart does: one task asks for the body, which says 100 Continue, one answers."""
    head = b"POST /e HTTP/1.1\r\nHost: dpp\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        async def read() -> None:
            await receive()

        async def answer() -> None:
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"done"})
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            for task in (read, answer) if reads_first else (answer, read):
                nursery.start_soon(task)

    async with listening(app) as server:
        for _ in range(20):  # which task goes first is by chance
            async with server.connect() as wire:
                await wire.send(head)
                said = await wire.until(b"done")
            assert said.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n").startswith(b"HTTP/1.1 200")


async def test_expecting_client_that_sends_at_once_is_not_told() -> None:
    async with listening(echo) as server:
        reply = await server.ask(request("POST", "/e", "Expect: 100-continue", body=b"body"))

    assert (reply.status, reply.body) == (200, b"POST /e body")


async def test_expecting_client_that_then_sends_nothing_is_answered_408() -> None:
    head = b"POST /e HTTP/1.1\r\nHost: dpp\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
    patience = evolve(PATIENT, body_s=0.1)

    async with listening(echo, patience=patience) as server, server.connect() as wire:
        await wire.send(head)
        told = await wire.until(b"\r\n\r\n")
        reply = await wire.reply()
        closed = await wire.ended()

    assert told == b"HTTP/1.1 100 Continue\r\n\r\n"
    assert (reply.status, reply.headers["connection"], closed) == (408, "close", True)


async def test_small_unread_body_is_drained_and_the_connection_kept() -> None:
    async with listening(ignore_body) as server, server.connect() as wire:
        first = await wire.ask(request("POST", "/", body=b"x" * 60_000))
        second = await wire.ask(get())

    assert (first.status, second.status) == (200, 200)
    assert "connection" not in first.headers


async def test_large_unread_body_ends_the_connection_after_the_answer() -> None:
    async with listening(ignore_body) as server, server.connect() as wire:
        await wire.send(request("POST", "/", body=b"")[:-2] + b"Content-Length: 900000\r\n\r\n")
        reply = await wire.reply()

        assert (reply.body, reply.headers["connection"]) == (b"done", "close")
        assert await wire.ended()


async def test_chunked_body_is_read_and_the_next_request_after_it() -> None:
    chunks = b"3\r\nabc\r\n4;ext=1\r\ndefg\r\n0\r\nTrailer: x\r\n\r\n"
    head = b"POST /c HTTP/1.1\r\nHost: dpp\r\nTransfer-Encoding: chunked\r\n\r\n"

    async with listening(echo) as server, server.connect() as wire:
        await wire.send(head + chunks + get("/next"))
        first, second = await wire.reply(), await wire.reply()

    assert (first.body, second.body) == (b"POST /c abcdefg", b"GET /next ")


async def test_large_body_arrives_whole() -> None:
    async def size(_scope: Scope, receive: Receive, send: Send) -> None:
        await answer(send, str(len(await read_all(receive))).encode())

    async with listening(size) as server:
        counted = await server.ask(request("POST", "/", body=b"x" * 3_000_000))
        chunk = b"100000\r\n" + b"x" * 0x100000 + b"\r\n"
        head = b"POST / HTTP/1.1\r\nHost: dpp\r\nTransfer-Encoding: chunked\r\n\r\n"
        chunked = await server.ask(head + chunk * 3 + b"0\r\n\r\n")

    assert (counted.body, chunked.body) == (b"3000000", b"3145728")


async def test_stream_is_chunked_for_1_1_and_ends_the_connection_for_1_0() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for piece in (b"one ", b"", b"two"):
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with listening(app) as server:
        new = await server.ask(get())
        old = await server.ask(get(version="1.0"))

    assert (new.body, new.headers["transfer-encoding"]) == (b"one two", "chunked")
    assert (old.body, "transfer-encoding" in old.headers) == (b"one two", False)


async def test_stream_waits_for_a_client_that_reads_slowly() -> None:
    sent = 0

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        nonlocal sent
        await send({"type": "http.response.start", "status": 200, "headers": []})
        for _ in range(400):
            await send({"type": "http.response.body", "body": b"x" * 65536, "more_body": True})
            sent += 1
        await send({"type": "http.response.body", "body": b""})

    async with listening(app) as server, server.connect() as wire:
        await wire.send(get())
        await wire.until(b"\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked(0.05)
        waiting = sent
        wire.held[:0] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
        reply = await wire.reply()

    assert waiting < 400
    assert len(reply.body) == 400 * 65536


async def test_client_that_reads_nothing_is_let_go() -> None:
    over = trio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        try:
            await answer(send, b"x" * (40 * WRITE_MAX))
        finally:
            over.set()

    async with listening(app, patience=HASTY) as server, server.connect() as wire:
        await wire.send(get())
        await over.wait()


async def test_client_that_reads_a_little_each_time_is_let_go() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"x" * (256 * WRITE_MAX))

    patience = evolve(PATIENT, send_s=1.0, send_rate=1e9)
    async with listening(app, patience=patience) as server, server.connect() as wire:
        await wire.send(get())
        read = 1
        with suppress(trio.BrokenResourceError):
            while data := await wire.stream.receive_some(WRITE_MAX):
                read += len(data)
                await trio.sleep(0.05)  # a piece in a twentieth of what it may take

    assert WRITE_MAX < read < 256 * WRITE_MAX


async def test_stream_that_is_silent_is_not_let_go() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, b"one ", more=True)
        for piece in (b"two ", b"three"):
            await trio.sleep(0.1)
            await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body", "body": b""})

    async with listening(app, patience=evolve(PATIENT, send_s=0.05)) as server:
        assert (await server.ask(get())).body == b"one two three"


async def test_reset_cancels_the_handler_and_nothing_behind_it() -> None:
    started, cancelled, work_done = trio.Event(), trio.Event(), trio.Event()

    async with trio.open_nursery() as actors:

        async def actor() -> None:
            await cancelled.wait()
            work_done.set()

        async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
            actors.start_soon(actor)
            started.set()
            try:
                await trio.sleep_forever()
            finally:
                cancelled.set()

        async with listening(app) as server:
            async with server.connect() as wire:
                await wire.send(get())
                await started.wait()
                linger = b"\x01\x00\x00\x00\x00\x00\x00\x00"
                wire.stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            await cancelled.wait()
            await work_done.wait()


async def test_vanished_client_cancels_the_handler_after_a_moment() -> None:
    started, cancelled = trio.Event(), trio.Event()

    async def app(_scope: Scope, _receive: Receive, _send: Send) -> None:
        started.set()
        try:
            await trio.sleep_forever()
        finally:
            cancelled.set()

    async with listening(app, patience=HASTY) as server:
        async with server.connect() as wire:
            await wire.send(get())
            await started.wait()
        await cancelled.wait()


async def test_app_that_listens_hears_nothing_while_its_client_waits() -> None:
    told = []

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await read_all(receive)
        await answer(send)
        told.append(await receive())

    async with listening(app) as server:
        reply = await server.ask(get())

    assert reply.body == b"ok"
    assert told == [{"type": "http.disconnect"}]


async def test_half_closing_client_gets_all_its_answers() -> None:
    async with listening(echo) as server, server.connect() as wire:
        await wire.send(get("/1") + get("/2") + get("/3"))
        await wire.stream.send_eof()
        replies = [(await wire.reply()).body for _ in range(3)]

        assert replies == [b"GET /1 ", b"GET /2 ", b"GET /3 "]
        assert await wire.ended()


async def test_idle_connection_is_closed_without_a_word() -> None:
    patience = evolve(PATIENT, idle_s=0.05)
    async with listening(echo, patience=patience) as server, server.connect() as wire:
        await wire.ask(get())
        assert await wire.ended()


async def test_a_connection_that_brings_no_request_is_closed_sooner_than_one_that_brought_one() -> (
    None
):
    patience = evolve(PATIENT, head_s=0.05)
    async with listening(echo, patience=patience) as server, server.connect() as used:
        await used.ask(get())
        async with server.connect() as silent:
            assert await silent.ended()
        assert (await used.ask(get())).status == 200


async def test_slow_head_is_answered_408_however_steadily_it_drips() -> None:
    head = b"GET / HTTP/1.1\r\nHost: dpp\r\nX: "
    async with (
        listening(echo, patience=evolve(PATIENT, head_s=0.1)) as server,
        server.connect() as wire,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(drip, wire.stream, head + b"x" * 10_000)
        reply = await wire.reply()
        nursery.cancel_scope.cancel()

    assert (reply.status, reply.headers["connection"]) == (408, "close")


async def test_slow_body_is_answered_408_and_its_handler_cancelled() -> None:
    cancelled = trio.Event()

    async def app(_scope: Scope, receive: Receive, _send: Send) -> None:
        try:
            await read_all(receive)
        finally:
            cancelled.set()

    head = b"POST / HTTP/1.1\r\nHost: dpp\r\nContent-Length: 100000\r\n\r\n"
    async with listening(app, patience=evolve(PATIENT, body_s=0.1)) as server:
        async with server.connect() as wire, trio.open_nursery() as nursery:
            nursery.start_soon(drip, wire.stream, head + b"x" * 10_000)
            reply = await wire.reply()
            nursery.cancel_scope.cancel()
        await cancelled.wait()

    assert (reply.status, reply.headers["connection"]) == (408, "close")


async def drip(stream: trio.SocketStream, data: bytes) -> None:
    for byte in data:
        try:
            await stream.send_all(bytes([byte]))
        except trio.BrokenResourceError:
            return
        await trio.sleep(0.005)


async def test_body_that_ends_early_is_refused() -> None:
    async with listening(echo) as server, server.connect() as wire:
        await wire.send(b"POST / HTTP/1.1\r\nHost: dpp\r\nContent-Length: 10\r\n\r\nabc")
        await wire.stream.send_eof()
        reply = await wire.reply()

    assert (reply.status, reply.headers["connection"]) == (400, "close")


async def test_app_that_answers_too_late_does_not_keep_the_refusal_from_going_out() -> None:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await receive()
        finally:
            await answer(send)  # noqa: ASYNC102 - an app may know no better

    head = b"POST / HTTP/1.1\r\nHost: dpp\r\nTransfer-Encoding: chunked\r\n\r\n"
    async with listening(app) as server:
        reply = await server.ask(head + b"zz\r\n")

    assert (reply.status, reply.headers["connection"]) == (400, "close")


async def test_connections_over_the_limit_are_turned_away_with_503() -> None:
    working, go_on = trio.Semaphore(0), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/work":
            working.release()
            await go_on.wait()
        await echo(scope, receive, send)

    async with listening(app, connections_max=2) as server:
        async with server.connect() as one, server.connect() as two:
            for wire in (one, two):
                await wire.send(get("/work"))
                await working.acquire()
            async with server.connect() as three:
                reply = await three.reply()
                assert (reply.status, await three.ended()) == (503, True)
            go_on.set()
            assert [(await wire.reply()).status for wire in (one, two)] == [200, 200]
        with trio.fail_after(10):
            while (await server.ask(get())).status != 200:  # noqa: ASYNC110 - until a place is free
                await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("make", [Connection, worker.connections(None)])
async def test_where_all_places_are_taken_the_one_that_idles_longest_makes_room(
    make: Callable[..., Served],
) -> None:
    async with (
        listening(echo, connections_max=2, make=make) as server,
        server.connect() as first,
        server.connect() as second,
    ):
        assert [(await wire.ask(get())).status for wire in (first, second)] == [200, 200]
        async with server.connect() as third:
            assert (await third.ask(get())).status == 200
            assert await first.ended()
            assert (await second.ask(get())).status == 200


async def test_drain_closes_idle_connections_and_lets_work_end() -> None:
    started, go_on = trio.Event(), trio.Event()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/work":
            started.set()
            await go_on.wait()
        await echo(scope, receive, send)

    async with listening(app) as server:
        async with server.connect() as idle, server.connect() as busy, server.connect() as fresh:
            await idle.ask(get())
            await busy.send(get("/work"))
            await started.wait()
            server.draining.set()
            assert await idle.ended()
            assert await fresh.ended()
            go_on.set()
            reply = await busy.reply()
            assert (reply.body, reply.headers["connection"]) == (b"GET /work ", "close")
            assert await busy.ended()
        with pytest.raises(OSError, match=r"refused|connect"):
            await trio.open_tcp_stream(*server.address)


async def test_a_request_that_was_read_when_the_drain_came_is_answered() -> None:
    made: list[Connection] = []

    def make(*parts: Any, **more: Any) -> Connection:
        made.append(Connection(*parts, **more))
        return made[-1]

    async with listening(echo, make=make) as server:
        for _ in range(50):  # in about half of them the drain comes before the connection's turn
            async with server.connect() as wire:
                await wire.ask(get())
                while (idle_since := made[-1].idle_since) is None:  # noqa: ASYNC110
                    await trio.lowlevel.checkpoint()
                await wire.send(get("/late"))
                while made[-1].idle_since == idle_since and not made[-1]._inbox.held:
                    await trio.lowlevel.checkpoint()
                made[-1].drain()

                assert (await wire.reply()).body == b"GET /late "
                assert await wire.ended()


async def test_a_connection_that_was_just_made_may_bring_its_request_into_the_drain() -> None:
    async with (
        listening(echo) as server,
        server.connect() as fresh,
        server.connect() as silent,
        server.connect() as used,
    ):
        await used.ask(get())  # the others, made before it, are accepted by now
        server.draining.set()
        assert await used.ended()

        reply = await fresh.ask(get("/late"))

        assert (reply.body, reply.headers["connection"]) == (b"GET /late ", "close")
        assert await fresh.ended()
        assert await silent.ended()


async def test_connections_end_after_so_many_requests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dpp.http.connection.REQUESTS_MAX", 2)
    async with listening(echo) as server, server.connect() as wire:
        first, second = await wire.ask(get()), await wire.ask(get())

        assert "connection" not in first.headers
        assert second.headers["connection"] == "close"
        assert await wire.ended()


async def test_fault_of_an_app_is_answered_500_counted_and_ends_its_connection_alone() -> None:
    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] == "/bug":
            raise RuntimeError("planted")
        if scope["path"] == "/mute":
            return
        await echo(scope, receive, send)

    faults = metrics.http_connection_faults_total
    before = faults._value.get()
    async with listening(app) as server, server.connect() as other:
        assert (await other.ask(get())).status == 200
        for path in ("/bug", "/mute"):
            async with server.connect() as wire:
                reply = await wire.ask(get(path))
                assert (reply.status, reply.headers["connection"]) == (500, "close")
                assert b"planted" not in reply.body
                assert await wire.ended()
        assert (await other.ask(get())).status == 200

    assert faults._value.get() == before + 2


async def test_answer_that_fails_half_way_is_cut() -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"half", "more_body": True})
        raise RuntimeError("planted")

    async with listening(app) as server, server.connect() as wire:
        await wire.send(get())
        answered = await wire.rest()

    assert answered.endswith(b"\r\n\r\n4\r\nhalf\r\n")


@pytest.mark.parametrize(
    "headers", [[(b"x", b"a\r\nInjected: 1")], [(b"x\n", b"a")], [(b"x", b"a\0")]]
)
async def test_line_break_in_a_header_never_goes_out(headers: list[tuple[bytes, bytes]]) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": b"ok"})

    async with listening(app) as server:
        reply = await server.ask(get())

    assert reply.status == 500
    assert "x" not in reply.headers
    assert "injected" not in reply.headers


@pytest.mark.parametrize("body", [b"four", b"fourteen bytes"])
async def test_body_of_another_length_than_announced_is_answered_500(body: bytes) -> None:
    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await answer(send, body, content_length="8")

    async with listening(app) as server:
        reply = await server.ask(get())

    assert (reply.status, reply.headers["connection"]) == (500, "close")


async def test_body_in_small_chunks_lets_others_run() -> None:
    size, count, turns = 16, 10 * CHUNKS_MAX, 0
    go_on = trio.Event()

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await go_on.wait()
        async with trio.open_nursery() as others:
            others.start_soon(turn)
            body = await read_all(receive)
            others.cancel_scope.cancel()
        await answer(send, str(len(body)).encode())

    head = b"POST / HTTP/1.1\r\nHost: dpp\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunk = b"%04x\r\n%b\r\n" % (size, b"x" * size)
    async with listening(app) as server, server.connect() as wire:
        await wire.send(head + chunk * count + b"0\r\n\r\n")
        await trio.testing.wait_all_tasks_blocked(0.05)  # all of it is here
        go_on.set()
        reply = await wire.reply()

    assert reply.body == str(size * count).encode()
    assert turns >= 7  # one a slice, less where the scheduler's order cuts some off


async def test_reading_stops_while_nobody_takes_what_came() -> None:
    go_on = trio.Event()

    async def app(_scope: Scope, _receive: Receive, send: Send) -> None:
        await go_on.wait()
        await answer(send)

    async with listening(app) as server, server.connect() as wire:
        await wire.send(get())
        with trio.move_on_after(0.3) as limit:
            await wire.send(b"x" * (200 * AHEAD_MAX))
        go_on.set()

    assert limit.cancelled_caught
