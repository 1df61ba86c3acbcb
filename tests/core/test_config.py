"""The configuration: what holds, who wins, what is refused, and that secrets stay secret."""

from __future__ import annotations

import itertools
import json
import re
import tomllib
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from attrs import asdict

from dpp import config
from dpp.combinations import COMBINATIONS, UNUSED
from dpp.config import SCHEMA, ConfigErrors, load, show
from dpp.environment import EARLIER, THRESHOLD_WARNING, name_of
from dpp.money import Micros
from dpp.plans import Plan
from dpp.pricing import FeeRule
from dpp.resources import config_dir
from dpp.sections import Config
from dpp.urls import Address
from tests.http.certificates import make_certificate

if TYPE_CHECKING:
    from collections.abc import Mapping

SHIPPED = config_dir() / "dpp.toml"
ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "configuration.md"
# The modules that make the configuration; whoever else names a setting uses it.
MAKERS = {"combinations", "config", "environment", "rules", "sections", "settings", "urls"}
# What the configuration itself acts on: production refuses what dev allows.
JUDGES = {"node.profile"}
# Settings of large results; nothing reads them before these are served.
LARGE = {
    "reconcile.interval_s",
    "reconcile.scan_limit",
    "reconcile.store_wait_s",
    "runs.result_max_bytes",
}

DEFAULTS = {
    "node": {"data_dir": None, "drain_s": 20, "profile": "dev"},
    "http": {
        "listen": Address("127.0.0.1", 8080),
        "server": "actor",
        "cors_allowed_origins": (),
        "connections_max": 2000,
        "body_max_bytes": 1 << 20,
        "batch_body_max_bytes": 16 << 20,
        "wait_max_s": 60,
        "tls_certificate": None,
        "tls_key_file": None,
    },
    "management": {"listen": Address("127.0.0.1", 9090), "token": None},
    "database": {
        "url": "embedded",
        "migrations_url": None,
        "pooler": "auto",
        "pool": "queuepool",
        "pool_size": 8,
        "max_overflow": 0,
        "allow_unsynced": False,
        "durability": "local",
        "socket_group": None,
    },
    "lease": {"lease_s": 30, "heartbeat_interval_s": 10},
    "reaper": {"interval_s": 5, "scan_limit": 100},
    "reconcile": {"interval_s": 60, "scan_limit": 100, "store_wait_s": 600},
    "audit": {"interval_s": 60},
    "runs": {
        "timebox_s": 90,
        "timebox_max_s": 3600,
        "attempts_max": 3,
        "queue_ttl_s": 604_800,
        "inline_max_bytes": 65_536,
        "result_max_bytes": 64 << 20,
        "result_retention_days": 30,
        "run_retention_days": 400,
        "key_retention_days": 430,
        "transfer_retention_days": 0,
        "concurrency": 500,
    },
    "webhooks": {"ports": (443,), "allow_loopback": False},
    "redis": {"url": None},
    "s3": {"bucket": None, "region": None, "endpoint_url": None, "kms_key_id": None},
    "sqs": {"queue_url": None, "endpoint_url": None},
    "sentry": {"dsn": None},
    "log": {"level": "INFO", "format": "auto"},
    "metrics": {"tenants": ()},
    "testing": {"failpoints": ()},
}

DSN = "postgres://app.ref:pa%2Fss@db.example.com:6543/postgres"
# Each name of the earlier guide: what it says there, the setting, and what that becomes.
GUIDE = {
    "LOG_LEVEL": ("debug", "log.level", "DEBUG"),
    "DPP_JSON_LOGS": ("true", "log.format", "json"),
    "DATABASE_URL": (DSN, "database.url", DSN),
    "DATABASE_URL_MIGRATIONS": (
        "postgresql://u@h:5432/d",
        "database.migrations_url",
        "postgresql://u@h:5432/d",
    ),
    "DPP_DB_POOL": ("nullpool", "database.pool", "nullpool"),
    "DPP_DB_POOL_SIZE": ("5", "database.pool_size", 5),
    "DPP_DB_MAX_OVERFLOW": ("10", "database.max_overflow", 10),
    "REDIS_URL": ("redis://r.example.com:6379/0", "redis.url", "redis://r.example.com:6379/0"),
    "AWS_REGION": ("us-east-1", "s3.region", "us-east-1"),
    "SQS_QUEUE_URL": (
        "https://sqs.us-east-1.amazonaws.com/1/runs",
        "sqs.queue_url",
        "https://sqs.us-east-1.amazonaws.com/1/runs",
    ),
    "SQS_ENDPOINT_URL": ("http://127.0.0.1:4566", "sqs.endpoint_url", "http://127.0.0.1:4566"),
    "S3_RESULT_BUCKET": ("dpp-results-production", "s3.bucket", "dpp-results-production"),
    "S3_ENDPOINT_URL": ("http://127.0.0.1:4566", "s3.endpoint_url", "http://127.0.0.1:4566"),
    "CORS_ALLOWED_ORIGINS": (
        "https://app.example.com, https://dashboard.example.com",
        "http.cors_allowed_origins",
        ("https://app.example.com", "https://dashboard.example.com"),
    ),
    "SENTRY_DSN": (
        "https://abc@o1.ingest.sentry.io/2",
        "sentry.dsn",
        "https://abc@o1.ingest.sentry.io/2",
    ),
    "PROMETHEUS_PORT": ("9191", "management.listen", Address("127.0.0.1", 9191)),
    "WORKER_HEARTBEAT_INTERVAL_SEC": ("14", "lease.heartbeat_interval_s", 14),
    "WORKER_LEASE_TTL_SEC": ("120", "lease.lease_s", 120),
    "REAPER_INTERVAL_SEC": ("30", "reaper.interval_s", 30),
    "REAPER_SCAN_LIMIT": ("50", "reaper.scan_limit", 50),
    "RECONCILE_INTERVAL_SEC": ("61", "reconcile.interval_s", 61),
    "RECONCILE_SCAN_LIMIT": ("51", "reconcile.scan_limit", 51),
}
# Those that give no setting of their own.
GUIDE_APART = {"REDIS_PASSWORD", "RECONCILE_THRESHOLD_MIN"}


