"""How commands end: the status, one JSON document, and words that say what to do."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from dpp.cli.exits import Exit
from dpp.cli.main import cli
from dpp.cli.troubles import explain
from dpp.datadir import DataDirError
from dpp.resources import sql_dir
from dpp.version import VERSION
from tests.cli.conftest import Dpp
from tests.cli.peers import Says, peer
from tests.ports import free_port

ASKING = [
    ("audit",),
    ("tenant", "create", "acme", "--plan", "basic"),
    ("tenant", "list"),
    ("tenant", "show", "acme"),
    ("tenant", "suspend", "acme"),
    ("tenant", "resume", "acme"),
    ("tenant", "plan", "acme", "pro"),
    ("key", "create", "acme"),
    ("key", "list", "acme"),
    ("key", "revoke", "acme", "k"),
    ("deposit", "acme", "1.00"),
    ("withdraw", "acme", "1.00"),
    ("refund", "acme", "r", "1.00", "--reason", "a test"),
    ("refund", "r", "1.00", "--reason", "a test"),
    ("adjust", "acme", "-1.00", "--reason", "a test"),
    ("run", "submit", "--pack", "echo", "--max-cost", "0.10"),
    ("run", "show", "r"),
    ("run", "list"),
    ("run", "cancel", "r"),
    ("run", "wait", "r"),
]


def environment(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("DPP_URL", url)
    monkeypatch.setenv("DPP_MANAGEMENT_URL", url)
    monkeypatch.setenv("DPP_ADMIN_TOKEN", "t" * 32)
    monkeypatch.setenv("DPP_API_KEY", "dpp_live_x")


@pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
def test_a_node_that_does_not_answer_ends_with_3_and_names_where_it_was_asked(
    dpp: Dpp, closed_url: str, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    environment(monkeypatch, closed_url)

    ended = dpp(*arguments, "--json")

    assert ended.status == Exit.UNREACHABLE
    assert ended.document["error"]["url"] == closed_url
    assert closed_url in ended.err
    assert "dpp serve" in ended.err


@pytest.mark.parametrize("arguments", ASKING, ids=" ".join)
def test_a_refusal_ends_with_1_and_carries_the_problem(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...]
) -> None:
    body = '{"type": "https://dpp.dev/problems/forbidden", "title": "No", "detail": "not you"}'
    with peer([Says(403, body)]) as server:
        environment(monkeypatch, server.url)

        ended = dpp("--json", *arguments)

    # 1 of an audit says that the books do not hold.
    assert ended.status == (Exit.UNREACHABLE if arguments == ("audit",) else Exit.NEGATIVE)
    assert ended.document["error"]["code"] == "forbidden"
    assert ended.document["error"]["problem"]["detail"] == "not you"
    assert "not you" in ended.err


@pytest.mark.parametrize("status", [401, 404, 500, 503])
def test_an_audit_that_could_not_look_does_not_end_as_one_that_found_something(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch, status: int
) -> None:
    body = '{"type": "https://dpp.dev/problems/store-unavailable", "title": "No", "detail": "away"}'
    with peer([Says(status, body)]) as server:
        environment(monkeypatch, server.url)

        ended = dpp("audit", "--json")

    assert ended.status == Exit.UNREACHABLE
    assert ended.document["error"]["problem"]["detail"] == "away"


def test_the_addresses_of_the_configuration_are_tried_where_nothing_names_a_node(
    dpp: Dpp, closed_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = closed_url.removeprefix("http://")
    monkeypatch.setenv("DPP_MANAGEMENT__LISTEN", address.replace("127.0.0.1", "0.0.0.0"))  # noqa: S104
    monkeypatch.setenv("STATE_DIRECTORY", os.environ["DPP_DATA_DIR"])
    monkeypatch.delenv("DPP_DATA_DIR")

    ended = dpp("audit", "--json")

    assert ended.status == Exit.UNREACHABLE
    assert ended.document["error"]["url"] == closed_url


@pytest.mark.parametrize("flag", [True, False])
@pytest.mark.parametrize("asking", [("audit",), ("run", "list", "--api-key", "k")], ids=" ".join)
def test_a_directory_that_is_named_is_never_left_for_another_node(
    dpp: Dpp,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    asking: tuple[str, ...],
    flag: bool,  # noqa: FBT001 - pytest gives it
) -> None:
    named = tmp_path / "none"
    monkeypatch.setenv("DPP_ADMIN_TOKEN", "t" * 32)
    if flag:
        monkeypatch.delenv("DPP_DATA_DIR")
    else:
        monkeypatch.setenv("DPP_DATA_DIR", str(named))
    with peer([Says(200)]) as another:
        address = another.url.removeprefix("http://")
        for section in ("HTTP", "MANAGEMENT"):
            port = address.rpartition(":")[2]
            monkeypatch.setenv(f"DPP_{section}__LISTEN", f"localhost:{port}")

        ended = dpp(*asking, *(("--data-dir", str(named)) if flag else ()), "--json")

    assert (ended.status, another.asked) == (Exit.UNREACHABLE, [])
    assert ended.document["error"]["code"] == "no-node"
    assert f"No node runs on {named}" in ended.err
    assert "DPP_URL" in ended.err


def test_a_node_that_does_not_listen_yet_is_named_so(
    dpp: Dpp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DPP_DATA_DIR", str(tmp_path))
    (tmp_path / "node.json").write_text('{"pid": 17}')
    held = os.open(tmp_path, os.O_RDONLY)
    fcntl.flock(held, fcntl.LOCK_EX)

    ended = dpp("audit", "--json")

    os.close(held)
    assert ended.status == Exit.UNREACHABLE
    assert "(pid 17) does not listen yet" in ended.err


def test_a_missing_token_is_said_once_it_is_known_that_somebody_listens(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        monkeypatch.setenv("DPP_MANAGEMENT_URL", f"http://127.0.0.1:{port}")

        ended = dpp("audit", "--json")

    assert ended.status == Exit.USAGE
    assert ended.document["error"]["code"] == "no-admin-token"


def test_a_run_needs_a_key_or_a_tenant(dpp: Dpp) -> None:
    ended = dpp("run", "list", "--json")

    assert ended.status == Exit.USAGE
    assert ended.document["error"]["code"] == "no-api-key"


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("run", "submit"),
        ("run", "list", "--api-key", "k", "--tenant", "t"),
        ("run", "list", "--limit", "0"),
        ("tenant", "create"),
        ("run", "submit", "--pack", "echo", "--max-cost", "1", "--input", "nothing"),
    ],
    ids=" ".join,
)
def test_a_wrong_command_line_ends_with_2_and_one_document(
    dpp: Dpp, monkeypatch: pytest.MonkeyPatch, closed_url: str, arguments: tuple[str, ...]
) -> None:
    monkeypatch.setenv("DPP_URL", closed_url)

    ended = dpp(*arguments, "--json")

    assert ended.status == Exit.USAGE
    assert ended.document["error"]["code"] == "usage"


def test_json_after_two_dashes_is_an_argument_like_any_other(dpp: Dpp) -> None:
    ended = dpp("nonsense", "--", "--json")

    assert (ended.status, ended.out) == (Exit.USAGE, "")


@pytest.mark.parametrize("arguments", [("--json", "version"), ("version", "--json")])
def test_json_may_stand_before_and_after_the_command(dpp: Dpp, arguments: tuple[str, ...]) -> None:
    ended = dpp(*arguments)
    schema = dpp("version", "--schema")

    said = {"version": VERSION, "schema": schema.out.strip()}
    assert (ended.status, ended.document, ended.err) == (Exit.GOOD, said, "")
    assert (sql_dir() / "migrations" / f"{said['schema']}.sql").exists()


def test_every_command_takes_json_config_and_data_dir() -> None:
    def commands(group: object) -> list[object]:
        inner = getattr(group, "commands", {}).values()
        return [group, *(one for command in inner for one in commands(command))]

    for command in commands(cli):
        options = {name for param in command.params for name in param.opts}  # type: ignore[attr-defined]
        assert {"--json", "--config", "--data-dir"} <= options, command


def test_a_data_directory_that_only_an_operator_can_mend_ends_with_78() -> None:
    error = DataDirError("It is not ours.", did="DPP changed nothing.", remedy="Name another.")

    stop = explain(BaseExceptionGroup("", [ExceptionGroup("", [error])]))

    assert stop is not None
    assert stop.status == Exit.CONFIGURATION
    assert stop.trouble.document() == {
        "code": "data-directory",
        "what": "It is not ours.",
        "did": "DPP changed nothing.",
        "todo": "Name another.",
    }


def test_a_bug_is_explained_by_nobody_not_even_beside_something_known() -> None:
    known = DataDirError("It is not ours.", did="", remedy="")

    assert explain(ValueError("bug")) is None
    assert explain(ExceptionGroup("", [known, ValueError("bug")])) is None


def test_an_address_that_is_taken_is_named() -> None:
    taken = OSError(errno.EADDRINUSE, "127.0.0.1 port 8080: Address already in use")
    error = ExceptionGroup("", [taken])

    stop = explain(error)

    assert stop is not None
    assert (stop.status, stop.trouble.code) == (Exit.NEGATIVE, "address")
    assert "on 127.0.0.1 port 8080" in stop.trouble.what


@pytest.mark.parametrize("listener", ["--listen", "--management"])
def test_a_port_that_is_taken_is_known_before_a_database_is_made(dpp: Dpp, listener: str) -> None:
    other = ({"--listen", "--management"} - {listener}).pop()
    with (
        tempfile.TemporaryDirectory(prefix="dpp-test-") as place,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        Path(place).chmod(0o755)  # PostgreSQL's user can search it
        address, free = (f"127.0.0.1:{port}" for port in (taken.getsockname()[1], free_port()))

        where = (listener, address, other, free, "--data-dir", f"{place}/dpp")
        ended = dpp("serve", *where, "--json")

        assert (ended.status, ended.document["error"]["code"]) == (Exit.NEGATIVE, "address")
        assert not Path(place, "dpp", "postgres").exists()
        with socket.socket() as again:  # without SO_REUSEADDR: the other one has been closed
            again.bind(("127.0.0.1", int(free.rpartition(":")[2])))


@pytest.mark.parametrize("held_back", ["", "1"])
@pytest.mark.parametrize("arguments", [("version",), ("nonsense", "--json"), ("--help",)])
def test_a_stdout_that_takes_nothing_is_said(arguments: tuple[str, ...], held_back: str) -> None:
    command = [sys.executable, "-m", "dpp", *arguments]
    environ = {**os.environ, "PYTHONUNBUFFERED": held_back}

    with Path("/dev/full").open("w") as full:
        ended = subprocess.run(
            command, check=False, stdout=full, stderr=subprocess.PIPE, text=True, env=environ
        )

    assert ended.returncode == Exit.NEGATIVE
    assert "dpp: The answer cannot be printed: No space left on device." in ended.stderr
    assert "Traceback" not in ended.stderr
    assert "Exception ignored" not in ended.stderr


def test_a_file_that_cannot_be_read_is_no_address() -> None:
    assert explain(OSError(errno.EACCES, "Permission denied", "dpp.toml")) is None


def test_the_module_is_the_command(tmp_path: Path) -> None:
    command = [sys.executable, "-X", "importtime", "-m", "dpp", "version"]

    ended = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30)

    assert ended.stdout == f"dpp {VERSION}\n"
    loaded = {line.rpartition("|")[2].strip() for line in ended.stderr.splitlines()}
    assert "click" in loaded
    slow = {"trio", "httpx", "rich", "cattrs", "asyncpg", "quart", "hypercorn", "structlog"}
    assert not loaded & (slow | {"dpp.node", "dpp.config", "dpp.store"})
