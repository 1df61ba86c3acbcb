"""Commands and a node that speaks TLS with a certificate which signed itself."""

from __future__ import annotations

import json
import subprocess
from contextlib import suppress
from typing import TYPE_CHECKING

from dpp.cli.exits import Exit
from tests.http.certificates import make_certificate

if TYPE_CHECKING:
    from pathlib import Path

    import pytest

    from tests.cli.conftest import Dpp
    from tests.conftest import StartNode
    from tests.node_process import NodeProcess

SUBMIT = ("run", "submit", "--pack", "echo", "--max-cost", "0.10", "--wait", "--json")
STEPS, STEP_S = 600, 0.1


def listening(node: NodeProcess) -> NodeProcess:
    """Wait until the node says where it listens: who does not trust it cannot ask for more."""
    for _ in range(STEPS):
        with suppress(FileNotFoundError, json.JSONDecodeError):
            found = json.loads((node.data_dir / "node.json").read_text())
            if found["url"]:
                node.url, node.management_url = found["url"], found["management_url"]
                return node
        with suppress(subprocess.TimeoutExpired):
            node.process.wait(STEP_S)
    raise AssertionError(node.tail())


def test_a_certificate_that_is_not_trusted_is_told_with_what_to_do_and_that_helps(
    dpp: Dpp, fresh_node: StartNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = make_certificate(tmp_path)
    config = (
        f'[http]\nserver = "hypercorn"\n'
        f'tls_certificate = "{made.chain}"\ntls_key_file = "{made.key}"\n'
    )
    node = fresh_node(config, start=False)
    node.launch()
    listening(node)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv("DPP_DATA_DIR", str(node.data_dir))
    monkeypatch.setenv("DPP_API_KEY", node.tenant("acme"))

    refused = dpp(*SUBMIT)
    monkeypatch.setenv("SSL_CERT_FILE", str(made.chain))
    ran = dpp(*SUBMIT)
    monkeypatch.setenv("DPP_URL", node.url.replace("127.0.0.1", "localhost"))
    misnamed = dpp(*SUBMIT)

    error = refused.document["error"]
    assert (refused.status, error["code"]) == (Exit.UNREACHABLE, "certificate-not-trusted")
    assert (
        error["what"] == f"The certificate of {node.url} is not trusted: self-signed certificate."
    )
    assert "SSL_CERT_FILE" in refused.err
    assert "dpp serve" not in refused.err
    assert (ran.status, ran.document["status"]) == (Exit.GOOD, "COMPLETED")
    assert misnamed.status == Exit.UNREACHABLE
    assert "Hostname mismatch" in misnamed.err
    assert "DPP_URL=https://NAME:PORT" in misnamed.err


def test_the_address_of_the_configuration_is_asked_by_tls_where_the_node_speaks_it(
    dpp: Dpp, closed_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    made = make_certificate(tmp_path)
    monkeypatch.setenv("DPP_HTTP__SERVER", "hypercorn")
    monkeypatch.setenv("DPP_HTTP__TLS_CERTIFICATE", str(made.chain))
    monkeypatch.setenv("DPP_HTTP__TLS_KEY_FILE", str(made.key))
    monkeypatch.setenv("DPP_HTTP__LISTEN", closed_url.removeprefix("http://"))
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    monkeypatch.delenv("DPP_DATA_DIR")

    ended = dpp("run", "list", "--api-key", "k", "--json")

    assert ended.status == Exit.UNREACHABLE
    assert ended.document["error"]["url"] == closed_url.replace("http:", "https:")
