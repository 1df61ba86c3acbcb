"""Each runbook tried: its fault is made on real nodes, its lines are typed, and the alert ends.

What is typed comes from the page's fenced blocks (`pages`), on a real Prometheus whose times are a
thirtieth, as in `faults`. Where no fault of a minute makes an alert, its lines are typed all the
same, on nodes that are well. `make runbooks` runs it, some minutes, and prints the table; with
JSON=FILE it is written there as well. Its name keeps it out of `make test`.
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import httpx
import pytest
import trio
from attrs import Factory, define, frozen

from tests.monitoring.described import alerts, needs_prometheus
from tests.monitoring.faults import (
    CONFIG,
    CRASHES,
    NOT_PROVOKED,
    OTHER_PLANS,
    UNDELIVERED,
    WRONG,
    ask_for_runs,
    change,
    load,
)
from tests.monitoring.hands import Hands, Ran
from tests.monitoring.pages import Typed
from tests.monitoring.prometheus import Prometheus, prometheus
from tests.node_client import until
from tests.node_process import NodeProcess, node_process, nodes_on
from tests.redis_server import RedisServer, needs_redis, redis_server

if TYPE_CHECKING:
    from dpp.store.bridge import Bridge
    from tests.conftest import Database

FIRES_S, ENDS_S = 240.0, 300.0  # an hour's window is two minutes here; and the machine may be busy
LOOK_S = 0.5
SCRAPES_S = 2  # one that is missed begins the wait of an alert anew; a window has five of them
# What a line ends with where the fault is there and the page expects it; else 0.
EXPECTED = {
    ("DPP_AuditRequired_Critical", "dpp audit"): 1,
    ("DPP_Nodes_Differ", "dpp config diff"): 1,
    ("DPP_Loop_Stuck", "dpp node show $NODE"): 1,  # the database is away, as the page says
    ("DPP_Errors_Burning", "dpp mode show"): 1,
}
# Where the page says that the log may have nothing.
SILENT = {"DPP_Loop_Lag", "DPP_Webhooks_Behind"}

pytestmark = [needs_prometheus, needs_redis, pytest.mark.timeout(1800)]


@frozen
class Row:
    """How following a runbook went."""

    runbook: str
    fault: str
    ran: list[Ran]
    mended: bool | None  # None: no fault of a minute makes it

    def document(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return {
            "runbook": self.runbook,
            "fault": self.fault,
            "commands": [
                {"text": one.text, "as": one.as_, "status": one.status, "not_run": one.skipped}
                for one in self.ran
            ],
            "mended": self.mended,
        }


@define(eq=False)
class Field:
    """All that faults are made on. `one` and `other` share a database; `alone` has its own."""

    told: Prometheus
    redis: RedisServer
    one: NodeProcess
    other: NodeProcess
    alone: NodeProcess
    bridge: Bridge
    database: Database
    key: str
    key_alone: str
    rows: dict[str, Row] = Factory(dict)
    wrong: list[str] = Factory(list)

    def hands(self, node: NodeProcess, **names: str) -> Hands:
        """Sit down at a node."""
        return Hands(self.told, node, self.bridge, {"TENANT": "acme", **names})

    def watch_all(self) -> None:
        """Let Prometheus scrape all nodes, where they listen by now."""
        self.told.watch([node.management_url for node in (self.one, self.other, self.alone)])

    async def look(self, fault: str, hands: Hands, *runbooks: str) -> None:
        """Wait until these alerts fire, and type what their pages say to look at."""
        await self.told.until_firing(*runbooks, within_s=FIRES_S)
        for name in runbooks:
            ran = await hands.follow(name)
            self.rows[name] = Row(name, fault, ran, mended=False)

    async def do(self, runbook: str, text: str, hands: Hands) -> None:
        """Type what the page says to do, where it stands within a sentence or a block."""
        ran = await hands.type(Typed("Do", "dpp", text))
        assert ran.status == 0, ran
        self.rows[runbook].ran.append(ran)

    async def over(self, *runbooks: str) -> None:
        """Wait until these alerts have ended: the page's "Over when"."""
        late_at = trio.current_time() + ENDS_S
        while self.told.firing() & set(runbooks) and trio.current_time() < late_at:  # noqa: ASYNC110 - another process's state
            await trio.sleep(LOOK_S)
        for name in runbooks:
            row, ended = self.rows[name], name not in self.told.firing()
            self.rows[name] = Row(name, row.fault, row.ran, mended=ended)


async def tried(fault: Callable[[Field], Awaitable[None]], field: Field) -> None:
    """Follow what one fault is about; where it goes wrong, say so and go on with the next."""
    try:
        await fault(field)
    except (AssertionError, httpx.HTTPError) as error:
        field.wrong.append(f"{fault.__name__}: {str(error)[:500]}")
    print(f"tried: {fault.__name__}", flush=True)  # noqa: T201 - progress


