"""`.ci/run` over a `make` of our own: what it counts, and that a failure never counts as none."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from attrs import frozen

RUN = Path(__file__).resolve().parents[1] / ".ci" / "run"


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


@pytest.mark.parametrize(
    ("lint", "test", "line", "passes"),
    [
        (CLEAN_LINT, CLEAN_TEST, "13 passed, 0 failed, 3 skipped", True),
        (Target((6, 2, 0, 0), status=1), CLEAN_TEST, "11 passed, 2 failed, 3 skipped", False),
        (CLEAN_LINT, Target((10, 1, 2, 0), 1), "13 passed, 3 failed, 0 skipped", False),
        (CLEAN_LINT, Target((10, 0, 0, 0), 3), "16 passed, 1 failed, 0 skipped", False),
        (CLEAN_LINT, Target(None, 2), "6 passed, 1 failed, 0 skipped", False),
        (Target(None), Target(None), "2 passed, 0 failed, 0 skipped", True),
        (Target((0, 0, 0, 0)), Target((0, 0, 0, 0)), "0 passed, 0 failed, 0 skipped", False),
    ],
)
def test_the_last_line_counts_over_all_targets(
    tmp_path: Path, lint: Target, test: Target, line: str, *, passes: bool
) -> None:
    make = tmp_path / "make"
    make.write_text(
        f"#!/usr/bin/env bash\ncase $1 in\nlint) {lint.script()} ;;\ntest) {test.script()} ;;\n"
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
