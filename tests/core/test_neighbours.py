"""Neighbours: digests that tell configurations apart, and who differs in what."""

import subprocess
import sys

import pytest
from attrs import evolve

from dpp.money import Micros
from dpp.neighbours import Neighbour, Neighbourhood, Offer, share
from dpp.plans import Plan

PLAN = Plan("basic", packs=frozenset({"decision", "echo", "third"}))
OWN = Offer.of({"basic": PLAN}, {"echo": "1", "decision": "2"})


def test_a_digest_is_the_same_whatever_the_order_and_the_process() -> None:
    program = (
        "from dpp.neighbours import Offer; from dpp.plans import Plan;"
        "print(Offer.of({'basic': Plan('basic', packs=frozenset({'third', 'echo', 'decision'}))},"
        " {'decision': '2', 'echo': '1'}))"
    )

    told = subprocess.run(
        [sys.executable, "-c", program],
        env={"PYTHONHASHSEED": "7"},
        capture_output=True,
        check=True,
    )

    assert told.stdout.decode().strip() == str(OWN)
    assert Offer.parse(str(OWN)) == OWN


@pytest.mark.parametrize(
    "plan",
    [
        evolve(PLAN, queued_runs=1),
        evolve(PLAN, packs=None),
        evolve(PLAN, max_cost_by_pack={"echo": Micros(1)}),
        evolve(PLAN, weight=2),
    ],
)
def test_plans_that_differ_have_another_digest(plan: Plan) -> None:
    other = Offer.of({"basic": plan}, {"echo": "1", "decision": "2"})

    assert (other.plans == OWN.plans, other.packs == OWN.packs) == (False, True)


def test_who_differs_is_named_by_what() -> None:
    neighbours = [
        Neighbour("b", evolve(OWN, plans="another")),
        Neighbour("me", OWN),
        Neighbour("a", Offer.parse("")),
    ]

    seen = Neighbourhood.seen_by(OWN, neighbours)

    assert seen == Neighbourhood(3, {"plans": ("a", "b"), "packs": ("a",)})


def test_nobody_but_oneself_counts_as_one() -> None:
    assert Neighbourhood.seen_by(OWN, []) == Neighbourhood(1, {})


@pytest.mark.parametrize(
    ("limit", "living", "part"), [(600, 1, 600), (600, 3, 200), (10, 3, 3), (1, 5, 1)]
)
def test_nodes_share_a_limit_and_each_has_at_least_one(limit: int, living: int, part: int) -> None:
    assert share(limit, living) == part
