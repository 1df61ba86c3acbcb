"""The node's data directory: which one, whose it is, and the one node that holds it.

One node, one directory, one `flock`, taken on the directory itself: there is no lock file to
delete, and the lock ends with its process, however that ends. A directory that DPP did not make is
refused, and nothing outside its own is ever changed. `node` holds a directory, `cli` and `client`
read `node.json` and `admin.token` in it, `store` keeps the cluster there.
"""

from __future__ import annotations

import fcntl
import json
import os
import secrets
import shutil
import tempfile
import time
import uuid
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict, frozen

from dpp import accounts
from dpp.accounts import Account
from dpp.files import UNFINISHED, make_dir, sync_dir, write_file

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ROOT_DIR = Path("/var/lib/dpp")
MACHINE_ID = Path("/etc/machine-id")
NODE_ID, NODE_FILE, ADMIN_TOKEN, DEMO_MARKER = "node_id", "node.json", "admin.token", "demo"
POSTGRES, BLOBS = "postgres", "blobs"
# A directory is DPP's own if it has a node_id, or nothing but what a first start makes.
OWN_NAMES = frozenset({NODE_FILE, ADMIN_TOKEN, DEMO_MARKER, POSTGRES, BLOBS, "lost+found"})
OWN_PREFIXES = (UNFINISHED, f"{POSTGRES}-", f"{POSTGRES}.")

# Readers learn of the lock by taking it, shared, for some microseconds: a start that meets one
# tries again. Where a node holds it for good, the refusal of the second one comes after 0.2 s.
LOCK_TRIES, LOCK_PAUSE_S = 10, 0.02


class DataDirError(Exception):
    """What only an operator can mend: the command ends with status 78."""

    def __init__(self, what: str, *, did: str, remedy: str) -> None:
        super().__init__(f"{what} {did} {remedy}")
        self.what, self.did, self.remedy = what, did, remedy


@frozen
class RunningNode:
    """What `node.json` says of the node that holds the lock. It has no URLs until it listens."""

    pid: int
    url: str = ""
    management_url: str = ""


@frozen
class DataDir:
    """A directory that this process holds."""

    path: Path
    node: Account
    child: Account  # as whom PostgreSQL runs
    node_id: uuid.UUID

    @property
    def postgres(self) -> Path:
        """The cluster's data directory."""
        return self.path / POSTGRES

    @property
    def blobs(self) -> Path:
        """Where large results lie, unless S3 has them."""
        return self.path / BLOBS

    def publish(self, *, url: str, management_url: str) -> None:
        """Tell local commands where this node listens."""
        _write_node(self.path, RunningNode(os.getpid(), url, management_url))

    def clear(self) -> None:
        """Delete what a demo left: cluster and blobs. Nothing may run on them any more."""
        assert (self.path / DEMO_MARKER).exists(), f"{self.path} is not a demo's"
        for name in (POSTGRES, BLOBS):
            if (self.path / name).exists():
                shutil.rmtree(self.path / name)
        make_dir(self.blobs, mode=0o700)
        sync_dir(self.path)


def choose(
    flag: str | None,
    configured: str | None,
    environ: Mapping[str, str],
    *,
    is_root: bool,
    home: Path,
) -> Path:
    """Return the directory to use: flag, DPP_DATA_DIR, config, systemd's, then the default."""
    # systemd gives a list where the unit names several directories; the first is ours.
    systemd = environ.get("STATE_DIRECTORY", "").split(":")[0]
    for given in (flag, environ.get("DPP_DATA_DIR"), configured, systemd):
        if given:
            return Path(given)
    if is_root:
        return ROOT_DIR
    state = environ.get("XDG_STATE_HOME", "")  # its specification: a relative path is to be ignored
    return (Path(state) if state.startswith("/") else home / ".local/state") / "dpp"


def demo_sibling(path: Path) -> Path:
    """Return the demo's directory beside the node's."""
    return path.with_name(f"{path.name}-demo")


