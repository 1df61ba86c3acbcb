"""What `dpp doctor` says of the machine and the configuration, by real files and limits."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from dpp import config as configuration
from dpp import datadir
from dpp.certificates import NoCertificate, ends_of
from dpp.diagnosis import fleet
from dpp.diagnosis import machine as machines
from dpp.diagnosis import redis as redises
from dpp.diagnosis import settings as configured
from dpp.diagnosis.checks import Check, Unknown
from dpp.diagnosis.machine import Descriptors, Expiry
from dpp.doctor import machine, settings
from dpp.store import redis_facts
from dpp.store.bridge import Bridge
from tests.doctor.looks import by_name, not_well
from tests.http.certificates import make_certificate
from tests.redis_server import needs_redis, redis_server


@pytest.fixture
def data_dir() -> Iterator[Path]:
    """Give a data directory that a node has left; PostgreSQL's user may search what is over it."""
    path = Path(tempfile.mkdtemp(prefix="dpp-test-"))
    path.chmod(0o755)
    with datadir.hold(path / "data"):
        pass
    yield path / "data"
    shutil.rmtree(path)


def home(path: Path) -> dict[str, Check]:
    return by_name(machines.home(machine.home(path, None)))


def judged(text: str, tmp_path: Path, mode: int = 0o600, **env: str) -> dict[str, Check]:
    file = tmp_path / "dpp.toml"
    file.write_text(text)
    file.chmod(mode)
    return by_name(configured.diagnose(settings.gather(configuration.load({}, env, file), file)))


def test_a_directory_that_a_node_made_is_well(data_dir: Path) -> None:
    assert not_well(home(data_dir).values()) == {}


@pytest.mark.parametrize(
    ("name", "mode", "check"),
    [
        (datadir.ADMIN_TOKEN, 0o644, "file permissions"),
        (datadir.BLOBS, 0o755, "file permissions"),
        (".", 0o755, "data directory"),
    ],
)
def test_what_is_open_to_others_is_named(data_dir: Path, name: str, mode: int, check: str) -> None:
    (data_dir / name).chmod(mode)

    found = home(data_dir)

    assert not_well(found.values()) == {check: False}
    assert f"{mode:04o}" in found[check].found
    assert str(data_dir / name) in found[check].fix


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a directory to another user")
def test_another_users_directory_is_left_to_that_user(data_dir: Path) -> None:
    for path in (data_dir, *data_dir.iterdir()):
        os.chown(path, 65534, 65534)
    data_dir.chmod(0o700)

    found = home(data_dir)["user"]

    assert found.ok is None
    assert "sudo -u nobody dpp doctor" in found.fix


def test_no_directory_is_nothing_wrong(tmp_path: Path) -> None:
    assert not_well(home(tmp_path / "none").values()) == {}


