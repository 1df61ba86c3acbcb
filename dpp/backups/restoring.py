"""The way back: a data directory out of a base backup, and of the WAL and results received since.

It is made beside its place and renamed when it is whole. WAL is replayed here and now, by the
server's single-user mode, so that a restore that cannot reach its target fails before a node
starts. A database that was replayed begins a new timeline. Leases in it are of the past: its first
node takes its own, and takes the runs of the others back when theirs lapse.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from dpp import datadir
from dpp.accounts import Account, identity
from dpp.backups.copies import ABOUT, BLOBS, POSTGRES, About, Say, read_about, verify, whole
from dpp.backups.programs import WORDS_MAX, BackupRefused
from dpp.backups.received import Received, of, start_of
from dpp.files import make_dir, sync_dir
from dpp.store.cluster import UNRESTORED, Cluster, lay_out, write_config
from dpp.store.postmaster import refuse_displaced
from dpp.store.programs import ENVIRONMENT, wheel_programs

REPLAY: Final = {
    "restore_command": "false",  # all there is lies in pg_wal already
    "recovery_target_action": "promote",
    "hot_standby": "off",  # nobody looks meanwhile, and no setting has to match the old server's
    "logging_collector": "off",
    "log_destination": "stderr",
    "lc_messages": "C",  # its words are read
    "log_checkpoints": "off",
}
REACHED: Final = re.compile(
    r"last completed transaction was at log time (\S+ \S+?)([+-]\d\d)$", re.MULTILINE
)
NEW_TIMELINE: Final = re.compile(r"selected new timeline ID: (\d+)")
PROGRESS: Final = re.compile(r"LOG:  (redo (?:starts|in progress|done).*)")


@frozen
class Restored:
    """What a data directory was made of.

    `until`: when its last transaction ended, None = none was replayed; `timeline` is the new one,
    None where the backup stands as it is; `missing`: WAL that stopped the replay by its absence.
    """

    backup: Path
    about: About
    until: str | None = None
    timeline: int | None = None
    missing: str | None = None


@frozen
class Target:
    """How far to replay: to a moment, or to the end of a timeline; not at all if `alone`."""

    to: datetime | None = None
    timeline: int | None = None
    alone: bool = False


def chosen(place: Path, target: Target) -> Path:
    """Return the backup to begin with: the one that is named, or of a directory the newest one.

    With a moment: the newest that was whole by then.
    """
    backups = [place] if (place / ABOUT).exists() else whole(place)
    if not backups:
        raise BackupRefused(
            f"{place} is no whole backup, and holds none.", "Name what `dpp backup` made."
        )
    fit = [one for one in backups if target.to is None or whole_by(one) <= target.to]
    if not fit:
        assert target.to is not None
        raise BackupRefused(
            f"{target.to.isoformat()} is before the end of the first backup there, "
            f"{whole_by(backups[0]).isoformat()}.",
            "Name a later time, or an older backup.",
        )
    return fit[-1]


def whole_by(backup: Path) -> datetime:
    """Return from when on a backup can be replayed to a moment."""
    about = read_about(backup)
    if about.ended_at:
        return datetime.fromisoformat(about.ended_at)
    return datetime.fromtimestamp((backup / ABOUT).stat().st_mtime, UTC)


def restore(
    place: Path, data_dir: Path, target: Target = Target(), *, say: Say = lambda _: None
) -> Restored:
    """Verify a backup and make a data directory of it, which must hold no database yet."""
    backup = chosen(place, target)
    about = verify(backup, say=say)
    major, ours = about.postgres.split(".")[0], wheel_programs().major
    if major != ours:
        raise BackupRefused(
            f"The backup is of PostgreSQL {major}; this DPP brings {ours}.",
            f"Restore it with the release of DPP that took it, {about.dpp}.",
        )
    received = of(backup.absolute().parent, start_of(backup / POSTGRES))
    with datadir.hold(data_dir) as held:
        refuse_displaced(held.postgres, held.child)
        for there in (held.postgres, held.blobs):
            if there.exists() and any(there.iterdir()):
                raise BackupRefused(
                    f"{there} is not empty.", "Restore into a new directory, and start DPP on that."
                )
        say("copying")
        half = data_dir / UNRESTORED
        shutil.rmtree(half, ignore_errors=True)
        try:
            shutil.copytree(backup / POSTGRES, half)
            made = replayed(backup, about, received, half, held, target, say)
        except BaseException:
            shutil.rmtree(half, ignore_errors=True)
            raise
        copy_results(backup, received, held.blobs, alone=target.alone)
        half.rename(held.postgres)
        sync_dir(data_dir)
    return made


def replayed(
    backup: Path,
    about: About,
    received: Received,
    half: Path,
    held: datadir.DataDir,
    target: Target,
    say: Say,
) -> Restored:
    """Bring a copied database to its target."""
    start = start_of(half)
    way = None if target.alone else received.chain(start, target.timeline)
    if way is None or not way.segments:
        if target.to is not None:
            raise BackupRefused(
                "No WAL was received that leads on from this backup.",
                "Leave --to out: it restores to its own end.",
            )
        give(half, held.child)
        return Restored(backup, about)
    say("write-ahead log")
    files = received.segments()
    for one in way.segments:
        shutil.copyfile(files[one], half / "pg_wal" / one.name)
    for stretch in received.stretches():
        for history in stretch.glob("*.history"):
            shutil.copyfile(history, half / "pg_wal" / history.name)
    (half / "recovery.signal").touch()
    give(half, held.child)
    settings = {"recovery_target_timeline": str(way.timeline)}
    if target.to is not None:
        settings["recovery_target_time"] = f"{target.to.astimezone(UTC):%Y-%m-%d %H:%M:%S.%f}+00"
    cluster = evolve(lay_out(held, os.environ), data=half)
    write_config(cluster)
    missing = None if way.missing is None else way.missing.name
    said = replay(cluster, settings, missing, say)
    reached, timeline = REACHED.search(said), NEW_TIMELINE.search(said)
    assert timeline is not None, "else it had not come to an end"
    until = None if reached is None else f"{reached[1].replace(' ', 'T')}{reached[2]}:00"
    return Restored(backup, about, until, int(timeline[1]), missing)


def replay(cluster: Cluster, settings: dict[str, str], missing: str | None, say: Say) -> str:
    """Let the server read all WAL, begin a new timeline and end; returns what it said."""
    config = {"config_file": str(cluster.config / "postgresql.conf")}
    options = [f"--{name}={value}" for name, value in (REPLAY | settings | config).items()]
    words = list[str]()
    with subprocess.Popen(
        [cluster.programs.bin / "postgres", "--single", "-D", cluster.data, *options, "postgres"],
        cwd="/",
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,  # no statement: it ends when it has recovered
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        **identity(cluster.child),
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            words.append(line)
            if (found := PROGRESS.search(line)) is not None:
                say(found[1].split(" system usage")[0])
    said = "".join(words)
    if process.returncode or "archive recovery complete" not in said:
        raise refusal(words, said, missing)
    return said


def refusal(words: Sequence[str], said: str, missing: str | None) -> BackupRefused:
    """Return why a replay did not come to its target."""
    last = REACHED.search(said)
    if "before configured recovery target was reached" in said:
        gap = f"{missing} is missing" if missing else "no more was received"
        until = f"{last[1]}{last[2]}" if last else "the end of the backup"
        return BackupRefused(
            f"The WAL ends before that time: its last transaction is of {until}, and {gap}.",
            "Leave --to out for all there is, or name a time before that.",
        )
    fatal = [line.strip() for line in words if "FATAL" in line or "PANIC" in line]
    what = (fatal or [said[-WORDS_MAX:]])[-1]
    return BackupRefused(
        f"The WAL was not replayed: {what}", "Restore the backup alone (--alone), or an older one."
    )


def copy_results(backup: Path, received: Received, blobs: Path, *, alone: bool) -> None:
    """Copy the results of a backup, and those that were stored since."""
    shutil.copytree(backup / BLOBS, blobs, dirs_exist_ok=True)
    if not alone and received.results.is_dir():
        ignore = shutil.ignore_patterns(".new-*")
        shutil.copytree(received.results, blobs, dirs_exist_ok=True, ignore=ignore)


def give(root: Path, child: Account) -> None:
    """Make a tree the child's alone."""
    for path in [root, *root.rglob("*")]:
        if path.is_dir():
            make_dir(path, mode=0o700, uid=child.uid, gid=child.gid)
        else:
            path.chmod(0o600)
            if path.stat().st_uid != child.uid:
                os.chown(path, child.uid, child.gid)
