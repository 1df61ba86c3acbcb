"""The mailroom notices what it is there to notice, and whoever judges after it does so, too."""

from __future__ import annotations

import json
import os
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
import trio
from attrs import define, evolve
from standardwebhooks import Webhook

from tests.fault.fleet import Fleet
from tests.fault.mailroom import Event, Mailroom, open_mailroom
from tests.fault.registry import Registry
from tests.fault.storm import Storm
from tests.fault.verdict import of_mail
from tests.node_client import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from dpp.store.bridge import Bridge
    from tests.cluster import Cluster

SEED = int(os.environ.get("DPP_TEST_SEED", "20261129"))
SECRET, OTHER = "whsec_" + "c2VjcmV0" * 4, "whsec_" + "b3RoZXIh" * 4
RUN, ID = UUID(int=1), UUID(int=2)
BODY = json.dumps(
    {
        "type": "run.completed",
        "data": {"run_id": str(RUN), "status": "COMPLETED", "cost": {"actual_usd": "0.002"}},
    }
).encode()
REFUSED, LOST, GAVE_UP = 1, 2, 3  # where there is no answer
PATIENT_S = 1.0
WAITS = {"status": "pending", "ended": True}


class Said(Registry):
    """A registry that says what the test has written there."""

    says: Sequence[dict[str, Any]] = (WAITS,)

    async def look(self, delivery_id: str, within_s: float) -> Sequence[Any]:
        await trio.lowlevel.checkpoint()
        assert delivery_id in {str(ID), str(RUN)}
        assert within_s > 0
        return self.says


@define(eq=False)
class Scene:
    """A mailroom, what its database says, and a sender."""

    mailroom: Mailroom
    registry: Said
    http: httpx.AsyncClient

    @property
    def blames(self) -> list[str]:
        return self.mailroom.storm.blames

    async def post(
        self, body: bytes = BODY, *, secret: str = SECRET, event: UUID = ID, ago_s: float = 0
    ) -> int:
        """Send an event; returns the status that was answered, or what came instead."""
        at = datetime.now(UTC) - timedelta(seconds=ago_s)
        headers = {
            "webhook-id": str(event),
            "webhook-timestamp": str(int(at.timestamp())),
            "webhook-signature": Webhook(secret).sign(str(event), at, body.decode()),
        }
        url = self.mailroom.doors[0].url
        try:
            return (await self.http.post(url, content=body, headers=headers)).status_code
        except httpx.ConnectError:
            return REFUSED
        except httpx.ReadTimeout:
            return GAVE_UP
        except httpx.TransportError:
            return LOST

    async def answers(self, what: int) -> bool:
        """Say whether this is what a sender is answered by now."""
        return await self.post() == what


@pytest.fixture
async def scene(bridge: Bridge, cluster: Cluster) -> AsyncIterator[Scene]:
    """Open a mailroom whose database says that all is well."""
    storm = Storm(cluster, Fleet([], None), bridge, Random(SEED), Path("no.dump"))
    async with (
        httpx.AsyncClient(trust_env=False, timeout=PATIENT_S) as http,
        open_mailroom(storm, Random(SEED), ["acme"]) as mailroom,
    ):
        mailroom.registry = said = Said(bridge, cluster.host)
        mailroom.doors[0].secret = SECRET
        yield Scene(mailroom, said, http)


async def test_what_is_as_it_should_be_is_taken_however_often_it_comes(scene: Scene) -> None:
    scene.mailroom.calm()
    assert await scene.post() == 204
    scene.registry.says = [{"status": "delivered", "ended": True}]

    assert await scene.post() == 204

    (event,) = scene.mailroom.events.values()
    assert (event.body, event.times, event.taken) == (BODY, 2, True)
    assert scene.blames == []


@pytest.mark.parametrize(
    ("says", "sent", "words"),
    [
        ([WAITS], {"secret": OTHER}, "signature"),
        ([WAITS], {"ago_s": 600}, "signature"),
        ([WAITS], {"body": BODY + b" "}, "one id, two events"),
        ([{**WAITS, "ended": False}], {}, "before its commit"),
        ([], {}, "before its commit"),
        ([{**WAITS, "status": "delivered"}], {"event": RUN}, "nobody had taken"),
    ],
)
async def test_what_must_not_be_is_noticed_while_it_comes(
    scene: Scene, says: list[dict[str, Any]], sent: dict[str, Any], words: str
) -> None:
    scene.mailroom.calm()
    await scene.post()
    assert scene.blames == []
    scene.registry.says = says

    await scene.post(**sent)

    (blame,) = scene.blames
    assert blame.startswith("M11")
    assert words in blame


async def test_in_a_storm_some_is_not_taken_and_comes_again(scene: Scene) -> None:
    """Its dice alone decide: one sender after another, and the same seed."""
    print(f"seed {SEED}")
    answers: Counter[int] = Counter()
    while not {500, LOST, GAVE_UP} <= answers.keys():
        answers[await scene.post()] += 1

    assert {*answers} == {204, 500, LOST, GAVE_UP}
    assert scene.mailroom.faults == Counter({"500": answers[500], "lost": answers[LOST]})
    assert scene.blames == []
    scene.mailroom.calm()
    assert {await scene.post() for _ in range(100)} == {204}


async def test_a_door_that_is_shut_refuses_and_is_the_same_one_when_it_opens(scene: Scene) -> None:
    url = scene.mailroom.doors[0].url

    async with scene.mailroom.doors[0].shut():
        await until(partial(scene.answers, REFUSED))

    await until(partial(scene.answers, 204))
    assert scene.mailroom.doors[0].url == url


# ── afterwards ───────────────────────────────────────────────────────────────────────────────────

EVENT = Event("acme", BODY, times=1, taken=True)
ROW = {
    "delivery_id": ID,
    "tenant_id": "acme",
    "event": "run.completed",
    "status": "delivered",
    "run_id": RUN,
    "ended": "COMPLETED",
    "cost": 2_000,
}


def test_an_event_that_was_committed_told_and_taken_is_in_order() -> None:
    assert [*of_mail({str(ID): EVENT}, [ROW])] == []


@pytest.mark.parametrize(
    ("events", "row", "words"),
    [
        ({}, {}, "never came"),
        ({str(ID): EVENT, str(RUN): EVENT}, {}, "no row of the outbox"),
        ({str(ID): evolve(EVENT, taken=False)}, {}, "nobody took it"),
        ({str(ID): evolve(EVENT, tenant="other")}, {}, "something else"),
        ({str(ID): EVENT}, {"status": "pending"}, "not delivered"),
        ({str(ID): EVENT}, {"status": "failed"}, "not delivered"),
        ({str(ID): EVENT}, {"ended": None, "cost": None}, "has not ended"),
        ({str(ID): EVENT}, {"ended": "FAILED"}, "something else"),
        ({str(ID): EVENT}, {"event": "run.failed", "ended": "FAILED"}, "something else"),
        ({str(ID): EVENT}, {"cost": 1}, "something else"),
        ({str(ID): EVENT}, {"run_id": ID}, "something else"),
    ],
)
def test_an_event_that_is_not_in_order_is_found(
    events: dict[str, Event], row: dict[str, Any], words: str
) -> None:
    (found,) = of_mail(events, [ROW | row])

    assert found.startswith("M11")
    assert words in found
