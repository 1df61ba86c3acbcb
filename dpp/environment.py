"""The environment's names, and which setting each of them gives.

`DPP_SECTION__KEY` gives `section.key`. The names of the earlier guide go on working, below those
and above the file. Any other name that starts with DPP_ is refused: it is a setting mistyped, and
names without that prefix belong to others. An earlier name with nothing in it gives nothing, as
`SENTRY_DSN=${SENTRY_DSN}` leaves it where nobody set one.
"""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote, urlsplit, urlunsplit

from dpp.rules import NotAllowed, Text
from dpp.settings import ConfigError, Given, Layer, Schema, add, resolve_secret_files, unknown

if TYPE_CHECKING:
    from collections.abc import Mapping

PREFIX = "DPP_"
# Where systemd has put the credentials of the unit (LoadCredential=), and how ours are named there.
CREDENTIALS, CREDENTIAL = "CREDENTIALS_DIRECTORY", "dpp_"
NEAR = 0.75  # how alike a name must be to be suggested: they all begin alike
CONFIG_FILE, DATA_DIR = "DPP_CONFIG", "DPP_DATA_DIR"
# Names that commands read for themselves, or that give a setting in their own place.
RESERVED = frozenset(
    {CONFIG_FILE, DATA_DIR, "DPP_URL", "DPP_API_KEY", "DPP_MANAGEMENT_URL", "DPP_ADMIN_TOKEN"}
)
EARLIER = {
    "LOG_LEVEL": "log.level",
    "DPP_JSON_LOGS": "log.format",
    "DATABASE_URL": "database.url",
    "DATABASE_URL_MIGRATIONS": "database.migrations_url",
    "DPP_DB_POOL": "database.pool",
    "DPP_DB_POOL_SIZE": "database.pool_size",
    "DPP_DB_MAX_OVERFLOW": "database.max_overflow",
    "REDIS_URL": "redis.url",
    "AWS_REGION": "s3.region",
    "SQS_QUEUE_URL": "sqs.queue_url",
    "SQS_ENDPOINT_URL": "sqs.endpoint_url",
    "S3_RESULT_BUCKET": "s3.bucket",
    "S3_ENDPOINT_URL": "s3.endpoint_url",
    "CORS_ALLOWED_ORIGINS": "http.cors_allowed_origins",
    "SENTRY_DSN": "sentry.dsn",
    "PROMETHEUS_PORT": "management.listen",
    "WORKER_HEARTBEAT_INTERVAL_SEC": "lease.heartbeat_interval_s",
    "WORKER_LEASE_TTL_SEC": "lease.lease_s",
    "REAPER_INTERVAL_SEC": "reaper.interval_s",
    "REAPER_SCAN_LIMIT": "reaper.scan_limit",
    "RECONCILE_INTERVAL_SEC": "reconcile.interval_s",
    "RECONCILE_SCAN_LIMIT": "reconcile.scan_limit",
}
REDIS_PASSWORD = "REDIS_PASSWORD"  # noqa: S105 - its name; joined with redis.url, whoever gave that
THRESHOLD = "RECONCILE_THRESHOLD_MIN"
THRESHOLD_WARNING = (
    f"{THRESHOLD} is ignored: a run is reconciled once its lease has lapsed (lease.lease_s), and a"
    " store that does not answer is waited for as long as reconcile.store_wait_s says"
)
_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})


def credentials(environ: Mapping[str, str], schema: Schema) -> Layer:
    """Return the secrets that systemd hands over, each a file named `dpp_` and its key."""
    layer = Layer()
    if not environ.get(CREDENTIALS):
        return layer
    secrets = {key.removesuffix("_file") for key in schema.secret_files}
    for path in sorted(Path(environ[CREDENTIALS]).glob(f"{CREDENTIAL}*")):
        key = path.name.removeprefix(CREDENTIAL)
        if key in secrets:
            layer.given[f"{key}_file"] = Given(Text(path), CREDENTIALS)
        else:
            layer.refuse(CREDENTIALS, key, None, unknown(key, secrets))
    resolve_secret_files(layer, schema)
    return layer


