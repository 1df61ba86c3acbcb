"""The units under a real systemd, with DPP in its whole sandbox."""

from __future__ import annotations

import itertools
import signal
import sys
from typing import TYPE_CHECKING, Any

import httpx

from tests.systemd.hammer import hammering
from tests.systemd.machine import ROOT, get

if TYPE_CHECKING:
    from tests.systemd.machine import Machine

UNITS = "/usr/local/lib/systemd/system/"
SOON = "WatchdogSec=4"  # for what happens after it; the unit says 30 s
RESTARTS = 3
OUTAGE_S = 12  # three times as long
# It stands in for the command of AWS: a secret that is another one each time.
AWS = """#!/bin/sh
[ "$1 $2 $3" = "secretsmanager get-secret-value --secret-id" ] || exit 9
echo "$4:$(cat /proc/sys/kernel/random/uuid)"
"""
_names = itertools.count(1)


def bought(vm: Machine, *inputs: str, wait: bool = True) -> dict[str, Any]:
    """Buy a run for a new tenant, and return it."""
    name = f"acme-{next(_names)}"
    vm.dpp("tenant", "create", name, "--plan", "basic", "--deposit", "10.00")
    words = [word for one in inputs or ("message=hello",) for word in ("--input", one)]
    words += ["--wait"] if wait else []
    whose = ("--tenant", name)
    run = vm.dpp("run", "submit", *whose, "--pack", "echo", "--max-cost", "0.10", *words)
    return {**run, "whose": whose}


def now(vm: Machine, run: dict[str, Any]) -> dict[str, Any]:
    """Return a run as it is by now."""
    return vm.dpp("run", "show", *run["whose"], run["run_id"])


def assert_works(vm: Machine) -> None:
    """It sells a run, and the books hold."""
    assert bought(vm)["status"] == "COMPLETED"
    assert vm.dpp("audit")["ok"]


def processes(vm: Machine) -> list[str]:
    """Return the names of all processes of the user dpp."""
    found = vm.run("sh", "-c", 'grep -l "^Uid:.$(id -u dpp)" /proc/[0-9]*/status | xargs -r cat')
    return [line.split()[1] for line in found.splitlines() if line.startswith("Name:")]


def test_systemd_finds_nothing_wrong_with_the_units(vm: Machine) -> None:
    files = (
        *("dpp.service", "dpp@.service", "dpp.socket", "dpp-management.socket"),
        *("dpp-backup.service", "dpp-backup.timer", "dpp-wal.service"),
    )

    said = [vm.call("systemd-analyze", "verify", UNITS + file) for file in files]

    assert [(one.returncode, one.stdout + one.stderr) for one in said] == [(0, "")] * len(files)


def test_a_started_node_sells_a_run_on_its_own_postgresql(vm: Machine) -> None:
    vm.start("dpp.service")

    assert vm.show("StatusText") == "serving http://127.0.0.1:8080"
    assert vm.show("User") == "dpp"
    assert "postgres" in processes(vm)
    assert_works(vm)


def test_a_reload_takes_over_a_plan_and_goes_by_without_an_end(vm: Machine) -> None:
    vm.start("dpp.service")
    before = vm.main_pid()
    vm.write("/etc/dpp/dpp.toml", "[plans.gold]\nsubmits_per_minute = 7\n")

    vm.run("systemctl", "reload", "dpp.service")

    vm.until(lambda: "configuration reloaded" in vm.journal(), "reloaded")
    vm.until(lambda: vm.show("ActiveState") == "active", "active")
    assert vm.main_pid() == before
    vm.dpp("tenant", "create", f"acme-{next(_names)}", "--plan", "gold", "--deposit", "1.00")
    assert_works(vm)


def test_the_backup_of_a_day_is_taken_in_the_sandbox_and_restores(vm: Machine) -> None:
    vm.start("dpp.service")
    assert_works(vm)

    vm.run("systemctl", "start", "dpp-backup.service")

    [taken] = vm.run("ls", "/var/backups/dpp").split()
    restored = vm.dpp("restore", f"/var/backups/dpp/{taken}", "--data-dir", "/var/lib/again")
    assert restored["path"] == "/var/lib/again"
    assert_works(vm)


