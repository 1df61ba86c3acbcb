"""docs/client.md: each block is run on a node, in order, and prints what stands below it."""

from __future__ import annotations

import io
import re
import time
import uuid
from contextlib import redirect_stdout
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

import dpp.client
from dpp.client import Client
from tests.node_process import NodeProcess

GUIDE = (Path(__file__).parents[2] / "docs" / "client.md").read_text(encoding="utf-8")
BLOCK = re.compile(r"^```python\n(.*?)^```$(?:\n```text\n(.*?)^```$)?", re.DOTALL | re.MULTILINE)


def examples() -> list[tuple[str, str]]:
    """Return each block and what it prints."""
    return [(code, printed or "") for code, printed in BLOCK.findall(GUIDE)]


def test_each_block_does_what_stands_below_it(
    served_node: NodeProcess, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DPP_URL", served_node.url)
    monkeypatch.setenv(
        "DPP_API_KEY", served_node.tenant(f"guide-{uuid.uuid4().hex[:12]}", "100.00")
    )
    (first, _), *rest = examples()
    names: dict[str, Any] = {}
    exec(first, names)  # noqa: S102 - the guide's own

    with names["client"]:  # also where a block fails; the last one closes it
        for code, expected in rest:
            printed = io.StringIO()
            with redirect_stdout(printed):
                exec(compile(code, "docs/client.md", "exec"), names)  # noqa: S102 - the guide's own
            assert printed.getvalue() == expected, code

    believes(names)


def believes(names: dict[str, Any]) -> None:
    """Send the guide's receiver a webhook that is signed, and one that is not."""
    body = '{"type": "run.completed", "timestamp": "2026-01-01T00:00:00Z", "data": {}}'
    now = datetime.fromtimestamp(time.time(), UTC)  # noqa: TID251 - the library looks at the same
    headers = {
        "webhook-id": "msg",
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(names["secret"]).sign("msg", now, body),
    }

    status, event = names["receive"](headers, body.encode())

    assert (status, event.type) == (200, "run.completed")
    assert names["receive"](headers, b"{}") == (400, None)


def test_each_error_that_can_be_caught_stands_in_the_table() -> None:
    rows = [line for line in GUIDE.splitlines() if line.startswith("| `")]
    errors = {
        name
        for name in dpp.client.__all__
        if isinstance(kind := getattr(dpp.client, name), type) and issubclass(kind, Exception)
    }

    named = set(re.findall(r"`([A-Z]\w+)`", "".join(rows)))
    assert errors - named == {"ClientError", "NotAUrl"}
    assert named <= errors


def test_each_method_that_is_named_is_there() -> None:
    named = set(re.findall(r"client\.(\w+)\(", GUIDE))

    assert [name for name in named if not hasattr(Client, name)] == []