async def crash(field: Field) -> None:
    """The reaper of `one` crashes at its fortieth pass, by a failpoint: it goes on by itself."""
    name = "DPP_Actor_Crashing"
    await field.look("failpoint in the reaper", field.hands(field.one), name)
    await field.over(name)


async def in_doubt(field: Field) -> None:
    names = ("DPP_AuditRequired_Critical", "DPP_Findings_Open")
    field.one.tenant("wronged", plan="unlimited")
    await change(field.bridge, field.database, WRONG)
    await field.told.until_firing(*names, within_s=FIRES_S)
    found = field.one.admin("GET", "/admin/v1/findings")["items"]
    (finding,) = (one["finding_id"] for one in found)
    # Either node's auditor may have been the one that logged it.
    node = next(one for one in (field.one, field.other) if "AUDIT_REQUIRED" in one.text())
    hands = field.hands(node, FINDING=finding)
    await field.look("a dollar taken out of a budget row", hands, *names)
    resolve = f'dpp audit resolve {finding} --refold --reason "a hand moved it"'
    await field.do("DPP_Findings_Open", resolve, hands)
    await field.do("DPP_AuditRequired_Critical", "dpp audit", hands)
    await field.over(*names)


async def no_redis(field: Field) -> None:
    field.redis.kill()
    await field.look("Redis killed", field.hands(field.one), "DPP_Redis_Down")
    field.redis.start()
    await field.over("DPP_Redis_Down")


async def nobody_claims(field: Field) -> None:
    names = ("DPP_Queue_Stalled", "DPP_SQS_Queue_Backlog")
    hands = field.hands(field.one)
    nodes = (field.one, field.other)
    for node in nodes:
        field.one.admin("POST", f"/admin/v1/nodes/{node.node_id}:drain", {"reason": "a test"})
    await ask_for_runs(field.one, field.key, 1200)
    await field.look("both nodes drained, 1,200 runs queued", hands, *names)
    for node in nodes:
        await field.do("DPP_Queue_Stalled", f"dpp node undrain {node.node_id}", hands)
    await field.over(*names)


async def wrong_mode(field: Field) -> None:
    name, hands = "DPP_Mode_Not_Normal", field.hands(field.one)
    field.one.admin("PUT", "/admin/v1/mode", {"mode": "no-submit", "reason": "a test"})
    await field.look("mode no-submit, forgotten", hands, name)
    for ran in await hands.follow(name, "Do"):
        assert ran.status == 0, ran
        field.rows[name].ran.append(ran)
    await field.over(name)


async def other_plans(field: Field) -> None:
    name = "DPP_Nodes_Differ"
    await field.told.until_firing(name, within_s=FIRES_S)
    file = field.other.home / "dpp.toml"
    file.write_text(file.read_text().replace(OTHER_PLANS, ""))
    await field.look("another plan on one node", field.hands(field.other), name)
    field.other.signal(signal.SIGHUP)  # systemctl reload dpp
    await field.over(name)


async def node_dies(field: Field) -> None:
    names = ("DPP_API_Down", "DPP_Worker_Heartbeat_Missing", "DPP_Runs_Taken_Back")
    other = field.other
    hands = field.hands(field.one, NODE=other.node_id)
    await ask_for_runs(other, field.key, 100, sleep_s=5)

    async def works() -> bool:
        await trio.lowlevel.checkpoint()
        return other.counted('dpp_runs{pack="echo",status="PROCESSING"}') > 20

    await until(works)
    other.kill9()
    await field.look("a node killed with its runs", hands, *names)
    await trio.to_thread.run_sync(other.start)  # systemctl start dpp
    field.watch_all()
    await field.over(*names)


async def nobody_delivers(field: Field) -> None:
    name = "DPP_Webhooks_Behind"
    await change(field.bridge, field.database, UNDELIVERED)
    held: list[Any] = []

    async def hold() -> None:
        connection = await field.database.connect()
        held.append(connection)
        await connection.execute("begin; select from dpp.webhook_deliveries for update")

    await field.bridge.run(hold)
    try:
        await field.look("the row of an event held", field.hands(field.one), name)
    finally:
        with trio.CancelScope(shield=True):
            await field.bridge.run(held[0].close)
    await field.over(name)


async def stutters(field: Field) -> None:
    name = "DPP_Loop_Lag"
    async with trio.open_nursery() as nursery:

        async def stutter() -> None:
            while True:
                field.one.signal(signal.SIGSTOP)
                await trio.sleep(0.5)
                field.one.signal(signal.SIGCONT)
                await trio.sleep(0.3)

        nursery.start_soon(stutter)
        try:
            await field.look("a node stopped half of the time", field.hands(field.one), name)
        finally:
            nursery.cancel_scope.cancel()
            field.one.signal(signal.SIGCONT)
    await field.over(name)


