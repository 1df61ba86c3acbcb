"""What the embedded PostgreSQL decides without touching anything."""

from __future__ import annotations

from pathlib import Path

import pytest

from dpp.accounts import Account, choose_child
from dpp.datadir import choose, demo_sibling
from dpp.store.postmaster import Leftovers, Server, sort_out
from dpp.store.serverlog import LINE_MAX_BYTES, LINES_MAX, REFILL_PER_S, Allowance, Lines

POSTMASTER, WRITER, BACKEND = Server(10, 1, 5), Server(11, 10, 6), Server(12, 10, 7)
ORPHANS = (Server(11, 1, 6), Server(12, 1, 7))


@pytest.mark.parametrize(
    ("pid_file", "servers", "expected"),
    [
        ("10\n/data\n", (), Leftovers(None, ())),
        ("", (), Leftovers(None, ())),
        ("10\n/data\n", (POSTMASTER, WRITER), Leftovers(POSTMASTER, (WRITER,))),
        ("10\n", (POSTMASTER,), Leftovers(POSTMASTER, ())),
        ("", (POSTMASTER, WRITER, BACKEND), Leftovers(POSTMASTER, (WRITER, BACKEND))),
        ("99\n", (POSTMASTER, WRITER), Leftovers(POSTMASTER, (WRITER,))),
        ("garbage", ORPHANS, Leftovers(None, ORPHANS)),
        ("10\n/data\n", ORPHANS, Leftovers(None, ORPHANS)),
    ],
    ids=[
        "stale",
        "empty file",
        "running",
        "no children yet",
        "file deleted",
        "file of an earlier one",
        "half written",
        "postmaster killed",
    ],
)
def test_the_postmaster_is_told_from_its_backends(
    pid_file: str, servers: tuple[Server, ...], expected: Leftovers
) -> None:
    assert sort_out(pid_file, servers) == expected


ACCOUNTS = {
    name: Account(name, uid, uid)
    for name, uid in (("root", 0), ("dpp", 5), ("postgres", 6), ("nobody", 7), ("eve", 8))
}


@pytest.mark.parametrize(
    ("known", "node_uid", "owner_uid", "expected"),
    [
        ({"root", "dpp", "postgres", "nobody"}, 0, None, "dpp"),
        ({"root", "postgres", "nobody"}, 0, None, "postgres"),
        ({"root", "nobody"}, 0, None, "nobody"),
        ({"root"}, 0, None, None),
        ({"root", "dpp", "nobody"}, 0, 7, "nobody"),
        ({"root", "dpp"}, 0, 7, None),
        ({"root", "dpp", "nobody"}, 0, 0, "dpp"),
        ({"dpp", "eve"}, 8, None, "eve"),
        ({"dpp", "eve"}, 8, 5, "eve"),
        ({"dpp"}, 8, None, None),
    ],
)
def test_roots_postgres_runs_as_the_first_account_there_is_and_stays_with_it(
    known: set[str], node_uid: int, owner_uid: int | None, expected: str | None
) -> None:
    accounts = [ACCOUNTS[name] for name in known]

    child = choose_child(
        node_uid,
        owner_uid,
        find_name=lambda name: next((a for a in accounts if a.name == name), None),
        find_uid=lambda uid: next((a for a in accounts if a.uid == uid), None),
    )

    assert (child and child.name) == expected


@pytest.mark.parametrize(
    ("flag", "configured", "environ", "is_root", "expected"),
    [
        ("/f", "/c", {"DPP_DATA_DIR": "/e", "STATE_DIRECTORY": "/s"}, True, "/f"),
        (None, "/c", {"DPP_DATA_DIR": "/e", "STATE_DIRECTORY": "/s"}, True, "/e"),
        (None, "/c", {"STATE_DIRECTORY": "/s"}, True, "/c"),
        (None, None, {"STATE_DIRECTORY": "/s:/t"}, False, "/s"),
        (None, None, {"DPP_DATA_DIR": "", "STATE_DIRECTORY": ""}, True, "/var/lib/dpp"),
        ("", "", {}, True, "/var/lib/dpp"),
        (None, None, {}, False, "/home/eve/.local/state/dpp"),
        (None, None, {"XDG_STATE_HOME": "/x"}, False, "/x/dpp"),
        (None, None, {"XDG_STATE_HOME": "x"}, False, "/home/eve/.local/state/dpp"),
        (None, None, {"XDG_STATE_HOME": "/x"}, True, "/var/lib/dpp"),
    ],
)
def test_flag_environment_config_systemd_default_in_this_order(
    flag: str | None,
    configured: str | None,
    environ: dict[str, str],
    is_root: bool,  # noqa: FBT001 - a column of the table
    expected: str,
) -> None:
    home = Path("/home/eve")

    assert choose(flag, configured, environ, is_root=is_root, home=home) == Path(expected)


def test_the_demo_lives_beside_the_node() -> None:
    assert demo_sibling(Path("/var/lib/dpp")) == Path("/var/lib/dpp-demo")


def test_lines_come_out_whole_however_the_bytes_are_cut() -> None:
    lines = Lines()

    got = [lines.feed(chunk) for chunk in (b"LOG:  a", b"b\nLOG", b":  c\n\nrest")]

    assert got == [[], ["LOG:  ab"], ["LOG:  c"]]


def test_a_line_without_an_end_takes_no_more_memory_than_a_long_line() -> None:
    lines = Lines()

    got = [len(line) for _ in range(100) for line in lines.feed(b"x" * 1000)]

    assert set(got) == {LINE_MAX_BYTES}


def test_a_server_that_writes_without_end_is_cut_short_and_counted() -> None:
    allowance = Allowance()

    at_once = [allowance.take(0.0) for _ in range(LINES_MAX + 5)]

    assert (sum(at_once), allowance.left_out) == (LINES_MAX, 5)
    assert [allowance.take(1.0) for _ in range(REFILL_PER_S + 1)].count(True) == REFILL_PER_S
