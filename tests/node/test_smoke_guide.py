"""The deployment guide's smoke test (3.1 and 3.2): its commands, against a node.

Only the host is another one. Where there is no curl, httpx sends the same requests.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Protocol

import httpx
import pytest

from dpp.version import VERSION

HOST = "https://api.example.com"
BODY = """{
    "pack_type": "decision",
    "inputs": {"question": "Production smoke test"},
    "max_cost_usd": "1.00"
  }"""
SUBMIT = f"""curl -X POST {HOST}/v1/runs \\
  -H "Authorization: Bearer ${{TEST_API_KEY}}" \\
  -H "Content-Type: application/json" \\
  -H "Idempotency-Key: smoke-test-$(date +%s)" \\
  -d '{BODY}'"""
POLL = f"""curl {HOST}/v1/runs/${{RUN_ID}} \\
  -H "Authorization: Bearer ${{TEST_API_KEY}}\""""


class Served(Protocol):
    @property
    def data_dir(self) -> Path: ...
    @property
    def url(self) -> str: ...


def shell(served: Served, command: str, **variables: str) -> tuple[int, Any]:
    """Run a line of the guide; return status and document."""
    script = command.replace(HOST, served.url).replace("curl ", r"curl -sS -w '\n%{http_code}' ", 1)
    ended = subprocess.run(
        ["bash", "-c", script],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, **variables, "no_proxy": "127.0.0.1"},
    )
    body, _, status = ended.stdout.rpartition("\n")
    return int(status), json.loads(body)


def ask(served: Served, command: str, **variables: str) -> tuple[int, Any]:
    """Do what a line of the guide does, with curl if there is one."""
    if shutil.which("curl"):
        return shell(served, command, **variables)
    headers = {"Authorization": f"Bearer {variables.get('TEST_API_KEY', '')}"}
    with httpx.Client(base_url=served.url, trust_env=False, timeout=60) as client:
        if command == SUBMIT:
            more = {"Content-Type": "application/json", "Idempotency-Key": "smoke-test-1700000000"}
            answer = client.post("/v1/runs", content=BODY, headers={**headers, **more})
        elif command == POLL:
            answer = client.get(f"/v1/runs/{variables['RUN_ID']}", headers=headers)
        else:
            answer = client.get(command.removeprefix(f"curl {HOST}"))
    return answer.status_code, answer.json()


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/", {"service": "DPP API", "version": VERSION, "status": "running"}),
        ("/health", {"status": "healthy", "version": VERSION}),
        ("/readyz", {"status": "ready", "services": {"api": "up", "database": "up"}}),
    ],
)
def test_3_1_api_smoke_test(served_node: Served, path: str, expected: dict[str, Any]) -> None:
    assert ask(served_node, f"curl {HOST}{path}") == (200, expected)


def test_3_2_a_run_from_end_to_end_with_a_real_key(served_node: Served) -> None:
    create = ["tenant", "create", "smoke_test", "--plan", "basic", "--deposit", "10.00", "--json"]
    made = subprocess.run(
        [sys.executable, "-m", "dpp", *create, "--data-dir", str(served_node.data_dir)],
        check=True,
        capture_output=True,
        text=True,
        timeout=60,
    )
    key = json.loads(made.stdout)["api_key"]

    status, submitted = ask(served_node, SUBMIT, TEST_API_KEY=key)
    run_id = submitted["run_id"]
    url = f"{served_node.url}/v1/runs/{run_id}?wait=60"
    httpx.get(url, headers={"Authorization": f"Bearer {key}"}, timeout=90, trust_env=False)
    polled_status, polled = ask(served_node, POLL, TEST_API_KEY=key, RUN_ID=run_id)

    assert status == 201
    assert (polled_status, polled["status"]) == (200, "COMPLETED")
    assert polled["result"]["verdict"] == "undetermined"
    assert polled["cost"]["actual_usd"] == "0.01"
