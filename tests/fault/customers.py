"""Plain clients of a fleet behind one URL: they submit, read what came of it, and repeat.

A request succeeds when it is answered, within so many retries; one without an answer or with a 503
is asked again after a second, a submission under the same key. A large result is answered by a
link; while S3 is broken the answer is a 503, and that is the promised one.
"""

from __future__ import annotations

import hashlib
from base64 import b64encode
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TypeAlias

import httpx
import trio
from attrs import define, field

from tests.fault.breakage import Breakage
from tests.node.load import Load
from tests.node_client import Client, connected
from tests.node_process import NO_TLS

# Of a client between two of its requests: a load, not a flood, and one that a stand-in for AWS in
# Python bears beside three nodes on two cores.
PAUSE_S = 0.5
RETRY_S = 1.0  # the least that a Retry-After asks for
READ_SHARE = 0.25  # of the submissions are followed by a look at an earlier run and its result
LARGE_SHARE = 0.5
RECENT = 50  # of those one is looked at
LINK_S = 60.0  # for what lies behind a link: a stand-in on a busy machine is no violation
Once: TypeAlias = Callable[[], Awaitable[bool]]  # False = no definite answer


@define(eq=False)
class Tally:
    """How requests went: by the number of retries it took, or not at all."""

    took: Counter[int] = field(factory=Counter)
    failed: int = 0

    @property
    def asked(self) -> int:
        """Return how many there were."""
        return self.took.total() + self.failed

    @property
    def retries(self) -> int:
        """Return how many of them were asked again, at least once."""
        return self.asked - self.took[0]

    @property
    def share(self) -> float:
        """Return the part that succeeded."""
        return self.took.total() / max(self.asked, 1)


@define(eq=False)
class Customers:
    """All clients. Tallies go by what was broken when a request was first sent."""

    load: Load
    url: str
    retries: int
    breakage: Breakage
    submits: dict[str, Tally] = field(factory=dict)
    reads: dict[str, Tally] = field(factory=dict)
    results: Counter[str] = field(factory=Counter)  # how reads of results were answered
    wrong: list[str] = field(factory=list)  # answers that no outage excuses

    async def shop(self, tenant: str, stop: trio.Event) -> None:
        """Be a client that submits one run after another, and reads some of them."""
        async with (
            connected(self.url, self.load.tenants[tenant]) as client,
            httpx.AsyncClient(timeout=LINK_S, trust_env=False, verify=NO_TLS) as plain,
        ):
            while not stop.is_set():
                asked = self.load.new(tenant)
                await self._insist(self.submits, partial(self.load.ask, client, asked))
                if self.load.dice.random() < READ_SHARE:
                    await self._read_one(client, plain, tenant)
                await trio.sleep(PAUSE_S)

    async def _insist(self, tallies: dict[str, Tally], once: Once) -> bool:
        tally = tallies.setdefault(self.breakage.now, Tally())
        for turn in range(self.retries + 1):
            if await once():
                tally.took[turn] += 1
                return True
            await trio.sleep(RETRY_S)
        tally.failed += 1
        return False

    async def _read_one(self, client: Client, plain: httpx.AsyncClient, tenant: str) -> None:
        run_id = self._some_run(tenant)
        if run_id is None:
            return
        reader = Reader(self, client, plain, run_id)
        await self._insist(self.reads, reader.run)
        if reader.sha256 is not None:
            await self._insist(self.reads, reader.result)

    def _some_run(self, tenant: str) -> str | None:
        """Name an earlier run; every other time one with a large result, which are few."""
        recent = [one for one in self.load.of(tenant)[-RECENT:] if one.run_id is not None]
        large = [one for one in recent if len(str(one.result)) > self.load.inline_max_bytes]
        some = large if large and self.load.dice.random() < LARGE_SHARE else recent
        return self.load.dice.choice(some).run_id if some else None


def whole(tallies: dict[str, Tally]) -> Tally:
    """Return all of them as one."""
    took = sum((one.took for one in tallies.values()), Counter[int]())
    return Tally(took, sum(one.failed for one in tallies.values()))


@define(eq=False)
class Reader:
    """Who looks at one run, and then at its result. `sha256`: what the run says of it, if any."""

    customers: Customers
    client: Client
    plain: httpx.AsyncClient
    run_id: str
    sha256: str | None = None

    async def run(self) -> bool:
        """Read the run."""
        answer = await self._ask(f"/v1/runs/{self.run_id}")
        if answer is None or answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            return False
        assert answer.status_code == httpx.codes.OK, answer.text
        self.sha256 = answer.json()["result_sha256"]
        return True

    async def result(self) -> bool:
        """Read its result, and what lies behind a link."""
        asked_at = trio.current_time()
        answer = await self._ask(f"/v1/runs/{self.run_id}/result")
        if answer is None:
            return False
        excused = self.customers.breakage.was("s3", asked_at)
        if answer.status_code == httpx.codes.SERVICE_UNAVAILABLE:
            assert int(answer.headers["retry-after"]) >= 1
            self._told("503 while s3 was broken" if excused else "503 while s3 was well")
            return excused
        assert answer.status_code in {200, 307}, answer.text
        assert self.sha256 is not None
        digest = bytes.fromhex(self.sha256)
        assert answer.headers["repr-digest"] == f"sha-256=:{b64encode(digest).decode()}:"
        if answer.status_code == httpx.codes.OK:
            self._told("in the answer")
            self._compare(answer.content)
        else:
            self._told("by a link")
            await self._follow(answer.headers["location"])
        return True

    async def _ask(self, path: str) -> httpx.Response | None:
        with suppress(httpx.TransportError):
            return await self.client.ask("GET", path)
        return None

    async def _follow(self, link: str) -> None:
        """Fetch it as a client does: what S3 answers while it is broken is S3's affair."""
        asked_at, answer = trio.current_time(), None
        with suppress(httpx.TransportError):
            answer = await self.plain.get(link)
        good = answer is not None and answer.status_code == httpx.codes.OK
        if answer is not None and good and self._is_right(answer.content):
            self._told("link followed")
        elif self.customers.breakage.was("s3", asked_at):
            self._told("link not answered, or wrong, while s3 was broken")
        else:
            self.customers.wrong.append(f"the link of run {self.run_id} did not give its result")

    def _compare(self, body: bytes) -> None:
        if not self._is_right(body):
            self.customers.wrong.append(f"run {self.run_id} has another result than it says")

    def _is_right(self, body: bytes) -> bool:
        return hashlib.sha256(body).hexdigest() == self.sha256

    def _told(self, how: str) -> None:
        self.customers.results[how] += 1
