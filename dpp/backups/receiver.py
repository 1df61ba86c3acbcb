"""The receiver: WAL from a running node to the place of its backups, as it is written.

pg_receivewal does it, on a replication slot of its own: the node keeps WAL for a receiver that is
away, up to `max_slot_wal_keep_size`, and drops it beyond that rather than fill its disk. Then this
begins another stretch and says that WAL is lost: base backups from before lead up to there only.
A node that is down is waited for. Results are mirrored meanwhile.
"""

from __future__ import annotations

import fcntl
import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import define, field, frozen

from dpp import accounts, datadir
from dpp.backups.copies import read_about, refuse_inside, taken_s, whole
from dpp.backups.mirror import Mirror
from dpp.backups.programs import WORDS_MAX, BackupRefused, query
from dpp.backups.received import FOLDER, SLACK_S, Received
from dpp.backups.wal import SEGMENT, position, segment, text_of
from dpp.diagnosis.upkeep import RECEIVER
from dpp.files import make_dir, sync_dir
from dpp.logs import get_logger
from dpp.store.cluster import socket_directory
from dpp.store.programs import ENVIRONMENT, wheel_programs

SLOT: Final = RECEIVER
TICK_S: Final = 0.25  # between two looks at the results: what a disk may take of them
LOOK_S: Final = 10.0  # between two looks at how far behind it is; pg_receivewal reports as often
RETRY_S: Final = 1.0
BEHIND: Final = 4 * SEGMENT  # bytes: a checkpoint's burst on a slow disk is less
END_S: Final = 10.0  # for pg_receivewal to sync what it has

FACTS: Final = f"""
select json_build_object(
  'system', (select system_identifier::text from pg_control_system()),
  'timeline', substring(pg_walfile_name(pg_current_wal_flush_lsn()) for 8),
  'at', pg_current_wal_flush_lsn(),
  'bound', current_setting('max_slot_wal_keep_size'),
  'slot', (
    select json_build_object(
      'status', wal_status, 'at', restart_lsn, 'left', safe_wal_size, 'receives', active,
      'lag_s', extract(epoch from r.flush_lag))
    from pg_replication_slots left join pg_stat_replication r on r.pid = active_pid
    where slot_name = '{SLOT}'))
"""  # noqa: S608 - a constant
MAKE: Final = f"select lsn from pg_create_physical_replication_slot('{SLOT}', true)"  # noqa: S608
DROP: Final = f"""
select count(pg_drop_replication_slot(slot_name)) from pg_replication_slots
where slot_name = '{SLOT}'
"""  # noqa: S608

log = get_logger(__name__)


@frozen
class Slot:
    """What the server keeps for the receiver. `at`: what is received and synced; None = lost.

    `left`: bytes that may still be written before it is dropped; None = no bound.
    """

    status: str | None
    at: int | None
    left: int | None
    receives: bool
    lag_s: float | None


@frozen
class Facts:
    """How a node's server and its receiver stand. `at`: bytes of WAL that are written."""

    system: str
    timeline: int
    at: int
    bound: str
    slot: Slot | None

    @property
    def behind(self) -> int | None:
        """Return the bytes that were not received yet; None = the server keeps none of them."""
        if self.slot is None or self.slot.at is None:
            return None
        return max(0, self.at - self.slot.at)

    @property
    def well(self) -> bool:
        """Say whether a receiver receives and is close behind."""
        receives = self.slot is not None and self.slot.receives
        return receives and self.behind is not None and self.behind <= BEHIND


def ask(data_dir: Path) -> Facts:
    """Ask the node that runs here; raises `BackupRefused` where it does not answer."""
    sockets = sockets_of(data_dir)
    if datadir.running(data_dir) is None:
        raise BackupRefused(f"No node runs on {data_dir}.", "Start it.", away=True)
    said: dict[str, Any] = json.loads(query(sockets, FACTS))
    slot = said.pop("slot")
    if slot is not None:
        slot = Slot(**{**slot, "at": None if slot["at"] is None else position(slot["at"])})
    timeline, at = int(said["timeline"], 16), position(said["at"])
    return Facts(said["system"], timeline, at, said["bound"], slot)


def forget(data_dir: Path) -> bool:
    """Let the node keep nothing for a receiver any more; says whether it did."""
    return query(sockets_of(data_dir), DROP) != "0"


def sockets_of(data_dir: Path) -> str:
    """Return where the node's PostgreSQL listens, as its own user finds it."""
    try:
        owner = data_dir.stat().st_uid
    except OSError as error:
        what = f"{data_dir} cannot be looked at: {error.strerror}."
        raise BackupRefused(what, "Name the node's by --data-dir.", away=True) from error
    if owner != os.geteuid():
        account = accounts.by_uid(owner)
        name = account.name if account else owner
        what = f"{data_dir} belongs to the user {name}, and PostgreSQL there knows nobody else."
        raise BackupRefused(what, f"Run it as that user: `runuser -u {name} -- dpp …`.")
    return str(socket_directory(data_dir, owner, os.environ))


