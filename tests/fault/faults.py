"""What a storm does to its nodes, their wires and their PostgreSQL, one function each.

Each takes the storm and a node that no other fault has, undoes what it did, and returns how often
it really hit: 0 where there was nothing to hit.
"""

from __future__ import annotations

import resource
import signal
from collections.abc import Awaitable, Callable
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeAlias

import asyncpg
import trio
from attrs import frozen

from tests.fault.fleet import LEASE_S, Member
from tests.pgbouncer import console

if TYPE_CHECKING:
    from tests.fault.storm import Storm

Hit: TypeAlias = Callable[["Storm", Member], Awaitable[int]]

FREE_S = 0.1  # between two looks whether a node is free
DOWN_S = (0.0, 2.0)  # until a killed node is started again
PAST_LEASE_S = LEASE_S + 2.5
COMMIT_S = 3.0  # a node that has anything to do commits within it
PAUSED_S = 7.0  # the server ends a transaction that idles after 5
MESSAGES = 400  # the most that a connection is cut after: a second or two of them
SLOW_S = (0.0, 0.4)  # 200 ± 200 ms
LET_GO_S = 5.0  # more for a busy machine, after a time that was long enough by itself
FILE_MAX = 64 << 10  # bytes: under the large results of the load, over the log of a start
STUCK_S, STUCK_TRIES = 0.5, 16  # between two looks at what is being stored

BACKENDS = """
select pid from pg_stat_activity where usename = 'dpp_app' and pid <> pg_backend_pid()
"""
EVICT = "delete from dpp.node_leases where node_id = $1 returning lease_id"
LIVING = "select 1 from dpp.node_leases where node_id = $1 and lease_until > dpp.now()"
STORING = """
select r.run_id from dpp.live_runs r join dpp.node_leases l using (lease_id)
 where r.storing and l.node_id = $1
"""


async def kill(storm: Storm, member: Member) -> int:
    """Kill -9 a node, and start it again a little later."""
    member.may_end = True
    await storm.count(member)
    await trio.to_thread.run_sync(member.node.kill9)
    await trio.sleep(storm.dice.uniform(*DOWN_S))
    await storm.start(member)
    return 1


async def kill_all(storm: Storm, member: Member) -> int:
    """Kill -9 all nodes at once, and start them again."""
    others = [one for one in storm.fleet.members if one is not member]
    for one in others:
        while one.taken:  # noqa: ASYNC110 - by the other strand, which waits for none
            await trio.sleep(FREE_S)
        one.taken = True
    everybody = [member, *others]
    for one in everybody:
        one.may_end = True
        await storm.count(one)
    for one in everybody:
        await trio.to_thread.run_sync(one.node.kill9)
    async with trio.open_nursery() as nursery:
        for one in everybody:
            nursery.start_soon(storm.start, one)
    for one in others:
        one.taken = False
    return 1


async def drain(storm: Storm, member: Member) -> int:
    """SIGTERM a node, and start it again."""
    member.may_end = True
    await storm.count(member)
    status = await trio.to_thread.run_sync(member.node.terminate)
    if status != 0:
        storm.blame(f"{member.name} drained with status {status}\n{member.node.tail()}")
    await storm.start(member)
    return 1


async def freeze(storm: Storm, member: Member) -> int:
    """Freeze a node for a moment."""
    return await stand_still(member, 0.3)


async def freeze_past_lease(storm: Storm, member: Member) -> int:
    """Freeze a node until its runs are somebody else's."""
    return await stand_still(member, PAST_LEASE_S)


async def stand_still(member: Member, seconds: float) -> int:
    """Freeze a node for so long."""
    member.node.signal(signal.SIGSTOP)
    await trio.sleep(seconds)
    hit = member.node.frozen
    member.node.signal(signal.SIGCONT)
    return int(hit)


async def evict(storm: Storm, member: Member) -> int:
    """Take a node's lease away while it trusts it, as a database clock that jumps ahead does."""
    return len(await storm.ask(EVICT, member.node.node_id))


async def terminate(storm: Storm, member: Member) -> int:
    """Cut a few of the nodes' connections at the server."""
    pids = [row["pid"] for row in await storm.ask(BACKENDS)]
    some = storm.dice.sample(pids, min(len(pids), storm.dice.randrange(1, 6)))
    ended = await storm.ask("select pg_terminate_backend(pid) from unnest($1::int[]) as pid", some)
    return sum(row[0] for row in ended)


async def stop_immediate(storm: Storm, member: Member) -> int:
    """Stop PostgreSQL at once, and start it again."""
    await trio.to_thread.run_sync(storm.cluster.crash, signal.SIGQUIT)
    return 1


async def kill_server(storm: Storm, member: Member) -> int:
    """Kill -9 the postmaster, and start it again."""
    await trio.to_thread.run_sync(storm.cluster.crash, signal.SIGKILL)
    return 1


async def restart_pooler(storm: Storm, member: Member) -> int:
    """Kill -9 the pooler, and start it again: what went through it is cut in the middle."""
    if storm.fleet.pooler is None:
        return 0
    await trio.to_thread.run_sync(storm.fleet.pooler.restart, storm.dice.choice([0.0, 0.5]))
    return 1


async def pause_pooler(storm: Storm, member: Member) -> int:
    """Let the pooler hand out no connection for a while; in session mode it would wait for ever."""
    pooler = storm.fleet.pooler
    if pooler is None or pooler.mode == "session":
        return 0
    with trio.move_on_after(PAUSED_S):  # for transactions that somebody froze in, too
        await storm.bridge.run(partial(console, pooler.host, "pause"))
        await trio.sleep(storm.dice.uniform(0.5, 1.5))
    await storm.bridge.run(partial(console, pooler.host, "resume"))
    return 1


