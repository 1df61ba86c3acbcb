"""A scenario: how many nodes, which tenants, what goes wrong, all drawn from one seed.

Each kind of fault is there or not, as in swarm testing: what needs two kinds at once and no third
is found by some seed.
"""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from attrs import frozen

from dpp.money import Micros
from dpp.plans import Plan
from dpp.pricing import FeeRule

DOLLAR = 1_000_000
CENT = 10_000
ATTEMPTS_MAX = 3
STORE_WAIT_S = 8.0
DRAIN_S = 3.0
# Lease, heartbeat, reaper's interval: the defaults' ratio, and a lease that an outage outlasts.
LEASES = (*3 * [(6.0, 2.0, 1.0)], (15.0, 5.0, 2.5))
LOAD_LEASES = 4  # how long the load lasts: a lease can lapse, be taken over and lapse again
FEE = FeeRule(floor=Micros(5_000), percent_ppm=20_000, cap=Micros(100_000))
FREE = FeeRule(floor=Micros(0), percent_ppm=0, cap=Micros(0))
PLANS = {
    "free": Plan("free", fee=FREE),
    "fee": Plan("fee", fee=FEE),
    "one": Plan("one", concurrent_runs=1, fee=FREE),
    "two": Plan("two", concurrent_runs=2, fee=FEE),
    "rated": Plan("rated", submits_per_minute=10, queued_runs=4, fee=FEE),
}
KINDS = (
    "slow",
    "before",
    "after",
    "late",
    "outage",
    "silence",
    "kill",
    "freeze",
    "drain",
    "stall",
    "held row",
    "poison",
    "blobs away",
    "blobs lose",
)
# What can end an attempt without an outage of the store to blame: only these may spend one.
CRASHES = frozenset({"kill", "freeze", "stall", "slow", "before", "after", "late", "held row"})


@frozen(kw_only=True)
class TenantPlan:
    """One tenant: its plan, its first deposit, and how many clients it has."""

    name: str
    plan: str
    deposit: int
    clients: int


@frozen(kw_only=True)
class Scenario:
    """What one seed says."""

    seed: int
    nodes: int
    concurrency: int  # of each node
    lease_s: float
    heartbeat_s: float
    interval_s: float
    queue_ttl_s: int
    tenants: tuple[TenantPlan, ...]
    kinds: frozenset[str]
    pace_s: float  # between two requests of one client

    @property
    def load_s(self) -> float:
        return LOAD_LEASES * self.lease_s

    @property
    def caps(self) -> Mapping[str, int]:
        """Return the runs in work at once that a tenant may have, for those with a cap."""
        plans = {one.name: PLANS[one.plan].concurrent_runs for one in self.tenants}
        return {name: cap for name, cap in plans.items() if cap is not None}

    def dice(self, name: str) -> Random:
        """Return dice of its own for one part of the simulation."""
        return Random(f"{name} of {self.seed}")

    def __str__(self) -> str:
        kinds = ", ".join(sorted(self.kinds)) or "none"
        return f"{self.nodes} nodes, lease {self.lease_s:g} s, faults: {kinds}"


def draw(seed: int) -> Scenario:
    """Draw a seed's scenario."""
    dice = Random(f"scenario of {seed}")
    share = dice.choice([0.1, 0.2, 0.4, 0.7])  # from fair weather to nearly everything at once
    lease_s, heartbeat_s, interval_s = dice.choice(LEASES)
    hot = TenantPlan(
        name="hot",
        plan=dice.choice(["free", "fee"]),
        deposit=dice.randint(1, 6) * DOLLAR,
        clients=3,
    )
    others = (
        TenantPlan(
            name=f"t{n}",
            plan=dice.choice(sorted(PLANS)),
            deposit=dice.randint(10, 200) * CENT,
            clients=1,
        )
        for n in range(dice.choice([1, 2, 3]))
    )
    return Scenario(
        seed=seed,
        nodes=dice.choice([2, 2, 3, 3, 4]),
        concurrency=dice.choice([2, 5, 50]),
        lease_s=lease_s,
        heartbeat_s=heartbeat_s,
        interval_s=interval_s,
        queue_ttl_s=dice.choice([15, 604_800]),
        tenants=(hot, *others),
        kinds=frozenset(kind for kind in KINDS if dice.random() < share),
        pace_s=dice.choice([0.5, 1.0, 2.0]),
    )
