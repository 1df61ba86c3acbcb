"""A copy of the tree, into which bugs are put one after another and taken out again."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define, field, frozen

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.fault.mutants.bug import Bug, Change

ROOT = Path(__file__).resolve().parents[3]
COPIED = ("dpp", "sql", "config", "tests", "pyproject.toml", "README.md")
FAILED = re.compile(r"^(?:FAILED|ERROR) (tests/\S+?\.py(?:::.+?)?)(?: - .*)?$", re.MULTILINE)


@frozen
class Told:
    """What pytest came to: its exit status (None = it was ended), which tests failed, its words."""

    status: int | None
    failed: tuple[str, ...]
    text: str


@define(eq=False)
class Tree:
    """One copy. Used by one thread; `stop` may come from another."""

    base: Path
    _running: subprocess.Popen[str] | None = field(default=None, init=False)

    @classmethod
    @contextmanager
    def copied(cls) -> Iterator[Tree]:
        """Copy what tests need; everything that they leave behind lies in the copy, too."""
        base = Path(tempfile.mkdtemp(prefix="dpp-mutants-"))
        try:
            for name in COPIED:
                source = ROOT / name
                if source.is_dir():
                    ignored = shutil.ignore_patterns("__pycache__")
                    shutil.copytree(source, base / name, ignore=ignored)
                else:
                    shutil.copy(source, base / name)
            base.chmod(0o755)  # PostgreSQL runs as another user
            (base / "tmp").mkdir()
            (base / "tmp").chmod(0o1777)
            yield cls(base)
        finally:
            shutil.rmtree(base, ignore_errors=True)  # a server that was ended may still be at it

    @contextmanager
    def having(self, bug: Bug) -> Iterator[None]:
        """Have the bug in the tree for the length of the block."""
        before = {change.file: self._read(change.file) for change in bug.changes}
        try:
            for change in bug.changes:
                self._write(change.file, changed(self._read(change.file), change))
            yield
        finally:
            for name, text in before.items():
                self._write(name, text)

    def test(self, names: Sequence[str], *options: str, limit_s: float) -> Told:
        """Run these tests; what is not done after `limit_s` is ended, with all that it started."""
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        self._running = process = subprocess.Popen(
            [*command, "--timeout=60", *options, *names],
            cwd=self.base,
            env={**os.environ, "PYTHONPATH": str(self.base), "TMPDIR": str(self.base / "tmp")},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        status: int | None
        try:
            text, _ = process.communicate(timeout=limit_s)
            status = process.returncode
        except subprocess.TimeoutExpired:
            self.stop()
            text, status = process.communicate()[0], None
        return Told(status, tuple(FAILED.findall(text)), text)

    def stop(self) -> None:
        """End the tests that run."""
        if self._running is not None and self._running.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._running.pid, signal.SIGKILL)

    def _read(self, name: str) -> str:
        return (self.base / name).read_text(encoding="utf-8")

    def _write(self, name: str, text: str) -> None:
        """Write a file; its bytecode goes, since within a second two texts may look alike."""
        file = self.base / name
        file.write_text(text, encoding="utf-8")
        for compiled in file.parent.glob(f"__pycache__/{file.stem}.*"):
            compiled.unlink()


def changed(text: str, change: Change) -> str:
    """Make a change."""
    assert text.count(change.old) == 1, f"{change.file} has {text.count(change.old)} × {change.old}"
    return text.replace(change.old, change.new)