async def cut_before_commit(storm: Storm, member: Member) -> int:
    """Cut a connection as COMMIT is sent: it never arrives."""
    return await member.wire.order("cut_at_commit", how="before", within_s=COMMIT_S)


async def cut_after_commit(storm: Storm, member: Member) -> int:
    """Cut a connection as COMMIT is answered: it is done, and nobody was told."""
    return await member.wire.order("cut_at_commit", how="after", within_s=COMMIT_S)


async def cut_at_message(storm: Storm, member: Member) -> int:
    """Cut a connection at some message or other."""
    how, k = storm.dice.choice(["before", "after"]), storm.dice.randrange(1, MESSAGES)
    return await member.wire.order("cut_at_message", k=k, how=how, within_s=COMMIT_S)


async def delay(storm: Storm, member: Member) -> int:
    """Let all that a node says and hears take its time."""
    least, most = SLOW_S
    hits = await member.wire.order("delay", least_s=least, most_s=most, seconds=3.0)
    return int(hits > 0)


async def blackhole(storm: Storm, member: Member) -> int:
    """Let nothing pass until the node has let go of its runs; then all that waited, or nothing."""
    then = storm.dice.choice(["pass", "reset"])
    gone_before = let_go(member)
    if not await storm.ask(LIVING, member.node.node_id):
        return 0  # between two tenures: it has nothing to let go of
    hits = await member.wire.order("blackhole", seconds=PAST_LEASE_S, then=then)
    give_up_at = trio.current_time() + LET_GO_S
    while let_go(member) == gone_before and trio.current_time() < give_up_at:  # noqa: ASYNC110
        await trio.sleep(0.1)
    if let_go(member) > gone_before:
        return int(hits > 0)
    storm.blame(f"{member.name} held on to its lease for {PAST_LEASE_S} s without PostgreSQL")
    return int(hits > 0)


async def blackhole_for_a_moment(storm: Storm, member: Member) -> int:
    """Let nothing pass for a while that a lease outlasts; then all that waited."""
    hits = await member.wire.order("blackhole", seconds=storm.dice.uniform(0.5, 2.0), then="pass")
    return int(hits > 0)


def let_go(member: Member) -> int:
    """Count the tenures that ended because their time was over."""
    return sum("LeaseLapsed" in str(line.get("detail")) for line in member.node.lines())


async def trouble_redis(storm: Storm, member: Member) -> int:
    """Kill Redis, freeze it, empty it or leave it no room, for a moment."""
    redis = storm.fleet.redis
    if redis is None:
        return 0
    how = storm.dice.choice(["kill", "freeze", "empty", "fill"])
    if how == "kill":
        await trio.to_thread.run_sync(redis.kill)
    elif how == "freeze":
        redis.freeze()
    elif how == "empty":
        await trio.to_thread.run_sync(redis.ask, "FLUSHALL")
    else:
        await trio.to_thread.run_sync(redis.ask, "CONFIG", "SET", "maxmemory", "1")
    await trio.sleep(storm.dice.uniform(*DOWN_S))
    if how == "kill":
        await trio.to_thread.run_sync(redis.start)
    elif how == "freeze":
        redis.thaw()
    elif how == "fill":
        await trio.to_thread.run_sync(redis.ask, "CONFIG", "SET", "maxmemory", "0")
    return 1


async def no_room(storm: Storm, member: Member) -> int:
    """Let writing a large result fail (EFBIG) until one has failed, and then no more."""
    if storm.fleet.results is None or member.node.logs[-1].stat().st_size > FILE_MAX // 2:
        return 0
    pid, none = member.node.pid, resource.RLIM_INFINITY
    resource.prlimit(pid, resource.RLIMIT_FSIZE, (FILE_MAX, none))
    try:
        return int(await is_stuck(storm, member))
    finally:
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (none, none))


async def is_stuck(storm: Storm, member: Member) -> bool:
    """Wait until one and the same run is being stored at two looks; it takes no such time."""
    before: set[Any] = set()
    for _ in range(STUCK_TRIES):
        with suppress(OSError, asyncpg.PostgresError, asyncpg.InterfaceError):
            now = {row["run_id"] for row in await storm.ask(STORING, member.node.node_id)}
            if now & before:
                return True
            before = now
        await trio.sleep(STUCK_S)
    return False


@frozen
class Fault:
    """How often it comes, so that none drowns the others."""

    hit: Hit
    weight: int

    @property
    def name(self) -> str:
        return self.hit.__name__


# Two strands at once: what happens to processes, and what happens between and below them.
PROCESSES = (
    Fault(kill, 5),
    Fault(kill_all, 1),
    Fault(freeze, 2),
    Fault(freeze_past_lease, 2),
    Fault(drain, 3),
    Fault(terminate, 6),
    Fault(stop_immediate, 2),
    Fault(kill_server, 1),
    Fault(restart_pooler, 3),
)
WIRES = (
    Fault(cut_before_commit, 6),
    Fault(cut_after_commit, 8),
    Fault(cut_at_message, 6),
    Fault(evict, 6),
    Fault(delay, 2),
    Fault(blackhole, 2),
    Fault(blackhole_for_a_moment, 2),
    Fault(no_room, 2),
    Fault(pause_pooler, 2),
    Fault(trouble_redis, 3),
)
EVERY = (*PROCESSES, *WIRES)
