"""The files of the embedded cluster: where they lie, its settings, and how it is made.

Settings and access rules lie in a directory that the node's user owns, outside the cluster, and
are written anew at each start. What guards money and access stands on the command line, where
neither a file nor `alter system` outranks it; the rest is a file, which `alter system` may tune. A
cluster is made under a temporary name and renamed when it is whole. Nothing here runs a server:
`embedded` does.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import frozen

from dpp.accounts import Account, identity
from dpp.datadir import DataDir, DataDirError
from dpp.files import make_dir, sync_dir, write_file
from dpp.store.programs import ENVIRONMENT, Programs, usable_programs, wheel_programs

if TYPE_CHECKING:
    from collections.abc import Mapping

    from structlog.typing import FilteringBoundLogger

ROLES = ("postgres", "dpp_owner", "dpp_app", "dpp_audit")  # whom the node may connect as
UNRESTORED = "postgres-restored"  # a copy of a backup that did not get to its rename
UNFINISHED = "postgres-init-"  # an initdb that did not get to its rename
SHARED_MEMORY = "/dev/shm"  # noqa: S108 - the kernel's; PostgreSQL puts segments there, we nothing
SOCKET_PATH_MAX = 107 - len("/.s.PGSQL.5432")  # bytes: sun_path holds 108, the last one is 0
INIT_FREE_BYTES = 128 << 20  # a new cluster takes 40 MiB, its first WAL segments 32

# Outranked by `alter system`, so that an operator may tune them.
DEFAULTS = {
    "shared_buffers": "'128MB'",
    "autovacuum_naptime": "'5s'",  # live_runs and budgets fill with dead rows in seconds
    "huge_pages": "off",  # `try` would depend on what else runs on the machine
    "max_logical_replication_workers": "0",  # one process less
    "max_slot_wal_keep_size": "'2GB'",  # for a receiver that is away: twice what WAL takes
    "wal_sender_timeout": "'10s'",  # one that hangs is not to hold up a stop for a minute
    "timezone": "'UTC'",
    "log_timezone": "'UTC'",
    "log_checkpoints": "off",  # two lines every five minutes say nothing to an operator of DPP
    "log_line_prefix": "''",  # DPP's own log adds time and process
    "log_error_verbosity": "terse",  # details quote rows: keys and inputs of tenants
    "log_min_error_statement": "panic",  # statements too
}
# On the command line: nothing outranks them.
GUARDS = {
    "listen_addresses": "",
    "unix_socket_permissions": "0700",
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
    "jit": "off",  # writes code into memory, which a sandbox forbids; and plans here are short
    "logging_collector": "off",  # stderr is read by the node
    "log_destination": "stderr",
    "lc_messages": "C",  # the severities are read out of the lines
    "client_connection_check_interval": "1s",  # a dead node's backend lets go of its locks
}

INITDB = (
    "--username=postgres",
    "--auth-local=peer",
    "--auth-host=reject",
    "--data-checksums",
    "--encoding=UTF8",
    "--no-locale",
    "--no-instructions",
)


@frozen
class Cluster:
    """All that starting a server takes."""

    programs: Programs
    data: Path
    config: Path
    sockets: Path
    node: Account
    child: Account


def lay_out(held: DataDir, environ: Mapping[str, str]) -> Cluster:
    """Return where the cluster of this data directory lies, and the programs for it."""
    programs = usable_programs(wheel_programs(), held.path / "postgres-bin", held.child)
    sockets = socket_directory(held.path, held.node.uid, environ)
    config = held.path / "postgres-conf"
    return Cluster(programs, held.postgres, config, sockets, held.node, held.child)


def socket_directory(data_dir: Path, uid: int, environ: Mapping[str, str]) -> Path:
    """Return the directory for the socket: in the data directory, unless its path is too long."""
    sockets = data_dir / "postgres-run"
    if len(os.fsencode(sockets)) <= SOCKET_PATH_MAX:
        return sockets
    name = f"dpp-{hashlib.sha256(os.fsencode(data_dir)).hexdigest()[:16]}"
    runtime = "/run" if uid == 0 else environ.get("XDG_RUNTIME_DIR", "")
    if not os.access(runtime, os.W_OK | os.X_OK):
        runtime = tempfile.gettempdir()
    return Path(runtime, name)


def make_sockets(cluster: Cluster) -> None:
    """Make the directory of the socket the child's alone; one that is another's is refused."""
    path, child = cluster.sockets, cluster.child
    with suppress(FileNotFoundError):
        seen = path.lstat()
        # In a shared directory the name can be taken: a server of somebody else's would wait there.
        if seen.st_uid not in (child.uid, cluster.node.uid):
            raise DataDirError(
                f"The socket directory {path} belongs to user {seen.st_uid}, not to {child.name}.",
                did="DPP did not use it.",
                remedy=f"Give it and {cluster.data} to one user (chown -R), or remove it.",
            )
    make_dir(path, mode=0o700, uid=child.uid, gid=child.gid)


def prepare(cluster: Cluster, logger: FilteringBoundLogger) -> None:
    """Bring everything about that a server needs on disk. The node holds the directory."""
    if not check_version(cluster):
        logger.info("making a new database", directory=str(cluster.data))
        init(cluster)
    write_config(cluster)
    make_sockets(cluster)


def check_version(cluster: Cluster) -> bool:
    """Tell whether there is a cluster; refuse one that these programs cannot serve."""
    names = {entry.name for entry in cluster.data.iterdir()} if cluster.data.exists() else set()
    if not names:
        return False
    if "PG_VERSION" not in names:
        raise DataDirError(
            f"{cluster.data} is not empty, and no cluster of PostgreSQL: it has no PG_VERSION.",
            did="DPP did not touch it.",
            remedy="Restore it from a backup, or move it away to start with an empty database.",
        )
    found = (cluster.data / "PG_VERSION").read_text("ascii").strip()
    brought = cluster.programs.major
    if found != brought:
        raise DataDirError(
            f"{cluster.data} was written by PostgreSQL {found}; this DPP brings {brought}.",
            did="DPP did not touch it.",
            remedy=f"Go back to the release of DPP that brings PostgreSQL {found}; or dump with "
            "its pg_dumpall, move the directory away, start DPP once, and restore the dump.",
        )
    return True


def init(cluster: Cluster, *extra: str) -> None:
    """Make the cluster: whole or not at all. What an earlier try left half made is deleted."""
    parent = cluster.data.parent
    for left in parent.glob(f"{UNFINISHED}*"):
        shutil.rmtree(left, ignore_errors=True)  # a killed node's initdb may write on a while
    free = shutil.disk_usage(parent).free
    if free < INIT_FREE_BYTES:
        raise DataDirError(
            f"{parent} has {free >> 20} MiB free; a new database needs {INIT_FREE_BYTES >> 20}.",
            did="DPP made none.",
            remedy="Free some space, or choose another place with --data-dir.",
        )
    half = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=parent))
    make_dir(half, mode=0o700, uid=cluster.child.uid, gid=cluster.child.gid)
    made = subprocess.run(
        initdb_command(cluster.programs, half, *extra),
        check=False,
        cwd="/",
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **identity(cluster.child),
    )
    if made.returncode != 0:
        shutil.rmtree(half)
        raise DataDirError(
            f"initdb failed ({made.returncode}): {made.stdout[-2000:].strip()}",
            did="DPP removed what it had made.",
            remedy="Mend the cause that initdb names, and start again.",
        )
    half.rename(cluster.data)  # initdb has synced what is inside; an empty directory is replaced
    sync_dir(parent)


def initdb_command(programs: Programs, data: Path, *extra: str) -> list[str]:
    """Return the command that makes a cluster in `data`."""
    return [str(programs.bin / "initdb"), f"--pgdata={data}", *INITDB, *extra]


def postgres_command(cluster: Cluster, *, max_connections: int) -> list[str]:
    """Return the command that serves it."""
    settings = GUARDS | {
        "config_file": str(cluster.config / "postgresql.conf"),
        "hba_file": str(cluster.config / "pg_hba.conf"),
        "ident_file": str(cluster.config / "pg_ident.conf"),
        "unix_socket_directories": _listed(cluster.sockets),
        "max_connections": str(max_connections),
        "cluster_name": "dpp",
    }
    options = (f"--{name}={value}" for name, value in settings.items())
    return [str(cluster.programs.bin / "postgres"), "-D", str(cluster.data), *options]


def write_config(cluster: Cluster) -> None:
    """Write settings and access rules: peers by the map, and nobody else."""
    shared = "posix" if os.access(SHARED_MEMORY, os.W_OK | os.X_OK) else "mmap"
    settings = DEFAULTS | {"dynamic_shared_memory_type": shared}
    gid = cluster.child.gid
    make_dir(cluster.config, mode=0o750, gid=gid)
    texts = {
        "postgresql.conf": "".join(f"{name} = {value}\n" for name, value in settings.items()),
        # The second line: what takes a backup. Replication is no database, and not in `all`.
        "pg_hba.conf": "local all all peer map=dpp\nlocal replication postgres peer map=dpp\n",
        "pg_ident.conf": "".join(f'dpp "{cluster.node.name}" {role}\n' for role in ROLES),
    }
    for name, text in texts.items():
        write_file(cluster.config / name, text, mode=0o640, gid=gid)


def _listed(path: Path) -> str:
    """Quote one element of a comma-separated setting."""
    quoted = str(path).replace('"', '""')
    return f'"{quoted}"'
