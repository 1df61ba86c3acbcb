"""Go or no-go: the list that is gone through before a launch, each row from what was found.

A row is GO, NO-GO, or "?": what no machine can know from where it stands, such as whether the
backups of somebody else's server are whole. A person who looked may confirm such a row, by name;
what was found wrong nobody can confirm away. The launch is on where every row is GO.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from attrs import evolve, field, frozen

from dpp.diagnosis.checks import Check, Unknown, listed, overall, unseen, well, wrong

# A daily backup and two hours for it to be taken and verified.
BACKUP_HOURS_MAX = 26.0
# Of the reaper: three of its usual pauses and what a report of a node takes; the guide had 30 s.
REAPER_S_MAX = 30.0
LIMITS = ("submits_per_minute", "concurrent_runs", "queued_runs", "max_cost")
# The rows that take several checks of `dpp doctor` together; `doctor` has those in none of these.
GROUPS: Mapping[str, frozenset[str]] = {
    "configuration": frozenset({"configuration", "unsafe settings", "secret files"}),
    "credentials": frozenset(
        {"s3 endpoint", "sqs endpoint", "credentials", "caller identity", "bucket", "queue"}
    ),
    "permissions": frozenset({"user", "data directory", "file permissions", "role rights"}),
    "database": frozenset({"database", "pooler", "server", "primary", "role limits"}),
    "time": frozenset({"clock", "time synchronisation"}),
    "migrations": frozenset({"schema", "schema drift"}),
    "one of a kind": frozenset({"node versions", "plans", "packs"}),
}


@frozen
class Ready:
    """What `/readyz` answers."""

    status: int
    services: Mapping[str, str]


@frozen
class Metrics:
    """What `/metrics` answers: how many names, CRITICAL lines logged, and runs completed here."""

    names: int
    critical: float
    completed: float


@frozen
class Node:
    """A node as the admin API tells it. `reaper_s`: since its reaper last looked."""

    node_id: str
    state: str
    concurrency: int
    reaper_s: float | None


@frozen
class Books:
    """What the audit answers."""

    ok: bool
    findings: int


@frozen
class Backup:
    """The newest backup: its age in hours; `why`: what verifying it found wrong."""

    path: str
    hours: float
    why: str | None


@frozen
class PlanInUse:
    """A plan in use, by how many, and which of `LIMITS` it has not; None: there is no such plan."""

    name: str
    tenants: int
    lacking: Sequence[str] | None


@frozen(kw_only=True)
class Settings:
    """What the list asks of the configuration."""

    production: bool
    profile: str
    tls: bool
    public: str
    loopback: bool  # the public listener is for this machine alone
    webhook_ports: Sequence[int]
    loopback_webhooks: bool
    log_format: str
    log_level: str


@frozen(kw_only=True)
class Facts:
    """All of it; `external`: the database is the operator's own, and its backups are, too."""

    checks: Sequence[Check]
    settings: Settings
    wanted_nodes: int
    external: bool
    health: int | Unknown
    ready: Ready | Unknown
    metrics: Metrics | Unknown
    nodes: Sequence[Node] | Unknown
    books: Books | Unknown
    mode: str | Unknown
    backup: Backup | Unknown | None  # None: there is none
    plans: Sequence[PlanInUse] | Unknown
    rules: Mapping[str, int] | Unknown = field(factory=dict)  # file → alerts or records in it


def rows(facts: Facts) -> list[Check]:
    """Return the list, in the order of the guide."""
    return [
        _profile(facts.settings),
        *_groups(facts.checks),
        _tls(facts.settings),
        _health(facts.health),
        _ready(facts.ready),
        *_nodes(facts),
        _completed(facts.metrics),
        _audit(facts.books),
        _findings(facts.books),
        _mode(facts.mode),
        _backup(facts),
        _metrics(facts.metrics),
        _critical(facts.metrics),
        _rules(facts.rules),
        _logs(facts.settings),
        _plans(facts.plans),
        _webhooks(facts.settings),
    ]


def confirmed(checks: Sequence[Check], names: Sequence[str], who: str) -> list[Check]:
    """Return the rows where a person answers for those that could not be looked at."""
    return [
        evolve(one, ok=True, found=f"confirmed by {who}; {one.found}", fix="")
        if one.ok is None and one.name in names
        else one
        for one in checks
    ]


def document(checks: Sequence[Check]) -> dict[str, Any]:
    """Return the list as `--json` prints it."""
    shown = [
        {"check": one.name, "ok": one.ok, "found": one.found, "fix": one.fix or None}
        for one in checks
    ]
    return {"go": overall(checks) is True, "checks": shown}


