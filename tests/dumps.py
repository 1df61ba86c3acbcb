"""pg_dump and pg_restore as docs/backup.md has them, and what the books of the copy come to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import asyncpg

from dpp.store import audits, migrate, roles
from dpp.store.connections import Connection
from dpp.store.programs import ENVIRONMENT, wheel_programs
from tests.oracle.money import violations

if TYPE_CHECKING:
    from pathlib import Path

    from dpp.findings import Audit


def dump(host: str, database: str, file: Path) -> None:
    """Dump a database to a file; CalledProcessError where it cannot."""
    _run("pg_dump", host, "--format=custom", f"--file={file}", database)


@contextmanager
def restored(host: str, file: Path, copy: str) -> Iterator[None]:
    """Restore a dump into a new database of this name, which goes at the end."""
    _run("createdb", host, f"--owner={roles.OWNER}", copy)
    try:
        back = (f"--dbname={copy}", "--no-owner", f"--role={roles.OWNER}", str(file))
        _run("pg_restore", host, *back)
        yield
    finally:
        _run("dropdb", host, copy)


async def judged(host: str, copy: str) -> tuple[Audit, list[object]]:
    """Return what both judges of the books say of a copy; in the bridge's thread."""
    connection = await asyncpg.connect(
        host=host, user=roles.SUPERUSER, database=copy, connection_class=Connection
    )
    assert await migrate.known(connection) == migrate.Current()
    await connection.execute(f"set search_path = {migrate.SCHEMA}")
    try:
        return await audits.audit(connection), [*await violations(connection)]
    finally:
        await connection.close()  # noqa: ASYNC102 - it runs on asyncio


def _run(program: str, host: str, *arguments: str) -> None:
    name = wheel_programs().bin / program
    command = [name, f"--host={host}", f"--username={roles.SUPERUSER}", *arguments]
    subprocess.run(command, check=True, env=ENVIRONMENT, capture_output=True)