def of(
    toml: str = "",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    tmp_path: Path | None = None,
) -> Config:
    """Return the configuration of these sources, and of no other."""
    file = None
    if toml:
        assert tmp_path is not None
        file = tmp_path / "dpp.toml"
        file.write_text(toml)
        file.chmod(0o600)
    return load(flags or {}, environ or {}, file, system_file=None)


def errors_of(
    toml: str = "",
    environ: Mapping[str, str] | None = None,
    flags: Mapping[str, object] | None = None,
    *,
    tmp_path: Path | None = None,
) -> list[str]:
    with pytest.raises(ConfigErrors) as raised:
        of(toml, environ, flags, tmp_path=tmp_path)
    assert str(raised.value) == "\n".join(str(error) for error in raised.value.errors)
    return [str(error) for error in raised.value.errors]


def setting(loaded: Config, key: str) -> object:
    section, _, word = key.partition(".")
    value: object = getattr(getattr(loaded, section), word)
    return value


# -- what ships ---------------------------------------------------------------------------------


def test_defaults_are_those_of_the_operator_contract() -> None:
    loaded = config.defaults()

    tables = {section: asdict(getattr(loaded, section), recurse=False) for section in DEFAULTS}
    assert tables == DEFAULTS
    assert loaded.warnings == ()
    assert set(loaded.origins.values()) == {"default"}


def test_shipped_plans() -> None:
    fee = FeeRule(floor=Micros(5_000), percent_ppm=20_000, cap=Micros(100_000))

    assert config.defaults().plans == {
        "basic": Plan("basic", 60, 600, 10, 10_000, Micros(10_000_000), None, fee, 1),
        "pro": Plan("pro", 600, 6_000, 100, 100_000, Micros(100_000_000), None, fee, 1),
        "unlimited": Plan("unlimited", None, None, None, None, None, None, fee, 1),
    }


def test_shipped_file_names_every_setting_and_no_other() -> None:
    tables = tomllib.loads(SHIPPED.read_text())

    named = {f"{section}.{key}" for section in tables.keys() - {"plans"} for key in tables[section]}
    assert named == (SCHEMA.rules.keys() - {"management.token"}) | {"management.token_file"}
    assert {key.partition(".")[0] for key in SCHEMA.rules} | {"plans"} == set(tables)


def test_every_setting_in_the_shipped_file_stands_under_its_reason() -> None:
    lines = SHIPPED.read_text().split("[plans.")[0].splitlines()

    for before, line in itertools.pairwise(lines):
        if re.match(r"[a-z_]+ = ", line):
            assert before.startswith("# "), line


def test_a_file_that_repeats_the_defaults_changes_nothing(tmp_path: Path) -> None:
    assert of(SHIPPED.read_text(), tmp_path=tmp_path) == config.defaults()


def test_page_names_each_setting_with_its_default_and_each_earlier_name() -> None:
    page = PAGE.read_text()
    tables = tomllib.loads(SHIPPED.read_text())

    for section in tables.keys() - {"plans"}:
        for key, value in tables[section].items():
            assert f"| `{section}.{key}` | `{json.dumps(value)}` |" in page, key
    for key in SCHEMA.plan_rules:
        assert f"| `{key}` |" in page
    for name in EARLIER.keys() | GUIDE_APART:
        assert f"| `{name}` |" in page


def settings_read() -> set[str]:
    """Return the settings that modules other than those of the configuration name."""
    makers = {ROOT / "dpp" / f"{name}.py" for name in MAKERS}
    read = "".join(path.read_text() for path in {*(ROOT / "dpp").rglob("*.py")} - makers)
    return {key for key in SCHEMA.rules if re.search(rf"\.{re.escape(key)}\b", read)}


def test_every_setting_is_read_or_known_to_be_unused() -> None:
    unread = SCHEMA.rules.keys() - settings_read() - JUDGES

    assert unread - LARGE == set(UNUSED)


def test_the_page_and_the_shipped_file_mark_what_is_not_used_yet() -> None:
    rows = re.findall(
        r"^\| `([a-z0-9_.]+)` \|.* \*Not used yet\.\* \|$", PAGE.read_text(), flags=re.MULTILINE
    )
    marked, section, comment = set(), "", ""
    for line in SHIPPED.read_text().split("[plans.")[0].splitlines():
        if line.startswith("["):
            section = line.strip("[]")
        elif line.startswith("#"):
            comment = line
        elif comment.endswith(" Not used yet."):
            marked.add(f"{section}.{line.partition(' ')[0]}")
            comment = ""

    assert set(rows) == marked == set(UNUSED)


def test_a_changed_setting_that_is_not_used_is_a_warning_and_the_default_is_none() -> None:
    environ = {
        "DPP_AUDIT__INTERVAL_S": "5",
        "DPP_DATABASE__MAX_OVERFLOW": "0",
        "DPP_DATABASE__SOCKET_GROUP": "dpp",
    }

    assert of(environ=environ).warnings == (
        "database.socket_group (DPP_DATABASE__SOCKET_GROUP) is not used by this version",
    )


@pytest.mark.parametrize("url", ["embedded", "postgresql://u:canary@h/d"])
def test_a_durability_that_is_not_kept_is_refused(url: str) -> None:
    environ = {"DPP_DATABASE__DURABILITY": "quorum", "DATABASE_URL": url}

    (error,) = errors_of(environ=environ)

    assert error == (
        'DPP_DATABASE__DURABILITY: database.durability = "quorum": must be "local":'
        " this version does not wait for standbys"
    )


# -- who wins -----------------------------------------------------------------------------------


