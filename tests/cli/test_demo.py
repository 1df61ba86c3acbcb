"""The demo as people start it: a process of its own, with and without a terminal."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import httpx
import pytest
from attrs import frozen

from dpp import datadir
from dpp.cli.demo.child import lives
from dpp.cli.exits import Exit
from tests.node_process import node_process

CLAIMS = {
    "the run is COMPLETED",
    "it decided the question",
    "it cost what the pack's price says",
    "the ledger has three lines",
    "the ledger adds up to the budget",
    "the audit is clean",
}
END_CLAIMS = {
    "PostgreSQL ran under the node",
    "the node drained with status 0",
    "PostgreSQL is gone",
}


@pytest.fixture
def place() -> Iterator[Path]:
    """Return a directory that PostgreSQL's user can search, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="dpp-test-"))
    path.chmod(0o711)
    yield path
    shutil.rmtree(path)


def arguments(place: Path, *more: str) -> list[str]:
    return [sys.executable, "-m", "dpp", "demo", "--data-dir", str(place / "dpp"), *more]


def environ(**more: str) -> dict[str, str]:
    """What the demo is told; whoever runs these tests may have told it to leave."""
    outside = {name: value for name, value in os.environ.items() if name != "DEMO_EXIT"}
    return {**outside, **more}


@frozen
class Staying:
    """A demo that stays up: its process, what it printed, and where its stderr goes."""

    process: subprocess.Popen[str]
    document: dict[str, Any]
    errors: IO[str]

    def said(self) -> str:
        self.errors.seek(0)
        return self.errors.read()


@contextmanager
def staying(place: Path) -> Iterator[Staying]:
    """Start a demo that stays up; when this is left it has ended."""
    with tempfile.TemporaryFile("w+") as errors:
        demo = subprocess.Popen(
            arguments(place, "--json"),
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            text=True,
            env=environ(),
        )
        assert demo.stdout is not None
        try:
            lines = []
            for line in demo.stdout:
                lines.append(line)
                if line == "}\n":
                    break
            one = Staying(demo, json.loads("".join(lines) or "{}"), errors)
            assert lines, one.said()
            yield one
        finally:
            with suppress(subprocess.TimeoutExpired):
                demo.wait(60)
            demo.kill()
            demo.wait()
            demo.stdout.close()


def node_pid(place: Path) -> int:
    node = datadir.running(place / "dpp-demo")
    assert node is not None
    return node.pid


def test_it_shows_all_of_it_and_leaves_with_0_twice_in_a_row(place: Path) -> None:
    for _ in range(2):
        ended = subprocess.run(
            arguments(place),
            capture_output=True,
            text=True,
            timeout=100,
            env=environ(DEMO_EXIT="1"),
            stdin=subprocess.DEVNULL,
            check=False,
        )

        assert ended.returncode == Exit.GOOD, ended.stderr
        for words in ("winner: ", "Cost $0.012176", "settle", "reserve", "deposit", "audit ok"):
            assert words in ended.stdout
        assert " COMPLETED" in ended.stderr
        assert datadir.running(place / "dpp-demo") is None


def test_it_prints_one_document_with_every_claim(place: Path) -> None:
    ended = subprocess.run(
        arguments(place, "--json"),
        capture_output=True,
        text=True,
        timeout=100,
        env=environ(DEMO_EXIT="1"),
        check=False,
    )

    assert ended.returncode == Exit.GOOD, ended.stderr
    document = json.loads(ended.stdout)
    assert document["ok"] is True
    assert document["claims"] == dict.fromkeys(CLAIMS | END_CLAIMS, True)
    assert document["run"]["result"]["verdict"] == "decided"


