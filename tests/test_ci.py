"""`.ci/run` over a `make` of our own: what it counts, and that a failure never counts as none.

And that the target that is about a pooler asks for one, and runs what tells whether it is there.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from attrs import frozen

ROOT = Path(__file__).resolve().parents[1]
RUN = ROOT / ".ci" / "run"


@frozen
class Target:
    """What a target of make does: the counts it leaves in its report, if any, and how it exits."""

    counts: tuple[int, int, int, int] | None  # tests, failures, errors, skipped
    status: int = 0

    def script(self) -> str:
        if self.counts is None:
            return f"exit {self.status}"
        names = ("tests", "failures", "errors", "skipped")
        words = " ".join(f'{name}="{n}"' for name, n in zip(names, self.counts, strict=True))
        return f'echo \'<testsuites><testsuite {words} time="1">\' >"$REPORT"; exit {self.status}'


CLEAN_LINT, CLEAN_TEST = Target((6, 0, 0, 0)), Target((10, 0, 0, 3))
CLEAN_POOLED, NONE = Target((4, 0, 0, 1)), Target((0, 0, 0, 0))


@pytest.mark.parametrize(
    ("lint", "test", "pooled", "line", "passes"),
    [
        (CLEAN_LINT, CLEAN_TEST, CLEAN_POOLED, "16 passed, 0 failed, 4 skipped", True),
        (Target((6, 2, 0, 0), status=1), CLEAN_TEST, NONE, "11 passed, 2 failed, 3 skipped", False),
        (CLEAN_LINT, Target((10, 1, 2, 0), 1), NONE, "13 passed, 3 failed, 0 skipped", False),
        (CLEAN_LINT, Target((10, 0, 0, 0), 3), NONE, "16 passed, 1 failed, 0 skipped", False),
        (CLEAN_LINT, CLEAN_TEST, Target((4, 1, 0, 0), 1), "16 passed, 1 failed, 3 skipped", False),
        (CLEAN_LINT, Target(None, 2), NONE, "6 passed, 1 failed, 0 skipped", False),
        (Target(None), Target(None), Target(None), "3 passed, 0 failed, 0 skipped", True),
        (NONE, NONE, NONE, "0 passed, 0 failed, 0 skipped", False),
    ],
)
def test_the_last_line_counts_over_all_targets(
    tmp_path: Path, lint: Target, test: Target, pooled: Target, line: str, *, passes: bool
) -> None:
    make = tmp_path / "make"
    make.write_text(
        f"#!/usr/bin/env bash\ncase $1 in\nlint) {lint.script()} ;;\ntest) {test.script()} ;;\n"
        f"test-pgbouncer) {pooled.script()} ;;\n"
        f"test-pgbouncer-session | test-alerts | test-systemd | test-binary) {NONE.script()} ;;\n"
        f"predeploy-fast) {NONE.script()} ;;\n"
        "*) exit 9 ;;\nesac\n"
    )
    make.chmod(0o755)

    ended = subprocess.run(
        ["bash", RUN],
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
        cwd=tmp_path,
        check=False,
        capture_output=True,
        text=True,
    )

    assert (ended.stdout.splitlines()[-1], ended.returncode == 0) == (line, passes), ended.stderr


def test_the_pooled_target_asks_for_transaction_mode_and_has_it_proved() -> None:
    outer = {"MAKEFLAGS", "MFLAGS", "ARGS"}  # of a `make test` that this may be a part of
    clean = {name: value for name, value in os.environ.items() if name not in outer}

    told = subprocess.run(
        ["make", "--dry-run", "test-pgbouncer"],
        env=clean,
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout

    assert "TEST_POOLER=transaction .venv/bin/python -m pytest" in told
    assert "tests/store/test_entrance.py" in told
