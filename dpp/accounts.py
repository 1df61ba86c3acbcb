"""The operating system's accounts: who runs the node, and as whom its PostgreSQL runs.

PostgreSQL refuses to run as root, so a node of root's gives its child an unprivileged account. The
change of user is the kernel's (`setuid` between fork and exec, by `subprocess`), never that of a
program on PATH. `datadir` and `store` ask here; nothing of DPP is imported.
"""

from __future__ import annotations

import errno
import os
import pwd
import subprocess
import uuid
from typing import TYPE_CHECKING, TypedDict

from attrs import frozen

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

# In this order: DPP's own, PostgreSQL's, then the one that every system has.
CHILD_NAMES = ("dpp", "postgres", "nobody")


@frozen
class Account:
    """An entry of passwd. Its group is the primary one."""

    name: str
    uid: int
    gid: int


class Identity(TypedDict, total=False):
    """Arguments of `subprocess` that change the user. Empty: nothing to change."""

    user: int
    group: int
    extra_groups: list[int]


def by_name(name: str) -> Account | None:
    """Return the account of that name, if passwd knows it."""
    try:
        return _account(pwd.getpwnam(name))
    except KeyError:
        return None


def by_uid(uid: int) -> Account | None:
    """Return the account of that number, if passwd knows it."""
    try:
        return _account(pwd.getpwuid(uid))
    except KeyError:
        return None


def choose_child(
    node_uid: int,
    owner_uid: int | None,
    *,
    find_name: Callable[[str], Account | None] = by_name,
    find_uid: Callable[[int], Account | None] = by_uid,
) -> Account | None:
    """Return the account for PostgreSQL, or None where passwd knows none that would do.

    An ordinary user's PostgreSQL runs as that user. Root's runs as the owner of the cluster that is
    already there (`owner_uid`): a `dpp` that passwd learned of later must not lock it out.
    """
    if node_uid != 0:
        return find_uid(node_uid)
    if owner_uid:  # neither None nor root
        return find_uid(owner_uid)
    found = (find_name(name) for name in CHILD_NAMES)
    return next((account for account in found if account is not None and account.uid != 0), None)


def identity(account: Account) -> Identity:
    """Return what makes a child process run as `account`, with none of our groups."""
    if os.geteuid() == account.uid:
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def can_search(directory: Path, account: Account) -> bool:
    """Tell whether `account` gets through `directory` and all above it.

    Mode bits would miss access lists and security modules, so the kernel is asked: a child that has
    become `account` executes a name that is not there. "No such file" means that it came so far,
    "permission denied" that it did not; no program runs in either case. Raises PermissionError
    where this process may not become `account` at all.
    """
    try:
        subprocess.run([directory / f".{uuid.uuid4()}"], check=False, cwd="/", **identity(account))
    except FileNotFoundError:
        return True
    except PermissionError as error:
        if error.errno == errno.EPERM:  # of setuid itself: root without CAP_SETUID
            raise
        return False
    raise AssertionError(directory)


def _account(entry: pwd.struct_passwd) -> Account:
    return Account(entry.pw_name, entry.pw_uid, entry.pw_gid)
