"""What a line of the log says beyond what failed: what DPP did about it, and what to do.

One table for every line of a warning or worse, so that the words stand beside each other. Where
nothing has to be done, the remedy says so.
"""

from collections.abc import Mapping
from typing import Final

from attrs import frozen
from structlog.typing import EventDict

AUDIT: Final = "dpp audit list; docs/runbooks/audit-required.md"
REPORT: Final = "It is a bug of DPP: report this line."
LOOK_AT_PACK: Final = "None here: it is the pack's."
NOTHING: Final = "None, unless it goes on."


@frozen
class Advice:
    """What was done, and what an operator should do."""

    did: str
    remedy: str


SET_ASIDE: Final = Advice(
    "The transaction was rolled back. The run is set aside, its hold kept, with a finding; new "
    "submissions of its tenant are refused, all else goes on.",
    AUDIT,
)
RECOVERED: Final = Advice("Nothing was charged for the attempt that was lost.", NOTHING)
ANSWERED_500: Final = Advice("The request was answered 500, the node goes on.", REPORT)
CLOSED: Final = Advice("This connection was closed, the node goes on.", REPORT)

ADVICE: Final[Mapping[str, Advice]] = {
    # money
    "AUDIT_REQUIRED": Advice(
        "A finding is open, nothing was corrected. If it is of a tenant's books, its new "
        "submissions are refused; accepted runs go on.",
        AUDIT,
    ),
    "books not closed": Advice(
        "The ledger has a gap: nothing of it leaves. The auditor has a finding of it.", AUDIT
    ),
    "batch refused": Advice("It was rolled back and is tried again in halves.", REPORT),
    "submission refused": Advice("It was answered 500; nothing was written or held.", REPORT),
    "ending refused": SET_ASIDE,
    "recovery refused": SET_ASIDE,
    "reconciling refused": SET_ASIDE,
    "cancel refused": SET_ASIDE,
    "resolving refused": Advice(
        "It was rolled back and answered 409; the finding stays open.",
        "Mend what the database names, and resolve it again.",
    ),
    "run quarantined": SET_ASIDE,
    "storing mark refused": Advice(
        "The attempt failed free, its run is retried or set aside.", AUDIT
    ),
    # attempts
    "attempt was lost before it was settled": RECOVERED,
    "run requeued": RECOVERED,
    "run taken back": RECOVERED,
    "run rolled forward": Advice(
        "Its result was stored and verified: it was settled at the cost stored with it.", NOTHING
    ),
    "pack raised": Advice("The run is FAILED at its charges or the minimum fee.", LOOK_AT_PACK),
    "pack not loaded": Advice(
        "The node works without it, and refuses submissions of it.", "Mend the pack and restart."
    ),
    # backups
    "wal receiver is behind": Advice(
        "It goes on; the node keeps WAL for it up to max_slot_wal_keep_size (left_bytes remain).",
        "Look at the disk of the backups, and at the lines before this one.",
    ),
    "wal receiver ended": Advice(
        "It is started again in a second; the node keeps what was not received meanwhile.",
        "Look at what it says: a disk that is full, a node that stops.",
    ),
    "wal is lost": Advice(
        "The node dropped WAL that nobody took for too long. Receiving goes on after it; backups "
        "from before restore to from_lsn and no further.",
        "Take a backup now: systemctl start dpp-backup; docs/backup.md.",
    ),
    "results not copied": Advice(
        "WAL is received all the same. They are tried again.", "Look at the disk of the backups."
    ),
    # the lease
    "heartbeat unanswered": Advice(
        "It is asked again; runs are cancelled when the lease ends without an answer.",
        "Look at PostgreSQL and the way to it.",
    ),
    "lease lost": Advice(
        "Its runs were cancelled and are retried, an attempt spent; a new lease is taken.",
        "Look for what stopped this node for so long: CPU, memory, a suspended machine.",
    ),
    "lease lapsed": Advice(
        "Its runs were cancelled here. `owed`: they are handed back free with the next lease; else "
        "they are retried, an attempt spent.",
        "Look at PostgreSQL and the way to it; not owed: for what stopped this node for so long.",
    ),
    "nodes differ": Advice(
        "Each node decides by its own; what they differ in, and who, is said by name.",
        "Give all nodes the same plans and packs, and restart those that differ.",
    ),
    "claim unknown": Advice("It is asked again until it is known; none is worked on.", NOTHING),
    "ghost not handed back": Advice("It is left to the reaper, once the lease is over.", REPORT),
    "frozen transaction ended": Advice(
        "It held rows that others wait for; what it had not committed is undone.",
        "Look for a node that is suspended, or for the way to it that is cut.",
    ),
    "ghosts handed back": Advice("Runs that nobody worked on wait again, free.", NOTHING),
    # stores
    "store unavailable": Advice(
        "It is asked again; until then submissions are answered 503 and nothing is held.",
        "Look at PostgreSQL and the way to it.",
    ),
    "result store unavailable": Advice(
        "Storing a large result is asked again; after reconcile.store_wait_s its run is retried "
        "free. Runs with small results go on.",
        "Look at the directory that is named, its disk and its volume; of a bucket, ask "
        "`dpp doctor`.",
    ),
    "object read wrong": Advice(
        "It was read once more, and only what is right is used.",
        "Look at the way to the store; where it comes often, at the store's own health.",
    ),
    "no primary any more": Advice(
        "Every connection was dropped; new ones go to a primary only. Until there is one, "
        "submissions are answered 503 and the node is not ready.",
        "None where another server takes over; else look why the primary only reads.",
    ),
    "a crash may lose commits": Advice(
        "The node works all the same; production refuses such a server.",
        "Turn fsync and full_page_writes on, unless the server's host keeps commits elsewhere.",
    ),
    "role without limits": Advice(
        "The node works; a client that freezes holds its locks for longer than it must.",
        "dpp migrate roles; or, as a superuser, alter role … set … as docs/database.md says.",
    ),
    "no connection": Advice(
        "It is tried again; until then nothing is claimed or taken in.",
        "Mend what the database says: role, password, rights, database.url.",
    ),
    "waited in vain": Advice(
        "Those submissions were answered 503 or wait, other tenants go on.",
        "Look in pg_stat_activity for who holds this tenant's rows.",
    ),
    "blob store could not be asked": Advice(
        "Nothing is decided about this run; after reconcile.store_wait_s a finding is opened.",
        "Look at the directory, its disk and who may write there; of a bucket, ask `dpp doctor`.",
    ),
    "result could not be read": Advice(
        "The request was answered 503, the result is as it was.",
        "Look at the directory, its disk and who may read there; of a bucket, ask `dpp doctor`.",
    ),
    "result astray": Advice(
        "The request was answered 500 and a finding is open; run and cost stay as they are.",
        AUDIT,
    ),
    "redis unavailable": Advice(
        "Money and runs are as they were. Nodes poll, and each allows its share of reads; Redis is "
        "tried again every few seconds.",
        "Look at Redis and the way to it: `detail` says what came of which question.",
    ),
    "sqs unavailable": Advice(
        "Money and runs are as they were. Hints are dropped, runs are found by polling; SQS is "
        "tried again every second.",
        "`detail` says what came of which question; `dpp doctor` looks at the way to it, and "
        "config/iam has the rights of a node.",
    ),
    "no hint": Advice(
        "It stays in the queue, and after three times it is a dead letter; no run is concerned.",
        "Look who else sends to this queue: it belongs to one deployment of DPP alone.",
    ),
    "dead letters": Advice(
        "Nothing waits for them; SQS drops them after 14 days.",
        "Look at some with `aws sqs receive-message`, then purge the dead-letter queue.",
    ),
    "no dead-letter queue": Advice(
        "A message that is no hint comes again until SQS drops it.",
        "Ask `dpp aws bootstrap`: it gives the queue what it lacks.",
    ),
    "another object lies where the result belongs": Advice(
        "It was left as it is; the run is retried free, under another key.", REPORT
    ),
    # webhooks
    "webhook disabled": Advice(
        "Its receiver answered 410; what waits for it is failed, and kept for a replay.",
        "None here: its tenant enables it again.",
    ),
    "delivery failed here": Advice("It counts as an attempt, and is tried again.", REPORT),
    "delivery not marked": Advice("It is sent again, up to its last attempt.", REPORT),
    # PostgreSQL, where the node runs it
    "postgres cannot be started": Advice("It is tried again.", "Look at memory and processes."),
    "postgres ended": Advice(
        "It is started again; submissions are answered 503.",
        "Nothing, if it comes once. Else read what PostgreSQL wrote before it: a PANIC, or a file "
        "that cannot be read, is the disk or its files, and the way back is docs/backup.md.",
    ),
    "too few file descriptors": Advice(
        "The node works, but takes fewer connections than http.connections_max.",
        "Allow `wanted` of them (LimitNOFILE= of the unit, ulimit -Hn), or lower the setting.",
    ),
    "postgres does not stop": Advice("It is told more firmly.", NOTHING),
    "disk full: postgres not started": Advice(
        "It is tried again; submissions are answered 503, nothing is lost.", "Free space there."
    ),
    "postgres of an earlier node found, stopping it": Advice("It is stopped first.", NOTHING),
    "backends without a postmaster found": Advice("They are waited for.", NOTHING),
    "postgres lines left out": Advice("PostgreSQL said more than is copied here.", NOTHING),
    # the process
    "actor crashed": Advice("It was started again; money is safe in the database.", REPORT),
    "actor gave up": Advice(
        "The node drains and exits with status 1; its runs are handed back.", REPORT
    ),
    "an operation failed after its waiter had gone": Advice(
        "It was rolled back; who asked had left.", REPORT
    ),
    "a loop hangs": Advice(
        "The node drains and exits with status 1; its runs are handed back.", REPORT
    ),
    "watchdog not fed": Advice(
        "The next look is soon; without a good one in time systemd kills and restarts the node.",
        "Look for what stopped this node for so long: CPU, memory, a suspended machine.",
    ),
    "retention put off": Advice(
        "Nothing of this batch was let go; the other tenants go on, and it is tried in an hour.",
        "None, unless it goes on: then look at how large this tenant's runs are.",
    ),
    "retention refused": Advice(
        "The database let nothing of this tenant go; the others go on.",
        "Look what it refused, ask `dpp audit`, and report it with the traceback.",
    ),
    "audit refused": Advice(
        "The node goes on, and its books are not proved until this is mended.",
        "The server cannot read a page: look at its log and its disk; restore from a backup.",
    ),
    "reload refused": Advice(
        "Nothing was taken over: the node goes on as it was.",
        "Mend what the errors name, look with `dpp config check`, and reload again.",
    ),
    "setting needs a restart": Advice(
        "The node goes on with the value it started with; all else was taken over.",
        "Restart the node when it suits, or put the old value back.",
    ),
    "systemd could not be told": Advice(
        "The node goes on; it is told again at the next occasion.",
        "Look at NotifyAccess= of the unit, and at systemd itself.",
    ),
    "request failed": ANSWERED_500,
    "admin request failed": ANSWERED_500,
    "an answer could not be written": ANSWERED_500,
    "an app failed": ANSWERED_500,
    "connection failed": CLOSED,
    "answer cut short": Advice(
        "A store went away in the middle of an answer: its connection was cut, so that half of it "
        "is not taken for the whole.",
        NOTHING,
    ),
    "management connection failed": CLOSED,
}


def advise(_logger: object, _method: str, event: EventDict) -> EventDict:
    """Put `did` and `remedy` on a line of a warning or worse."""
    if event["level"] not in {"debug", "info"}:
        advice = ADVICE.get(event["event"])
        if advice is not None:
            event.setdefault("did", advice.did)
            event.setdefault("remedy", advice.remedy)
    return event
