"""A machine for tests: Debian with a systemd of its own, in a container that shares our network.

Its tree is a copy, deleted afterwards. DPP is in it as an operator has it: a wheel in a virtual
environment in /opt/dpp, the units written by `dpp install-units`. What DPP needs beside itself is
this checkout's packages, mounted to be read. Commands run in its namespaces, as root.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import socket
import struct
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
from attrs import define, field

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = "/opt/packages"  # where the container sees those of .venv
URL = "http://127.0.0.1:8080"
REBOOT = 133  # how systemd-nspawn ends where the machine is to be started again
BOOTED_S = 60
COMMAND_S = 150  # a stop may take 90 s before systemd kills
STEP_S = 0.05  # between two looks
UNITS = ("dpp.service", "dpp.socket", "dpp-management.socket", "dpp@*.service", "dpp-wal.service")
SIOCSIFFLAGS, IFF_UP_RUNNING = 0x8914, 0x41


@define(eq=False)
class Machine:
    """The container, while it runs."""

    tree: Path
    _nspawn: subprocess.Popen[bytes] | None = None
    _console: Path = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._console = self.tree.parent / "console"

    # ── its power ────────────────────────────────────────────────────────────────────────────────

    def boot(self) -> None:
        """Start it, and wait until its systemd has started all that it should."""
        with self._console.open("ab") as console:
            self._nspawn = subprocess.Popen(
                self._container("--boot"),
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
            )
        self._wait_booted()

    def reboot(self) -> None:
        """Restart it, and wait until it is there again."""
        assert self._nspawn is not None
        self.run("systemctl", "reboot", check=False)
        assert self._nspawn.wait(COMMAND_S) == REBOOT
        self.boot()

    def off(self) -> None:
        """End it."""
        if self._nspawn is None or self._nspawn.poll() is not None:
            return
        try:
            self.run("systemctl", "poweroff", check=False)
            self._nspawn.wait(COMMAND_S)
        except subprocess.TimeoutExpired:
            self._nspawn.kill()
            self._nspawn.wait()

    def leader(self) -> int | None:
        """Return the process that is number 1 there; None while there is none."""
        assert self._nspawn is not None
        assert self._nspawn.poll() is None, self._console.read_text(errors="replace")[-4000:]
        pid = self._nspawn.pid
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        return int(children[0]) if children else None

    def _container(self, *options: str) -> list[str]:
        packages = sysconfig.get_path("purelib")
        return ["systemd-nspawn", "--quiet", "--register=no", "--keep-unit", "--console=pipe",
                "--link-journal=no", "--resolv-conf=off", "--timezone=off",
                f"--machine=dpp-test-{os.getpid()}", f"--directory={self.tree}",
                f"--bind-ro={packages}:{PACKAGES}", *options]  # fmt: skip

    def _wait_booted(self) -> None:
        def up() -> bool:
            said = self.run("systemctl", "is-system-running", check=False)
            return said.strip() in {"running", "degraded"}

        eventually(up, "booted", BOOTED_S)

    # ── commands in it ───────────────────────────────────────────────────────────────────────────

    def call(self, *command: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, and return how it ended."""
        leader = self.leader()
        if leader is None:
            return subprocess.CompletedProcess(command, 255, "", "it is down")
        enter = ["nsenter", f"--target={leader}", "--mount", "--uts", "--ipc", "--pid", "--cgroup",
                 "--root", "--wd=/", "env", "-i", "PATH=/usr/local/bin:/usr/bin:/usr/sbin:/bin",
                 "HOME=/root", *(f"{name}={value}" for name, value in env.items())]  # fmt: skip
        return subprocess.run(
            [*enter, *command],
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
        )

    def run(self, *command: str, check: bool = True, **env: str) -> str:
        """Run a command there; return what it printed, and fail where it did."""
        ended = self.call(*command, **env)
        assert not check or ended.returncode == 0, (command, ended.stdout, ended.stderr)
        return ended.stdout

    def dpp(self, *arguments: str, **env: str) -> Any:
        """Run a command of DPP with `--json`; return its document."""
        ended = self.call("dpp", *arguments, "--json", **env)
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        return json.loads(ended.stdout)

    def dpp_as(self, user: str, *arguments: str) -> Any:
        """Run a command of DPP as an ordinary user there; return its document."""
        ended = self.call("runuser", "-u", user, "--", "dpp", *arguments, "--json")
        assert ended.returncode == 0, (arguments, ended.stdout, ended.stderr)
        return json.loads(ended.stdout)

    def start(self, *units: str) -> None:
        """Start units; systemd waits until they are ready."""
        ended = self.call("systemctl", "start", *units)
        said = "".join(self.journal(unit)[-4000:] for unit in units)
        assert ended.returncode == 0, ended.stderr + said

    def show(self, key: str, unit: str = "dpp.service") -> str:
        """Return a property of a unit."""
        return self.run("systemctl", "show", "--value", f"--property={key}", unit).strip()

    def main_pid(self, unit: str = "dpp.service") -> int:
        """Return the number of the unit's main process, as the container counts; 0 = none runs."""
        return int(self.show("MainPID", unit))

    def kill(self, number: signal.Signals, pid: int) -> None:
        """Send a signal to a process of the container."""
        self.run("sh", "-c", f"kill -{number.value} {pid}")

    def until(self, true: Callable[[], bool], what: str) -> None:
        """Wait until something is so; show what the node said where it does not become so."""
        try:
            eventually(true, what, COMMAND_S)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.journal()[-8000:]}") from None

    def until_restarted(self, before: int) -> None:
        """Wait until another process than this one serves."""
        self.until(
            lambda: self.main_pid() not in {0, before} and self.show("ActiveState") == "active",
            "restarted",
        )

    def postmaster(self) -> int:
        """Return the number of its PostgreSQL, as the container counts."""
        file = self.tree / "var/lib/dpp/postgres/postmaster.pid"
        return int(file.read_text().splitlines()[0])

    def children(self, pid: int) -> list[int]:
        """Return the numbers of a process's children."""
        return [int(one) for one in self.run("cat", f"/proc/{pid}/task/{pid}/children").split()]

    def journal(self, unit: str = "dpp.service") -> str:
        """Return what was said by a unit, and of it by systemd, in this boot."""
        return self.run("journalctl", "--no-pager", "--boot", f"--unit={unit}", "--output=cat")

    # ── files in it ──────────────────────────────────────────────────────────────────────────────

    def pythons(self) -> list[Path]:
        """Return all that makes up the Python of the tree."""
        return sorted(self.tree.glob("usr/bin/python3*"))

    def write(self, path: str, text: str, mode: int = 0o644) -> None:
        """Write a file there, and the folders over it."""
        file = self.tree / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
        file.chmod(mode)

    def drop_in(self, *lines: str, unit: str = "dpp.service", name: str = "test") -> None:
        """Add lines to the [Service] section of a unit, or to another that they begin."""
        text = "\n".join(lines if lines[0].startswith("[") else ("[Service]", *lines))
        self.write(f"/etc/systemd/system/{unit}.d/{name}.conf", text + "\n")
        self.run("systemctl", "daemon-reload")

    def take_drop_in(self, name: str, unit: str = "dpp.service") -> None:
        """Put one of the drop-ins that DPP ships beside a unit, as an operator does."""
        shipped = f"/usr/local/share/dpp/dropins/{name}.conf"
        self.run("install", "-D", "-m644", "-t", f"/etc/systemd/system/{unit}.d", shipped)
        self.run("systemctl", "daemon-reload")

    def clear(self) -> None:
        """Stop all of DPP, and delete what a test added; data stays, as an upgrade leaves it."""
        self.run("systemctl", "stop", *UNITS, check=False)
        self.run("systemctl", "reset-failed")
        for added in (self.tree / "etc/systemd/system").glob("dpp*"):
            shutil.rmtree(added) if added.is_dir() else added.unlink()
        shutil.rmtree(self.tree / "etc/dpp", ignore_errors=True)
        self.run("systemd-tmpfiles", "--create", "dpp.conf")
        self.run("systemctl", "daemon-reload")

    # ── DPP in it ────────────────────────────────────────────────────────────────────────────────

    def _install(self) -> None:
        """Put DPP there: an environment, a wheel, the units."""
        dist = self.tree / "opt/dist"
        dist.mkdir()
        build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(dist)]
        subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
        wheel = next(dist.iterdir()).name
        self.write("/opt/install", INSTALL.format(packages=PACKAGES, wheel=wheel))
        (self.tree / "opt/packages").mkdir()
        command = [*self._container("--as-pid2"), "bash", "/opt/install"]
        made = subprocess.run(
            command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True
        )
        assert made.returncode == 0, made.stdout + made.stderr


