"""Debian's PostgreSQL 15, as an operator's own server: a primary, and a standby that follows it.

It refuses to run as root, so it runs as the account that the embedded one has. Each listens on a
socket in its own directory, and on a port of 127.0.0.1 where it is told to.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import frozen

from dpp import accounts
from dpp.accounts import identity
from dpp.store.programs import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator

PROGRAMS = Path("/usr/lib/postgresql/15/bin")
needs_debian = pytest.mark.skipif(
    not PROGRAMS.is_dir(), reason="needs PostgreSQL 15: apt-get install postgresql-15"
)


@frozen
class Debian:
    """One server. `host`: the directory of its socket, and of all that it has."""

    host: str

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs as its user."""
        child = accounts.choose_child(os.geteuid(), None)
        assert child is not None
        command = [PROGRAMS / program, *arguments]
        ended = subprocess.run(
            command,
            check=False,
            cwd="/",
            env=ENVIRONMENT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # a server inherits it, and would keep a pipe open
            stderr=subprocess.DEVNULL,
            **identity(child),
        )
        assert ended.returncode == 0, (program, self.log())

    def control(self, action: str, *arguments: str) -> None:
        """Do what `pg_ctl` does; it waits until that is done."""
        self.run("pg_ctl", "-D", f"{self.host}/data", "-w", "-t", "60", *arguments, action)

    def start(self, *settings: str) -> None:
        """Start it; `settings` are NAME=VALUE."""
        # No sync: a machine that crashes takes the test with it.
        options = [
            "listen_addresses=",
            f"unix_socket_directories={self.host}",
            "fsync=off",
            *settings,
        ]
        words = " ".join(f"-c {setting}" for setting in options)
        self.control("start", "-o", words, "-l", f"{self.host}/log")

    def stop(self, mode: str = "immediate") -> None:
        """Stop it. "fast" sends all of its log to a standby that follows."""
        self.control("stop", "-m", mode)

    def promote(self) -> None:
        """Let a standby be the primary."""
        self.control("promote")

    def log(self) -> str:
        """Return the end of what it said."""
        file = Path(self.host, "log")
        return file.read_text(errors="replace")[-2000:] if file.exists() else ""

    def follow(self, primary: Debian) -> None:
        """Become a standby of `primary`, not started yet."""
        self.run("pg_basebackup", "-h", primary.host, "-U", "postgres", "-D", f"{self.host}/data",
                 "-R", "-X", "stream", "-c", "fast")  # fmt: skip


@contextmanager
def debian(password: str = "") -> Iterator[Debian]:
    """Make a server, not started; it is stopped and deleted after the block.

    With the superuser's `password`, logins need one (SCRAM); else all who reach it are trusted.
    """
    with directory() as server:
        file = Path(server.host, "password")
        file.write_text(password + "\n")
        words = ["-U", "postgres", "-E", "UTF8", "--no-locale", "-N", "-D", f"{server.host}/data"]
        auth = [f"--pwfile={file}", "--auth=scram-sha-256"] if password else ["--auth=trust"]
        server.run("initdb", *words, *auth)
        yield server


@contextmanager
def directory() -> Iterator[Debian]:
    """Give a place for a server that has no data yet; one that runs there is stopped."""
    child = accounts.choose_child(os.geteuid(), None)
    assert child is not None
    base = Path(tempfile.mkdtemp(prefix="dpp-pg15-"))
    base.chmod(0o755)
    os.chown(base, child.uid, child.gid)
    server = Debian(str(base))
    try:
        yield server
    finally:
        if (base / "data" / "postmaster.pid").exists():
            server.stop()
        shutil.rmtree(base, ignore_errors=True)


@contextmanager
def pair() -> Iterator[tuple[Debian, Debian]]:
    """Run a primary and a standby that follows it; nobody needs a password."""
    with ExitStack() as stack:
        primary = stack.enter_context(debian())
        primary.start()
        standby = stack.enter_context(directory())
        standby.follow(primary)
        standby.start()
        yield primary, standby