def test_wal_is_received_in_the_sandbox_and_a_moment_is_restored(vm: Machine) -> None:
    vm.start("dpp-wal.service", "dpp.service")
    vm.until(lambda: '"receiving wal"' in vm.journal("dpp-wal.service"), "received")
    vm.run("systemctl", "start", "dpp-backup.service")
    run = bought(vm)
    where = ("--data-dir", "/var/lib/dpp")
    far = vm.dpp_as("dpp", "receive-wal", "/var/backups/dpp", "--status", *where)

    vm.run("systemctl", "stop", "dpp.service", "dpp-wal.service")
    restored = vm.dpp("restore", "/var/backups/dpp", "--data-dir", "/var/lib/moment")

    assert (far["well"], far["slot"]) == (True, "reserved")
    assert (restored["timeline"], restored["missing"]) == (2, None)
    assert run["status"] == "COMPLETED"
    assert vm.show("Result", "dpp-wal.service") == "success"


def test_a_node_that_stands_still_is_killed_and_started_again(vm: Machine) -> None:
    vm.drop_in(SOON)
    vm.start("dpp.service")
    before = vm.main_pid()

    vm.kill(signal.SIGSTOP, before)

    vm.until_restarted(before)
    assert vm.show("NRestarts") == "1"
    assert "watchdog" in vm.journal().lower()
    assert_works(vm)


def test_a_database_that_is_away_restarts_no_node(vm: Machine) -> None:
    vm.drop_in(SOON)
    vm.start("dpp.service")
    node, postmaster = vm.main_pid(), vm.postmaster()
    server = [postmaster, *vm.children(postmaster)]

    for process in server:
        vm.kill(signal.SIGSTOP, process)
    vm.until(lambda: '"store unavailable"' in vm.journal(), "an outage")
    began_us = int(vm.show("WatchdogTimestampMonotonic"))
    vm.until(
        lambda: int(vm.show("WatchdogTimestampMonotonic")) > began_us + OUTAGE_S * 1_000_000,
        "fed all the time",
    )
    for process in server:
        vm.kill(signal.SIGCONT, process)

    assert (vm.main_pid(), vm.show("NRestarts")) == (node, "0")
    vm.until(lambda: get("/readyz").status_code == 200, "ready again")
    assert_works(vm)


def test_no_connection_is_refused_and_none_is_cut_across_restarts(vm: Machine) -> None:
    vm.start("dpp.socket", "dpp-management.socket", "dpp.service")
    before = vm.main_pid()

    with hammering() as hammer:
        for _ in range(RESTARTS):
            vm.run("systemctl", "restart", "dpp.service")
            hammer.go_on(20)

    sys.stdout.write(f"{hammer}\n")
    assert vm.main_pid() != before
    assert hammer.refused == []
    assert hammer.cut == []  # each request is the first on its connection
    assert hammer.answered > 40
    assert "listening on sockets from systemd" in vm.journal()
    assert_works(vm)


def test_a_connection_starts_the_node(vm: Machine) -> None:
    vm.start("dpp.socket")
    assert vm.main_pid() == 0

    answer = get("/health")

    assert answer.status_code == 200
    assert vm.show("ActiveState") in {"activating", "active"}


def test_a_killed_node_comes_back_with_its_runs(vm: Machine) -> None:
    vm.start("dpp.service")
    run = bought(vm, "sleep_s=2", "message=late", wait=False)
    before = vm.main_pid()

    vm.kill(signal.SIGKILL, before)

    vm.until_restarted(before)
    vm.until(lambda: now(vm, run)["status"] == "COMPLETED", "ended")
    assert vm.dpp("audit")["ok"]


def test_a_stop_drains_and_postgresql_ends_last(vm: Machine) -> None:
    # Longer than the watchdog and the limit of a stop: the node is fed and asks for more.
    vm.drop_in(SOON, "TimeoutStopSec=5", "Environment=DPP_NODE__DRAIN_S=60")
    vm.start("dpp.service")
    run = bought(vm, "sleep_s=9", "message=drained", wait=False)
    vm.until(lambda: now(vm, run)["status"] == "PROCESSING", "runs")

    vm.run("systemctl", "stop", "dpp.service")

    assert vm.show("Result") == "success"
    assert processes(vm) == []
    events = [line for line in vm.journal().splitlines() if '"event"' in line]
    assert '"stopped"' in events[-1]
    vm.start("dpp.service")
    assert now(vm, run)["attempt"] == 1
    assert now(vm, run)["status"] == "COMPLETED"
    assert vm.dpp("audit")["ok"]


