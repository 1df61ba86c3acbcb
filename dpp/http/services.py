"""What the handlers need, in one value that the node makes: ports, limits, this node's packs."""

import secrets
from collections.abc import Callable, Sequence
from typing import Protocol
from uuid import UUID

import trio
from attrs import field, frozen

from dpp.egress import Rules
from dpp.http.auth import Authenticator
from dpp.http.bench import Bench
from dpp.http.holding import Holding
from dpp.http.readiness import Readiness
from dpp.http.reading import Reading
from dpp.live import Live
from dpp.modes import Orders
from dpp.neighbours import Neighbourhood
from dpp.plans import Plans
from dpp.ports import Appraiser, Cancels, Findings, Intake, Keys, Reads, Results, Watching, Webhooks
from dpp.runs import Run


class TenantReads(Reads, Protocol):
    """What the store is asked, with one verb more: a replayed batch reads its runs in one turn."""

    async def get_runs(self, tenant_id: str, run_ids: Sequence[UUID]) -> list[Run]:
        """Return those of these runs that the tenant has, in any order."""
        ...


@frozen(kw_only=True)
class Bounds:
    """The limits of the configuration that handlers apply."""

    body_max_bytes: int
    batch_body_max_bytes: int
    wait_max_s: int
    timebox_s: int
    timebox_max_s: int
    result_max_bytes: int


@frozen(kw_only=True)
class Services:
    """What handlers work with. `draining` is set when the node stops taking in work."""

    intake: Intake
    reads: TenantReads
    cancels: Cancels
    webhooks: Webhooks
    results: Results
    findings: Findings
    watching: Watching
    packs: Appraiser
    plans: Live[Plans]
    keys: Authenticator
    keyring: Keys
    readiness: Readiness
    new_run_id: Callable[[], UUID]
    draining: trio.Event
    bounds: Bounds
    random_bytes: Callable[[int], bytes] = secrets.token_bytes  # makes keys
    outgoing: Rules = field(factory=Rules)  # where tenants may have us send
    bench: Bench = field(factory=Bench)
    reading: Reading = field(factory=Reading)
    key_ended: Callable[[str], object] = lambda _: None  # hears of keys that may have ended
    holding: Holding = field(factory=Holding)
    neighbourhood: Callable[[], Neighbourhood] = Neighbourhood
    orders: Callable[[], Orders] = Orders
