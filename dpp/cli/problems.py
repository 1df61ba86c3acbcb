"""What the server's "no" says to who typed the command: what is wrong, and what to do now.

A problem speaks of members of a request; here they get the names that --help gives them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

from dpp.cli.exits import Trouble

if TYPE_CHECKING:
    from dpp.client.faults import Problem

TODO: Mapping[str, str] = {
    "spend-limit-exceeded": "Wait until it resets, or give the tenant another plan. A key's own"
    " limit never resets: `dpp key create TENANT --spend-limit USD` makes another key.",
    "forbidden": "`dpp key create TENANT --scope SCOPE` makes a key that may do it.",
    "not-found": "`dpp run list` shows the runs that there are.",
    "budget-exceeded": "Deposit more (`dpp deposit TENANT AMOUNT`), or lower --max-cost.",
    "max-cost-too-low": "Raise --max-cost to at least what is required.",
    "max-cost-too-high": "Lower --max-cost, or give the tenant another plan.",
    "tenant-suspended": "`dpp tenant resume TENANT` lets it submit again.",
    "tenant-frozen": "`dpp audit list` shows the open finding.",
    "finding-resolved": "`dpp audit show ID` shows how, by whom and why.",
    "run-ended": "`dpp audit show ID` shows the evidence; --accept resolves the finding.",
    "resolution-refused": "Resolve what it names first: `dpp audit list` shows every finding.",
    "resolution-unfit": "`dpp audit show ID` shows what is wrong.",
    "internal-error": "Report it with the lines of the log. `dpp audit` says if the books hold.",
    "unauthorized": "Check --api-key or DPP_API_KEY; `dpp key create TENANT` makes another key.",
    "tenant-exists": "`dpp tenant show TENANT` shows it; `dpp key create TENANT` makes it a key.",
    "reference-reused": "Use another --reference for another transfer.",
    "refund-too-high": "Refund at most what is left; what is more than that is an adjust.",
    "run-not-finished": "Wait for its end (`dpp run wait RUN`), or end it (`dpp run cancel RUN`).",
    "idempotency-key-reused": "Use another --idempotency-key for another request.",
    "quota-exceeded": "Wait as long as it says, or give the tenant another plan.",
    "temporary-reduced-capacity": "Ask the same again: what happened already is not done twice.",
}
# Where the admin API answers the same, it is about something else.
ADMIN = "/admin/"
ADMIN_TODO: Mapping[str, str] = {
    **TODO,
    "budget-exceeded": "Take at most what is available; `dpp tenant show TENANT` says how much.",
    "unauthorized": "Name the node's data directory with --data-dir, or its token in"
    " DPP_ADMIN_TOKEN.",
    "quota-exceeded": "Wait as long as it says.",
    "not-found": "Look what there is: `dpp tenant list`, `dpp key list TENANT`,"
    " `dpp run list --tenant TENANT`, `dpp audit list`, `dpp node list`.",
}
# What the user typed for a member of a request.
TYPED: Mapping[str, str] = {
    "/tenant_id": "NAME",
    "/plan": "PLAN",
    "/deposit_usd": "--deposit",
    "/amount_usd": "USD",
    "/cost_usd": "--settle",
    "/run_id": "RUN",
    "/reference": "--reference",
    "/operator": "--operator",
    "/reason": "--reason",
    "/scopes": "--scope",
    "/expires_in_s": "--expires-in",
    "/spend_limit_usd": "--spend-limit",
    "/overlap_s": "--overlap",
    "/pack_type": "--pack",
    "/max_cost_usd": "--max-cost",
    "/timebox_s": "--timebox",
    "/priority": "--priority",
    "/run_at": "--run-at",
    "/start_before": "--start-before",
    "/webhook_url": "--webhook-url",
    "/query/cursor": "--cursor",
    "/query/idempotency_key": "--idempotency-key",
    "/query/status": "--status",
    "/query/pack_type": "--pack",
    "/query/created_after": "--created-after",
    "/query/created_before": "--created-before",
    "/headers/last-event-id": "--after",
}
MEMBERS: Mapping[str, str] = {"/inputs/": "--input ", "/metadata/": "--metadata "}
INPUT = re.compile("/inputs/([^/]+)")


def trouble_of(problem: Problem, retry_after_s: float | None) -> Trouble:
    """Return what to tell of a problem; --json has the whole of it beside the words."""
    what = _words(problem)
    if retry_after_s is not None:
        what += f"\nagain after {retry_after_s:g} s"
    did = f"The node refused it ({problem.name}, {problem.status}) and changed nothing."
    if problem.status >= 500 and problem.name == "internal-error":  # noqa: PLR2004 - server errors
        did = "Its log has the cause under request_id " + (problem.request_id or "(none)") + "."
    elif problem.status == 503:  # noqa: PLR2004 - the only answer that leaves it open
        did = "The node did not get it done, as far as it knows."
    return Trouble(problem.name, what, did, _advice(problem), {"problem": dict(problem.document)})


def _words(problem: Problem) -> str:
    """Say what kind of problem it is, then this case of it; of a wrong request each error once."""
    kind = problem.title or problem.name
    errors = [f"{_typed(error.pointer)} {error.message}" for error in problem.errors]
    if len(errors) > 1:
        return "\n".join((f"{kind}:", *errors))
    this = errors[0] if errors else problem.detail
    return f"{kind}: {this}" if this else kind


def _typed(pointer: str) -> str:
    """Return the name that a member has on the command line; its pointer if it has none."""
    for start, option in MEMBERS.items():
        if pointer.startswith(start):
            return option + pointer.removeprefix(start)
    return TYPED.get(pointer, pointer or "the request")


def _advice(problem: Problem) -> str:
    """Return what to do now, or nothing."""
    for error in problem.errors:
        named = INPUT.fullmatch(error.pointer)
        if named and error.message == "must be a string":
            return (
                f"A string that would be read as JSON needs quotes: --input {named[1]}='\"0.01\"'."
            )
    asked_admin = str(problem.document.get("instance")).startswith(ADMIN)
    return (ADMIN_TODO if asked_admin else TODO).get(problem.name, "")