def test_it_shows_a_live_bar_on_a_terminal(place: Path) -> None:
    ours, theirs = pty.openpty()
    demo = subprocess.Popen(
        arguments(place),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        env=environ(DEMO_EXIT="1", TERM="xterm", COLUMNS="150"),
        start_new_session=True,
    )
    os.close(theirs)
    seen = b""
    with suppress(OSError):  # the terminal's end, as Linux says it
        while chunk := os.read(ours, 65536):
            seen += chunk
    os.close(ours)

    assert demo.wait(60) == Exit.GOOD, seen.decode(errors="replace")
    assert b"COMPLETED" in seen
    assert b"100%" in seen
    assert re.search(rb"run [0-9a-f]{8}-", seen)
    assert "━".encode() in seen


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_stays_up_until_it_is_told_to_end_and_ends_in_order(
    place: Path, number: signal.Signals
) -> None:
    with staying(place) as demo:
        pid = node_pid(place)
        headers = {"Authorization": f"Bearer {demo.document['api_key']}"}
        budget = httpx.get(f"{demo.document['url']}/v1/budget", headers=headers, trust_env=False)
        audit = subprocess.run(demo.document["curl"][-1], shell=True, cwd="/", check=False)  # noqa: S602 - as it says
        demo.process.send_signal(number)

    assert budget.json()["spent_usd"] == "0.012176"
    assert audit.returncode == Exit.GOOD
    assert demo.document["claims"] == dict.fromkeys(CLAIMS, True)
    assert demo.process.returncode == Exit.GOOD
    assert not lives(pid)


def test_a_node_that_dies_ends_the_demo_with_its_last_words(place: Path) -> None:
    with staying(place) as demo:
        pid_file = place / "dpp-demo" / datadir.POSTGRES / "postmaster.pid"
        postmaster = int(pid_file.read_text().split()[0])
        os.kill(node_pid(place), signal.SIGKILL)
        demo.process.wait(60)
        said = demo.said()

    assert demo.process.returncode == Exit.NEGATIVE
    assert "ended with status -9" in said
    assert "The last lines of its log:" in said
    assert not lives(postmaster)


def test_a_demo_that_is_killed_takes_its_node_along(place: Path) -> None:
    with staying(place) as demo:
        node = os.pidfd_open(node_pid(place))
        demo.process.kill()
        gone, _, _ = select.select([node], [], [], 60)  # readable when it has ended
        os.close(node)

    assert gone


def refused_beside_another(place: Path, pid: int) -> None:
    """Assert that a demo is refused because of the node that runs on its directory."""
    ended = subprocess.run(
        arguments(place, "--json"),
        capture_output=True,
        text=True,
        timeout=100,
        env=environ(DEMO_EXIT="1"),
        check=False,
    )

    assert ended.returncode == Exit.CONFIGURATION, ended.stderr
    assert f"Another node (pid {pid}) runs on {place / 'dpp-demo'}" in ended.stderr
    assert "Ready" not in ended.stderr


def test_a_second_demo_is_refused_and_the_first_goes_on(place: Path) -> None:
    with staying(place) as demo:
        pid = node_pid(place)
        pid_file = place / "dpp-demo" / datadir.POSTGRES / "postmaster.pid"
        postmaster = int(pid_file.read_text().split()[0])

        refused_beside_another(place, pid)

        assert (lives(pid), lives(postmaster), node_pid(place)) == (True, True, pid)
        demo.process.send_signal(signal.SIGTERM)

    assert demo.process.returncode == Exit.GOOD, demo.said()


def test_a_node_in_the_place_of_a_demo_is_neither_written_to_nor_ended(place: Path) -> None:
    with node_process(data_dir=place / "dpp-demo") as node:
        node.start()
        before = node.postmasters()

        refused_beside_another(place, node.pid)

        assert node.postmasters() == before
        assert node.admin("GET", "/admin/v1/tenants")["items"] == []
        assert node.terminate() == Exit.GOOD


def test_a_directory_that_is_no_demos_is_left_alone(place: Path) -> None:
    precious = place / "dpp-demo" / "precious"
    precious.parent.mkdir()
    precious.write_text("data")

    ended = subprocess.run(
        arguments(place, "--json"),
        capture_output=True,
        text=True,
        timeout=100,
        env=environ(DEMO_EXIT="1"),
        check=False,
    )

    assert ended.returncode == Exit.CONFIGURATION
    assert "neither empty nor a data directory of DPP" in ended.stderr
    assert [entry.name for entry in precious.parent.iterdir()] == ["precious"]
