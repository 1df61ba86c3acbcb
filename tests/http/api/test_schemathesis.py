"""Schemathesis on a real node: what the document allows is taken, what it does not is refused.

Every check that it has, over examples, edges, dice and links from answer to request; then both
judges look at the books. The document is the node's own, narrowed only where it cannot say what a
value must be (`narrowed`).
"""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.node_books import Books
from tests.node_client import until
from tests.node_process import NodeProcess

SEED = 4711
EXAMPLES = 8  # of an operation in each phase
MAX_S = 30  # of the whole run, which goes on dicing until then
BOUGHT_MIN = 3  # else all that it sends is refused for something; 7 came in MAX_S on a slow machine
TENANT = "schemathesis"
PLACE = Path(__file__).parent
CONFIG = """
hooks = "tests.http.api.schemathesis_hooks"
request-timeout = 20.0
continue-on-failure = true
warnings = false

[generation]
allow-x00 = false  # a NUL in a string is no JSON here (400); JSON Schema has no word for it
database = "none"

[phases.stateful]
max-steps = 5
"""
# `valid_data_is_taken` does what the first does by the type of the problem; the other needs the key
# of a second tenant, and tests/http/api/test_isolation.py asks more.
EXCLUDED = "positive_data_acceptance,object_level_authorization"

BOUGHT = "select count(*) from dpp.endings where tenant_id = $1"
EVENT = {
    "type": "object",
    "properties": {
        "event": {"enum": ["status", "progress", "charge"]},
        "id": {"type": "string", "pattern": r"^[0-9]+\.([0-9]+|queued|end)$"},
        "data": {"type": "string", "minLength": 2},
    },
    "required": ["event", "id", "data"],
}


def narrowed(document: Any) -> Any:
    """Return the document with what only the answer to another request, or the clock, could tell.

    `cursor` comes out of a page; a span of days, `run_at`, `start_before` and `expires_at` must fit
    to each other and to now; a run's `webhook_url` must be of a registered webhook, and where hooks
    may go is more than a pattern can say; `Last-Event-ID` is one that this run has had. What packs
    there are and what they take is said by GET /v1/packs. A batch as lines is text to a schema.
    """
    told = copy.deepcopy(document)
    for methods in told["paths"].values():
        for operation in methods.values():
            operation["parameters"] = [
                one
                for one in operation["parameters"]
                if one.get("name") not in {"cursor", "from", "to", "Last-Event-ID"}
            ]
            operation.get("requestBody", {}).get("content", {}).pop("application/x-ndjson", None)
    schemas = told["components"]["schemas"]
    for name in ("SubmitRequest", "QuoteRequest", "BatchSubmission"):
        members = schemas[name]["properties"]
        for unfit in ("run_at", "start_before", "webhook_url"):
            del members[unfit]
        members["pack_type"] = {"const": "echo"}
        members["inputs"] = {
            "type": "object",
            "properties": {"message": {}, "fail": {"type": "boolean"}},
            "additionalProperties": False,
        }
    schemas["BatchRequest"]["properties"]["runs"]["maxItems"] = 5
    del schemas["NewKeyRequest"]["properties"]["expires_at"]
    urls = ["https://hooks.example.com/dpp", "https://hooks.example.com/other"]
    schemas["NewWebhookRequest"]["properties"]["url"] = {"enum": urls}
    schemas["WebhookChangeRequest"]["properties"]["url"] = {"enum": [*urls, None]}
    # Of a stream it holds each event against the schema, not the text.
    stream = told["paths"]["/v1/runs/{run_id}/events"]["get"]["responses"]["200"]
    stream["content"]["text/event-stream"]["schema"] = EVENT
    drop_examples(told)
    return told


def drop_examples(told: Any) -> None:
    """Take out the examples of requests, which speak of things that this node does not have."""
    for methods in told["paths"].values():
        for operation in methods.values():
            for content in operation.get("requestBody", {}).get("content", {}).values():
                content.pop("examples", None)


@pytest.fixture
def tried(served_node: NodeProcess, tmp_path: Path) -> subprocess.CompletedProcess[str]:
    """Let schemathesis loose on a tenant with money."""
    document = httpx.get(f"{served_node.url}/openapi.json", trust_env=False).json()
    (tmp_path / "openapi.json").write_text(json.dumps(narrowed(document)))
    (tmp_path / "schemathesis.toml").write_text(CONFIG)
    key = served_node.tenant(TENANT, deposit_usd="1000000.00")
    command = [
        *(sys.executable, "-m", "schemathesis.cli", "--config-file", "schemathesis.toml"),
        *("run", "openapi.json", "--url", served_node.url, "--seed", str(SEED)),
        *("--header", f"Authorization: Bearer {key}", "--no-color"),
        *("--checks", "all", "--exclude-checks", EXCLUDED),
        *("--max-examples", str(EXAMPLES), "--max-time", str(MAX_S)),
    ]
    return subprocess.run(
        command,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={
            **os.environ,
            "PYTHONPATH": str(PLACE.parents[2]),
            "NO_PROXY": "127.0.0.1",
            "DPP_OWN_KEY_ID": key.split("_")[2],
            "PYTHONWARNINGS": "ignore",  # its own, of its libraries
        },
    )


@pytest.mark.timeout(300)
@pytest.mark.parametrize("served_node", ["actor"], indirect=True)  # the app is the same on both
async def test_a_node_is_as_its_document_says(
    tried: subprocess.CompletedProcess[str], served_node: NodeProcess, books: Books
) -> None:
    print(f"seed {SEED}")  # noqa: T201 - pytest shows it where this fails
    ended = "select count(*) = 0 from dpp.live_runs where tenant_id = $1"

    assert tried.returncode == 0, f"{tried.stdout[-20_000:]}\n{tried.stderr[-2_000:]}"
    await until(lambda: books.value(ended, TENANT))
    assert await books.value(BOUGHT, TENANT) >= BOUGHT_MIN
    await books.judge()
    assert served_node.running