def test_a_disk_that_is_short_is_named(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rooms = machine.rooms(data_dir, embedded=True, results=True)
    monkeypatch.setattr(machines, "FREE_BYTES_MIN", 1)
    monkeypatch.setattr(machines, "FREE_INODES_MIN", 1)
    enough = [*machines.room(rooms)]
    monkeypatch.setattr(machines, "FREE_BYTES_MIN", 1 << 62)
    monkeypatch.setattr(machines, "FREE_INODES_MIN", 1 << 62)
    short = by_name(machines.room(rooms))

    assert not_well(enough) == {}
    assert short["disk space"].ok is False
    assert str(data_dir) in short["disk space"].found


def test_the_limit_of_files_is_the_running_nodes(data_dir: Path) -> None:
    this = datadir.RunningNode(os.getpid())

    enough = machines.descriptors(machine.limits(1, this))
    few = machines.descriptors(machine.limits(1 << 40, this))

    assert f"pid {os.getpid()}" in enough.found
    assert enough.ok is True
    unlimited = machine.limits(1, this).hard is None
    assert few.ok is unlimited
    assert "LimitNOFILE=" in machines.descriptors(Descriptors(100, 2256, "the node")).fix


def test_the_kernel_is_asked_whether_its_clock_is_kept() -> None:
    """What it says is the machine's affair; that it answers is ours."""
    answer = machine.synchronised()

    said = subprocess.run(
        ["timedatectl", "show", "-p", "NTPSynchronized", "--value"],
        check=False, capture_output=True, text=True,
    ).stdout.strip() if Path("/run/systemd/system").exists() else ""  # fmt: skip
    assert isinstance(answer, bool | Unknown)
    assert said in {"", "yes" if answer is True else "no"}
    assert machines.synchronised(kept=True, production=True).ok is True
    assert machines.synchronised(kept=False, production=True).ok is None
    assert machines.synchronised(kept=False, production=False).ok is True


def test_files_of_another_postgresql_are_refused(data_dir: Path) -> None:
    assert fleet.files(machine.database_files(data_dir)).ok is True
    (data_dir / datadir.POSTGRES).mkdir()
    (data_dir / datadir.POSTGRES / "PG_VERSION").write_text("17\n")

    found = fleet.files(machine.database_files(data_dir))

    assert found.ok is False
    assert "PostgreSQL 17" in found.found


# ── certificates ─────────────────────────────────────────────────────────────────────────────────


def test_the_end_of_a_certificate_is_what_openssl_says(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)
    said = subprocess.run(
        ["openssl", "x509", "-noout", "-enddate", "-in", str(made.chain)],
        check=True, capture_output=True, text=True,
    ).stdout.strip()  # fmt: skip

    (end,) = ends_of(made.chain.read_text())

    assert said == f"notAfter={end:%b} {end.day:2} {end:%H:%M:%S} {end.year} GMT"


@pytest.mark.parametrize(
    "text", ["", "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----"]
)
def test_what_is_no_certificate_is_said(text: str) -> None:
    with pytest.raises(NoCertificate):
        ends_of(text)


def test_a_certificate_that_ends_soon_is_wrong_and_one_that_does_not_is_well(
    tmp_path: Path,
) -> None:
    made = make_certificate(tmp_path)
    (end,) = ends_of(made.chain.read_text())
    asked = {
        days: machine.expiries([("http.tls_certificate", made.chain)], end - timedelta(days=days))
        for days in (15, 13, -1)
    }

    verdicts = {days: machines.certificates(one) for days, one in asked.items()}

    assert {days: one.ok for days, one in verdicts.items()} == {15: True, 13: False, -1: False}
    assert "is over" in verdicts[-1].found
    (none,) = machine.expiries([("database.url", tmp_path / "none")], datetime.now(UTC))  # noqa: TID251 - any
    assert machines.certificates([none]).ok is None
    assert machines.certificates([Expiry("x", "y", 15.0), none]).ok is None


# ── the configuration ────────────────────────────────────────────────────────────────────────────


def test_the_shipped_configuration_is_well(tmp_path: Path) -> None:
    assert not_well(judged("", tmp_path).values()) == {}


def test_a_warning_is_wrong_and_told(tmp_path: Path) -> None:
    found = judged("", tmp_path, RECONCILE_THRESHOLD_MIN="5")["configuration"]

    assert found.ok is False
    assert "RECONCILE_THRESHOLD_MIN" in found.found


def test_a_setting_without_effect_is_told(tmp_path: Path) -> None:
    found = judged('[database]\nsocket_group = "dpp"\n', tmp_path)["configuration"]

    assert found.ok is False
    assert "database.socket_group" in found.found


def test_a_file_that_everybody_may_write_is_wrong(tmp_path: Path) -> None:
    found = judged("", tmp_path, 0o606)["configuration"]

    assert (found.ok, "chmod o-w" in found.fix) == (False, True)


def test_a_password_in_a_file_for_all_is_told(tmp_path: Path) -> None:
    text = '[database]\nurl = "postgresql://dpp_app:canary@127.0.0.1/dpp"\n'

    found = judged(text, tmp_path, 0o644)["configuration"]

    assert found.ok is False
    assert "chmod o=" in found.found
    assert "canary" not in found.found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('[http]\ncors_allowed_origins = ["*"]', "any site"),
        ('[http]\nlisten = "8.8.8.8:80"', "public address"),
        ('[redis]\nurl = "redis://redis.example.com/0"', "redis.url to redis.example.com"),
        (
            '[database]\nurl = "postgresql://dpp_app@a.example,127.0.0.1/dpp?sslmode=require"',
            "database.url to a.example",
        ),
        ("[database]\nallow_unsynced = true", "may lose commits"),
    ],
)
def test_what_is_unsafe_is_wrong_in_production_and_told_elsewhere(
    tmp_path: Path, text: str, said: str
) -> None:
    dev = judged(text, tmp_path)["unsafe settings"]
    production = judged(text, tmp_path, DPP_NODE__PROFILE="production")["unsafe settings"]

    assert (dev.ok, production.ok) == (True, False)
    assert said in dev.found
    assert said in production.found


