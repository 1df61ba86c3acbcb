"""What the machine gives: time, room, descriptors, and who owns the files of the node."""

from collections.abc import Iterator, Sequence

from attrs import frozen

from dpp.diagnosis.checks import Check, Unknown, listed, unseen, well, wrong

# NTP keeps machines within milliseconds of each other. A second says that one of two is not kept
# by it, long before requests to AWS (five minutes) or webhooks (five minutes) are refused for it.
SKEW_MAX_S = 1.0
# WAL grows to 1 GiB (max_wal_size) between two checkpoints, four results of 64 MiB may be under way
# twice (written, then linked), and what is left is for rows until somebody comes.
FREE_BYTES_MIN = 2 << 30
# Each large result is a file and up to two directories: an hour of one result a second.
FREE_INODES_MIN = 10_000
# A certificate is usually renewed 30 days before its end, and read at a start: two weeks later it
# was not renewed, or the node not restarted.
CERTIFICATE_DAYS_MIN = 14
GROUP_AND_OTHERS = 0o077
GIB = 1 << 30


@frozen
class Clock:
    """The machine's clock beside the database's: their difference, known to within `error_s`."""

    ahead_s: float
    error_s: float


@frozen
class Room:
    """What is free where something lies; `inodes` None: that file system has no such limit."""

    what: str
    path: str
    bytes_free: int
    inodes_free: int | None


@frozen
class Owned:
    """A file or directory of the node: its mode, its owner, and who should own it."""

    path: str
    mode: int
    owner: int
    wanted: int | None  # None: whoever it is


@frozen(kw_only=True)
class Home:
    """The data directory, and who looks at it. `node_uid`: of the running node, else its owner."""

    path: str
    mode: int
    owner: int
    user: int
    user_name: str
    owner_name: str
    node_uid: int
    files: Sequence[Owned] | Unknown


@frozen
class Descriptors:
    """How many files may be open, at most; `of`: whose limit it is."""

    hard: int | None  # None: no limit
    wanted: int
    of: str


@frozen
class Expiry:
    """A certificate and the days until its end; negative: over."""

    setting: str
    path: str
    days: float | Unknown


def clock(facts: Clock | Unknown | None) -> Check:
    """Judge the machine's clock by the database's. None: they are the same."""
    name = "clock"
    if facts is None:
        return well(name, "the database runs on this machine: one clock")
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    told = f"{facts.ahead_s:+.3f} s beside the database's, known to {facts.error_s:.3f} s"
    if abs(facts.ahead_s) - facts.error_s > SKEW_MAX_S:
        fix = "Let NTP keep both machines: `timedatectl set-ntp true`, or chrony."
        return wrong(name, told, fix)
    if facts.error_s > SKEW_MAX_S:
        return unseen(name, f"the answer took {2 * facts.error_s:.1f} s, too long to compare by")
    return well(name, told)


def synchronised(*, kept: bool | Unknown, production: bool) -> Check:
    """Judge what the kernel says of NTP."""
    name = "time synchronisation"
    if isinstance(kept, Unknown):
        return unseen(name, kept)
    if kept:
        return well(name, "the kernel says that the clock is kept")
    told = "the kernel knows of nothing that keeps the clock"
    if not production:
        return well(name, f"{told}; in production look")
    # No proof that nothing does: chrony without rtcsync and some hypervisors do not tell it.
    fix = "`timedatectl set-ntp true`; or chrony, with rtcsync, so that the kernel hears of it."
    return unseen(name, told, fix)


def room(rooms: Sequence[Room] | Unknown) -> Iterator[Check]:
    """Judge bytes and inodes that are free."""
    if isinstance(rooms, Unknown):
        yield unseen("disk space", rooms)
        yield unseen("disk inodes", rooms)
        return
    yield _bytes(rooms)
    yield _inodes(rooms)


def _bytes(rooms: Sequence[Room]) -> Check:
    name = "disk space"
    told = [f"{one.what} {one.bytes_free / GIB:.1f} GiB" for one in rooms]
    low = [one for one in rooms if one.bytes_free < FREE_BYTES_MIN]
    if not low:
        return well(name, f"free: {', '.join(told)}")
    where = listed(sorted({one.path for one in low}))
    found = f"under {FREE_BYTES_MIN / GIB:.0f} GiB free at {where}: {', '.join(told)}"
    fix = "Make room there, or enlarge it: PostgreSQL stops on a full disk."
    return wrong(name, found, fix)


