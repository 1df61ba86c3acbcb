"""A node's wire to PostgreSQL, in a process of its own: it keeps up with a node, whatever a storm does.

    python -m tests.fault.wires UPSTREAM HOST SEED

The process passes on what comes to the socket in HOST, and takes orders, a line of JSON each, on
another one beside it. An order is answered once it is over, with how often it really hit. The
process ends when its standard input does.
"""  # noqa: E501

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import trio
from attrs import frozen

from tests.store.wire import Cut, Wire

ORDERS = "orders"  # the other socket
STEP_S = 0.01  # between two looks at what was planned
LINE_MAX = 65_536


@frozen
class NodeWire:
    """The wire of one node, as the storm holds it. `host`: where the node finds its PostgreSQL."""

    host: str
    process: subprocess.Popen[bytes]

    async def order(self, name: str, **members: Any) -> int:
        """Have something done to the wire; returns how often that hit."""
        stream = await trio.open_unix_socket(f"{self.host}/{ORDERS}")
        async with stream:
            await stream.send_all(json.dumps({"order": name, **members}).encode() + b"\n")
            answer = b""
            while piece := await stream.receive_some(LINE_MAX):
                answer += piece
        assert answer, f"the wire did not answer {name}: it ended with {self.process.poll()}"
        return int(json.loads(answer))


@contextmanager
def node_wire(upstream: str, seed: int) -> Iterator[NodeWire]:
    """Run a wire before the server whose socket lies in `upstream`."""
    host = Path(tempfile.mkdtemp(prefix="dpp-wire-"))
    command = [sys.executable, "-m", "tests.fault.wires", upstream, str(host), str(seed)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n", f"the wire ended with {process.wait(5)}"
        yield NodeWire(str(host), process)
    finally:
        process.kill()
        process.communicate()
        shutil.rmtree(host, ignore_errors=True)


# ── in the process ───────────────────────────────────────────────────────────────────────────────


async def cut_at_commit(wire: Wire, how: str, within_s: float) -> int:
    """Cut the connection of the next COMMIT: `before` it passes, or `after`, its answer lost."""
    before = wire.cuts
    wire.plan.append(Cut(how))
    await until_or(lambda: wire.cuts > before, within_s)
    wire.plan.clear()
    return wire.cuts - before


async def cut_at_message(wire: Wire, k: int, how: str, within_s: float) -> int:
    """Cut the connection of the k-th message from now, `before` it passes or `after`."""
    before = wire.message_cuts
    wire.cut_in, wire.cut_passes = k, how == "after"
    await until_or(lambda: wire.message_cuts > before, within_s)
    wire.cut_in = None
    return wire.message_cuts - before


async def blackhole(wire: Wire, seconds: float, then: str) -> int:
    """Let nothing pass for so long, while nobody hangs up; `then` it passes, or all is cut."""
    before = wire.stopped
    wire.hold()
    await trio.sleep(seconds)
    if then == "reset":
        wire.cut()
    wire.passing.set()
    return wire.stopped - before


async def delay(wire: Wire, least_s: float, most_s: float, seconds: float) -> int:
    """Delay each piece, either way."""
    before = wire.delayed
    wire.delay_s = (least_s, most_s)
    await trio.sleep(seconds)
    wire.delay_s = None
    return wire.delayed - before


async def cancel_requests(wire: Wire) -> int:
    """Say how often a client asked to cancel a query."""
    await trio.lowlevel.checkpoint()
    return wire.cancel_requests


KNOWN: dict[str, Callable[..., Awaitable[int]]] = {
    order.__name__: order
    for order in (cut_at_commit, cut_at_message, blackhole, delay, cancel_requests)
}


async def until_or(look: Callable[[], bool], within_s: float) -> None:
    """Wait until something is so, or so long."""
    give_up_at = trio.current_time() + within_s
    await trio.lowlevel.checkpoint()
    while not look() and trio.current_time() < give_up_at:  # noqa: ASYNC110
        await trio.sleep(STEP_S)


async def obey(wire: Wire, stream: trio.SocketStream) -> None:
    """Carry out one order."""
    async with stream:
        members = json.loads(await stream.receive_some(LINE_MAX))
        hits = await KNOWN[members.pop("order")](wire, **members)
        await stream.send_all(json.dumps(hits).encode())


async def serve(upstream: str, host: str, seed: int) -> None:
    """Pass on and obey, until standard input ends."""
    wire = Wire(upstream, host, seed)
    with trio.socket.socket(trio.socket.AF_UNIX, trio.socket.SOCK_STREAM) as orders:
        await orders.bind(f"{host}/{ORDERS}")
        orders.listen(8)
        listeners = [trio.SocketListener(orders)]
        async with trio.open_nursery() as nursery:
            await nursery.start(wire.serve)
            nursery.start_soon(trio.serve_listeners, partial(obey, wire), listeners)
            print("ready", flush=True)
            async with trio.lowlevel.FdStream(os.dup(sys.stdin.fileno())) as stdin:
                while await stdin.receive_some(1):
                    pass
            nursery.cancel_scope.cancel()


if __name__ == "__main__":
    trio.run(serve, sys.argv[1], sys.argv[2], int(sys.argv[3]))