@contextmanager
def hold(path: Path, *, demo: bool = False) -> Iterator[DataDir]:
    """Make `path` if need be and hold it as this process's own; a second node is refused.

    A demo's directory is marked as disposable: no demo takes another, no node takes a demo's.
    """
    path = Path(os.path.realpath(path))
    node, child = _accounts(path)
    _make(path, child)
    with _locked(path):
        _refuse_foreign(path, demo=demo)
        node_id = _move_in(path, node, child, demo=demo)
        try:
            yield DataDir(path, node, child, node_id)
        finally:
            with suppress(OSError):  # read-only by now: nobody believes it of a node that is gone
                (path / NODE_FILE).unlink()


def running(path: Path) -> RunningNode | None:
    """Return the node that holds `path` now; what a killed one left behind is not believed.

    Raises PermissionError where this user may not look.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return last_node(path)
    finally:
        os.close(descriptor)
    return None


def last_node(path: Path) -> RunningNode | None:
    """Return the last node that took `path` and did not end in order; it need not run any more."""
    try:
        return RunningNode(**json.loads((path / NODE_FILE).read_text("utf-8")))
    except (FileNotFoundError, ValueError, TypeError):
        return None


def admin_token(path: Path) -> str | None:
    """Return the token in `admin.token`, or None where there is none yet."""
    try:
        return (path / ADMIN_TOKEN).read_text("utf-8").strip() or None
    except FileNotFoundError:
        return None


def _accounts(path: Path) -> tuple[Account, Account]:
    """Return who we are, and as whom PostgreSQL is to run."""
    uid = os.geteuid()
    node = accounts.by_uid(uid)
    child = accounts.choose_child(uid, _owner(path / POSTGRES))
    if node is None or child is None:
        raise DataDirError(
            f"passwd has no entry for the user that runs PostgreSQL here (this process: {uid}).",
            did="DPP changed nothing.",
            remedy="Add one: PostgreSQL looks its user up by number. As root, add the user `dpp`.",
        )
    return node, child


def _owner(path: Path) -> int | None:
    """Return whose `path` is; None where it is not, or where we may not look."""
    try:
        return path.stat().st_uid
    except OSError:
        return None


def _make(path: Path, child: Account) -> None:
    """Make the directory and its parents, once the parents that exist let `child` through."""
    there = [parent for parent in reversed(path.parents) if _owner(parent) is not None]
    try:
        through = accounts.can_search(there[-1], child)
    except PermissionError as error:
        raise DataDirError(
            f"This process may not become the user {child.name}, as which PostgreSQL runs.",
            did="DPP changed nothing.",
            remedy="Grant it CAP_SETUID and CAP_SETGID, or run DPP as an ordinary user.",
        ) from error
    if not through:
        blocked = next(parent for parent in there if not accounts.can_search(parent, child))
        raise DataDirError(
            f"The user {child.name}, as which PostgreSQL runs, cannot search {blocked}, "
            f"a parent of the data directory {path}.",
            did="DPP changed nothing.",
            remedy=f"Either `chmod o+x {blocked}`, or choose another place with --data-dir.",
        )
    try:
        for parent in reversed(path.parents):
            with suppress(FileExistsError):
                parent.mkdir()
                if os.geteuid() == 0:
                    parent.chmod(0o755)  # whatever the umask: the child has to get through
        with suppress(FileExistsError):
            path.mkdir(mode=0o700)
            sync_dir(path.parent)
    except OSError as error:
        raise DataDirError(
            f"The data directory {path} cannot be made: {error.strerror} ({error.filename}).",
            did="DPP did not start.",
            remedy="Make it yourself and give it to this user, or choose another with --data-dir.",
        ) from error


@contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise DataDirError(
            f"The data directory {path} cannot be opened: {error.strerror}.",
            did="DPP changed nothing.",
            remedy="Name a directory, or choose another with --data-dir."
            if isinstance(error, NotADirectoryError)
            else "Run as the user it belongs to, or choose another with --data-dir.",
        ) from error
    try:
        _lock(descriptor, path)
        yield
    finally:
        os.close(descriptor)


def _lock(descriptor: int, path: Path) -> None:
    for _ in range(LOCK_TRIES):
        try:
            return fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_PAUSE_S)  # noqa: TID251 - the node has not begun: nothing else waits
    other = last_node(path)
    raise DataDirError(
        f"Another node (pid {other.pid if other else 'not known yet'}) runs on {path}.",
        did="DPP started nothing and changed nothing.",
        remedy="Stop that node first, or give this one a directory of its own with --data-dir.",
    )


def _refuse_foreign(path: Path, *, demo: bool) -> None:
    """Refuse a directory that DPP did not make: it would be given another owner and mode."""
    names = {entry.name for entry in path.iterdir()}
    ours = NODE_ID in names or all(n in OWN_NAMES or n.startswith(OWN_PREFIXES) for n in names)
    if not ours:
        raise DataDirError(
            f"{path} is neither empty nor a data directory of DPP.",
            did="DPP changed nothing.",
            remedy="Name a new or an empty directory with --data-dir.",
        )
    marked = DEMO_MARKER in names
    if (marked and not demo) or (demo and not marked and NODE_ID in names):
        raise DataDirError(
            f"{path} holds a real node's data." if demo else f"{path} is a demo's, and disposable.",
            did="DPP changed nothing.",
            remedy="Name another directory with --data-dir.",
        )


def _move_in(path: Path, node: Account, child: Account, *, demo: bool) -> uuid.UUID:
    """Bring a directory that we hold to what a node needs; return the node's id."""
    try:
        _take(path, node, child)
        if demo:
            write_file(path / DEMO_MARKER, "Made by `dpp demo`, which deletes it at each start.\n")
        node_id = _node_id(path, MACHINE_ID)
        if admin_token(path) is None:
            write_file(path / ADMIN_TOKEN, secrets.token_urlsafe(32) + "\n")
        _write_node(path, RunningNode(os.getpid()))
    except OSError as error:
        raise DataDirError(
            f"The data directory {path} cannot be used: {error.filename}: {error.strerror}.",
            did="DPP did not start.",
            remedy="Mend that file or directory, or choose another with --data-dir.",
        ) from error
    return node_id