def test_flag_beats_environment_beats_earlier_name_beats_file_beats_default(tmp_path: Path) -> None:
    toml = '[management]\nlisten = "127.0.0.1:1"\n'
    earlier = {"PROMETHEUS_PORT": "2"}
    named = {**earlier, "DPP_MANAGEMENT__LISTEN": "127.0.0.1:3"}
    flags = {"management": "127.0.0.1:4", "listen": None}

    steps = [
        of(),
        of(toml, tmp_path=tmp_path),
        of(toml, earlier, tmp_path=tmp_path),
        of(toml, named, tmp_path=tmp_path),
        of(toml, named, flags, tmp_path=tmp_path),
    ]

    assert [step.management.listen.port for step in steps] == [9090, 1, 2, 3, 4]
    assert [step.origins["management.listen"] for step in steps] == [
        "default",
        str(tmp_path / "dpp.toml"),
        "PROMETHEUS_PORT",
        "DPP_MANAGEMENT__LISTEN",
        "--management",
    ]


@pytest.mark.parametrize("key", sorted(SCHEMA.rules.keys() - {"management.token"}))
def test_every_setting_has_a_name_in_the_environment(key: str) -> None:
    word = show(of())[key.partition(".")[0]][key.partition(".")[2]]["value"]
    text = ",".join(map(str, word)) if isinstance(word, list) else str(word)

    loaded = of(environ={name_of(key): text})

    assert loaded == config.defaults()
    assert loaded.origins[key] == name_of(key)


@pytest.mark.parametrize("name", sorted(GUIDE))
def test_names_of_the_earlier_guide(name: str) -> None:
    text, key, value = GUIDE[name]

    loaded = of(environ={name: text})

    assert setting(loaded, key) == value
    assert loaded.origins[key] == name
    unused = (f"{key} ({name}) is not used by this version",) if key in UNUSED else ()
    assert loaded.warnings == unused


def test_there_are_24_earlier_names_and_each_is_tried() -> None:
    assert EARLIER.keys() == GUIDE.keys()
    assert len(GUIDE.keys() | GUIDE_APART) == 24


def test_an_earlier_name_with_nothing_in_it_gives_nothing() -> None:
    assert of(environ=dict.fromkeys(GUIDE.keys() | GUIDE_APART, "")) == config.defaults()


def test_dpp_name_beats_the_earlier_one() -> None:
    environ = {"LOG_LEVEL": "DEBUG", "DPP_LOG__LEVEL": "ERROR"}

    assert of(environ=environ).log.level == "ERROR"


@pytest.mark.parametrize(
    ("text", "style"), [("1", "json"), ("FALSE", "console"), ("off", "console")]
)
def test_json_logs_is_yes_or_no(text: str, style: str) -> None:
    assert of(environ={"DPP_JSON_LOGS": text}).log.format == style


def test_reconcile_threshold_is_accepted_with_one_warning() -> None:
    loaded = of(environ={"RECONCILE_THRESHOLD_MIN": "5"})

    assert loaded == config.defaults()
    assert loaded.warnings == (THRESHOLD_WARNING,)
    assert "lease.lease_s" in THRESHOLD_WARNING
    assert "reconcile.store_wait_s" in THRESHOLD_WARNING


@pytest.mark.parametrize(
    ("listen", "expected"),
    [("0.0.0.0:1", Address("0.0.0.0", 9)), ("[::1]:1", Address("::1", 9))],  # noqa: S104
)
def test_prometheus_port_changes_only_the_port(
    listen: str, expected: Address, tmp_path: Path
) -> None:
    toml = f'[management]\nlisten = "{listen}"\n'

    assert of(toml, {"PROMETHEUS_PORT": "9"}, tmp_path=tmp_path).management.listen == expected


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("redis://h:6379/0", "redis://:p%40%2F%3Aw@h:6379/0"),
        ("rediss://app@h/1", "rediss://app:p%40%2F%3Aw@h/1"),
        ("redis://:p%40%2F:w@h", "redis://:p%40%2F%3Aw@h"),
    ],
)
def test_redis_password_joins_the_url(url: str, expected: str, tmp_path: Path) -> None:
    loaded = of(f'[redis]\nurl = "{url}"\n', {"REDIS_PASSWORD": "p@/:w"}, tmp_path=tmp_path)

    assert loaded.redis.url == expected
    assert loaded.origins["redis.url"] == f"{tmp_path / 'dpp.toml'} with REDIS_PASSWORD"


def test_redis_password_that_contradicts_the_url_is_refused() -> None:
    environ = {"REDIS_URL": "redis://:one-secret@h", "REDIS_PASSWORD": "two-secret"}

    (error,) = errors_of(environ=environ)

    assert error == (
        "REDIS_PASSWORD: must be the password in redis.url (REDIS_URL), or one of the two must go"
    )


def test_redis_password_without_redis_is_a_warning() -> None:
    assert of(environ={"REDIS_PASSWORD": "x"}).warnings == (
        "REDIS_PASSWORD is ignored: redis.url is not set",
    )


def test_data_dir_flag_beats_its_name_beats_the_setting(tmp_path: Path) -> None:
    environ = {"DPP_DATA_DIR": "/a", "DPP_NODE__DATA_DIR": "/b"}

    assert of(environ=environ).node.data_dir == Path("/a")
    assert of(environ=environ, flags={"data_dir": tmp_path / "c"}).node.data_dir == tmp_path / "c"


def test_relative_data_dir_is_taken_where_it_was_typed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    assert of(flags={"data_dir": "here"}).node.data_dir == tmp_path / "here"
    assert "an absolute path" in errors_of('[node]\ndata_dir = "here"\n', tmp_path=tmp_path)[0]


# -- which file ---------------------------------------------------------------------------------


def test_config_flag_beats_dpp_config_beats_the_system_file(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("flag", "environment", "system")]
    for port, file in enumerate(files, start=1):
        file.write_text(f'[http]\nlisten = "127.0.0.1:{port}"\n')
    flag, environment, system = files
    environ = {"DPP_CONFIG": str(environment)}

    ports = [
        load({}, environ, flag, system_file=system).http.listen.port,
        load({}, environ, system_file=system).http.listen.port,
        load({}, {}, system_file=system).http.listen.port,
        load({}, {}, system_file=tmp_path / "absent").http.listen.port,
    ]

    assert ports == [1, 2, 3, 8080]


