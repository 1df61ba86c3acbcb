"""Marks: what must happen sometimes, or the simulation is not where it should be."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from dpp.leases import LeaseGone, Renewal
from dpp.settlement import LeaseLost, Requeued

# Each is above 0 over some hundred seeds; at 0, what it stands for is no longer tried.
SOMETIMES = (
    "a claim takes what is left of another node",
    "a claim that got no answer: it had taken runs",
    "a claim that got no answer: it had taken none",
    "a lease is lost",
    "admitted after a refusal",
    "an attempt fails by its infrastructure",
    "answers 202",
    "answers 402",
    "answers 403",
    "answers 422",
    "answers 429",
    "answers 503",
    "answers unknown",
    "attempts retried",
    "cancel ended it",
    "cancel noted",
    "ended: CANCELED",
    "ended: COMPLETED",
    "ended: EXPIRED",
    "ended: FAILED, cost_ceiling",
    "ended: FAILED, infrastructure",
    "ended: FAILED, lost_lease",
    "ended: FAILED, pack_error",
    "ended: FAILED, pack_refused",
    "ended: FAILED, result_too_large",
    "ended: FAILED, timebox",
    "handed back, no attempt spent",
    "landed after its error",
    "late claim refused",
    "late renewal refused",
    "late settle refused",
    "late storing mark refused",
    "quarantined",
    "replayed",
    "rolled back",
    "rolled forward",
    "taken back, an attempt spent",
    "the reaper loses a race",
    "unknown, resolved: no",
    "unknown, resolved: yes",
    "waited for an end",
)

# Met by one seed in a hundred or less: a short run need not see them.
RARE = frozenset({
    "a claim that got no answer: it had taken runs",
    "ended: FAILED, lost_lease",
    "late claim refused",
    "late storing mark refused",
    "rolled forward",
})  # fmt: skip
FEW, MANY = 100, 1_000  # seeds: fewer need not reach anything, and after more nothing is rare


def mark(counts: Counter[str], verb: str, args: tuple[Any, ...], answer: Any) -> None:
    """Count what an answer of the store means."""
    match verb, answer:
        case "end_runs", list():
            lost = sum(isinstance(one, LeaseLost) for one in answer)
            counts["late settle refused"] += lost
            failed = sum(isinstance(one, Requeued) for one in answer)
            counts["an attempt fails by its infrastructure"] += failed
        case "renew_lease", Renewal(held=False):
            counts["late renewal refused"] += 1
        case "claim_runs", LeaseGone():
            counts["late claim refused"] += 1
        case "claim_runs", list():
            again = sum(one.fence.lease_epoch > 1 for one in answer)
            counts["a claim takes what is left of another node"] += again
        case "mark_storing", False:
            counts["late storing mark refused"] += 1
        case "take_back", int():
            counts["the reaper loses a race"] += len(args[0]) - answer


def missing(counts: Mapping[str, int], seeds: int) -> list[str]:
    """Return the marks that so many seeds should have reached, and did not."""
    if seeds < FEW:
        return []
    rare = RARE if seeds < MANY else frozenset[str]()
    return [name for name in SOMETIMES if not counts.get(name) and name not in rare]
