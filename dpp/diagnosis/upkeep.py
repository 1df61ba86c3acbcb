"""What keeps PostgreSQL from tidying up: transactions that stay open, slots, vacuum that is off."""

from collections.abc import Iterator, Sequence

from attrs import frozen

from dpp.diagnosis.checks import Check, Unknown, listed, unseen, well, wrong

# A node's own end after 15 s, an audit's after 180: past five minutes it is somebody's else, and
# rows that died since stay for as long.
OPEN_MAX_S = 300.0
# Nothing of DPP waits within a transaction for over 5 s.
IDLE_MAX_S = 60.0
# As much as WAL takes without a slot (max_wal_size): beyond it, the slot keeps it.
SLOT_BYTES_MAX = 1 << 30
RECEIVER = "dpp_receiver"  # the slot of `dpp receive-wal`; there as long as WAL shall be received
# As the alert DPP_Dead_Rows: a queue's reads slow down by what they pass over.
DEAD_MAX = 1_000_000
# As the alert DPP_Postgres_Wraparound; the server stops writing at 2.1e9.
AGE_MAX = 1_000_000_000
MIB = 1 << 20


@frozen
class Transaction:
    """An open transaction: who, in which state, for how long; `idle_s`: since it waits so."""

    pid: int
    user: str
    program: str
    state: str
    open_s: float
    idle_s: float


@frozen
class Prepared:
    """A transaction that was prepared and neither committed nor rolled back."""

    name: str
    owner: str
    age_s: float


@frozen
class Slot:
    """A replication slot and the WAL that it holds back; `lost`: it holds none any more."""

    name: str
    active: bool
    held_bytes: int
    lost: bool


@frozen
class Table:
    """A table of ours: rows that died and were not tidied up yet, by the server's estimate."""

    name: str
    dead: int
    vacuumed: bool  # autovacuum is on for it


@frozen(kw_only=True)
class Upkeep:
    """What was found. `hidden`: sessions of other roles, of which nothing is to be seen."""

    transactions: Sequence[Transaction]
    hidden: int
    prepared: Sequence[Prepared]
    slots: Sequence[Slot]
    tables: Sequence[Table]
    autovacuum: bool
    age: int  # of the oldest row, in transactions


def diagnose(facts: Upkeep | Unknown) -> Iterator[Check]:
    """Judge it."""
    if isinstance(facts, Unknown):
        for name in ("open transactions", "prepared transactions", "replication slots", "vacuum"):
            yield unseen(name, facts)
        return
    yield _transactions(facts)
    yield _prepared(facts)
    yield _slots(facts)
    yield _vacuum(facts)


def _transactions(facts: Upkeep) -> Check:
    name = "open transactions"
    old = [one for one in facts.transactions if one.open_s > OPEN_MAX_S or _idles(one)]
    if old:
        told = [
            f"pid {one.pid} of {one.user} ({one.program or 'no name'}) is {one.state} for "
            f"{(one.idle_s if _idles(one) else one.open_s):.0f} s"
            for one in old
        ]
        end = f"select pg_terminate_backend({old[0].pid});"
        fix = f"End it where it runs, or: {end} until then dead rows stay."
        return wrong(name, listed(told), fix)
    if facts.hidden:
        fix = "grant pg_read_all_stats to dpp_app; then all sessions are seen."
        return unseen(
            name, f"{facts.hidden} sessions of other roles are hidden from this role", fix
        )
    oldest = max((one.open_s for one in facts.transactions), default=0.0)
    return well(name, f"{len(facts.transactions)}, the oldest for {oldest:.0f} s")


def _idles(one: Transaction) -> bool:
    return one.state.startswith("idle in transaction") and one.idle_s > IDLE_MAX_S


def _prepared(facts: Upkeep) -> Check:
    name = "prepared transactions"
    old = [one for one in facts.prepared if one.age_s > OPEN_MAX_S]
    if old:
        told = [f"{one.name} of {one.owner} for {one.age_s:.0f} s" for one in old]
        fix = (
            f"commit prepared '{old[0].name}' or rollback prepared '{old[0].name}'; DPP makes none."
        )
        return wrong(name, listed(told), fix)
    return well(name, "none is old")


def _slots(facts: Upkeep) -> Check:
    name = "replication slots"
    if any(one.name == RECEIVER and not one.active for one in facts.slots):
        fix = (
            "systemctl start dpp-wal, and see journalctl -u dpp-wal. Where backups shall do: "
            "dpp receive-wal DIRECTORY --forget."
        )
        return wrong(name, f"nobody reads {RECEIVER}: write-ahead log is not received", fix)
    bad = [one for one in facts.slots if one.lost or one.held_bytes > SLOT_BYTES_MAX]
    if bad:
        told = [
            f"{one.name} ({'in use' if one.active else 'not in use'}) "
            + ("lost its WAL" if one.lost else f"holds {one.held_bytes // MIB} MiB of WAL")
            for one in bad
        ]
        fix = (
            "Let its reader catch up, or, if it is gone for good: "
            f"select pg_drop_replication_slot('{bad[0].name}'); WAL fills the disk until then."
        )
        return wrong(name, listed(told), fix)
    held = sum(one.held_bytes for one in facts.slots)
    return well(
        name, f"{len(facts.slots)}, holding {held // MIB} MiB of WAL" if facts.slots else "none"
    )


def _vacuum(facts: Upkeep) -> Check:
    name = "vacuum"
    if not facts.autovacuum:
        fix = "alter system set autovacuum = on; select pg_reload_conf();"
        return wrong(name, "autovacuum is off: dead rows stay for ever", fix)
    off = [one.name for one in facts.tables if not one.vacuumed]
    if off:
        fix = f"alter table dpp.{off[0]} reset (autovacuum_enabled);"
        return wrong(name, f"autovacuum is off for {listed(off)}", fix)
    dead = [f"{one.name} has {one.dead} dead rows" for one in facts.tables if one.dead > DEAD_MAX]
    if dead:
        fix = "Look at open transactions and slots above, which keep them; then vacuum the table."
        return wrong(name, listed(dead), fix)
    if facts.age > AGE_MAX:
        fix = "vacuum (freeze) the database; docs/runbooks/DPP_Postgres_Wraparound.md."
        return wrong(name, f"the oldest row is {facts.age} transactions old", fix)
    most = max((one.dead for one in facts.tables), default=0)
    return well(name, f"autovacuum is on; at most {most} dead rows in a table")