def _profile(facts: Settings) -> Check:
    name = "production profile"
    if facts.production:
        return well(name, 'node.profile = "production"')
    fix = 'Set node.profile = "production": it refuses what is unsafe, and doctor judges by it.'
    return wrong(name, f'node.profile = "{facts.profile}"', fix)


def _groups(checks: Sequence[Check]) -> Iterator[Check]:
    grouped = frozenset().union(*GROUPS.values())
    for name, members in GROUPS.items():
        yield _group(name, [one for one in checks if one.name in members])
    yield _group("doctor", [one for one in checks if one.name not in grouped])


def _group(name: str, checks: Sequence[Check]) -> Check:
    ok = overall(checks)
    if ok is True:
        return well(name, f"{len(checks)} checks of doctor, all well")
    bad = [one for one in checks if one.ok is ok]
    told = "; ".join(f"{one.name}: {one.found}" for one in bad)
    return Check(name, ok=ok, found=told, fix=" ".join(dict.fromkeys(one.fix for one in bad)))


def _tls(facts: Settings) -> Check:
    name = "tls"
    if facts.tls:
        return well(name, "the node serves TLS")
    if facts.loopback:
        return well(
            name, f"the API is on {facts.public}, for a proxy on this machine that serves it"
        )
    fix = (
        "Set http.tls_certificate and http.server; or, where a balancer serves TLS and none but it "
        "reaches the node, confirm it."
    )
    return unseen(name, f"the API is on {facts.public} without TLS: who is before it?", fix)


def _health(status: int | Unknown) -> Check:
    name, fix = "health", "Look at the node's log: `journalctl -u dpp`."
    if isinstance(status, Unknown):
        return unseen(name, status, "Start the node.")
    if status != 200:  # noqa: PLR2004 - OK
        return wrong(name, f"/health answers {status}", fix)
    return well(name, "/health answers 200")


def _ready(facts: Ready | Unknown) -> Check:
    name = "readiness"
    if isinstance(facts, Unknown):
        return unseen(name, facts, "Start the node.")
    told = ", ".join(f"{service} {state}" for service, state in facts.services.items())
    down = [service for service, state in facts.services.items() if state != "up"]
    if facts.status != 200 or down:  # noqa: PLR2004 - OK
        fix = "Mend what is down, or undrain the node (`dpp node undrain`)."
        return wrong(name, f"/readyz answers {facts.status}: {told}", fix)
    return well(name, f"/readyz answers 200: {told}")


def _nodes(facts: Facts) -> Iterator[Check]:
    if isinstance(facts.nodes, Unknown):
        yield unseen("nodes", facts.nodes)
        yield unseen("reaper", facts.nodes)
        return
    working = [one for one in facts.nodes if one.state == "working" and one.concurrency > 0]
    told = f"{len(working)} execute runs, {facts.wanted_nodes} are wanted"
    if len(working) < facts.wanted_nodes:
        fix = "Start the others (`dpp node list`); --nodes says how many there shall be."
        yield wrong("nodes", told, fix)
    else:
        yield well("nodes", told)
    yield _reaper(working)


def _reaper(working: Sequence[Node]) -> Check:
    name = "reaper"
    late = [
        f"{one.node_id} ({'never' if one.reaper_s is None else f'{one.reaper_s:.0f} s ago'})"
        for one in working
        if one.reaper_s is None or one.reaper_s > REAPER_S_MAX
    ]
    if late or not working:
        fix = "docs/runbooks/DPP_Loop_Stuck.md."
        return wrong(name, f"did not look lately: {listed(late) or 'no node works'}", fix)
    return well(name, f"looked within {REAPER_S_MAX:.0f} s on {len(working)} nodes")


def _completed(facts: Metrics | Unknown) -> Check:
    name = "smoke run"
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    if facts.completed < 1:
        fix = (
            "dpp tenant create smoke --plan basic --deposit 1.00, then dpp run submit --tenant "
            "smoke --pack echo --max-cost 0.10 --wait"
        )
        return wrong(name, "no run was completed on this node since its start", fix)
    return well(name, f"{facts.completed:.0f} runs completed on this node since its start")


def _audit(facts: Books | Unknown) -> Check:
    name = "audit"
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    if not facts.ok:
        return wrong(name, "the books are not proven", "`dpp audit` names each; docs/money.md.")
    return well(name, "every invariant holds")