async def database_ends(field: Field) -> None:
    names = (
        "DPP_Embedded_Postgres_Down",
        "DPP_Database_Connection_Failed",
        "DPP_Loop_Stuck",
        "DPP_Errors_Burning",
    )
    node = field.alone
    (postmaster,) = node.postmasters()
    version = node.data_dir / "postgres" / "PG_VERSION"
    was = version.read_text()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(load, node, field.key_alone)
        version.write_text("1\n")
        os.kill(postmaster, signal.SIGQUIT)
        hands = field.hands(node, NODE=node.node_id)
        await field.look("PostgreSQL that ended and cannot start", hands, *names)
        version.write_text(was)  # what the log's line names is mended
        await field.over(*names[:3])
        nursery.cancel_scope.cancel()
    await field.over(names[3])


async def nobody_watches(field: Field) -> None:
    name = "DPP_API_Absent"
    field.told.watch([])
    await field.look("all nodes out of the scrape configuration", field.hands(field.one), name)
    field.watch_all()
    await field.over(name)


async def the_others(field: Field) -> None:
    """Type what the pages say of which no fault of a minute makes the alert."""
    hands = field.hands(field.one, NODE=field.one.node_id)
    for name in sorted(NOT_PROVOKED):
        field.rows[name] = Row(name, "none: on nodes that are well", await hands.follow(name), None)


# One after the other, for each makes and mends what the next would mistake for its own.
ON_THE_SHARED: tuple[Callable[[Field], Awaitable[None]], ...] = (
    other_plans,
    crash,
    in_doubt,
    no_redis,
    nobody_claims,
    wrong_mode,
    nobody_delivers,
    stutters,
    node_dies,
)


def table(rows: dict[str, Row]) -> Iterator[str]:
    """Yield the table, and below it each line that did not run as it is printed."""
    for name, row in sorted(rows.items()):
        run = sum(one.status is not None and not one.as_ for one in row.ran)
        put = sum(bool(one.as_) for one in row.ran)
        mended = {None: "-", True: "yes", False: "NO"}[row.mended]
        yield f"{name:32} {run:2} run {put:2} substituted  mended {mended:3}  {row.fault}"
        for one in row.ran:
            if one.as_ or one.skipped:
                yield f"    {one.text}\n      -> {one.as_ or 'not run: ' + one.skipped}"


def astray(rows: dict[str, Row]) -> list[tuple[str, str, int | None, str]]:
    """Return the lines that did not end as their page says."""
    found = []
    for name, row in rows.items():
        for one in row.ran[:]:
            if one.skipped:
                continue
            allowed = {0, EXPECTED.get((name, one.text), 0)}
            if (row.mended is None or name in SILENT) and "| grep" in one.text:
                allowed.add(1)  # nothing to find where nothing is wrong
            if one.status not in allowed:
                found.append((name, one.text, one.status, one.said))
    return found


@contextmanager
def field_of(bridge: Bridge, database: Database) -> Iterator[Field]:
    with (
        redis_server() as redis,
        nodes_on(
            database.host,
            database.name,
            CONFIG.format(redis=redis.url, failpoint=CRASHES),
            CONFIG.format(redis=redis.url, failpoint="") + OTHER_PLANS,
        ) as (one, other),
        node_process(CONFIG.format(redis=redis.url, failpoint="")) as alone,
        prometheus(SCRAPES_S) as told,
    ):
        for node in (one, other, alone):
            node.launch()
        for node in (one, other, alone):
            node.wait_ready()
        key, key_alone = one.tenant("acme", "1000.00"), alone.tenant("acme", "1000.00")
        yield Field(told, redis, one, other, alone, bridge, database, key, key_alone)


async def test_each_runbook_is_followed_and_mends_what_it_is_about(
    bridge: Bridge, database: Database
) -> None:
    with field_of(bridge, database) as field:
        field.watch_all()
        async with trio.open_nursery() as both:
            both.start_soon(tried, database_ends, field)
            for fault in ON_THE_SHARED:
                await tried(fault, field)
        await tried(nobody_watches, field)
        await tried(the_others, field)
    print("\n".join(table(field.rows)))  # noqa: T201 - what it is for
    if "JSON" in os.environ:
        rows = [row.document() for _, row in sorted(field.rows.items())]
        await trio.Path(os.environ["JSON"]).write_text(json.dumps(rows, indent=2) + "\n")

    assert field.wrong == []
    assert field.rows.keys() == alerts().keys()
    assert astray(field.rows) == []
    assert [name for name, row in field.rows.items() if row.mended is False] == []
