from __future__ import annotations

import fcntl
import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from dpp import datadir
from dpp.datadir import DataDirError, RunningNode

if TYPE_CHECKING:
    from collections.abc import Iterator

IS_ROOT = os.geteuid() == 0

HOLDER = """
import sys
from pathlib import Path
from dpp import datadir

with datadir.hold(Path(sys.argv[1])) as held:
    held.publish(url="http://127.0.0.1:1", management_url="http://127.0.0.1:2")
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that PostgreSQL's user can search, which pytest's own are not."""
    path = Path(tempfile.mkdtemp(prefix="dpp-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@contextmanager
def another_node(path: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-c", HOLDER, str(path)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, cwd=Path.cwd(), **pipes) as node:  # type: ignore[call-overload]
        assert node.stdout.readline() == "held\n"
        yield node
        node.stdin.close()


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@contextmanager
def umask(bits: int) -> Iterator[None]:
    before = os.umask(bits)
    try:
        yield
    finally:
        os.umask(before)


@pytest.mark.parametrize("bits", [0o000, 0o077])
def test_modes_are_the_same_under_every_umask(place: Path, bits: int) -> None:
    path = place / "deep" / "dpp"

    with umask(bits), datadir.hold(path) as held:
        held.publish(url="u", management_url="m")
        modes = {name: mode(path / name) for name in ("admin.token", "node_id", "blobs")}

    assert modes == {"admin.token": 0o600, "node_id": 0o600, "blobs": 0o700}
    assert mode(path) == (0o710 if IS_ROOT else 0o700)


@pytest.mark.skipif(not IS_ROOT, reason="only root gives its PostgreSQL another user")
def test_roots_directory_is_open_to_the_group_of_postgres_for_passing_through(place: Path) -> None:
    with umask(0o077), datadir.hold(place / "deep" / "dpp") as held:
        seen = held.path.stat()

        assert (seen.st_uid, seen.st_gid) == (0, held.child.gid)
        assert held.child.uid != 0
        assert mode(place / "deep") == 0o755


def test_a_second_node_is_refused_and_told_the_pid_of_the_first(place: Path) -> None:
    with another_node(place / "dpp") as node:
        with pytest.raises(DataDirError, match=rf"pid {node.pid}\b"), datadir.hold(place / "dpp"):
            pass

        assert datadir.running(place / "dpp") == RunningNode(
            node.pid, "http://127.0.0.1:1", "http://127.0.0.1:2"
        )


def test_a_killed_node_is_not_running_and_holds_nothing(place: Path) -> None:
    with another_node(place / "dpp") as node:
        node.kill()
        node.wait()

        assert (place / "dpp" / "node.json").exists()
        assert datadir.running(place / "dpp") is None
        with datadir.hold(place / "dpp"):
            assert datadir.running(place / "dpp") == RunningNode(os.getpid())


def test_an_orderly_stop_takes_node_json_away(place: Path) -> None:
    with datadir.hold(place / "dpp"):
        pass

    assert not (place / "dpp" / "node.json").exists()
    assert datadir.running(place / "dpp") is None
    assert datadir.running(place / "nowhere") is None


def test_a_half_written_node_json_is_no_node(place: Path) -> None:
    with datadir.hold(place / "dpp") as held:
        (held.path / "node.json").write_text('{"pid": ')

        assert datadir.running(held.path) is None


def test_a_start_beside_a_reader_is_not_refused(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with datadir.hold(place / "dpp"):
        pass
    reader = os.open(place / "dpp", os.O_RDONLY)
    fcntl.flock(reader, fcntl.LOCK_SH)
    monkeypatch.setattr("time.sleep", lambda _s: fcntl.flock(reader, fcntl.LOCK_UN))

    with datadir.hold(place / "dpp") as held:
        os.close(reader)
        assert held.path == place / "dpp"


def test_a_node_keeps_its_id_and_a_clone_of_it_gets_another(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = place / "machine-id"
    machine.write_text("one\n")
    monkeypatch.setattr(datadir, "MACHINE_ID", machine)

    def node_id() -> str:
        with datadir.hold(place / "dpp") as held:
            return str(held.node_id)

    first, again = node_id(), node_id()
    machine.write_text("two\n")
    cloned, cloned_again = node_id(), node_id()
    machine.unlink()
    without = node_id()

    assert first == again
    assert cloned == cloned_again
    assert len({first, cloned, without}) == 3


def test_the_admin_token_is_made_once_and_stays_private(place: Path) -> None:
    assert datadir.admin_token(place) is None

    with datadir.hold(place / "dpp"):
        first = datadir.admin_token(place / "dpp")
    (place / "dpp" / "admin.token").chmod(0o644)
    with datadir.hold(place / "dpp"):
        again = datadir.admin_token(place / "dpp")

    assert first is not None
    assert len(first) >= 43  # 256 bits
    assert first == again
    assert mode(place / "dpp" / "admin.token") == 0o600


def test_an_empty_admin_token_is_replaced(place: Path) -> None:
    with datadir.hold(place / "dpp") as held:
        (held.path / "admin.token").write_text("\n")
    with datadir.hold(place / "dpp") as held:
        assert datadir.admin_token(held.path) is not None


def test_what_a_crash_left_half_written_is_swept(place: Path) -> None:
    with datadir.hold(place / "dpp") as held:
        (held.path / ".new-x").write_text("half")
    with datadir.hold(place / "dpp") as held:
        assert not (held.path / ".new-x").exists()


def test_a_directory_of_others_is_refused_and_left_as_it_was(place: Path) -> None:
    home = place / "home"
    home.mkdir(mode=0o755)
    home.chmod(0o755)
    (home / "letter.txt").write_text("mine")

    with pytest.raises(DataDirError, match="neither empty"), datadir.hold(home):
        pass

    assert (mode(home), [entry.name for entry in home.iterdir()]) == (0o755, ["letter.txt"])


def test_a_parent_that_postgres_cannot_search_is_named_and_left_as_it_was(place: Path) -> None:
    closed = place / "closed"
    closed.mkdir()
    (closed / "inner").mkdir()
    closed.chmod(0o700 if IS_ROOT else 0o600)

    with pytest.raises(DataDirError) as refused, datadir.hold(closed / "inner" / "dpp"):
        pass

    assert str(closed) in refused.value.what
    assert str(closed) in refused.value.remedy
    assert mode(closed) == (0o700 if IS_ROOT else 0o600)
    closed.chmod(0o700)
    assert list((closed / "inner").iterdir()) == []


@pytest.mark.skipif(IS_ROOT, reason="root may make anything")
def test_a_place_where_we_may_not_write_is_named(place: Path) -> None:
    place.chmod(0o500)

    with pytest.raises(DataDirError, match="cannot be made"), datadir.hold(place / "dpp"):
        pass

    place.chmod(0o700)


@pytest.mark.skipif(IS_ROOT, reason="root may write anywhere")
def test_a_directory_that_its_owner_made_read_only_is_refused_and_left_so(place: Path) -> None:
    (place / "dpp").mkdir(mode=0o500)

    with pytest.raises(DataDirError, match="cannot be used"), datadir.hold(place / "dpp"):
        pass

    assert (mode(place / "dpp"), [*(place / "dpp").iterdir()]) == (0o500, [])


@pytest.mark.skipif(not IS_ROOT, reason="only root mounts")
def test_a_directory_on_a_read_only_file_system_is_named(place: Path) -> None:
    (place / "dpp").mkdir()
    mount = 'mount --bind "$0" "$0" && mount -o remount,bind,ro "$0" && ! touch "$0/x" 2>&1'
    unshare = ["unshare", "--mount", "sh", "-c"]
    if subprocess.run([*unshare, mount, place], check=False, capture_output=True).returncode:
        pytest.skip("this kernel lets nobody mount")
    holder = f'{mount} && exec "$1" -c "$2" "$0/dpp"'

    command = [*unshare, holder, place, sys.executable, HOLDER]
    ended = subprocess.run(command, check=False, capture_output=True, text=True, cwd=Path.cwd())

    assert "DataDirError: The data directory" in ended.stderr
    assert ": Read-only file system. DPP did not start." in ended.stderr


def test_a_file_in_the_way_is_named(place: Path) -> None:
    (place / "dpp").write_text("")

    with pytest.raises(DataDirError, match="cannot be opened"), datadir.hold(place / "dpp"):
        pass


def test_a_demo_and_a_node_never_share_a_directory(place: Path) -> None:
    with datadir.hold(place / "dpp"), datadir.hold(place / "dpp-demo", demo=True):
        pass

    with pytest.raises(DataDirError, match="real node"), datadir.hold(place / "dpp", demo=True):
        pass
    with pytest.raises(DataDirError, match="disposable"), datadir.hold(place / "dpp-demo"):
        pass


def test_clearing_a_demo_leaves_its_identity_and_nothing_else(place: Path) -> None:
    with datadir.hold(place / "dpp-demo", demo=True) as held:
        held.postgres.mkdir()
        (held.blobs / "result").write_text("x")

        held.clear()

        left = sorted(entry.name for entry in held.path.iterdir())
    assert left == ["admin.token", "blobs", "demo", "node.json", "node_id"]
    assert list((place / "dpp-demo" / "blobs").iterdir()) == []


def test_a_link_to_the_directory_is_the_directory(place: Path) -> None:
    (place / "link").symlink_to(place / "dpp")

    with datadir.hold(place / "dpp"):
        with pytest.raises(DataDirError, match="Another node"), datadir.hold(place / "link"):
            pass
        assert json.loads((place / "link" / "node.json").read_text())["pid"] == os.getpid()
