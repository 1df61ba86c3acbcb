"""A node that speaks TLS by itself: HTTP/1.1 and HTTP/2, and what it says of its address."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import httpx
import trio

from tests.http.certificates import make_certificate
from tests.node_client import submission, until

if TYPE_CHECKING:
    from pathlib import Path

    from tests.conftest import StartNode


async def test_node_with_a_certificate_serves_the_api_over_tls(
    fresh_node: StartNode, tmp_path: Path
) -> None:
    made = make_certificate(tmp_path)
    node = fresh_node(
        f'[http]\nserver = "hypercorn"\n'
        f'tls_certificate = "{made.chain}"\ntls_key_file = "{made.key}"\n',
        start=False,
    )
    node.launch()

    async def published() -> dict[str, str]:
        await trio.lowlevel.checkpoint()
        try:
            told: dict[str, str] = json.loads((node.data_dir / "node.json").read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            return {}
        return told if told["url"] else {}

    told = await until(published)
    node.management_url = told["management_url"]
    bearer = {"Authorization": f"Bearer {node.tenant('acme')}", "Prefer": "wait=30"}
    answers = []
    for http2 in (False, True):
        async with httpx.AsyncClient(
            base_url=told["url"], verify=made.trusting(), http2=http2, trust_env=False, timeout=60
        ) as http:
            answers += [
                await http.post(
                    "/v1/runs",
                    headers={**bearer, "Idempotency-Key": f"k-{http2}"},
                    json=submission(),
                ),
                await http.get("/v1/budget", headers=bearer),
                await http.get("/v1/none", headers=bearer),
            ]
    status = await trio.to_thread.run_sync(node.terminate)

    assert told["url"].startswith("https://")
    assert [(one.http_version, one.status_code) for one in answers] == [
        *(("HTTP/1.1", 201), ("HTTP/1.1", 200), ("HTTP/1.1", 404)),
        *(("HTTP/2", 201), ("HTTP/2", 200), ("HTTP/2", 404)),
    ]
    assert {one.json()["status"] for one in (answers[0], answers[3])} == {"COMPLETED"}
    assert status == 0
