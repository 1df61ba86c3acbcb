"""What the demo decides: which of some hundred VM offers a small company should rent.

Six made-up hosts offer eight sizes in seven regions. Everything is computed from the tables below,
so each demo asks the very same question and must get the very same answer at the very same price.
"""

from __future__ import annotations

from typing import Any

from attrs import frozen

QUESTION = "Which VM should carry our PostgreSQL for the next year, with most users in Europe?"
PACK, METHOD, MAX_COST_USD = "decision", "topsis", "0.50"
BASE_MICROS, CELL_MICROS = 10_000, 1  # the pack's price: $0.01 and $0.000001 an option × criterion


@frozen
class Host:
    """A host: factor on the list price, IOPS a GiB of memory, network, minutes down a year."""

    name: str
    price: float
    iops: int
    network_gbit: int
    downtime_min: int
    sells: frozenset[str]


ALL = frozenset({"fra", "hel", "lon", "iad", "sfo", "sin", "gru"})
HOSTS = (
    Host("alder", 1.00, 420, 10, 53, ALL),
    Host("birch", 0.62, 260, 2, 260, ALL - {"gru", "sin"}),
    Host("cedar", 1.34, 900, 25, 26, ALL),
    Host("dogrose", 0.81, 510, 5, 105, ALL - {"sfo"}),
    Host("elm", 0.55, 150, 1, 530, frozenset({"fra", "hel", "lon"})),
    Host("fir", 1.12, 700, 10, 26, ALL - {"gru"}),
)
# Region: factor on the price, milliseconds to the users, grams of CO2 a kWh.
REGIONS = {
    "fra": (1.00, 14, 340),
    "hel": (0.91, 33, 60),
    "lon": (1.08, 19, 180),
    "iad": (0.94, 92, 370),
    "sfo": (1.12, 151, 230),
    "sin": (1.17, 163, 410),
    "gru": (1.38, 198, 100),
}
# vCPUs and GiB of memory; the list price is made of both.
SIZES = ((2, 8), (4, 8), (4, 16), (8, 16), (8, 32), (16, 32), (16, 64), (32, 64))
VCPU_USD, GIB_USD = 9.5, 3.1
CRITERIA = (
    ("usd_month", 30, "min"),
    ("memory_gib", 16, "max"),
    ("disk_iops", 14, "max"),
    ("latency_ms", 14, "min"),
    ("vcpus", 10, "max"),
    ("downtime_min", 8, "min"),
    ("network_gbit", 5, "max"),
    ("co2_g_kwh", 3, "min"),
)


def scores() -> dict[str, dict[str, float]]:
    """Return every offer by name, with its number for each criterion."""
    return {
        f"{host.name}/{region}/{vcpus}x{gib}": {
            "usd_month": round((vcpus * VCPU_USD + gib * GIB_USD) * host.price * price, 2),
            "memory_gib": gib,
            "disk_iops": host.iops * gib,
            "latency_ms": latency_ms,
            "vcpus": vcpus,
            "downtime_min": host.downtime_min,
            "network_gbit": host.network_gbit,
            "co2_g_kwh": co2,
        }
        for host in HOSTS
        for region, (price, latency_ms, co2) in REGIONS.items()
        if region in host.sells
        for vcpus, gib in SIZES
    }


def inputs() -> dict[str, Any]:
    """Return the inputs of the run."""
    offers = scores()
    criteria = [
        {"name": name, "weight": weight, "direction": direction}
        for name, weight, direction in CRITERIA
    ]
    return {
        "question": QUESTION,
        "options": list(offers),
        "criteria": criteria,
        "scores": offers,
        "method": METHOD,
    }


def price_micros() -> int:
    """Return what the run must cost."""
    return BASE_MICROS + CELL_MICROS * len(scores()) * len(CRITERIA)