def _inodes(rooms: Sequence[Room]) -> Check:
    name = "disk inodes"
    low = [
        one for one in rooms if one.inodes_free is not None and one.inodes_free < FREE_INODES_MIN
    ]
    if not low:
        return well(name, f"over {FREE_INODES_MIN} free wherever they are counted")
    where = listed([f"{one.path} ({one.inodes_free})" for one in low])
    fix = "Delete small files there, or make the file system anew with more inodes."
    return wrong(name, f"under {FREE_INODES_MIN} free: {where}", fix)


def descriptors(facts: Descriptors) -> Check:
    """Judge the limit of open files by the connections that are taken."""
    name = "file descriptors"
    told = (
        f"{facts.of} may open {facts.hard or 'any number of'} files, and {facts.wanted} are wanted"
    )
    if facts.hard is None or facts.hard >= facts.wanted:
        return well(name, told)
    fix = (
        f"LimitNOFILE={facts.wanted} in the unit, or a higher hard limit (ulimit -Hn); or lower "
        "http.connections_max."
    )
    return wrong(name, told, fix)


def home(facts: Home | Unknown | None) -> Iterator[Check]:
    """Judge the data directory; None: there is none yet."""
    if facts is None:
        yield well("user", "any: there is no data directory yet")
        yield well("data directory", "none yet: the first start makes it")
        return
    if isinstance(facts, Unknown):
        yield unseen("user", facts, "Run this as the user of the node.")
        yield unseen("data directory", facts, "Run this as the user of the node.")
        return
    yield _user(facts)
    yield _directory(facts)
    yield from _files(facts)


def _user(facts: Home) -> Check:
    name = "user"
    if facts.user != facts.node_uid:
        why = f"this is {facts.user_name}, and the node's user is {facts.owner_name}"
        return unseen(name, why, f"Run this as that user: sudo -u {facts.owner_name} dpp doctor")
    return well(name, f"{facts.user_name}, as the node")


def _directory(facts: Home) -> Check:
    name = "data directory"
    if facts.owner != facts.node_uid:
        found = f"{facts.path} belongs to user {facts.owner}, the node runs as {facts.node_uid}"
        return wrong(
            name, found, f"chown {facts.node_uid} {facts.path}, or run the node as its owner."
        )
    # Root's has its PostgreSQL's group, which passes through and sees no names.
    spare = 0o067 if facts.owner == 0 else GROUP_AND_OTHERS
    if facts.mode & spare:
        goal = "0710" if facts.owner == 0 else "0700"
        found = f"{facts.path} has the mode {facts.mode:04o}"
        return wrong(name, found, f"chmod {goal} {facts.path}")
    return well(name, f"{facts.path}, {facts.mode:04o}, of {facts.owner_name}")


def _files(facts: Home) -> Iterator[Check]:
    name = "file permissions"
    if isinstance(facts.files, Unknown):
        yield unseen(name, facts.files, "Run this as the user of the node.")
        return
    open_ = [one for one in facts.files if one.mode & GROUP_AND_OTHERS]
    foreign = [one for one in facts.files if one.wanted not in (None, one.owner)]
    if open_ or foreign:
        told = [f"{one.path} is open to others ({one.mode:04o})" for one in open_]
        told += [f"{one.path} belongs to user {one.owner}" for one in foreign]
        fixes = [f"chmod go= {one.path}" for one in open_]
        fixes += [f"chown {one.wanted} {one.path}" for one in foreign]
        yield wrong(name, listed(told), "; ".join(fixes))
    else:
        yield well(name, f"of {len(facts.files)} files and directories none is open to others")


def certificates(expiries: Sequence[Expiry]) -> Check:
    """Judge how long certificates last."""
    name = "certificates"
    if not expiries:
        return well(name, "none are configured")
    known = [(one, one.days) for one in expiries if not isinstance(one.days, Unknown)]
    soon = [
        f"{one.path} ({one.setting}) ends in {days:.0f} days"
        if days >= 0
        else f"{one.path} is over"
        for one, days in known
        if days < CERTIFICATE_DAYS_MIN
    ]
    if soon:
        fix = "Renew it, then restart the node: it reads its certificate at the start."
        return wrong(name, listed(soon), fix)
    for one in expiries:
        if isinstance(one.days, Unknown):
            return unseen(name, f"{one.path}: {one.days.why}")
    least = min(days for _, days in known)
    return well(name, f"{len(known)}, the first ends in {least:.0f} days")