def test_no_file_is_found_in_the_current_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "dpp.toml").write_text("this is not TOML")
    (tmp_path / "config").mkdir()
    (tmp_path / "config" / "dpp.toml").write_text("nor is this")
    monkeypatch.chdir(tmp_path)

    assert of() == config.defaults()


@pytest.mark.parametrize("how", ["flag", "environment"])
def test_a_named_file_must_exist(how: str, tmp_path: Path) -> None:
    absent = tmp_path / "absent.toml"
    environ = {"DPP_CONFIG": str(absent)} if how == "environment" else {}

    with pytest.raises(ConfigErrors) as raised:
        load({}, environ, absent if how == "flag" else None, system_file=None)

    assert (
        str(raised.value)
        == f"{absent}: must be a file that can be read (No such file or directory)"
    )


@pytest.mark.parametrize(
    ("content", "where"),
    [
        (b"[http]\nlisten = 'x\n", "must be TOML in UTF-8"),
        (b"[http]\n[http]\n", "line 2, column 6"),
        (b"[database]\nurl = 'postgres://u:hunter2@h/d' oops", "line 2"),
        (b"a = \xff", "UnicodeDecodeError"),
        (b"\xef\xbb\xbf[http]\n", "line 1, column 1"),
        (b"[runs]\ntimebox_s = " + b"9" * 5000, "must be TOML in UTF-8"),
        (b"a = " + b"[" * 50_000, "must be TOML in UTF-8"),
        (b"#" * (1 << 20) + b"#", "at most 1048576 bytes"),
    ],
)
def test_what_is_not_toml_is_refused_by_its_place_alone(
    content: bytes, where: str, tmp_path: Path
) -> None:
    file = tmp_path / "bad.toml"
    file.write_bytes(content)

    with pytest.raises(ConfigErrors) as raised:
        load({}, {}, file, system_file=None)

    (error,) = raised.value.errors
    assert error.origin == str(file)
    assert where in error.allowed
    assert "hunter2" not in str(error)


# -- what is refused ----------------------------------------------------------------------------


def test_all_errors_come_at_once_each_with_its_source_key_value_and_what_is_allowed(
    tmp_path: Path,
) -> None:
    toml = """
    [http]
    lisen = "127.0.0.1:80"
    listen = "nowhere"
    [lease]
    lease_s = 19
    [runs]
    timebox_s = 2.5
    [plans.gold]
    max_cost_usd = 10.0
    colour = "gold"
    [bogus]
    """
    environ = {"DPP_RUNS__ATTEMPTS_MAX": "0", "DPP_HTP__LISTEN": "x", "LOG_LEVEL": "loud"}

    errors = errors_of(toml, environ, {"management": "80"}, tmp_path=tmp_path)

    file = str(tmp_path / "dpp.toml")
    address = 'must be HOST:PORT, such as "127.0.0.1:8080", "0.0.0.0:8080" or "[::1]:8080"'
    heartbeat = f"must be under half of lease.lease_s = 19 ({file})"
    dollars = 'US dollars above zero as a string with at most 6 decimals, such as "10.00"'
    level = 'one of "DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"'
    assert sorted(errors) == sorted(
        [
            f"{file}: http.lisen: unknown name; did you mean http.listen?",
            f'{file}: http.listen = "nowhere": {address}',
            f"default: lease.heartbeat_interval_s = 10: {heartbeat}",
            f"{file}: runs.timebox_s = 2.5: must be a whole number from 1 to 86400",
            f"{file}: plans.gold.max_cost_usd = 10.0: must be {dollars}",
            next(error for error in errors if "plans.gold.colour: unknown name" in error),
            next(error for error in errors if "bogus: unknown name; known are audit" in error),
            'DPP_RUNS__ATTEMPTS_MAX: runs.attempts_max = "0": must be a whole number from 1 to 100',
            "DPP_HTP__LISTEN: unknown name; did you mean DPP_HTTP__LISTEN?",
            f'LOG_LEVEL: log.level = "loud": must be {level}',
            f'--management: management.listen = "80": {address}',
        ]
    )


WRONG = [
    ("node", "drain_s", "-1"),
    ("node", "drain_s", '"20"'),
    ("node", "drain_s", "true"),
    ("node", "drain_s", "20.0"),
    ("node", "drain_s", "2026-01-01"),
    ("node", "drain_s", "0x" + "f" * 9000),
    ("node", "profile", '"prod"'),
    ("node", "profile", "1"),
    ("node", "data_dir", '"relative"'),
    ("node", "data_dir", '"/a\\u0000b"'),
    ("node", "data_dir", "[]"),
    ("http", "listen", '""'),
    ("http", "listen", "8080"),
    ("http", "listen", '":8080"'),
    ("http", "listen", '"127.0.0.1"'),
    ("http", "listen", '"127.0.0.1:65536"'),
    ("http", "listen", '"127.0.0.1:-1"'),
    ("http", "listen", '"::1:8080"'),
    ("http", "listen", '"[::zz]:8080"'),
    ("http", "listen", '"256.0.0.1:8080"'),
    ("http", "listen", '"1:2:3"'),
    ("http", "body_max_bytes", '"1 MB"'),
    ("http", "body_max_bytes", '"1.5 MiB"'),
    ("http", "body_max_bytes", '"-1 KiB"'),
    ("http", "body_max_bytes", "0"),
    ("http", "body_max_bytes", "1.0"),
    ("http", "cors_allowed_origins", '"https://a.example"'),
    ("http", "cors_allowed_origins", '["https://a.example/"]'),
    ("http", "cors_allowed_origins", '["a.example"]'),
    ("http", "cors_allowed_origins", "[1]"),
    ("database", "url", '""'),
    ("database", "url", '"Embedded "'),
    ("database", "url", '"mysql://u@h/d"'),
    ("database", "url", '"postgresql://"'),
    ("database", "url", '"postgresql://h:port/d"'),
    ("database", "url", '"postgresql://u:p w@h/d"'),
    ("database", "url", '"postgres://[db-user].[ref]:[pw]@h:6543/postgres"'),
    ("database", "pool_size", "3"),
    ("database", "socket_group", '"no such"'),
    ("lease", "lease_s", "2"),
    ("lease", "heartbeat_interval_s", "0"),
    ("redis", "url", '"http://h"'),
    ("s3", "bucket", '"Not_A_Bucket"'),
    ("sentry", "dsn", '"x"'),
    ("metrics", "tenants", '["Acme"]'),
    ("metrics", "tenants", "[" + ",".join(f'"t{i}"' for i in range(101)) + "]"),
    ("log", "level", '"TRACE"'),
    ("webhooks", "ports", "443"),
    ("webhooks", "ports", '["443"]'),
    ("webhooks", "ports", "[0]"),
    ("webhooks", "ports", "[65536]"),
    ("webhooks", "ports", "[true]"),
    ("webhooks", "ports", str(list(range(1, 102)))),
    ("webhooks", "allow_loopback", "1"),
    ("webhooks", "allow_loopback", '"yes"'),
    ("runs", "result_retention_days", "0"),
]


