"""Neighbours: the nodes that live beside this one, and whether they offer the same.

Nodes must agree on plans and packs: a tenant is admitted by whichever it meets. Each node writes a
digest of both into its lease row and reads everybody's with each renewal.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from hashlib import sha256
from typing import Any, Final

import attrs
from attrs import field, frozen

from dpp.plans import Plans

PLANS: Final = "plans"
PACKS: Final = "packs"
CHARS: Final = 16  # of each digest: 64 bits tell any two configurations apart


@frozen
class Offer:
    """What a node sells, as digests; as text it stands in the node's lease row."""

    plans: str = ""
    packs: str = ""

    def __str__(self) -> str:
        return f"{self.plans}/{self.packs}"

    @classmethod
    def of(cls, plans: Plans, packs: Mapping[str, str]) -> "Offer":
        """Digest plans, and packs with their versions."""
        told = {name: attrs.asdict(plan) for name, plan in plans.items()}
        return cls(digest(told), digest(dict(packs)))

    @classmethod
    def parse(cls, text: str) -> "Offer":
        """Read what another node wrote; an older one may have written nothing."""
        plans, _, packs = text.partition("/")
        return cls(plans, packs)


@frozen
class Neighbour:
    """A node with a lease that lives."""

    node_id: str
    offer: Offer


@frozen
class Neighbourhood:
    """All living nodes as this one last read them, itself among them."""

    living: int = 1
    differing: Mapping[str, tuple[str, ...]] = field(factory=dict)  # what differs → which nodes

    @classmethod
    def seen_by(cls, own: Offer, neighbours: Sequence[Neighbour]) -> "Neighbourhood":
        """Compare everybody's offer with one's own."""
        others = {one.node_id: one.offer for one in neighbours}
        differing = {
            what: tuple(
                sorted(name for name, offer in others.items() if getattr(offer, what) != mine)
            )
            for what, mine in ((PLANS, own.plans), (PACKS, own.packs))
        }
        named = {what: names for what, names in differing.items() if names}
        return cls(max(len(others), 1), named)


def share(limit: int, living: int) -> int:
    """Return this node's part of a limit that nodes count each for itself: at least 1."""
    return max(limit // living, 1)


def digest(value: object) -> str:
    """Return the digest of a value, the same in every process."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), default=plain)
    return sha256(text.encode()).hexdigest()[:CHARS]


def plain(value: Any) -> list[Any]:  # noqa: ANN401 - what json does not know
    """Return a set as json knows it."""
    assert isinstance(value, Iterable)
    return sorted(value)
