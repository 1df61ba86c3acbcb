"""The public side of a node: its handlers, its listener, from the first lease to the drain."""

from __future__ import annotations

import gc
import secrets
from typing import TYPE_CHECKING

import trio

from dpp import tls
from dpp.actors.wake import first_of
from dpp.http import listener, worker
from dpp.http.app import public_app
from dpp.http.connection import Connection
from dpp.http.exchange import Patience
from dpp.http.holding import SHARE, Holding
from dpp.http.reading import Reading
from dpp.http.services import Bounds, Services
from dpp.ids import RunIds
from dpp.logs import get_logger
from dpp.node.house import House
from dpp.systemd.notify import Manager

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dpp.config import Config
    from dpp.http.dispatch import Dispatcher

# Objects made and not freed before the young ones are looked through: a batch has far more than the
# default of 700 alive, hardly one of them in a cycle. It takes 5 to 10 % off a submit.
YOUNG_MAX = 20_000
RESTING = "rests: an operator lets it drain (dpp node undrain)"

log = get_logger(__name__)


async def serve_http(house: House, management_url: str, manager: Manager) -> None:
    """Serve the public listener until the drain; return when the last connection is over."""
    config, draining = house.config, house.stopping.draining
    services = make_services(house)
    app = public_app(services, config.http.cors_allowed_origins)
    reception = make_reception(config, app)
    async with trio.open_nursery() as serving:
        await first_lease(house, manager)
        public = await serving.start(
            listener.serve, reception, house.sockets.public, serving, draining
        )
        # What was loaded stays: a collection that looked at it all stopped the loop for 70-80 ms.
        gc.collect()
        gc.freeze()
        gc.set_threshold(YOUNG_MAX)
        url = url_of(public, "https" if config.http.tls_certificate else "http")
        house.held.publish(url=url, management_url=management_url)
        log.info("ready", url=url, management_url=management_url)
        manager.ready(f"serving {url}")


def make_reception(config: Config, app: Dispatcher) -> listener.Reception:
    """Return what lets connections in: our own, or hypercorn's."""
    chain, key = config.http.tls_certificate, config.http.tls_key_file
    secure = tls.server_context(chain, key) if chain and key else None
    return listener.Reception(
        app,
        app.refuse,
        connections_max=config.http.connections_max,
        patience=Patience(),
        make=worker.connections(secure) if config.http.server == "hypercorn" else Connection,
        secure=secure is not None,
    )


async def first_lease(house: House, manager: Manager) -> None:
    """Wait until this node may work, or is told to stop before it may.

    An operator may let it rest for as long as he likes: whoever started it is not kept waiting.
    """
    async with trio.open_nursery() as resting:
        resting.start_soon(tell_rest, house, manager)
        await first_of(house.standing.first_lease.wait, house.stopping.draining.wait)
        resting.cancel_scope.cancel(reason="it works, or stops")


async def tell_rest(house: House, manager: Manager) -> None:
    """Say that the start is over for now."""
    await house.heard.must_rest()
    log.info("resting: an operator lets this node drain")
    manager.ready(RESTING)


def make_services(house: House) -> Services:
    """Put together what the handlers work with."""
    config, store = house.config, house.store
    return Services(
        intake=house.shedding,
        reads=store,
        cancels=store,
        webhooks=store,
        outgoing=house.outgoing,
        results=house.blobs.blobs,
        findings=store,
        watching=house.board,
        packs=house.registry,
        plans=house.plans,
        keys=house.keys,
        key_ended=house.key_ended,
        keyring=store,
        readiness=house.readiness,
        reading=Reading(house.aside),
        holding=Holding(max(1, config.http.connections_max // SHARE)),
        neighbourhood=lambda: house.standing.neighbourhood,
        orders=lambda: house.heard.orders,
        new_run_id=RunIds(house.standing.clock.unix_ms, secrets.randbits).next,
        draining=house.stopping.draining,
        bounds=Bounds(
            body_max_bytes=config.http.body_max_bytes,
            batch_body_max_bytes=config.http.batch_body_max_bytes,
            wait_max_s=config.http.wait_max_s,
            timebox_s=config.runs.timebox_s,
            timebox_max_s=config.runs.timebox_max_s,
            result_max_bytes=config.runs.result_max_bytes,
        ),
    )


def url_of(addresses: Sequence[tuple[str, int]], scheme: str = "http") -> str:
    """Return the URL of the first address that a listener is bound to."""
    host, port = addresses[0]
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"
