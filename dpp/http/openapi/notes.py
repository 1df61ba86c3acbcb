"""The words of the document: what a row's summary has no room for."""

from collections.abc import Mapping
from typing import Final

ABOUT: Final = (
    "DPP sells runs. A submission reserves its most (`max_cost_usd`), the run is executed, and its "
    "actual cost is settled exactly once; the rest comes back.\n\n"
    "Send `Authorization: Bearer dpp_live_…`. Money is dollars as decimal strings, times are RFC "
    "3339 in UTC. Unknown members of a request are refused; ignore unknown members of an answer. "
    "Everything that is refused is a problem (RFC 9457) whose `type` says what to do."
)
TAGS: Final[Mapping[str, str]] = {
    "Runs": "Buy runs, follow them, have their results.",
    "Packs": "What may be run, and what it would cost.",
    "Money": "The budget, the ledger, the usage.",
    "Keys": "API keys: a key makes none that may do more than itself.",
    "Webhooks": "Endpoints that are told of what happened, and what was sent to them.",
    "Service": "What the node says of itself; no key is needed.",
}
# By operation: its tag, and what there is to know.
NOTES: Final[Mapping[str, tuple[str, str]]] = {
    "submit_run": (
        "Runs",
        (
            "The answer comes after the commit: the run will happen. If no answer comes, send the"
            " same again with the same key until one does; a replay answers 201 with the run as "
            "it is now. With `Prefer: wait=N` the answer waits for the end."
        ),
    ),
    "submit_batch": (
        "Runs",
        (
            "As JSON, or as NDJSON, a submission a line. Items are answered in order, each as if "
            "it had been sent alone: `{status: 201, run, replayed}` or `{status, problem}`. A "
            "body that is not JSON is refused as a whole; of NDJSON only that line is."
        ),
    ),
    "list_runs": (
        "Runs",
        (
            "Filters may be combined. A page may be short, or empty, and still have a "
            "next_cursor: go on until it is null."
        ),
    ),
    "get_run": (
        "Runs",
        (
            "With `wait` the answer comes when the run has ended, at the latest after that many "
            "seconds, and shows the run as it is then."
        ),
    ),
    "get_result": (
        "Runs",
        (
            "The bytes as they were stored, with their digest; ranges are served. A body that "
            "ends is right to its last byte; one that is cut off is not to be used. Where results "
            "lie in an object store a large one is a 307 to a link that holds for 600 s: follow it "
            "without the API key, and compare what comes with the digest."
        ),
    ),
    "get_receipt": (
        "Runs",
        (
            "Made from the two lines of the ledger that the run is about, which never change: "
            "asked again it is the same."
        ),
    ),
    "stream_events": (
        "Runs",
        (
            "Server-sent events `status`, `progress` and `charge`, the same ids from every node. "
            "The stream ends with the run; if it ends before, come back with `Last-Event-ID`. A "
            "comment every 15 s says that it lives."
        ),
    ),
    "cancel_run": (
        "Runs",
        (
            "202: it is asked to stop, look at the run for what came of it. 200: it has ended, "
            "maybe by this; it stays as it is. May be sent again. What it had charged is paid."
        ),
    ),
    "make_quote": (
        "Packs",
        (
            "Decided like a submission, but for what only the books know: budget, spend limits, "
            "queue. `max_cost_usd` may be left out: then the least that would be admitted."
        ),
    ),
    "list_packs": (
        "Packs",
        "With the JSON Schemas of inputs and result, the price and the limits.",
    ),
    "get_budget": ("Money", "deposited = available + held + spent, always."),
    "list_transfers": (
        "Money",
        (
            "Lines never change; deposits, reserves, settlements, voids, refunds and adjusts. "
            "With `Accept: text/csv` it is the whole ledger as a file, without parameters."
        ),
    ),
    "get_usage": (
        "Money",
        (
            "A run counts on the day on which it ended, at what it was settled at. Days without "
            "runs are there, as zeros."
        ),
    ),
    "list_keys": ("Keys", "Never the secrets: those are shown once."),
    "create_key": (
        "Keys",
        (
            "A maker with a spend limit shares it with what it makes. Not idempotent: an answer "
            "that was lost leaves a key that nobody holds; find it in the list, and revoke it."
        ),
    ),
    "rotate_key": (
        "Keys",
        (
            "The new key has the scopes, the end and the spend limit of the old one, which goes "
            "on for `overlap_s`, at most a week."
        ),
    ),
    "revoke_key": ("Keys", "Any of the tenant's keys, itself too. Asked again it is 204 again."),
    "create_webhook": (
        "Webhooks",
        (
            "Not idempotent: an answer that was lost leaves a webhook whose secret nobody has; "
            "find it in the list, and rotate or delete it."
        ),
    ),
    "list_webhooks": ("Webhooks", "Never the secrets."),
    "get_webhook": ("Webhooks", "Never its secret."),
    "change_webhook": ("Webhooks", "What is left out stays."),
    "delete_webhook": ("Webhooks", "Its log of deliveries goes with it."),
    "rotate_webhook": (
        "Webhooks",
        ("Each delivery is signed with both secrets for a day, so the receiver may change over."),
    ),
    "list_deliveries": ("Webhooks", "With how often each was tried and what was answered last."),
    "replay_delivery": ("Webhooks", "Same id, same bytes; its attempts are counted anew."),
    "get_root": ("Service", "Name and version."),
    "get_health": ("Service", "For a supervisor: whether to restart the process."),
    "get_readyz": (
        "Service",
        ("For a load balancer. `degraded` is 200: something is amiss that keeps no request away."),
    ),
    "get_openapi": ("Service", "Made from the types that validate; `/docs` shows it to people."),
}
# Query and path parameters, by name: what it is, and an example.
PARAMETERS: Final[Mapping[str, tuple[str, object]]] = {
    "run_id": ("The run, as its submission named it.", "0190163d-8694-739b-aea5-966c26f8ad91"),
    "key_id": ("The key, as its list names it.", "4nJb0Qz8VtXw"),
    "webhook_id": ("The webhook.", "01901640-1c2a-7d3e-9a4b-5c6d7e8f9a0b"),
    "delivery_id": ("The delivery.", "01901641-77f0-7a11-b0c2-d3e4f5061728"),
    "wait": ("Seconds to wait for the run's end.", 30),
    "limit": ("How many items a page has at most.", 20),
    "cursor": (
        "The next_cursor of the page before. Opaque, and of this list alone.",
        "MDE5MDE2M2QtODY5NC43ZDFhMGM0Mg",
    ),
    "status": ("Only runs in this status.", "COMPLETED"),
    "pack_type": ("Only runs of this pack.", "echo"),
    "created_after": ("Only runs created after this time.", "2026-06-14T00:00:00Z"),
    "created_before": ("Only runs created before this time.", "2026-06-15T00:00:00Z"),
    "idempotency_key": ("Only the run that this key names.", "order-4711"),
    "ended": ("`true`: those that have ended, too.", "true"),
    "from": ("The first UTC day.", "2026-06-01"),
    "to": ("The last UTC day; at most 366 days with the first.", "2026-06-14"),
}
# What an answer's status means, where its phrase does not say it.
STATUSES: Final[Mapping[tuple[str, int], str]] = {
    ("submit_run", 201): "The run that the key names.",
    ("submit_batch", 200): "An answer to each submission, in order.",
    ("get_run", 304): "It is still as your ETag says.",
    ("get_result", 200): "All of it.",
    ("get_result", 206): "A part of it: bytes, mostly no JSON by themselves.",
    ("get_result", 304): "You have it.",
    ("get_result", 307): "It lies there; the link holds for 600 s.",
    ("cancel_run", 202): "It is asked to stop.",
    ("cancel_run", 200): "It has ended.",
    ("get_readyz", 503): "Requests should not come here.",
}
# What may be asked with the values of an answer: operation, status → operation → parameter → where.
LINKS: Final[Mapping[tuple[str, int], Mapping[str, Mapping[str, str]]]] = {
    ("submit_run", 201): {
        operation: {"run_id": "$response.body#/run_id"}
        for operation in ("get_run", "cancel_run", "get_result", "stream_events", "get_receipt")
    },
    ("create_key", 201): {
        operation: {"key_id": "$response.body#/key_id"}
        for operation in ("rotate_key", "revoke_key")
    },
    ("rotate_key", 201): {"revoke_key": {"key_id": "$response.body#/replaces/key_id"}},
    ("create_webhook", 201): {
        operation: {"webhook_id": "$response.body#/webhook_id"}
        for operation in (
            "get_webhook",
            "change_webhook",
            "rotate_webhook",
            "list_deliveries",
            "delete_webhook",
        )
    },
}
