"""The API with all its real parts in one process: listener, app, intake, watchboard, PostgreSQL.

Runs are admitted and not executed; `tests/node` does that on real nodes.
"""

from __future__ import annotations

import itertools
import random
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from attrs import define, field

from dpp import keys
from dpp.actors.attempts import Attempts
from dpp.actors.clock import DatabaseClock
from dpp.actors.follower import follower
from dpp.actors.intake import IntakeDesk, intake
from dpp.actors.lanes import keep_lanes
from dpp.actors.watchboard import Watchboard
from dpp.http import worker
from dpp.http.app import public_app
from dpp.http.auth import Authenticator
from dpp.http.connection import Connection
from dpp.http.readiness import Readiness
from dpp.http.services import Bounds, Services
from dpp.ids import RunIds
from dpp.keys import SCOPES, NewKey
from dpp.live import Live
from dpp.money import Micros
from dpp.packs.registry import Registry
from dpp.tenants import NewTenant
from tests.conftest import PLANS
from tests.fake_blobs import FakeBlobs
from tests.http.server import listening
from tests.node_process import NO_TLS

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from dpp.http.connection import Served
    from dpp.plans import Plans
    from dpp.store.postgres import PostgresStore
    from tests.http.server import Server

BOUNDS = Bounds(
    body_max_bytes=1 << 20,
    batch_body_max_bytes=16 << 20,
    wait_max_s=60,
    timebox_s=90,
    timebox_max_s=3600,
    result_max_bytes=64 << 20,
)
ORIGIN = "https://app.example.com"

_dice = random.Random(11)


@define
class Api:
    """A running API and ways to ask it."""

    server: Server
    services: Services
    store: PostgresStore
    http: httpx.AsyncClient
    blobs: FakeBlobs
    names: itertools.count[int] = field(factory=lambda: itertools.count(1))

    async def tenant(
        self,
        name: str = "acme",
        *,
        plan: str = "unlimited",
        deposit: int = 10_000_000,
        scopes: tuple[str, ...] = SCOPES,
    ) -> str:
        """Make a tenant; returns its key."""
        minted = keys.mint(_dice.randbytes(keys.RANDOM_BYTES))
        key = NewKey(
            key_id=minted.key_id,
            tenant_id=name,
            secret_sha256=minted.secret_sha256,
            scopes=scopes,
        )
        new = NewTenant(
            tenant_id=name,
            plan=plan,
            key=key,
            deposit=Micros(deposit),
            reference="first",
            operator="test",
        )
        await self.store.create_tenant(new)
        return minted.text

    async def submit(self, key: str, **members: Any) -> httpx.Response:
        """Submit a run of `echo`; `idempotency_key` and `headers` are not members."""
        named = members.pop("idempotency_key", f"k-{next(self.names)}")
        headers = {"Idempotency-Key": named, **members.pop("headers", {})}
        body = {"pack_type": "echo", "inputs": {}, "max_cost_usd": "0.01", **members}
        return await self.ask("POST", "/v1/runs", key, json=body, headers=headers)

    async def ask(
        self, method: str, path: str, key: str | None = None, **more: Any
    ) -> httpx.Response:
        """Ask for anything."""
        headers = dict(more.pop("headers", {}))
        if key is not None:
            headers["Authorization"] = f"Bearer {key}"
        return await self.http.request(method, path, headers=headers, **more)


@asynccontextmanager
async def serving(
    store: PostgresStore, plans: Plans, make: Callable[..., Served] = Connection
) -> AsyncIterator[Api]:
    """Run the API on this store, on one of the two servers."""
    clock, attempts = DatabaseClock(), Attempts()
    clock.learn(datetime(2026, 1, 1, tzinfo=UTC))
    blobs = FakeBlobs()
    await blobs.identify(None)
    board, desk, draining = Watchboard(attempts.executes), IntakeDesk(2, 4000), trio.Event()
    services = Services(
        intake=desk,
        reads=store,
        cancels=store,
        webhooks=store,
        results=blobs,
        findings=store,
        watching=board,
        packs=Registry.load(),
        plans=Live(plans),
        keys=Authenticator(store.find_key),
        keyring=store,
        readiness=Readiness(store.ping),
        new_run_id=RunIds(clock.unix_ms, _dice.getrandbits).next,
        draining=draining,
        bounds=BOUNDS,
    )
    app = public_app(services, (ORIGIN,))
    async with trio.open_nursery() as upkeep:
        upkeep.start_soon(follower, store, attempts, board, draining)
        async with trio.open_nursery() as taking_in, desk:
            admit = partial(intake, store, lambda _tenant: None)
            taking_in.start_soon(keep_lanes, "intake", desk, admit, _give_up)
            async with (
                listening(app, refusing=app.refuse, make=make) as server,
                httpx.AsyncClient(
                    base_url=server.url, timeout=30, trust_env=False, verify=NO_TLS
                ) as http,
            ):
                yield Api(server, services, store, http, blobs)
        upkeep.cancel_scope.cancel()


@pytest.fixture(params=["actor", "hypercorn"])
async def api(store: PostgresStore, request: pytest.FixtureRequest) -> AsyncIterator[Api]:
    """Run the API with the plans of `tests.conftest`, on each of the two servers."""
    make = Connection if request.param == "actor" else worker.connections(None)
    async with serving(store, PLANS, make) as one:
        yield one


def _give_up(bug: BaseException) -> None:
    raise bug
