"""PostgreSQL's programs beside a node, run to their end; and what is said where one refuses."""

from __future__ import annotations

import subprocess
import sys

from dpp.store.programs import ENVIRONMENT, wheel_programs

WORDS_MAX = 2000  # of what a program said: its last ones tell what failed


class BackupRefused(Exception):
    """It was not done: what is wrong, and what to do."""

    def __init__(self, what: str, todo: str, *, away: bool = False) -> None:
        super().__init__(f"{what} {todo}")
        self.what, self.todo, self.away = what, todo, away


def run(program: str, *arguments: str, todo: str) -> None:
    """Run one of PostgreSQL's programs; what it says of trouble is told."""
    tty = sys.stderr.isatty()
    ended = subprocess.run(
        [wheel_programs().bin / program, *arguments],
        check=False,
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=None if tty else subprocess.PIPE,
        text=True,
        errors="replace",
    )
    if ended.returncode:
        said = (ended.stderr or "").strip()[-WORDS_MAX:] or f"status {ended.returncode}"
        raise BackupRefused(f"{program} failed: {said}.", todo)


def query(sockets: str, statement: str) -> str:
    """Ask a node's PostgreSQL as its superuser; returns the one value.

    Raises `BackupRefused` where nobody answers, with what psql said.
    """
    command = ("psql", "-XAtq", f"--host={sockets}", "--username=postgres", "--no-password")
    ended = subprocess.run(
        [wheel_programs().bin / command[0], *command[1:], "--dbname=postgres"],
        check=False,
        env=ENVIRONMENT | {"PGCONNECT_TIMEOUT": "5", "PGOPTIONS": "-c statement_timeout=10s"},
        input=f"\\set ON_ERROR_STOP 1\n{statement};\n",
        capture_output=True,
        text=True,
        errors="replace",
    )
    if ended.returncode:
        said = ended.stderr.strip()[-WORDS_MAX:]
        raise BackupRefused(f"PostgreSQL did not answer: {said}.", "Is the node up?", away=True)
    return ended.stdout.strip()
