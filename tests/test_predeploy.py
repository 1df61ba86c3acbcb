"""`make predeploy`: each look finds what it is for, and says so where it could not look."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]
SCRIPT = ROOT / "scripts" / "predeploy"
# In two parts, so that no scan takes this file for one that holds them.
AWS_KEY = "AKIA" + "QYLPMN5HHHFPZAM2"
PRIVATE = "-----BEGIN RSA " + "PRIVATE KEY-----"
REASON = 20  # characters: fewer say no reason


@pytest.fixture(scope="module")
def predeploy() -> Any:
    """Load the script as a module."""
    loader = importlib.machinery.SourceFileLoader("predeploy", str(SCRIPT))
    spec = importlib.util.spec_from_loader("predeploy", loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["predeploy"] = module
    loader.exec_module(module)
    return module


@pytest.mark.parametrize("planted", [f'key = "{AWS_KEY}"\n', f"{PRIVATE}\nMIIE\n"])
def test_a_planted_secret_is_found_and_its_place_told_without_it(
    predeploy: Any, tmp_path: Path, planted: str
) -> None:
    subprocess.run(["git", "init", "--quiet", tmp_path], check=True)
    (tmp_path / "clean.py").write_text("answer = 42\n")
    (tmp_path / "leak.py").write_text(f"\n\n{planted}")
    subprocess.run(["git", "-C", tmp_path, "add", "."], check=True)

    outcome = predeploy.judge_secrets(tmp_path, predeploy.tracked(tmp_path))

    assert outcome.ok is False
    assert "leak.py:3" in outcome.said
    assert "clean.py" not in outcome.said
    assert AWS_KEY not in outcome.said


def test_a_file_without_secrets_is_well(predeploy: Any, tmp_path: Path) -> None:
    (tmp_path / "clean.py").write_text("answer = 42\n")

    assert predeploy.judge_secrets(tmp_path, ["clean.py"]).ok is True


def test_what_is_allowed_has_a_reason_and_is_there(predeploy: Any) -> None:
    data = tomllib.loads((ROOT / "scripts" / "predeploy.toml").read_text())

    assert [one for one in data["secret"] if len(one["reason"]) < REASON] == []
    assert [one for one in data["secret"] if not (ROOT / one["path"]).is_file()] == []
    assert [one for one in data["licence"] if len(one["reason"]) < REASON] == []
    assert {one["package"] for one in data["licence"]} <= set(predeploy.locked())


def test_each_package_has_a_licence_that_is_taken(predeploy: Any) -> None:
    outcome = predeploy.licences()

    assert outcome.ok is True, outcome.said


def test_a_licence_that_is_not_taken_is_named(
    predeploy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = predeploy.read_data()
    data["licences"]["taken"].remove("Apache-2.0")
    monkeypatch.setattr(predeploy, "read_data", lambda: data)

    outcome = predeploy.licences()

    assert outcome.ok is False
    assert "asyncpg: apache-2.0" in outcome.said


def test_a_hole_is_wrong_and_a_package_that_was_skipped_is_no_answer(predeploy: Any) -> None:
    well = {"name": "trio", "version": "1", "vulns": []}
    hole = {"name": "h2", "version": "1", "vulns": [{"id": "CVE-1", "fix_versions": ["2"]}]}
    skipped = {"name": "rich", "skip_reason": "not found"}

    said = [predeploy.read_audit(one) for one in ([well], [well, skipped], [skipped, hole], [])]

    assert [one.ok for one in said] == [True, None, False, None]
    assert "h2 1: CVE-1, mended in 2" in said[2].said


def test_a_service_that_does_not_answer_is_not_looked_at(
    predeploy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing listens on the discard port, through which all is to go."""
    for name in ("HTTPS_PROXY", "HTTP_PROXY", "https_proxy", "http_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")

    outcome = predeploy.audit("osv")

    assert outcome.ok is None
    assert outcome.said


@pytest.mark.parametrize(("more", "status"), [((), 1), (("--offline-ok",), 0)])
def test_offline_is_a_failure_unless_it_is_let_pass_and_is_said_either_way(  # each part of it
    predeploy: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    more: tuple[str, ...],
    status: int,
) -> None:
    silent = predeploy.Outcome(ok=None, said="no answer")
    well = predeploy.Outcome(ok=True, said="well")
    steps = (
        predeploy.Step("vulnerabilities", lambda: silent, online=True),
        predeploy.Step("after", lambda: well),
    )
    monkeypatch.setattr(predeploy, "STEPS", steps)
    monkeypatch.setenv("REPORT", str(tmp_path / "report.xml"))

    ended = predeploy.main([*more])

    printed = capfd.readouterr()
    counts = dict(re.findall(r'(\w+)="(\d+)"', (tmp_path / "report.xml").read_text()))
    assert ended == status
    assert "not looked" in printed.out
    assert ("after" in printed.out) is (status == 0)  # it stops at the first failure
    assert ("FAILED vulnerabilities" in printed.err) is (status == 1)
    assert (counts["failures"], counts["skipped"]) == (("1", "0") if status else ("0", "1"))


def test_a_failure_is_named_and_what_comes_after_is_left(
    predeploy: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("REPORT", raising=False)
    bad = predeploy.Step("lint", lambda: predeploy.command("false"), slow=True)
    later = predeploy.Step("later", lambda: pytest.fail("it was come to"))
    monkeypatch.setattr(predeploy, "STEPS", (bad, later))

    assert predeploy.main([]) == 1
    assert "FAILED lint; 1 steps" in capfd.readouterr().err
