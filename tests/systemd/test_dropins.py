"""Each drop-in under a real systemd: without it the sandbox forbids what it is for."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.systemd.test_units import assert_works

if TYPE_CHECKING:
    from tests.systemd.machine import Machine

PYTHON = "/usr/bin/python3 -c"
PROBES = {
    "pack-jit": f"{PYTHON} 'import mmap; mmap.mmap(-1, 4096, prot=7)'",
    "pack-limits": f"{PYTHON} 'import os; os.sched_setaffinity(0, os.sched_getaffinity(0))'",
    "pack-proc": f"{PYTHON} 'open(\"/proc/meminfo\")'",
    "pack-sandbox": "/usr/bin/unshare --user --map-root-user --mount true",
}


@pytest.mark.parametrize("name", PROBES)
def test_it_allows_what_it_is_for_and_nothing_else_does(vm: Machine, name: str) -> None:
    vm.drop_in("Type=oneshot", "Restart=no", "ExecStart=", f"ExecStart={PROBES[name]}")
    assert vm.call("systemctl", "start", "dpp.service").returncode != 0

    vm.take_drop_in(name)

    vm.start("dpp.service")


def test_a_node_works_with_all_of_them_at_once(vm: Machine) -> None:
    for name in (*PROBES, "pack-gpu"):
        vm.take_drop_in(name)

    vm.start("dpp.service")

    assert_works(vm)
