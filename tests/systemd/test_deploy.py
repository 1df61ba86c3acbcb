"""docs/deploy.md on a bare machine, as it stands: install, kill, reboot, upgrade, and back."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.docs import blocks
from tests.later import POST, add_migrations
from tests.systemd.conftest import TREE
from tests.systemd.hammer import hammering
from tests.systemd.machine import ROOT, URL, Machine, get, machine

PAGE = ROOT / "docs" / "deploy.md"
DIST = ROOT / "dist"
FOLDER, LATER = "dpp-0.5.0-linux-x86_64", "dpp-0.6.0-linux-x86_64"
MIGRATIONS = "_internal/dpp/share/sql/migrations"
BACK_S = 300  # promised for a roll back
_numbers = itertools.count()

pytestmark = [
    pytest.mark.timeout(600),  # two minutes; a machine that is busy takes longer
    pytest.mark.skipif(
        not (DIST / f"{FOLDER}.tar.gz").is_file(), reason="needs the binary: make binary"
    ),
]


@pytest.fixture(scope="module")
def bare() -> Iterator[Machine]:
    """Give a machine with nothing of DPP but the archives of two releases, in /root."""
    with machine(Path(TREE), bare=True) as made:
        home = made.tree / "root"
        for name in (f"{FOLDER}.tar.gz", "SHA256SUMS"):
            shutil.copy(DIST / name, home)
        pack_later(home)
        yield made


def pack_later(home: Path) -> None:
    """Make the archive of a later release: the same program with two migrations more."""
    work = home / "later"
    work.mkdir()
    subprocess.run(["cp", "-a", DIST / "dpp", work / LATER], check=True)
    add_migrations(work / LATER / MIGRATIONS)
    tar = ["tar", "-C", work, "-I", "gzip -1", "-cf", home / f"{LATER}.tar.gz", LATER]
    subprocess.run(tar, check=True)
    shutil.rmtree(work)


def follow(vm: Machine, heading: str) -> str:
    """Run what the page prints below a heading, as root, and return what that printed."""
    return "".join(
        vm.run("bash", "-euc", f"cd /root\n{script}") for script in blocks(PAGE, heading)
    )


def as_node(vm: Machine, *words: str) -> str:
    """Run a command as the node's user, and return what it printed."""
    return vm.run("runuser", "-u", "dpp", "--", *words, DPP_DATA_DIR="/var/lib/dpp")


def buyer(vm: Machine, run_ids: list[str]) -> Any:
    """Return a client that buys a run at each call; a lost answer or a 503 is tried again, once."""
    key = vm.dpp("key", "create", "acme")["api_key"]

    def buy() -> httpx.Response:
        headers = {"Authorization": f"Bearer {key}", "Idempotency-Key": f"b-{next(_numbers)}"}
        body = {"pack_type": "echo", "inputs": {"sleep_s": 1}, "max_cost_usd": "0.05"}
        with httpx.Client(trust_env=False, timeout=120) as client:
            for last in (False, True):
                try:
                    answer = client.post(f"{URL}/v1/runs", json=body, headers=headers)
                except httpx.TransportError:
                    if last:
                        raise
                else:
                    if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or last:
                        assert answer.is_success, answer.text
                        run_ids.append(answer.json()["run_id"])
                        return answer
        raise AssertionError

    return buy


def test_a_newcomer_gets_a_node_that_survives_a_kill_and_a_reboot(bare: Machine) -> None:
    vm = bare
    assert vm.call("python3", "--version").returncode != 0
    said = follow(vm, "Install")
    follow(vm, "Start")
    sold = vm.dpp("run", "list", "--tenant", "acme")["items"]

    assert f"{FOLDER}.tar.gz: OK" in said
    assert [run["status"] for run in sold] == ["COMPLETED"] * 2
    assert vm.run("systemctl", "is-enabled", "dpp.socket", "dpp.service").split() == ["enabled"] * 2
    vm.reboot()
    assert get("/readyz").is_success
    assert vm.dpp("audit")["ok"]
    assert [one["tenant_id"] for one in vm.dpp("tenant", "list")["items"]] == ["acme"]


def test_under_load_an_upgrade_and_the_way_back_refuse_nobody_and_charge_nothing(
    bare: Machine,
) -> None:
    vm = bare
    run_ids: list[str] = []
    vm.write("/etc/dpp/dpp.toml", '[node]\nprofile = "production"\ndrain_s = 2\n')
    vm.run("systemctl", "restart", "dpp.service")
    vm.dpp("tenant", "plan", "acme", "unlimited")
    vm.dpp("deposit", "acme", "1000.00", "--reference", "for-the-load")
    with hammering(buyer(vm, run_ids)) as hammer:
        follow(vm, "Upgrade")
        upgraded = as_node(vm, "dpp", "migrate", "status")
        hammer.go_on(20)
        began_at = time.perf_counter()
        follow(vm, "Roll back")
        took_s = time.perf_counter() - began_at
        hammer.go_on(20)
    runs = [vm.dpp("run", "show", "--tenant", "acme", one) for one in run_ids[:3] + run_ids[-3:]]
    asked = "select count(*) from endings where attempts_spent > 0"
    spent = as_node(vm, "dpp", "database", "run", "--", "psql", "-Atc", asked)
    sys.stdout.write(f"roll back under load: {took_s:.1f} s, {len(run_ids)} runs bought\n")

    assert (hammer.refused, hammer.cut) == ([], [])
    assert f"{POST}  yes" in upgraded
    assert vm.run("readlink", "/opt/dpp").strip() == FOLDER
    assert took_s < BACK_S
    assert {run["status"] for run in runs} <= {"COMPLETED", "QUEUED", "PROCESSING"}
    assert int(spent) == 0
    assert vm.dpp("audit")["ok"]