def test_after_a_reboot_the_node_is_there_with_its_data(vm: Machine) -> None:
    vm.run("systemctl", "enable", "--quiet", "dpp.socket", "dpp.service")
    vm.start("dpp.socket", "dpp.service")
    run = bought(vm)

    vm.reboot()

    found = get("/readyz")
    assert found.status_code == 200
    assert now(vm, run)["status"] == "COMPLETED"
    vm.run("systemctl", "disable", "--quiet", "dpp.socket", "dpp.service")


def test_a_wrong_configuration_is_tried_once(vm: Machine) -> None:
    vm.write("/etc/dpp/dpp.toml", "[node]\ndrain_s = 'soon'\n")

    ended = vm.call("systemctl", "start", "dpp.service")

    assert ended.returncode != 0
    assert (vm.show("ExecMainStatus"), vm.show("ActiveState")) == ("78", "failed")
    assert "drain_s" in vm.journal()


def test_a_credential_is_a_secret_of_the_configuration(vm: Machine) -> None:
    vm.write("/etc/dpp/credentials/management.token", "a-token-from-a-credential\n", mode=0o600)
    vm.start("dpp.service")

    assert status_of("a-token-from-a-credential") == 200


def test_a_second_node_refuses_a_postgresql_of_its_own(vm: Machine) -> None:
    vm.write("/etc/dpp/blue.toml", second())

    ended = vm.call("systemctl", "start", "dpp@blue.service")

    assert ended.returncode != 0
    assert vm.show("ExecMainStatus", "dpp@blue.service") == "78"
    assert 'database.url is "embedded"' in vm.journal("dpp@blue.service")


def test_a_second_node_works_on_the_socket_of_the_first(vm: Machine) -> None:
    vm.write("/etc/dpp/dpp.toml", "[database]\nmax_overflow = 16\n")
    there = "@/dpp?host=/var/lib/dpp/postgres-run"
    vm.write(
        "/etc/dpp/blue.toml",
        second()
        + f'[database]\nurl = "postgresql://dpp_app{there}"\n'
        + f'migrations_url = "postgresql://dpp_owner{there}"\n',
    )

    vm.take_drop_in("neighbour", unit="dpp@.service")

    vm.start("dpp.service", "dpp@blue.service")

    nodes = vm.dpp("node", "list")
    assert [node["state"] for node in nodes["items"]].count("working") == 2, nodes
    assert get("/readyz").status_code == 200
    assert httpx.get("http://127.0.0.1:8081/readyz", trust_env=False).status_code == 200


def second() -> str:
    """Return the ports of a second node."""
    return '[http]\nlisten = "127.0.0.1:8081"\n[management]\nlisten = "127.0.0.1:9091"\n'


def test_a_secret_is_fetched_anew_before_each_start_and_never_stored(vm: Machine) -> None:
    page = (ROOT / "docs" / "systemd.md").read_text()
    vm.write("/usr/bin/aws", AWS, mode=0o755)
    for file in ("dpp-secrets.service", "dpp.service.d/secrets.conf"):
        path = f"/etc/systemd/system/{file}"
        text = page.partition(f"# {path}\n")[2].partition("```")[0]
        vm.write(path, text.replace("database.url", "management.token"))
    vm.run("systemctl", "daemon-reload")

    vm.start("dpp.service")
    first = vm.run("cat", "/run/dpp-secrets/management.token").strip()
    vm.run("systemctl", "restart", "dpp.service")
    second = vm.run("cat", "/run/dpp-secrets/management.token").strip()

    assert first != second
    assert second.startswith("dpp/management.token:")
    assert [status_of(token) for token in (first, second)] == [401, 200]


def status_of(token: str) -> int:
    """Return what the admin API answers to who has this token."""
    url = "http://127.0.0.1:9090/admin/v1/tenants"
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.get(url, headers=headers, timeout=60, trust_env=False).status_code