def test_a_link_whose_server_is_verified_is_safe(tmp_path: Path) -> None:
    text = (
        '[database]\nurl = "postgresql://dpp_app@a.example/dpp?sslmode=verify-full"\n'
        '[redis]\nurl = "rediss://redis.example.com/0"\n'
    )

    assert judged(text, tmp_path, DPP_NODE__PROFILE="production")["unsafe settings"].ok is True


@pytest.mark.parametrize(
    ("host", "ok"),
    [("127.0.0.1", True), ("10.0.0.5", True), ("0.0.0.0", False), ("8.8.8.8", False)],  # noqa: S104
)
def test_a_management_listener_for_everybody_is_wrong(
    tmp_path: Path, host: str, *, ok: bool
) -> None:
    found = judged(f'[management]\nlisten = "{host}:9090"', tmp_path)["management listener"]

    assert found.ok is ok


def test_a_secret_that_a_group_may_write_is_wrong(tmp_path: Path) -> None:
    secret = tmp_path / "url"
    secret.write_text("postgresql://dpp_app:canary@127.0.0.1/dpp")
    secret.chmod(0o620)

    found = judged(f'[database]\nurl_file = "{secret}"', tmp_path)["secret files"]
    secret.chmod(0o600)
    mended = judged(f'[database]\nurl_file = "{secret}"', tmp_path)["secret files"]

    assert (found.ok, mended.ok) == (False, True)
    assert str(secret) in found.fix


# ── redis ────────────────────────────────────────────────────────────────────────────────────────


@needs_redis
async def test_redis_is_asked_how_it_is(bridge: Bridge) -> None:
    with redis_server() as server:
        well = redises.diagnose(await bridge.run(lambda: redis_facts.gather(server.url)))
        server.kill()
        gone = redises.diagnose(await bridge.run(lambda: redis_facts.gather(server.url)))
        # Empty it uses over 100 KiB: a limit below that is full.
        server.start("--maxmemory", "100kb", "--maxmemory-policy", "noeviction")
        full = redises.diagnose(await bridge.run(lambda: redis_facts.gather(server.url)))

    assert (well.ok, gone.ok, full.ok) == (True, False, False)
    assert "redis.url" in gone.fix
    assert "maxmemory-policy noeviction" in full.found
    assert "volatile-ttl" in full.fix


def test_where_a_node_really_listens_is_judged_and_not_what_is_set(tmp_path: Path) -> None:
    file = tmp_path / "dpp.toml"
    file.write_text('[node]\nprofile = "production"\n')
    config = configuration.load({}, {}, file)

    def unsafe(url: str) -> Check:
        node = datadir.RunningNode(1, url, "http://127.0.0.1:9090")
        return by_name(configured.diagnose(settings.gather(config, file, node)))["unsafe settings"]

    assert unsafe("http://127.0.0.1:8080").ok is True
    assert unsafe("http://9.9.9.9:8080").ok is False