def _take(path: Path, node: Account, child: Account) -> None:
    """Make owner and modes what they must be, and sweep away what a crash left half written."""
    owner = path.stat().st_uid
    if node.uid not in (0, owner):
        raise DataDirError(
            f"The data directory {path} belongs to user {owner}, not to {node.name}.",
            did="DPP changed nothing.",
            remedy="Run as that user, or choose another directory with --data-dir.",
        )
    # A directory that its owner made read-only stays so: ask first, by a file that has no name.
    tempfile.TemporaryFile(dir=path).close()
    # The child passes through, to its own directories; it cannot list or change ours.
    make_dir(path, mode=0o710 if node.uid == 0 else 0o700, uid=node.uid, gid=child.gid)
    make_dir(path / BLOBS, mode=0o700)
    for name in (NODE_ID, ADMIN_TOKEN):
        with suppress(FileNotFoundError):
            (path / name).chmod(0o600)
    (path / NODE_FILE).unlink(missing_ok=True)
    for left in path.glob(f"{UNFINISHED}*"):
        left.unlink()


def _node_id(path: Path, machine_id_file: Path) -> uuid.UUID:
    """Return this node's id; a copy of the directory on another machine gets a new one."""
    try:
        machine = machine_id_file.read_text("utf-8").strip()
    except OSError:
        machine = ""
    with suppress(FileNotFoundError, ValueError):
        known, *rest = (path / NODE_ID).read_text("utf-8").split("\n")
        if rest and rest[0] == machine:
            return uuid.UUID(known)
    node_id = uuid.uuid4()
    write_file(path / NODE_ID, f"{node_id}\n{machine}\n")
    return node_id


def _write_node(path: Path, node: RunningNode) -> None:
    write_file(path / NODE_FILE, json.dumps(asdict(node)) + "\n", mode=0o644)