@pytest.mark.parametrize(("section", "key", "value"), WRONG)
def test_wrong_values_are_refused_with_what_is_allowed(
    section: str, key: str, value: str, tmp_path: Path
) -> None:
    (error,) = errors_of(f"[{section}]\n{key} = {value}\n", tmp_path=tmp_path)

    rule = SCHEMA.rules[f"{section}.{key}"]
    assert error.startswith(f"{tmp_path / 'dpp.toml'}: {section}.{key} = ")
    assert error.endswith(f": must be {rule.allowed}")
    assert len(error) < 600


@pytest.mark.parametrize(
    ("value", "size"),
    [('"64 KiB"', 65_536), ('"1MiB"', 1 << 20), ("2048", 2048), ('"2048 B"', 2048)],
)
def test_sizes_are_numbers_or_words(value: str, size: int, tmp_path: Path) -> None:
    loaded = of(f"[http]\nbody_max_bytes = {value}\n", tmp_path=tmp_path)

    assert loaded.http.body_max_bytes == size


@pytest.mark.parametrize(
    "url",
    [
        "postgres://user.ref:pw@aws-0-eu.pooler.supabase.com:6543/postgres",
        "postgresql://u:p%40w@[::1]:5432/d?sslmode=verify-full",
        "postgresql://dpp@/dpp?host=/run/dpp",
        "postgresql://dpp:pw@one.example.com:5432,two.example.com:5433/dpp",
        "postgresql://dpp@/dpp?host=/run/one,/run/two",
    ],
)
def test_both_schemes_of_postgresql_and_sockets_are_taken(url: str) -> None:
    loaded = of(environ={"DATABASE_URL": url})

    assert loaded.database.url == url
    assert not loaded.database.embedded


@pytest.mark.parametrize(
    ("more", "words"),
    [
        ("sslmode=maximum", '= "sslmode=maximum": must have an sslmode of disable, allow, prefer'),
        ("sslrootcert=/none", '= "sslrootcert=/none": must name a file that this user can read'),
    ],
)
def test_tls_that_a_database_url_cannot_have_is_refused_at_once(more: str, words: str) -> None:
    (error,) = errors_of(environ={"DATABASE_URL": f"postgresql://u:canary@h/d?{more}"})

    assert error.startswith("DATABASE_URL: database.url ")
    assert words in error


# What breaks each combination, and the words that must be in the refusal.
BROKEN = {
    "lease.heartbeat_interval_s": ("[lease]\nlease_s = 20\n", "under half of lease.lease_s = 20"),
    "runs.timebox_s": ("[runs]\ntimebox_max_s = 60\n", "at most runs.timebox_max_s = 60"),
    "runs.run_retention_days": (
        "[runs]\nrun_retention_days = 29\n",
        "at least runs.result_retention_days = 30",
    ),
    "runs.key_retention_days": (
        "[runs]\nrun_retention_days = 431\n",
        "at least runs.run_retention_days = 431",
    ),
    "runs.inline_max_bytes": (
        '[runs]\nresult_max_bytes = "32 KiB"\n',
        'at most runs.result_max_bytes = "32 KiB"',
    ),
    "http.body_max_bytes": (
        '[http]\nbatch_body_max_bytes = "512 KiB"\n',
        'at most http.batch_body_max_bytes = "512 KiB"',
    ),
    "http.tls_certificate": (
        '[http]\ntls_certificate = "/none"\ntls_key_file = "/none"\n',
        'be empty beside http.server = "actor" (default)',
    ),
    "http.tls_key_file": (
        '[http]\nserver = "hypercorn"\ntls_key_file = "/none"\n',
        'be given just where there is http.tls_certificate = "" (default)',
    ),
    "management.listen": (
        '[management]\nlisten = "127.0.0.1:8080"\n',
        'differ from http.listen = "127.0.0.1:8080" (default)',
    ),
    "testing.failpoints": (
        '[node]\nprofile = "production"\n[testing]\nfailpoints = ["settle.before_commit:exit"]\n',
        'be empty beside node.profile = "production"',
    ),
    "webhooks.allow_loopback": (
        '[node]\nprofile = "production"\n[webhooks]\nallow_loopback = true\n',
        'be false beside node.profile = "production"',
    ),
    "s3.endpoint_url": (
        '[node]\nprofile = "production"\n[s3]\nendpoint_url = "http://localhost:4566"\n',
        "not be this machine",
    ),
    "sqs.endpoint_url": (
        '[node]\nprofile = "production"\n[sqs]\nendpoint_url = "http://127.1.2.3:4566"\n',
        "not be this machine",
    ),
    "sqs.queue_url": (
        '[node]\nprofile = "production"\n[sqs]\nqueue_url = "http://[::1]:4566/q"\n',
        "not be this machine",
    ),
}