INSTALL = """set -eu
umask 022
python3 -m venv --without-pip /opt/dpp
site=$(/opt/dpp/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
echo {packages} >"$site/packages.pth"
/opt/dpp/bin/python -m pip install --quiet --no-index --no-deps --ignore-installed \\
  --root-user-action ignore --disable-pip-version-check /opt/dist/{wheel}
ln -s /opt/dpp/bin/dpp /usr/local/bin/dpp
dpp install-units
systemd-sysusers
systemd-tmpfiles --create dpp.conf
"""


@contextmanager
def machine(tree: Path, *, bare: bool = False) -> Iterator[Machine]:
    """Boot a copy of this tree with DPP on it; it is gone after the block.

    `bare`: without DPP, and without the Python that the tree has for it.
    """
    _loopback_up()
    home = Path(tempfile.mkdtemp(prefix="dpp-machine-"))
    made = Machine(home / "tree")
    try:
        subprocess.run(["cp", "-a", "--reflink=auto", tree, made.tree], check=True)
        if bare:
            for python in made.pythons():
                python.unlink()
        else:
            made._install()
        made.boot()
        yield made
    finally:
        try:
            made.off()
        finally:
            shutil.rmtree(home)


def _loopback_up() -> None:
    """Let 127.0.0.1 be reached in this network, which is new."""
    with socket.socket() as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP_RUNNING))


def eventually(true: Callable[[], bool], what: str, limit_s: float) -> None:
    """Wait until something is so, and fail where it does not become so."""
    began_at, never = time.perf_counter(), threading.Event()
    while not true():
        assert time.perf_counter() < began_at + limit_s, f"not {what} within {limit_s} s"
        never.wait(STEP_S)


def get(path: str, **headers: str) -> httpx.Response:
    """Ask the API on a connection of its own."""
    return httpx.get(URL + path, headers=headers, timeout=60, trust_env=False)