def earlier_names(environ: Mapping[str, str], below: Mapping[str, Given]) -> Layer:
    """Return what the names of the earlier guide give, on top of what lies `below` them."""
    layer = Layer()
    for name, key in EARLIER.items():
        text = environ.get(name, "")
        if not text:
            continue
        try:
            layer.given[key] = Given(Text(_translated(name, text, below)), name)
        except NotAllowed as refusal:
            layer.refuse(name, key, text, str(refusal))
    if environ.get(THRESHOLD):
        layer.warnings.append(THRESHOLD_WARNING)
    return layer


def _translated(name: str, text: str, below: Mapping[str, Given]) -> str:
    """Return the text as its setting wants it."""
    if name == "DPP_JSON_LOGS":
        return _log_format(text)
    if name == "PROMETHEUS_PORT":
        host, _, _ = str(below["management.listen"].value).rpartition(":")
        if not text.isascii() or not text.isdigit() or not 0 < int(text[:6]) <= 65535:  # noqa: PLR2004
            raise NotAllowed("must be a port from 1 to 65535")
        return f"{host}:{text}"
    return text


def _log_format(text: str) -> str:
    if text.lower() in _TRUE:
        return "json"
    if text.lower() in _FALSE:
        return "console"
    raise NotAllowed("must be true or false")


def dpp_names(environ: Mapping[str, str], schema: Schema) -> Layer:
    """Return what `DPP_SECTION__KEY` gives, and refuse what starts like it and is none."""
    layer = Layer()
    keys = {name_of(key): key for key in schema.keys}
    for name in sorted(environ):
        if name in keys:
            add(layer, schema, keys[name], Given(Text(environ[name]), name))
        elif name.startswith(f"{PREFIX}PLANS__"):
            layer.refuse(name, "", None, "plans are given in a file, as [plans.NAME]")
        elif name.startswith(PREFIX) and name not in RESERVED and name not in EARLIER:
            known = keys.keys() | RESERVED | {old for old in EARLIER if old.startswith(PREFIX)}
            layer.refuse(name, "", None, _unknown_name(name, known))
    resolve_secret_files(layer, schema)
    if environ.get(DATA_DIR):
        layer.given["node.data_dir"] = Given(Text(environ[DATA_DIR]), DATA_DIR)
    return layer


def _unknown_name(name: str, known: set[str]) -> str:
    near = difflib.get_close_matches(name, sorted(known), n=1, cutoff=NEAR)
    return "unknown name; " + (
        f"did you mean {near[0]}?" if near else "a setting is DPP_SECTION__KEY"
    )


def name_of(key: str) -> str:
    """Return the name that gives this key: DPP_HTTP__LISTEN for "http.listen"."""
    section, _, word = key.partition(".")
    return f"{PREFIX}{section}__{word}".upper()


def join_redis_password(merged: dict[str, Given], environ: Mapping[str, str]) -> Layer:
    """Put REDIS_PASSWORD into `redis.url` where that has none; two that differ are refused."""
    layer, password, url = Layer(), environ.get(REDIS_PASSWORD, ""), merged["redis.url"]
    if not password:
        return layer
    if not url.value:
        layer.warnings.append(f"{REDIS_PASSWORD} is ignored: redis.url is not set")
        return layer
    try:
        parts = urlsplit(str(url.value))
    except ValueError:
        return layer  # the rule of redis.url says what is wrong
    if parts.password is not None and unquote(parts.password) != password:
        allowed = f"must be the password in redis.url ({url.origin}), or one of the two must go"
        layer.errors.append(ConfigError(REDIS_PASSWORD, "", "", allowed))
        return layer
    user, _, host = parts.netloc.rpartition("@")
    netloc = f"{user.partition(':')[0]}:{quote(password, safe='')}@{host}"
    joined = Text(urlunsplit(parts._replace(netloc=netloc)))
    layer.given["redis.url"] = Given(joined, f"{url.origin} with {REDIS_PASSWORD}")
    return layer
