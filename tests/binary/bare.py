"""A place with nothing but glibc, zlib and a shell, where the binary has to bring all else itself.

For root it is a root directory of its own: no Python, no program but /bin/sh, which PostgreSQL's
initdb starts programs by. For others the machine's directories stay, and PATH leads nowhere.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
from contextlib import suppress
from pathlib import Path
from typing import Any

import httpx
from attrs import define

FOLDER = Path(os.environ.get("TEST_BINARY", "/nowhere"))  # dist/dpp
GLIBC = ("libc", "libm", "libdl", "libpthread", "librt", "libutil", "libresolv")
ZLIB = "libz"  # what the program links to that starts Python
ACCOUNTS = "root:x:0:0::/:/bin/sh\nnobody:x:65534:65534::/:/bin/false\n"
GROUP = "root:x:0:\nnogroup:x:65534:\n"
# Mounts are of this process and of what it starts, and end with them.
ENTER = """mount --rbind /proc "$0/proc" && mount --rbind /dev "$0/dev" &&
mount --bind "$1" "$0/opt/dpp" && mount -o remount,bind,ro "$0/opt/dpp" &&
root=$0 && shift && exec chroot "$root" "$@"
"""
COMMAND_S = 60
READY_S = 60
STEP_S = 0.02  # between two looks


@define(eq=False)
class Bare:
    """The place. `root` is its directory as we see it; `rooted` says that it sees nothing else."""

    root: Path
    rooted: bool

    @classmethod
    def make(cls, root: Path) -> Bare:
        """Lay it out; where mounts are refused, it is a directory like any other."""
        for name in ("proc", "dev", "opt/dpp", "tmp", "etc", "bin"):
            (root / name).mkdir(parents=True)
        made = cls(root, rooted=True)
        made._fill()
        tried = made.call("version")
        return made if tried.returncode == 0 else cls(root, rooted=False)

    def _fill(self) -> None:
        (self.root / "etc/passwd").write_text(ACCOUNTS)
        (self.root / "etc/group").write_text(GROUP)
        shutil.copy("/bin/sh", self.root / "bin/sh", follow_symlinks=True)
        maps = Path("/proc/self/maps").read_text().splitlines()
        libc = next(Path(line.split()[-1]) for line in maps if "/libc.so.6" in line)
        loaders = [*Path("/lib64").glob("ld-linux*"), *Path("/lib").glob("ld-linux*")]
        names = [file for name in (*GLIBC, ZLIB) for file in libc.parent.glob(f"{name}.so.[0-9]")]
        for file in (*loaders, *names):
            target = self.root / file.relative_to("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target, follow_symlinks=True)

    @property
    def program(self) -> str:
        """The binary, as it is called there."""
        return "/opt/dpp/dpp" if self.rooted else str(FOLDER / "dpp")

    def path(self, inside: str) -> Path:
        """Return a path of the place as we see it."""
        return self.root / inside.lstrip("/")

    def named(self, path: Path) -> str:
        """Return a path of ours as it is called there."""
        return f"/{path.relative_to(self.root)}" if self.rooted else str(path)

    def words(self, *arguments: str) -> list[str]:
        """Return the command that runs the binary there; the process stays the same."""
        own = [self.program, *arguments]
        if not self.rooted:
            return own
        enter = ["unshare", "--mount", "--propagation", "private", "sh", "-c", ENTER]
        return [*enter, str(self.root), str(FOLDER), *own]

    def environment(self, **more: str) -> dict[str, str]:
        """Return what the binary sees. PATH is of a directory that is empty, or is not there."""
        # Those who are not root have only their mounts to reach `unshare` by, which is not asked.
        path = "/usr/sbin:/usr/bin:/sbin:/bin" if self.rooted else str(self.root / "none")
        return {"PATH": path, "HOME": self.named(self.root / "tmp"), **more}

    def call(self, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
        """Run a command there, and return how it ended."""
        return subprocess.run(
            self.words(*arguments),
            check=False,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=COMMAND_S,
            cwd="/",
            env=self.environment(**env),
        )

    def dpp(self, *arguments: str, **env: str) -> Any:
        """Run a command with `--json`; return its document."""
        ended = self.call(*arguments, "--json", **env)
        assert ended.returncode == 0, f"{arguments}\n{ended.stdout}\n{ended.stderr}"
        return json.loads(ended.stdout)


@define(eq=False)
class Node:
    """`dpp serve` there, on a data directory."""

    bare: Bare
    data: Path
    url: str = ""
    management: str = ""
    _process: subprocess.Popen[bytes] | None = None

    @property
    def data_dir(self) -> str:
        """The data directory as it is called there."""
        return self.bare.named(self.data)

    @property
    def log(self) -> str:
        """What it logged since it was started last."""
        return self.data.with_suffix(".log").read_text()

    def start(self, **env: str) -> None:
        """Start it, and wait until it is ready."""
        words = ["serve", "--data-dir", self.data_dir]
        words += ["--listen", "127.0.0.1:0", "--management", "127.0.0.1:0"]
        with self.data.with_suffix(".log").open("wb") as log:
            self._process = subprocess.Popen(
                self.bare.words(*words),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                cwd="/",
                env=self.bare.environment(**env),
            )
        for _ in range(int(READY_S / STEP_S)):
            assert self._process.poll() is None, self.log
            with suppress(FileNotFoundError, json.JSONDecodeError, httpx.TransportError):
                found = json.loads((self.data / "node.json").read_text())
                self.url, self.management = found["url"], found["management_url"]
                if found["pid"] == self._process.pid and self.get("/readyz").is_success:
                    return
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STEP_S)
        raise AssertionError(self.log)

    def stop(self) -> int:
        """Let it drain; returns its status."""
        assert self._process is not None
        self._process.send_signal(signal.SIGTERM)
        status = self._process.wait(COMMAND_S)
        self._process = None
        return status

    def close(self) -> None:
        """End it, if it runs."""
        if self._process is not None:
            self.stop()

    def get(self, path: str, key: str = "") -> httpx.Response:
        """Ask the API, as nobody or as who has this key."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.get(self.url + path, headers=headers, timeout=10, trust_env=False)

    def dpp(self, *arguments: str, **env: str) -> Any:
        """Run a command about this node; return its document."""
        return self.bare.dpp(*arguments, "--data-dir", self.data_dir, **env)
