"""A Prometheus of a test's own, on rules whose times are a thirtieth of what they are."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx
import trio
from attrs import define, field

from tests.monitoring.described import PROMETHEUS
from tests.node_process import NO_TLS
from tests.ports import free_port

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

SHORTER = 30
READY_S = 30.0
LOOK_S = 0.25
UNIT_MS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
CONFIG = """
global: {{scrape_interval: {every_s}s, scrape_timeout: {every_s}s, evaluation_interval: 1s}}
rule_files: [records.yml, alerts.yml]
scrape_configs:
  - job_name: dpp-api
    file_sd_configs: [{{files: [targets.json], refresh_interval: 1s}}]
"""


def shorter(rules: str, by: int = SHORTER) -> str:
    """Return rules with every window, `for`, interval and limit that is a time divided."""

    def divided(found: re.Match[str]) -> str:
        before, number, unit, after = found.groups()
        return f"{before}{int(number) * UNIT_MS[unit] // by}ms{after}"

    windows = re.sub(r"(\[)(\d+)(ms|s|m|h|d)(\])", divided, rules)
    times = re.sub(r"((?:for|interval): )(\d+)(s|m|h|d)(\n)", divided, windows)
    return re.sub(r"(\d+) # s\n", lambda found: f"{int(found[1]) / by} # s\n", times)


@define(eq=False)
class Prometheus:
    """It runs in a directory of its own; `watch` says what it scrapes from now on."""

    home: Path
    url: str
    seen: dict[str, float] = field(factory=dict)  # when each alert first fired

    def watch(self, urls: Sequence[str]) -> None:
        """Scrape these and no others."""
        targets = [url.removeprefix("http://") for url in urls]
        fresh = self.home / "targets.new"
        fresh.write_text(json.dumps([{"targets": targets}]))
        fresh.replace(self.home / "targets.json")

    def ask(self, path: str, **parameters: str) -> Any:
        """Ask its API; returns the data."""
        answer = httpx.get(
            f"{self.url}/api/v1/{path}",
            params=parameters,
            timeout=10,
            trust_env=False,
            verify=NO_TLS,
        )
        assert answer.is_success, answer.text
        return answer.json()["data"]

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return what an expression finds now."""
        result: list[dict[str, Any]] = self.ask("query", query=expression)["result"]
        return result

    def firing(self) -> set[str]:
        """Return the alerts that fire now."""
        found = self.ask("alerts")["alerts"]
        now = {one["labels"]["alertname"] for one in found if one["state"] == "firing"}
        for name in now:
            self.seen.setdefault(name, trio.current_time())
        return now

    async def until_firing(self, *names: str, within_s: float) -> None:
        """Wait until each of these has fired."""
        await trio.lowlevel.checkpoint()
        late_at = trio.current_time() + within_s
        while missing := set(names) - self.firing() - self.seen.keys():  # noqa: ASYNC110
            assert trio.current_time() < late_at, (missing, self.ask("alerts")["alerts"])
            await trio.sleep(LOOK_S)


@contextmanager
def prometheus(every_s: int = 1) -> Iterator[Prometheus]:
    """Run one for the length of the block; it scrapes so often, and waits as long for an answer."""
    home = Path(tempfile.mkdtemp(prefix="dpp-prometheus-"))
    port = free_port()
    one = Prometheus(home, f"http://127.0.0.1:{port}")
    (home / "prometheus.yml").write_text(CONFIG.format(every_s=every_s))
    for rules in ("records.yml", "alerts.yml"):
        (home / rules).write_text(shorter((PROMETHEUS / rules).read_text()))
    one.watch([])
    command = ["prometheus", f"--config.file={home}/prometheus.yml"]
    command += [f"--storage.tsdb.path={home}/data", f"--web.listen-address=127.0.0.1:{port}"]
    with (home / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=log, cwd=home)
    try:
        _wait_ready(one, process)
        yield one
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(home)


def _wait_ready(one: Prometheus, process: subprocess.Popen[bytes]) -> None:
    for _ in range(int(READY_S / LOOK_S)):
        with suppress(httpx.TransportError):
            if httpx.get(f"{one.url}/-/ready", trust_env=False, verify=NO_TLS).is_success:
                return
        with suppress(subprocess.TimeoutExpired):
            raise AssertionError((one.home / "log").read_text(), process.wait(LOOK_S))
    raise AssertionError((one.home / "log").read_text())