@pytest.mark.parametrize("rule", COMBINATIONS, ids=lambda rule: rule.key)
def test_settings_that_contradict_each_other_are_refused(rule: object, tmp_path: Path) -> None:
    key = getattr(rule, "key", "")
    toml, words = BROKEN[key]

    (error,) = errors_of(toml, tmp_path=tmp_path)

    assert f": {key} = " in error
    assert words in error


@pytest.mark.parametrize("end", ["runs.fifo", "runs.fifo/"])
def test_a_queue_that_keeps_order_is_refused_by_its_name(end: str) -> None:
    environ = {"SQS_QUEUE_URL": f"https://sqs.eu-west-1.amazonaws.com/1/{end}"}

    (error,) = errors_of(environ=environ)

    assert error.startswith("SQS_QUEUE_URL: sqs.queue_url = ")
    assert "must name a standard queue" in error
    assert of(environ={"SQS_QUEUE_URL": "https://sqs.fifo.example.com/1/fifo"}).sqs.queue_url


def secured(certificate: Path | str, key: Path | str) -> str:
    return (
        f'[http]\nserver = "hypercorn"\ntls_certificate = "{certificate}"\ntls_key_file = "{key}"\n'
    )


def test_a_certificate_with_its_key_is_taken(tmp_path: Path) -> None:
    made = make_certificate(tmp_path)

    http = of(secured(made.chain, made.key), tmp_path=tmp_path).http

    assert (http.tls_certificate, http.tls_key_file) == (made.chain, made.key)


@pytest.mark.parametrize(
    ("case", "key", "words"),
    [
        ("no certificate", "http.tls_certificate", "must be a file that can be read"),
        ("no key", "http.tls_key_file", "must be a file (No such file or directory)"),
        ("another's key", "http.tls_certificate", "belongs to the key (key values mismatch)"),
        ("encrypted key", "http.tls_certificate", "must be a chain in PEM"),
        ("no PEM", "http.tls_certificate", "must be a chain in PEM"),
        ("key for all", "http.tls_key_file", "must not be readable or writable by others"),
    ],
)
def test_tls_that_would_not_work_is_refused(
    case: str, key: str, words: str, tmp_path: Path
) -> None:
    for name in ("ours", "other"):
        (tmp_path / name).mkdir()
    password = "secret" if case == "encrypted key" else None
    ours = make_certificate(tmp_path / "ours", password=password)
    other = make_certificate(tmp_path / "other")
    chain, secret = ours.chain, other.key if case == "another's key" else ours.key
    if case == "no certificate":
        chain.unlink()
    if case == "no key":
        secret.unlink()
    if case == "no PEM":
        chain.write_text("nothing")
    if case == "key for all":
        secret.chmod(0o644)

    (error,) = errors_of(secured(chain, secret), tmp_path=tmp_path)

    assert f": {key} = " in error
    assert words in error


def test_the_older_guides_lease_is_possible() -> None:
    environ = {"WORKER_LEASE_TTL_SEC": "120", "WORKER_HEARTBEAT_INTERVAL_SEC": "30"}

    assert asdict(of(environ=environ).lease) == {"lease_s": 120, "heartbeat_interval_s": 30}


def test_both_listeners_may_let_the_system_choose() -> None:
    loaded = of(flags={"listen": "127.0.0.1:0", "management": "127.0.0.1:0"})

    assert (str(loaded.http.listen), loaded.management.listen.port) == ("127.0.0.1:0", 0)


def test_a_value_that_is_wrong_by_itself_is_not_also_compared(tmp_path: Path) -> None:
    toml = "[lease]\nlease_s = -5\nheartbeat_interval_s = 2000\n"

    (error,) = errors_of(toml, tmp_path=tmp_path)

    assert "lease.lease_s = -5" in error


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("DPP_HTTP__LISTN", "did you mean DPP_HTTP__LISTEN?"),
        ("DPP_JSON_LOG", "did you mean DPP_JSON_LOGS?"),
        ("DPP_MANAGEMENT__TOKEN", "did you mean DPP_MANAGEMENT__TOKEN_FILE?"),
        ("DPP_WORKER", "a setting is DPP_SECTION__KEY"),
        ("DPP_FOO", "a setting is DPP_SECTION__KEY"),
        ("DPP_POOL_SIZE", "did you mean DPP_DB_POOL_SIZE?"),
        ("DPP_PLANS__BASIC__WEIGHT", "plans are given in a file, as [plans.NAME]"),
    ],
)
def test_unknown_dpp_names_are_refused_without_repeating_what_they_hold(
    name: str, words: str
) -> None:
    (error,) = errors_of(environ={name: "hunter2"})

    assert error.startswith(f"{name}: ")
    assert words in error
    assert "hunter2" not in error


def test_reserved_and_foreign_names_are_left_alone() -> None:
    names = ("DPP_URL", "DPP_API_KEY", "DPP_MANAGEMENT_URL", "DPP_ADMIN_TOKEN", "PATH", "dpp_x")

    assert of(environ=dict.fromkeys(names, "x")) == config.defaults()


# -- plans --------------------------------------------------------------------------------------


def test_a_plan_adds_to_the_shipped_ones(tmp_path: Path) -> None:
    toml = """
    [plans.gold]
    submits_per_minute = 5
    packs = ["echo", "decision"]
    max_cost_usd = "0.5"
    max_cost_by_pack_usd = { echo = "0.25" }
    spend_per_day_usd = "5"
    spend_per_month_usd = "50.00"
    result_retention_days = 7
    minimum_fee_floor_usd = "0"
    minimum_fee_percent = "0.25"
    weight = 3
    """

    plans = of(toml, tmp_path=tmp_path).plans

    assert list(plans) == ["basic", "pro", "unlimited", "gold"]
    assert plans["gold"] == Plan(
        name="gold",
        submits_per_minute=5,
        max_cost=Micros(500_000),
        packs=frozenset({"echo", "decision"}),
        fee=FeeRule(floor=Micros(0), percent_ppm=2_500, cap=Micros(100_000)),
        weight=3,
        max_cost_by_pack={"echo": Micros(250_000)},
        spend_per_day=Micros(5_000_000),
        spend_per_month=Micros(50_000_000),
        result_days=7,
    )