def _findings(facts: Books | Unknown) -> Check:
    name = "findings"
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    if facts.findings:
        return wrong(name, f"{facts.findings} open", "`dpp audit list`, then `dpp audit resolve`.")
    return well(name, "none is open")


def _mode(mode: str | Unknown) -> Check:
    name = "mode"
    if isinstance(mode, Unknown):
        return unseen(name, mode)
    if mode != "normal":
        return wrong(name, mode, "`dpp mode set normal --reason …`")
    return well(name, mode)


def _backup(facts: Facts) -> Check:
    name, backup = "backup", facts.backup
    if facts.external:
        fix = "Restore one of them elsewhere, as docs/backup.md says, and confirm it."
        return unseen(
            name, "the database is your own: whether its backups are whole, DPP cannot know", fix
        )
    if isinstance(backup, Unknown):
        return unseen(name, backup, "Name their directory by --backups, as a user who may read it.")
    take = "`dpp backup --verify DIR`; the timer dpp-backup.timer takes one a day."
    if backup is None:
        return wrong(name, "there is none", take)
    told = f"{backup.path}, {backup.hours:.1f} h old"
    if backup.why is not None:
        return wrong(name, f"{told}, is not whole: {backup.why}", take)
    if backup.hours > BACKUP_HOURS_MAX:
        return wrong(name, f"{told}: over {BACKUP_HOURS_MAX:.0f} h", take)
    return well(name, f"{told}, verified now")


def _metrics(facts: Metrics | Unknown) -> Check:
    name = "metrics"
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    if not facts.names:
        return wrong(name, "/metrics answers, and has nothing of DPP", "Look at management.listen.")
    return well(name, f"/metrics answers with {facts.names} names")


def _critical(facts: Metrics | Unknown) -> Check:
    name = "critical lines"
    if isinstance(facts, Unknown):
        return unseen(name, facts)
    if facts.critical:
        fix = "Read them (`journalctl -u dpp -p crit`), mend what they name, and restart the node."
        return wrong(name, f"{facts.critical:.0f} logged on this node since its start", fix)
    return well(name, "none logged on this node since its start")


def _rules(files: Mapping[str, int] | Unknown) -> Check:
    name = "alert rules"
    if isinstance(files, Unknown):
        return wrong(name, files.why, "Install DPP anew: its wheel has them.")
    empty = [path for path, count in files.items() if not count]
    if empty or not files:
        return wrong(name, f"no rules in {listed(empty) or 'any file'}", "Install DPP anew.")
    told = ", ".join(f"{path} has {count}" for path, count in files.items())
    return well(name, f"{told}; that your Prometheus reads them you must see there")


def _logs(facts: Settings) -> Check:
    name = "logs"
    if facts.log_format == "console":
        return wrong(name, "log.format is console", 'Set log.format = "json" or "auto".')
    if facts.log_level not in {"INFO", "DEBUG"}:
        fix = 'Set log.level = "INFO": heartbeats, scans and traces are told at that level.'
        return wrong(name, f"log.level is {facts.log_level}", fix)
    return well(name, f"{facts.log_format} at {facts.log_level}")


def _plans(plans: Sequence[PlanInUse] | Unknown) -> Check:
    name = "plan limits"
    if isinstance(plans, Unknown):
        return unseen(name, plans)
    gone = [one.name for one in plans if one.lacking is None]
    if gone:
        fix = "Configure it, or give its tenants another: `dpp tenant plan`."
        return wrong(name, f"tenants are on plans that are not configured: {listed(gone)}", fix)
    open_ = [
        f"{one.name} ({one.tenants} tenants) has no {', '.join(one.lacking)}"
        for one in plans
        if one.lacking
    ]
    if open_:
        fix = "Set them in [plans.NAME], or give the tenants another plan: `dpp tenant plan`."
        return wrong(name, listed(open_), fix)
    return well(name, f"{len(plans)} plans in use, each with limits" if plans else "no tenants yet")


def _webhooks(facts: Settings) -> Check:
    name = "webhooks"
    if facts.loopback_webhooks:
        fix = "Set webhooks.allow_loopback = false."
        return wrong(name, "may be sent to this machine", fix)
    if [*facts.webhook_ports] != [443]:
        told = f"may be sent to the ports {', '.join(map(str, facts.webhook_ports))}"
        return wrong(
            name, told, "Set webhooks.ports = [443]: what listens elsewhere is not theirs."
        )
    return well(name, "go to port 443 of other machines alone")
