"""docs/api.md and docs/keys.md, step by step: each command runs, each answer is as it is shown."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dpp import webhooks
from dpp.http.openapi.events import due
from dpp.http.problems import TYPES
from dpp.http.routes import ROUTES
from tests.node_process import NodeProcess, new_name

DOCS = Path(__file__).resolve().parents[2] / "docs"
GUIDE, KEYS = DOCS / "api.md", DOCS / "keys.md"
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
NAMED = ("run_id", "key_id", "webhook_id", "next_cursor")  # what a reader copies as $RUN_ID, …
BASH = ["bash", "-c"]


def blocks(page: Path = GUIDE) -> list[tuple[str, str]]:
    """Return language and text of each block of a page."""
    return [(found[1], found[2]) for found in BLOCK.finditer(page.read_text("utf-8"))]


def steps(page: Path) -> list[tuple[str, str, str]]:
    """Return each command with what is shown below it: language and text."""
    told: list[tuple[str, str, str]] = []
    for language, text in blocks(page):
        if text.startswith("$ "):
            commands = re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]
            told += [(command.strip(), "", "") for command in commands]
        elif language != "python":
            told[-1] = (told[-1][0], language or "text", text)
    return told


class Reader:
    """Somebody who types what the guide says, in one shell, and copies names out of answers."""

    def __init__(self, node: NodeProcess, key: str, place: Path) -> None:
        self.url, self.place = node.url, place
        self.known: dict[str, str] = {"DPP_API_KEY": key}
        self.functions = ""

    def follow(self, page: Path) -> int:
        """Type each command of a page and compare; returns how many answers were as shown."""
        answers = 0
        for command, language, shown in steps(page):
            said = self.type(command)
            if language == "json":
                assert_like(json.loads(said), json.loads(shown), command)
            elif language == "text":
                lines = [line.strip() for line in said.splitlines()]
                assert [line for line in shown.splitlines() if line not in lines] == [], command
            else:
                assert "/problems/" not in said, (command, said)
            answers += bool(language)
        return answers

    def type(self, command: str) -> str:
        """Run a command; returns what it prints."""
        if command.startswith("export "):
            assert command.endswith("…"), "a value to fill in"
            return ""
        if "() {" in command:
            self.functions += command.replace("http://127.0.0.1:8080", self.url) + "\n"
            return ""
        ended = subprocess.run(
            [*BASH, f"set -eo pipefail\n{self.functions}{command}"],
            cwd=self.place,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            env={**os.environ, **self.known, "no_proxy": "127.0.0.1"},
        )
        assert ended.returncode == 0, (command, ended.stderr)
        for name in NAMED:
            for value in re.findall(rf'"{name}":"([^"]+)"', ended.stdout)[:1]:
                self.known[name.upper()] = value
        return ended.stdout


def assert_like(found: Any, shown: Any, where: str) -> None:
    """Compare what is shown: `…` stands for any rest of a text, other members may be there."""
    if isinstance(shown, dict):
        assert isinstance(found, dict), where
        for name, value in shown.items():
            assert name in found, f"{where}/{name}"
            assert_like(found[name], value, f"{where}/{name}")
    elif isinstance(shown, list):
        assert isinstance(found, list), where
        assert bool(found) is bool(shown), where
        assert len(found) >= len(shown), where
        for place, value in enumerate(shown):
            assert_like(found[place], value, f"{where}/{place}")
    elif isinstance(shown, str) and shown.endswith("…"):
        assert isinstance(found, str), where
        assert found.startswith(shown[:-1]), where
    else:
        assert found == shown, where


def test_each_command_works_and_answers_as_it_is_shown(
    served_node: NodeProcess, tmp_path: Path
) -> None:
    if shutil.which("curl") is None:
        pytest.skip("needs curl: apt-get install curl")
    reader = Reader(served_node, served_node.tenant(new_name(), plan="basic"), tmp_path)

    assert reader.follow(GUIDE) > 20
    assert reader.follow(KEYS) == 2  # with the function and the key of the guide


def test_the_receiver_of_the_guide_takes_an_event_and_no_other(tmp_path: Path) -> None:
    ((_, text),) = [block for block in blocks() if block[0] == "python"]
    example = due("run.completed")
    body = webhooks.payload(example)
    (tmp_path / "now").touch()
    now = int((tmp_path / "now").stat().st_mtime)  # a signature is good for five minutes
    headers = webhooks.headers(example, now, body)
    names: dict[str, Any] = {}

    exec(text.replace("whsec_…", webhooks.secret_text(example.secrets[0])), names)  # noqa: S102

    assert names["receive"](headers, body) == ("run.completed", str(example.run_id))
    with pytest.raises(Exception, match="signature"):
        names["receive"](headers, body.replace(b"COMPLETED", b"FAILED"))


def test_the_table_has_every_problem_under_its_status() -> None:
    told = {}
    for line in GUIDE.read_text("utf-8").splitlines():
        status = 0
        for number, name in re.findall(r"(\d{3}) (?=`)|`([a-z-]+)`", line.split(" | ")[0]):
            if line.startswith("| ") and number:
                status = int(number)
            elif line.startswith("| ") and status:
                told[name] = status
    public = {name for route in ROUTES for name in route.problems} | {"method-not-allowed"}

    assert told == {name: TYPES[name].status for name in public}