def test_a_plan_of_a_shipped_name_replaces_it_whole(tmp_path: Path) -> None:
    plans = of("[plans.basic]\nqueued_runs = 7\n", tmp_path=tmp_path).plans

    assert plans["basic"] == Plan(name="basic", queued_runs=7)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("submits_per_minute = 0", "must be a whole number from 1"),
        ('submits_per_minute = "60"', "must be a whole number from 1"),
        ("max_cost_usd = 10", "must be US dollars above zero as a string"),
        ('max_cost_usd = "0"', "must be US dollars above zero"),
        ('max_cost_usd = "1e3"', "must be US dollars above zero"),
        ('max_cost_usd = "0.0000001"', "must be US dollars above zero"),
        ('max_cost_usd = "0.004"', "or every submission is refused"),
        ("minimum_fee_percent = 2", "must be a percentage from 0 to 100 as a string"),
        ('minimum_fee_percent = "100.0001"', "must be a percentage"),
        ('minimum_fee_percent = "-1"', "must be a percentage"),
        ('packs = "echo"', "must be an array"),
        ("max_cost_by_pack_usd = { echo = 1 }", "must be US dollars above zero"),
        ('max_cost_by_pack_usd = { "Echo!" = "1" }', "must be a table of amounts by name"),
        ('max_cost_by_pack_usd = "1"', "must be a table of amounts by name"),
        ("spend_per_day_usd = 5", "must be US dollars above zero as a string"),
        ("result_retention_days = 0", "must be a whole number from 1"),
        ("weight = 0", "must be a whole number from 1 to 1000"),
        ("colour = 1", "unknown name"),
    ],
)
def test_wrong_plans_are_refused(line: str, words: str, tmp_path: Path) -> None:
    (error,) = errors_of(f"[plans.gold]\n{line}\n", tmp_path=tmp_path)

    assert f"plans.gold.{line.partition(' ')[0]}" in error
    assert words in error


@pytest.mark.parametrize(
    "toml", ["plans = 1", '[plans."No Name"]', "[plans]\ngold = 1", "http = 1"]
)
def test_tables_that_are_none_are_refused(toml: str, tmp_path: Path) -> None:
    assert len(errors_of(toml, tmp_path=tmp_path)) == 1


def test_no_plan_can_be_changed_behind_the_core() -> None:
    with pytest.raises(TypeError):
        config.defaults().plans["basic"] = Plan("basic")  # type: ignore[index]


# -- secrets ------------------------------------------------------------------------------------

SECRET_URLS = {
    "database.url": "postgresql://app:{}@db/dpp",
    "database.migrations_url": "postgresql://owner:{}@db/dpp?sslpassword=other-{}",
    "redis.url": "redis://:{}@cache/0",
    "sentry.dsn": "https://{}@o1.ingest.sentry.io/2",
}


def secret_file(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


@pytest.mark.parametrize("key", [*SECRET_URLS, "management.token"])
def test_every_secret_may_come_from_a_file(key: str, tmp_path: Path) -> None:
    secret = SECRET_URLS.get(key, "{}").format("canary-0123456789", "")
    file = secret_file(tmp_path / "secret", f"\n {secret}\n", 0o640)
    section, _, word = key.partition(".")

    by_file = of(f'[{section}]\n{word}_file = "{file}"\n', tmp_path=tmp_path)
    by_name = of(environ={f"{name_of(key)}_FILE": str(file)})

    assert setting(by_file, key) == setting(by_name, key) == secret
    assert str(file) in by_file.origins[key]
    assert by_name.origins[key] == f"{name_of(key)}_FILE ({key}_file {file})"


@pytest.mark.parametrize("key", [*SECRET_URLS, "management.token"])
def test_every_secret_may_be_a_credential_of_systemd(key: str, tmp_path: Path) -> None:
    secret = SECRET_URLS.get(key, "{}").format("canary-0123456789", "")
    secret_file(tmp_path / f"dpp_{key}", f"{secret}\n", 0o400)
    secret_file(tmp_path / "another", "not ours")

    loaded = of(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert setting(loaded, key) == secret
    assert loaded.origins[key].startswith("CREDENTIALS_DIRECTORY (")


def test_a_credential_beats_the_file_and_yields_to_a_name_of_the_environment(
    tmp_path: Path,
) -> None:
    toml = '[redis]\nurl = "redis://file"\n'
    secret_file(tmp_path / "dpp_redis.url", "redis://credential")
    environ = {"CREDENTIALS_DIRECTORY": str(tmp_path)}

    steps = [
        of(toml, environ, tmp_path=tmp_path),
        of(toml, {**environ, "REDIS_URL": "redis://name"}, tmp_path=tmp_path),
    ]

    assert [step.redis.url for step in steps] == ["redis://credential", "redis://name"]


@pytest.mark.parametrize("key", ["redis.uri", "http.listen"])
def test_a_credential_that_is_no_secret_of_ours_is_refused(key: str, tmp_path: Path) -> None:
    secret_file(tmp_path / f"dpp_{key}", "canary-0123456789")

    (error,) = errors_of(environ={"CREDENTIALS_DIRECTORY": str(tmp_path)})

    assert key in error
    assert "unknown name" in error
    assert "canary" not in error


def test_all_secrets_are_those_that_this_file_tries() -> None:
    secrets = {key for key, rule in SCHEMA.rules.items() if rule.secret}

    assert secrets == SECRET_URLS.keys() | {"management.token"}


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o602])
def test_a_secret_that_others_can_read_or_write_is_refused(mode: int, tmp_path: Path) -> None:
    file = secret_file(tmp_path / "secret", "canary-0123456789", mode)

    (error,) = errors_of(environ={"DPP_MANAGEMENT__TOKEN_FILE": str(file)})

    assert f"must not be readable or writable by others (mode {mode:04o})" in error
    assert "canary" not in error


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "with 1 to 65536 bytes"),
        (b" \n", "with 1 to 65536 bytes"),
        (b"\xff", "not UTF-8"),
        (b"x" * 65_537, "with 1 to 65536 bytes"),
        (b"short", "at least 16 printable"),
        (b"canary with blanks in it", "without blanks"),
    ],
)
def test_what_is_no_secret_is_refused(content: bytes, words: str, tmp_path: Path) -> None:
    file = tmp_path / "secret"
    file.write_bytes(content)
    file.chmod(0o600)

    (error,) = errors_of(environ={"DPP_MANAGEMENT__TOKEN_FILE": str(file)})

    assert words in error
    assert "canary" not in error


