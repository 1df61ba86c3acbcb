"""How answers look to people: a run, a budget, a ledger, an audit.

Rows are made here as plain values, so that what a table says can be tested without a terminal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from dpp.keys import SCOPES

if TYPE_CHECKING:
    from dpp.cli.output import Output
    from dpp.client import Receipt, Run, RunEvent

BUDGET = ("deposited_usd", "available_usd", "held_usd", "spent_usd")
USD = ("amount_usd", "cost_usd", "returned_usd")
LEDGER = ("seq", "kind", *USD, "run_id", "reference", "created_at")
RUNS = ("run_id", "status", "pack", "attempt", "max_usd", "actual_usd", "created_at")
TENANTS = ("tenant_id", "plan", "state", *BUDGET)
KEYS = (
    *("key_id", "state", "scopes", "created_by"),
    *("created_at", "expires_at", "last_used_at", "spent_usd"),
)
NODES = (
    "node_id",
    "host",
    "state",
    "version",
    "runs",
    "concurrency",
    "lease_left_s",
    "last_heartbeat",
)
MODES = ("mode", "set_at", "expires_at", "operator", "reason")
FINDINGS = ("finding_id", "invariant", "subject", "tenant_id", "opened_at")
OFFENDERS_SHOWN = 5

Documents = Iterable[Mapping[str, Any]]


def run_pairs(run: Run) -> dict[str, object]:
    """Return what there is to say of a run, the result apart."""
    cost, document = run.cost, run.document
    paid = "" if cost.actual_usd is None else f"{cost.actual_usd} {cost.currency}"
    pairs = {
        "run": run.run_id,
        "status": run.status,
        "pack": run.pack_type,
        "idempotency key": run.idempotency_key,
        "attempt": run.attempt,
        "progress": progress_text(run),
        "at most": f"{cost.max_usd} {cost.currency}",
        "held": f"{cost.held_usd} {cost.currency}",
        "cost": paid,
        "created": document.get("created_at"),
        "started": document.get("started_at"),
        "finished": document.get("finished_at"),
        "error": None if run.error is None else f"{run.error.code}: {run.error.detail}",
        "paid by": None if run.error is None else run.error.payer,
        **{f"  {name}": text for name, text in run.metadata.items()},
        "trace": run.trace_id,
    }
    return {name: text for name, text in pairs.items() if text not in (None, "")}


def progress_text(run: Run) -> str:
    """Return how far it is, in words."""
    if run.progress is None:
        return ""
    note = f" {run.progress.note}" if run.progress.note else ""
    return f"{run.progress.fraction:.0%}{note}"


def show_run(out: Output, run: Run) -> None:
    """Print a run, and its result if there is one."""
    out.result(run.document)
    out.pairs(run_pairs(run))
    if run.result is not None:
        out.say("result")
        out.say(json.dumps(run.result, indent=2, ensure_ascii=False))


def event_line(event: RunEvent) -> str:
    """Return an event in words: its id, what it is, and what it says."""
    said = ", ".join(
        f"{name} {json.dumps(value) if isinstance(value, dict) else value}"
        for name, value in event.data.items()
        if value is not None
    )
    return f"{event.event_id}  {event.kind}  {said}"


def event_document(event: RunEvent) -> dict[str, Any]:
    """Return an event as `--json` prints it."""
    return {"id": event.event_id, "event": event.kind, "data": dict(event.data)}


def receipt_pairs(receipt: Receipt) -> dict[str, object]:
    """Return what there is to say of a receipt."""
    pairs = {
        "run": receipt.run_id,
        "tenant": receipt.tenant_id,
        "pack": f"{receipt.pack_type} {receipt.pack_version or ''}".rstrip(),
        "status": receipt.status,
        "attempt": receipt.attempt,
        "reserved": f"{receipt.reserved_usd} USD",
        "cost": f"{receipt.cost_usd} USD",
        "returned": f"{receipt.returned_usd} USD",
        "policy": receipt.policy,
        "transfers": f"{receipt.transfer_ids.reserve}, {receipt.transfer_ids.resolution}",
        "inputs sha256": receipt.inputs_sha256,
        "result sha256": receipt.result_sha256,
        "created": receipt.document.get("created_at"),
        "settled": receipt.document.get("settled_at"),
    }
    return {name: text for name, text in pairs.items() if text not in (None, "")}


def run_row(run: Run) -> Sequence[object]:
    """Return one line of a list of runs."""
    cost, created = run.cost, run.document.get("created_at")
    shown = (run.run_id, run.status, run.pack_type, run.attempt)
    return (*shown, cost.max_usd, cost.actual_usd, when(created))


def show_runs(out: Output, runs: Iterable[Run]) -> None:
    """Print a list of runs for people."""
    numbers, spare = ("attempt", "max_usd", "actual_usd"), ("attempt", "created_at", "max_usd")
    out.table(RUNS, map(run_row, runs), numbers=numbers, ids=("run_id",), spare=spare)


def when(time: object) -> str:
    """Return a time to the second: what is finer is for programs."""
    return re.sub(r"\.\d+", "", str(time)) if time else ""


def show_budget(out: Output, budget: Mapping[str, Any], *, title: str | None = None) -> None:
    """Print a budget for people."""
    out.table(BUDGET, [[budget.get(name) for name in BUDGET]], title=title, numbers=BUDGET)


def show_ledger(out: Output, transfers: Documents, *, title: str | None = None) -> None:
    """Print a ledger for people, in the order given."""
    rows = [[*map(line.get, LEDGER[:-1]), when(line.get("created_at"))] for line in transfers]
    spare = ("created_at", "reference", "returned_usd")
    numbers = ("seq", *USD)
    out.table(LEDGER, rows, title=title, numbers=numbers, ids=("run_id",), spare=spare)


def tenant_row(tenant: Mapping[str, Any]) -> Sequence[object]:
    """Return one line of a list of tenants."""
    budget = tenant.get("budget") or {}
    state = next((word for word in ("suspended", "frozen") if tenant.get(word)), "active")
    sums = (budget.get(name) for name in BUDGET)
    return (tenant.get("tenant_id"), tenant.get("plan"), state, *sums)


def show_tenants(out: Output, tenants: Documents) -> None:
    """Print a list of tenants for people; what was deposited is the sum of the rest."""
    rows, ids = map(tenant_row, tenants), ("tenant_id",)
    out.table(TENANTS, rows, numbers=BUDGET, ids=ids, spare=("deposited_usd", "held_usd"))


def show_nodes(out: Output, nodes: Documents) -> None:
    """Print a list of nodes for people."""
    rows = [[*map(one.get, NODES[:-1]), when(one.get("last_heartbeat"))] for one in nodes]
    numbers, spare = ("runs", "concurrency", "lease_left_s"), ("last_heartbeat", "concurrency")
    out.table(NODES, rows, numbers=numbers, ids=("node_id",), spare=spare)


def node_pairs(node: Mapping[str, Any]) -> dict[str, object]:
    """Return what there is to say of a node."""
    drain, lease_s = node.get("drain") or {}, node.get("lease_left_s")
    pairs = {
        "node": node.get("node_id"),
        "host": node.get("host"),
        "state": node.get("state"),
        "drain asked": when(drain.get("asked_at")),
        "  by": drain.get("operator"),
        "  because": drain.get("reason"),
        "version": node.get("version"),
        "runs": None if node.get("runs") is None else f"{node['runs']} of {node['concurrency']}",
        "lease": None if lease_s is None else f"{lease_s} s left",
        "last heartbeat": when(node.get("last_heartbeat")),
        "left": when(node.get("left_at")),
        "reported": when(node.get("reported_at")),
        **{f"  {name}": f"{age} s ago" for name, age in (node.get("loops") or {}).items()},
    }
    return {name: text for name, text in pairs.items() if text not in (None, "")}


def show_node(out: Output, node: Mapping[str, Any]) -> None:
    """Print a node for people."""
    out.pairs(node_pairs(node))


def show_mode(out: Output, answer: Mapping[str, Any]) -> None:
    """Print the mode in force, and the trail."""
    out.say(f"mode {answer['mode']}")
    if answer["changes"]:
        out.table(MODES, map(change_row, answer["changes"]))


def change_row(change: Mapping[str, Any]) -> Sequence[object]:
    """Return one line of the trail of modes."""
    times = (when(change[name]) for name in ("set_at", "expires_at"))
    return (change["mode"], *times, change["operator"], change["reason"])


def show_keys(out: Output, keys: Documents) -> None:
    """Print a list of keys for people."""
    spare = ("created_at", "last_used_at", "created_by", "scopes")
    out.table(KEYS, map(key_row, keys), ids=("key_id",), spare=spare)


def key_row(key: Mapping[str, Any]) -> Sequence[object]:
    """Return one line of a list of keys."""
    scopes, limit = key.get("scopes", ()), key.get("spend_limit_usd")
    ended = "revoked" if key.get("revoked") else "expired"
    return (
        key.get("key_id"),
        ended if key.get("ended") else "active",
        "all" if set(scopes) == set(SCOPES) else " ".join(scopes),
        key.get("created_by"),
        when(key.get("created_at")),
        when(key.get("expires_at")),
        when(key.get("last_used_at")),
        f"{key.get('spent_usd')} of {limit}" if limit else "",
    )


def show_audit(out: Output, audit: Mapping[str, Any], *, title: str | None = None) -> None:
    """Print an audit: every invariant, its first offenders, and the open findings."""
    invariants: Sequence[Mapping[str, Any]] = audit.get("invariants", ())
    rows = [
        (one.get("name"), "no" if one.get("offenders") else "yes", one.get("claim"))
        for one in invariants
    ]
    out.table(("invariant", "holds", "claim"), rows, title=title, ids=("invariant",))
    for one in invariants:
        offenders = one.get("offenders") or ()
        for offender in offenders[:OFFENDERS_SHOWN]:
            out.say(f"{one.get('name')}: {_line(offender)}")
        if one.get("accepted"):
            out.say(f"{one.get('name')}: {one.get('accepted')} accepted")
        if len(offenders) > OFFENDERS_SHOWN:
            out.say(f"{one.get('name')}: and {len(offenders) - OFFENDERS_SHOWN} more")
    findings: Sequence[Mapping[str, Any]] = audit.get("findings", ())
    for finding in findings:
        out.say(f"open finding: {_line(_named(finding))}")
    sample: Mapping[str, Any] = audit.get("large_results") or {}
    if sample.get("looked"):
        out.say(f"large results looked at: {sample['looked']}")
    if sample.get("could_not_ask"):
        out.say(f"large results: the store could not be asked: {sample['could_not_ask']}")
    holding = sum(1 for row in rows if row[1] == "yes")
    verdict = "ok" if audit.get("ok") else "NOT ok"
    too = f", but findings are open: {len(findings)}" if findings else ""
    out.say(f"audit {verdict}: {holding} of {len(rows)} invariants hold{too}")
    if not audit.get("ok"):
        out.say(
            "`dpp audit list` shows what was found; the auditor finds it within audit.interval_s. "
            "What to do: docs/runbooks/audit-required.md"
        )


def _named(finding: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return what names a finding; `dpp audit show` has the rest."""
    return {name: finding[name] for name in FINDINGS if finding.get(name) is not None}


def show_findings(out: Output, findings: Sequence[Mapping[str, Any]]) -> None:
    """Print a list of findings for people."""
    if not findings:
        out.say("no finding is open")
        return
    rows = [
        (*map(finding.get, FINDINGS[:-1]), when(finding.get("opened_at"))) for finding in findings
    ]
    out.table(FINDINGS, rows, ids=("finding_id", "subject"), spare=("opened_at", "tenant_id"))


def show_finding(out: Output, finding: Mapping[str, Any]) -> None:
    """Print a finding with its evidence, what offends a line a member, and its resolution."""
    evidence = dict(finding.get("evidence") or {})
    offender = evidence.pop("offender", None) or {}
    resolution = finding.get("resolution") or {}
    out.pairs({
        "finding": finding.get("finding_id"),
        "invariant": finding.get("invariant"),
        "subject": finding.get("subject"),
        "tenant": finding.get("tenant_id"),
        "opened": when(finding.get("opened_at")),
        **evidence,
        **{f"  {name}": "" if value is None else value for name, value in offender.items()},
        "resolved": when(finding.get("resolved_at")) or "no",
        **{f"  {name}": value for name, value in resolution.items()},
    })  # fmt: skip


def _line(members: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in members.items())
