"""A trivial TCP balancer in front of the nodes: it takes turns among those that say they are ready.

Bytes are passed on as they come, either way; what it knows of a node is the status of `/readyz`,
asked a few times a second, and whether a connection can be made.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from itertools import count

import httpx
import trio
from attrs import define, field

from tests.node_process import NO_TLS, NodeProcess

LOOK_S = 0.2
LOOK_MAX_S = 1.0  # a node that does not answer for so long is not ready
PIECE = 64 * 1024


@define(eq=False)
class Balancer:
    """`ready`: by the node, as last looked at."""

    nodes: Sequence[NodeProcess]
    ready: dict[NodeProcess, bool] = field(factory=dict)
    unserved: int = 0  # connections for which there was no node
    _turns: count[int] = field(factory=count)

    async def look(self) -> None:
        """Look at all nodes, for ever."""
        async with httpx.AsyncClient(timeout=LOOK_MAX_S, trust_env=False, verify=NO_TLS) as http:
            while True:
                async with trio.open_nursery() as nursery:
                    for node in self.nodes:
                        nursery.start_soon(self._look_at, http, node)
                await trio.sleep(LOOK_S)

    async def _look_at(self, http: httpx.AsyncClient, node: NodeProcess) -> None:
        status = 0
        with suppress(httpx.TransportError, OSError):
            status = (await http.get(f"{node.url}/readyz")).status_code
        self.ready[node] = status == httpx.codes.OK

    async def serve(self, client: trio.SocketStream) -> None:
        """Pass one connection on, to its end."""
        async with client:
            node = await self._connect()
            if node is None:
                self.unserved += 1
                return
            async with node:
                with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                    async with trio.open_nursery() as nursery:
                        nursery.start_soon(pump, client, node, nursery.cancel_scope)
                        nursery.start_soon(pump, node, client, nursery.cancel_scope)

    async def _connect(self) -> trio.SocketStream | None:
        """Connect to the next node that is ready; one that refuses is passed over."""
        first = next(self._turns)
        for step in range(len(self.nodes)):
            node = self.nodes[(first + step) % len(self.nodes)]
            if self.ready.get(node):
                with suppress(OSError):
                    url = httpx.URL(node.url)
                    return await trio.open_tcp_stream(url.host, url.port or 80)
        return None


async def pump(source: trio.SocketStream, sink: trio.SocketStream, whole: trio.CancelScope) -> None:
    """Pass on what comes; its end ends the connection."""
    with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
        while piece := await source.receive_some(PIECE):
            await sink.send_all(piece)
    whole.cancel(reason="one side ended")


@asynccontextmanager
async def balanced(nodes: Sequence[NodeProcess]) -> AsyncIterator[tuple[Balancer, str]]:
    """Run a balancer for the block; gives it and its URL, once a node is ready."""
    balancer = Balancer(nodes)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(balancer.look)
        serve = trio.serve_tcp
        (listener,) = await nursery.start(
            lambda task_status: serve(balancer.serve, 0, host="127.0.0.1", task_status=task_status)
        )
        while not any(balancer.ready.values()):  # noqa: ASYNC110 - looked at by another task
            await trio.sleep(LOOK_S)
        port = listener.socket.getsockname()[1]
        yield balancer, f"http://127.0.0.1:{port}"
        nursery.cancel_scope.cancel(reason="over")