def test_a_secret_file_must_be_one(tmp_path: Path) -> None:
    import os  # noqa: PLC0415 - for a FIFO, which must not hang the start

    os.mkfifo(tmp_path / "fifo", 0o600)
    names = {"DATABASE__URL": "absent", "REDIS__URL": "fifo", "SENTRY__DSN": ""}
    environ = {f"DPP_{name}_FILE": str(tmp_path / word) for name, word in names.items()}

    errors = errors_of(environ=environ)

    assert len(errors) == 3


def test_a_secret_and_its_file_are_one_too_many(tmp_path: Path) -> None:
    file = secret_file(tmp_path / "secret", "postgresql://u:canary@h/d")
    toml = f'[database]\nurl = "postgresql://u@h/d"\nurl_file = "{file}"\n'

    (error,) = errors_of(toml, tmp_path=tmp_path)

    assert "must not stand beside database.url" in error


def test_a_stronger_source_replaces_a_secret_file(tmp_path: Path) -> None:
    toml = '[database]\nurl_file = "/absent"\n'
    file = secret_file(tmp_path / "secret", "postgresql://u:canary@h/d")

    by_name = of(
        f'[database]\nurl_file = "{file}"\n', {"DATABASE_URL": "embedded"}, tmp_path=tmp_path
    )

    assert by_name.database.embedded
    assert "must be a file that can be read" in errors_of(toml, tmp_path=tmp_path)[0]


def test_no_secret_is_shown_by_show_repr_or_an_error(tmp_path: Path) -> None:
    canary = "canary-0123456789"
    token = secret_file(tmp_path / "token", canary)
    environ = {name_of(key): url.format(canary, canary) for key, url in SECRET_URLS.items()}
    environ["DPP_MANAGEMENT__TOKEN_FILE"] = str(token)
    loaded = of(environ=environ)

    shown = json.dumps(show(loaded)) + repr(loaded) + str(loaded)
    wrong = {name: f"bad {text}" for name, text in environ.items() if "FILE" not in name}
    errors = errors_of(environ={**wrong, "DPP_DATABASE__URLL": canary})

    assert canary not in shown
    assert "postgresql://app:***@db/dpp" in shown
    assert "https://***@o1.ingest.sentry.io/2" in shown
    assert len(errors) == 5
    assert canary not in "".join(errors)
    assert set(config.secrets(loaded)) == {canary, f"other-{canary}"}


@pytest.mark.parametrize("profile", ["dev", "production"])
def test_a_password_in_a_file_for_all_to_read(profile: str, tmp_path: Path) -> None:
    file = tmp_path / "open.toml"
    file.write_text(f'[node]\nprofile = "{profile}"\n[redis]\nurl = "redis://:canary@h"\n')
    file.chmod(0o644)
    line = (
        f"{file}: redis.url = ***: must not stand in a file that everybody can read:"
        " chmod o= it, or use redis.url_file"
    )

    if profile == "dev":
        assert load({}, {}, file, system_file=None).warnings == (line,)
    else:
        with pytest.raises(ConfigErrors, match=re.escape(line)):
            load({}, {}, file, system_file=None)


# -- what is shown ------------------------------------------------------------------------------


def test_show_says_each_value_and_where_it_comes_from(tmp_path: Path) -> None:
    toml = '[plans.gold]\npacks = ["echo"]\nminimum_fee_percent = "2.5"\nmax_cost_usd = "3"\n'
    loaded = of(toml, {"CORS_ALLOWED_ORIGINS": "https://a.example"}, tmp_path=tmp_path)

    shown = show(loaded)

    assert json.loads(json.dumps(shown)) == shown
    assert shown["http"]["cors_allowed_origins"] == {
        "value": ["https://a.example"],
        "origin": "CORS_ALLOWED_ORIGINS",
    }
    assert shown["http"]["listen"] == {"value": "127.0.0.1:8080", "origin": "default"}
    assert shown["plans"]["gold"] == {
        "value": {
            "max_cost_usd": "3.00",
            "packs": ["echo"],
            "minimum_fee_floor_usd": "0.005",
            "minimum_fee_percent": "2.5",
            "minimum_fee_cap_usd": "0.10",
            "weight": 1,
        },
        "origin": str(tmp_path / "dpp.toml"),
    }


def test_show_names_each_setting_as_a_file_does(tmp_path: Path) -> None:
    token = secret_file(tmp_path / "token", "canary-0123456789")
    shown = show(of(environ={"DPP_MANAGEMENT__TOKEN_FILE": str(token)}))

    shipped = tomllib.loads(SHIPPED.read_text())
    assert {section: [*table] for section, table in shown.items()} == {
        section: [*table] for section, table in shipped.items()
    }
    assert shown["management"]["token_file"]["value"] == "***"
    assert str(token) in str(shown["management"]["token_file"]["origin"])


def test_what_show_says_of_a_plan_can_be_put_into_a_file() -> None:
    shown = show(config.defaults())["plans"]

    shipped = tomllib.loads(SHIPPED.read_text())["plans"]
    assert {name: plan["value"] for name, plan in shown.items()} == shipped
