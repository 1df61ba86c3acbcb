"""The binary under a real systemd, in the sandbox of the units: installed, upgraded, stopped."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest

from tests.systemd.machine import ROOT, Machine, get

FOLDER = ROOT / "dist/dpp"
RELEASES = ("/opt/dpp-old", "/opt/dpp-new")
LINK = "/usr/local/bin/dpp"

pytestmark = [
    pytest.mark.skipif(not FOLDER.is_dir(), reason="needs the binary: make binary"),
    pytest.mark.timeout(300),  # it may be the first, for which the machine is made and booted
]


@pytest.fixture
def installed(vm: Machine) -> Iterator[Machine]:
    """Put two releases of it there, with /opt/dpp-link to the first, in place of the wheel."""
    before = vm.run("readlink", LINK).strip()
    for release in RELEASES:
        subprocess.run(["cp", "-a", FOLDER, vm.tree / release.lstrip("/")], check=True)
    vm.run("ln", "-sfn", RELEASES[0], "/opt/dpp-link")
    vm.run("ln", "-sf", "/opt/dpp-link/dpp", LINK)
    yield vm
    vm.clear()
    vm.run("ln", "-sf", before, LINK)
    vm.run("dpp", "install-units")
    vm.run("rm", "-r", "/opt/dpp-link", *RELEASES)


def program(vm: Machine) -> str:
    return vm.run("readlink", f"/proc/{vm.main_pid()}/exe").strip()


def test_it_serves_reloads_and_is_upgraded_by_its_link(installed: Machine) -> None:
    vm = installed
    said = vm.dpp("install-units")
    vm.run("systemctl", "daemon-reload")
    vm.start("dpp.socket", "dpp.service")
    old, node = program(vm), vm.main_pid()
    vm.dpp("tenant", "create", "binary", "--plan", "basic", "--deposit", "10.00")

    vm.run("systemctl", "reload", "dpp")
    reloaded = vm.main_pid()
    vm.run("ln", "-sfn", RELEASES[1], "/opt/dpp-link")
    vm.run("systemctl", "restart", "dpp")
    words = ("--tenant", "binary", "--pack", "echo", "--input", "message=hi", "--max-cost", "0.10")
    run = vm.dpp("run", "submit", *words, "--wait")

    assert said["program"] == LINK
    assert (old, program(vm)) == tuple(f"{release}/dpp" for release in RELEASES)
    assert reloaded == node
    assert (run["status"], vm.dpp("audit")["ok"]) == ("COMPLETED", True)
    assert get("/readyz").is_success
    vm.run("systemctl", "stop", "dpp.socket", "dpp.service")
    assert vm.show("Result") == "success"