@define
class Receiver:
    """One receiver, for the node on `data_dir`, into a directory of backups."""

    data_dir: Path
    into: Path
    _waits: bool = field(default=False, init=False)
    _behind: bool = field(default=False, init=False)

    def run(self) -> None:
        """Receive until the process is told to stop, by what its signal raises."""
        refuse_inside(self.data_dir, self.into)
        sockets = sockets_of(self.data_dir)
        with self._alone():
            while True:
                facts = self._facts()
                if facts is not None:
                    self._receive(facts, sockets)
                time.sleep(RETRY_S)  # noqa: TID251 - a process of its own: nothing else waits

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Hold the directory of what is received: two receivers would write the same files."""
        self.into.mkdir(mode=0o700, parents=True, exist_ok=True)
        place = self.into / FOLDER
        make_dir(place, mode=0o700)
        descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            yield
        except BlockingIOError as error:
            what = f"Another receiver writes into {place}."
            raise BackupRefused(what, "One is enough: stop it first, or leave it.") from error
        finally:
            os.close(descriptor)

    def _facts(self) -> Facts | None:
        """Ask the node; None = it does not answer, which is said once."""
        try:
            facts = ask(self.data_dir)
        except BackupRefused as refused:
            if not self._waits:
                log.info("waiting for the node", data_dir=str(self.data_dir), error=refused.what)
            self._waits = True
            return None
        self._waits = False
        return facts

    def _receive(self, facts: Facts, sockets: str) -> None:
        """Receive until pg_receivewal ends, because the server or the disk did not let it go on."""
        received = Received(self.into / FOLDER / facts.system)
        try:
            stretch = self._stretch(received, facts, sockets)
            mirror = self._mirror(received)
        except (BackupRefused, OSError) as error:
            log.warning("wal receiver ended", error=str(error))
            return
        log.info("receiving wal", into=str(stretch), timeline=facts.timeline)
        process = start(sockets, stretch)
        try:
            self._watch(process, mirror)
        finally:
            said = end(process)
        log.warning("wal receiver ended", error=said[-WORDS_MAX:], status=process.returncode)

    def _watch(self, process: subprocess.Popen[bytes], mirror: Mirror) -> None:
        """Mirror results and look how far it is, until pg_receivewal ends."""
        look_at, mirror_at = now() + LOOK_S, 0.0
        while process.poll() is None:
            if now() >= mirror_at:
                try:
                    mirror.look(time.time())  # noqa: TID251 - files have that clock
                except OSError as error:
                    log.warning("results not copied", error=str(error), into=str(mirror.target))
                    mirror_at = now() + LOOK_S
            if now() >= look_at:
                look_at = now() + LOOK_S
                self._look()
            time.sleep(TICK_S)  # noqa: TID251 - as in `run`

    def _look(self) -> None:
        """Say when it falls behind, and when it has caught up."""
        facts = self._facts()
        if facts is None or facts.slot is None:
            return
        if not facts.well and not self._behind:
            log.warning(
                "wal receiver is behind",
                behind_bytes=facts.behind, left_bytes=facts.slot.left, bound=facts.bound,
            )  # fmt: skip
        elif facts.well and self._behind:
            log.info("wal receiver caught up", behind_bytes=facts.behind)
        self._behind = not facts.well

    def _stretch(self, received: Received, facts: Facts, sockets: str) -> Path:
        """Return the directory to go on in, once the server keeps what is next in it."""
        make_dir(received.path, mode=0o700)
        make_dir(received.results, mode=0o700)
        kept = facts.slot.at if facts.slot else None
        if kept is None:
            query(sockets, DROP)
            kept = position(query(sockets, MAKE))
        before = received.stretches(facts.timeline)
        number = int(before[-1].suffix[1:]) if before else 0
        if before and (goes_on := next_of(before[-1])) is not None:
            if kept // SEGMENT <= goes_on:
                return before[-1]
            log.error(
                "wal is lost",
                from_lsn=text_of(goes_on * SEGMENT), to_lsn=text_of(kept), bound=facts.bound,
            )  # fmt: skip
        elif before:
            return before[-1]
        stretch = received.path / f"{facts.timeline:08X}.{number + 1}"
        make_dir(stretch, mode=0o700)
        sync_dir(received.path)
        return stretch

    def _mirror(self, received: Received) -> Mirror:
        kept = whole(self.into)
        since_s = min((taken_s(read_about(one)) for one in kept), default=0.0) - SLACK_S
        return Mirror(self.data_dir / datadir.BLOBS, received.results, since_s)


def now() -> float:
    """Return seconds of this process's own clock."""
    return time.monotonic()  # noqa: TID251 - a process of its own, with no loop that has one


def next_of(stretch: Path) -> int | None:
    """Return the number of the segment with which pg_receivewal would go on; None = it is empty."""
    found = [one for path in stretch.iterdir() if (one := segment(path.name)) is not None]
    return max((one.number + one.whole for one in found), default=None)


def start(sockets: str, stretch: Path) -> subprocess.Popen[bytes]:
    """Start pg_receivewal: each record is synced as it comes, and the server hears of it."""
    command = (
        *(f"--directory={stretch}", f"--host={sockets}", "--username=postgres", "--no-password"),
        *(f"--slot={SLOT}", "--synchronous", "--no-loop"),
    )
    return subprocess.Popen(
        [wheel_programs().bin / "pg_receivewal", *command],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # Ctrl-C is for this process, which tells it
    )


def end(process: subprocess.Popen[bytes]) -> str:
    """End pg_receivewal; returns what it said."""
    process.terminate()
    try:
        _, said = process.communicate(timeout=END_S)
    except subprocess.TimeoutExpired:  # a disk that hangs
        process.kill()
        _, said = process.communicate()
    return said.decode(errors="replace").strip()
