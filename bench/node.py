"""A node of its own for a benchmark: a real process on a fresh data directory, with the defaults."""

import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from attrs import frozen

READY_S = 60.0


@frozen
class Served:
    """A running node: where it listens, what it holds, and how long it took to be ready."""

    data_dir: Path
    url: str
    management_url: str
    pid: int
    ready_s: float

    def admin(self, method: str, path: str, body: object) -> dict[str, object]:
        """Ask the admin API."""
        request = urllib.request.Request(  # noqa: S310  # our own node
            self.management_url + path,
            data=json.dumps(body).encode(),
            method=method,
            headers={
                "Authorization": "Bearer " + (self.data_dir / "admin.token").read_text().strip(),
                "Content-Type": "application/json",
            },
        )
        with urllib.request.urlopen(request, timeout=200) as answer:  # noqa: S310
            document: dict[str, object] = json.loads(answer.read())
            return document

    def tenant(self, name: str, deposit_usd: str) -> str:
        """Make a tenant on the `unlimited` plan; returns its API key."""
        body = {"tenant_id": name, "plan": "unlimited", "deposit_usd": deposit_usd}
        return str(self.admin("POST", "/admin/v1/tenants", body)["api_key"])


def ask_ready(url: str) -> bool:
    """Say whether the node at `url` is ready."""
    try:
        with urllib.request.urlopen(url + "/readyz", timeout=2) as answer:  # noqa: S310
            return answer.status == 200  # noqa: PLR2004
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return False


def wait_ready(process: subprocess.Popen[bytes], data_dir: Path) -> dict[str, str]:
    """Wait until node.json names a URL that is ready; returns node.json."""
    file = data_dir / "node.json"
    for _ in range(int(READY_S * 100)):
        if process.poll() is not None:
            message = f"the node ended with status {process.returncode}"
            raise RuntimeError(message)
        try:
            found: dict[str, str] = json.loads(file.read_text())
        except (FileNotFoundError, json.JSONDecodeError):
            found = {}
        if found.get("url") and ask_ready(found["url"]):
            return found
        time.sleep(0.01)
    message = f"not ready after {READY_S:g} s"
    raise RuntimeError(message)


@contextmanager
def serve(data_dir: Path | None = None, env: dict[str, str] | None = None) -> Iterator[Served]:
    """Run a node for the length of the block, on free ports; then SIGTERM, and wait for it."""
    with tempfile.TemporaryDirectory(prefix="dpp-bench-") as fresh:
        Path(fresh).chmod(0o755)  # noqa: S103  # PostgreSQL's user must be able to search it
        home = data_dir or Path(fresh) / "data"
        command = [sys.executable, "-m", "dpp", "serve", "--data-dir", str(home)]
        command += ["--listen", "127.0.0.1:0", "--management", "127.0.0.1:0"]
        began_at = time.perf_counter()
        process = subprocess.Popen(  # noqa: S603  # our own program
            command, env={**os.environ, "DPP_LOG__LEVEL": "WARNING", **(env or {})}
        )
        try:
            found = wait_ready(process, home)
            ready_s = time.perf_counter() - began_at
            yield Served(home, found["url"], found["management_url"], process.pid, ready_s)
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
