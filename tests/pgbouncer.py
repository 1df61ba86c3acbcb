"""Debian's PgBouncer between a test and its server: a pool of two server connections a database.

It refuses to run as root, so it runs as the account that PostgreSQL has. It dies with the process
that started it. What it is not told to ignore it refuses, as a pooler of a host's does.
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import asyncpg
import pytest
from attrs import define, field

from dpp import accounts
from dpp.accounts import identity
from dpp.store.programs import ENVIRONMENT
from tests.cluster import PR_SET_PDEATHSIG, START_S, _prctl

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAM = Path("/usr/sbin/pgbouncer")
POOL_SIZE = 2
SOCKET = ".s.PGSQL.5432"
TAIL = 60  # lines of its log that are shown
MODES = ("session", "transaction")
CONFIG = """\
[databases]
* = host={upstream}
[pgbouncer]
unix_socket_dir = {home}
listen_port = 5432
auth_type = trust
auth_file = {home}/users
admin_users = postgres
pool_mode = {mode}
default_pool_size = {pool_size}
max_client_conn = 500
logfile = {home}/log
{more}
"""
USERS = "".join(f'"{name}" ""\n' for name in ("postgres", "dpp_owner", "dpp_app", "dpp_audit"))
needs_pgbouncer = pytest.mark.skipif(
    not PROGRAM.exists(), reason="needs PgBouncer: apt-get install pgbouncer"
)


def listens(path: Path) -> bool:
    """Return whether somebody takes connections at that socket: its file is there before that."""
    with socket.socket(socket.AF_UNIX) as to:
        return to.connect_ex(str(path)) == 0


@define(eq=False)
class Bouncer:
    """The pooler, through its deaths. `host`: the directory of its socket."""

    host: str
    mode: str
    _process: subprocess.Popen[bytes] | None = field(default=None)
    # What the kernel tells a child of its parent's death, it tells of the *thread* that forked.
    _starter: ThreadPoolExecutor = field(factory=partial(ThreadPoolExecutor, max_workers=1))

    def start(self) -> None:
        """Start it and wait until it takes connections."""
        self._starter.submit(self._start).result()

    def _start(self) -> None:
        child = accounts.choose_child(os.geteuid(), None)
        assert child is not None
        home = Path(self.host)
        (home / SOCKET).unlink(missing_ok=True)  # of one that was killed
        self._process = subprocess.Popen(
            [PROGRAM, "-q", home / "ini"],
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            preexec_fn=partial(_prctl, PR_SET_PDEATHSIG, signal.SIGKILL),  # noqa: PLW1509
            **identity(child),
        )
        for _ in range(START_S * 100):
            if listens(home / SOCKET):
                return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(0.01)
                break
        raise AssertionError((home / "log").read_text(errors="replace")[-2000:])

    def kill(self) -> None:
        """End it at once: every connection through it is cut, whatever it is in the middle of."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(START_S)
            self._process = None

    def restart(self, down_s: float = 0.0) -> None:
        """End it, and start it again."""
        self.kill()
        time.sleep(down_s)  # noqa: TID251 - no loop runs here
        self.start()


async def console(host: str, command: str) -> None:
    """Give the pooler at `host` a command of its console; from the bridge's loop."""
    connection = await asyncpg.connect(host=host, user="postgres", database="pgbouncer")
    try:
        await connection.execute(command)
    finally:
        connection.terminate()


async def reconnect(host: str, database: str) -> None:
    """Let the pooler make its connections to that database anew; the others are left alone.

    It cuts a login that is under way, takes it for one that failed, and tries no other for
    `server_login_retry`: whoever comes to that database waits meanwhile.
    """
    await console(host, f"reconnect {database}")


@contextmanager
def explained(host: str, database: str) -> Iterator[None]:
    """Print what the pooler at `host` stands at with that database, where the block fails."""
    try:
        yield
    except BaseException:
        print(explanation(host, database))  # noqa: T201 - pytest shows it
        raise


def explanation(host: str, database: str) -> str:
    """Return what it last said of that database, clients' comings apart, and what it holds now."""
    said = Path(host, "log").read_text(errors="replace").splitlines()
    mine = (f" {database}/", f"'{database}'")
    told = [line for line in said if any(name in line for name in mine) and " LOG C-" not in line]
    told = told[-TAIL:]
    if shutil.which("psql"):  # the driver asks nothing of a console that has an answer
        to = ["psql", f"--host={host}", "--username=postgres", "--dbname=pgbouncer", "--no-psqlrc"]
        show = [f"--command=show {what}" for what in ("pools", "clients", "servers")]
        ended = subprocess.run([*to, *show], check=False, capture_output=True, text=True)
        rows = (ended.stdout + ended.stderr).splitlines()
        told += [row for row in rows if f" {database} " in row or " database " in row]
    return "\n".join(told)


@contextmanager
def pgbouncer(
    upstream: str, mode: str = "transaction", *, pool_size: int = POOL_SIZE, more: str = ""
) -> Iterator[Bouncer]:
    """Run one before the server whose socket lies in `upstream`; `more`: lines of its settings."""
    child = accounts.choose_child(os.geteuid(), None)
    assert child is not None
    home = Path(tempfile.mkdtemp(prefix="dpp-pool-"))
    try:
        text = CONFIG.format(
            upstream=upstream, home=home, mode=mode, pool_size=pool_size, more=more
        )
        (home / "ini").write_text(text)
        (home / "users").write_text(USERS)
        home.chmod(0o711)
        if os.geteuid() == 0:
            for path in (home, *home.iterdir()):
                os.chown(path, child.uid, child.gid)
        bouncer = Bouncer(str(home), mode)
        bouncer.start()
        try:
            yield bouncer
        finally:
            bouncer.kill()
            bouncer._starter.shutdown()
    finally:
        shutil.rmtree(home, ignore_errors=True)
