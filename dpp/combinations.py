"""What settings must agree on: each rule over several of them, as data.

A setting may be right alone and wrong beside another: a heartbeat that is too slow for its lease, a
failpoint in production. These rules see a configuration whose every value is allowed by itself.
Where one was not, `config` puts the default in its place, and rules that touch it say nothing.
"""

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from urllib.parse import urlsplit

from attrs import frozen

from dpp import failpoints, tls
from dpp.rules import MASK
from dpp.sections import PRODUCTION, Config
from dpp.settings import ConfigError, Given, shown
from dpp.urls import SSL_FILES, SSL_MODES, is_loopback, parameters, passwords


@frozen
class Combination:
    """`key` must suit `beside`; `allowed` completes "must …"."""

    key: str
    beside: str
    holds: Callable[[Config], bool]
    allowed: str


def _is_safe(url: str | None, config: Config) -> bool:
    """Say whether this URL may be asked: production never speaks to a stand-in on its own host."""
    return (
        config.node.profile != PRODUCTION
        or not url
        or not is_loopback(urlsplit(url).hostname or "")
    )


COMBINATIONS = (
    Combination(
        "lease.heartbeat_interval_s",
        "lease.lease_s",
        lambda c: 2 * c.lease.heartbeat_interval_s < c.lease.lease_s,
        "be under half of",
    ),
    Combination(
        "runs.timebox_s",
        "runs.timebox_max_s",
        lambda c: c.runs.timebox_s <= c.runs.timebox_max_s,
        "be at most",
    ),
    Combination(
        "runs.key_retention_days",
        "runs.run_retention_days",
        lambda c: c.runs.key_retention_days >= c.runs.run_retention_days,
        "be at least",
    ),
    Combination(
        "runs.run_retention_days",
        "runs.result_retention_days",
        lambda c: c.runs.run_retention_days >= c.runs.result_retention_days,
        "be at least",
    ),
    Combination(
        "runs.inline_max_bytes",
        "runs.result_max_bytes",
        lambda c: c.runs.inline_max_bytes <= c.runs.result_max_bytes,
        "be at most",
    ),
    Combination(
        "http.body_max_bytes",
        "http.batch_body_max_bytes",
        lambda c: c.http.body_max_bytes <= c.http.batch_body_max_bytes,
        "be at most",
    ),
    Combination(
        "http.tls_certificate",
        "http.server",
        lambda c: c.http.tls_certificate is None or c.http.server == "hypercorn",
        "be empty beside",
    ),
    Combination(
        "http.tls_key_file",
        "http.tls_certificate",
        lambda c: (c.http.tls_key_file is None) is (c.http.tls_certificate is None),
        "be given just where there is",
    ),
    Combination(
        "management.listen",
        "http.listen",
        lambda c: c.management.listen != c.http.listen or c.http.listen.port == 0,
        "differ from",
    ),
    Combination(
        "testing.failpoints",
        "node.profile",
        lambda c: c.node.profile != PRODUCTION or not c.testing.failpoints,
        "be empty beside",
    ),
    Combination(
        "webhooks.allow_loopback",
        "node.profile",
        lambda c: c.node.profile != PRODUCTION or not c.webhooks.allow_loopback,
        "be false beside",
    ),
    Combination(
        "s3.endpoint_url",
        "node.profile",
        lambda c: _is_safe(c.s3.endpoint_url, c),
        "not be this machine beside",
    ),
    Combination(
        "sqs.endpoint_url",
        "node.profile",
        lambda c: _is_safe(c.sqs.endpoint_url, c),
        "not be this machine beside",
    ),
    Combination(
        "sqs.queue_url",
        "node.profile",
        lambda c: _is_safe(c.sqs.queue_url, c),
        "not be this machine beside",
    ),
)


# Settings of the contract that this version reads and checks, and then does nothing with.
UNUSED = (
    "database.durability",
    "database.socket_group",
)


def contradictions(
    config: Config, given: Mapping[str, Given], wrong: frozenset[str]
) -> Iterator[ConfigError]:
    """Yield an error for each rule that is broken; those on keys already `wrong` are left out."""
    for rule in COMBINATIONS:
        if {rule.key, rule.beside} & wrong or rule.holds(config):
            continue
        other = given[rule.beside]
        beside = f"{rule.beside} = {shown(other.value)} ({other.origin})"
        allowed = f"must {rule.allowed} {beside}"
        yield ConfigError(given[rule.key].origin, rule.key, shown(given[rule.key].value), allowed)
    yield from _a_promise_not_kept(config, given)
    yield from _a_queue_that_keeps_order(config, given)
    yield from _database_tls_that_is_none(config, given)
    yield from _failpoints_that_are_none(config, given)
    yield from _tls_that_is_none(config, given)
    yield from _plans_that_admit_nothing(config, given)


def unused(config: Config, shipped: Config, given: Mapping[str, Given]) -> Iterator[str]:
    """Yield a warning for each setting that was changed and has no effect yet."""
    for key in UNUSED:
        if setting(config, key) != setting(shipped, key):
            yield f"{key} ({given[key].origin}) is not used by this version"


def setting(config: Config, key: str) -> object:
    """Return the value of "section.word"."""
    section, _, word = key.partition(".")
    value: object = getattr(getattr(config, section), word)
    return value


def _a_promise_not_kept(config: Config, given: Mapping[str, Given]) -> Iterator[ConfigError]:
    """A guarantee that was asked for and is not given: a warning would be read too late."""
    key, durability = "database.durability", config.database.durability
    if durability != "local":
        allowed = 'must be "local": this version does not wait for standbys'
        yield ConfigError(given[key].origin, key, shown(durability), allowed)


def _a_queue_that_keeps_order(config: Config, given: Mapping[str, Given]) -> Iterator[ConfigError]:
    """A FIFO queue refuses every hint: each would have to name a group, and hints have no order."""
    key, url = "sqs.queue_url", config.sqs.queue_url
    if url is not None and urlsplit(url).path.rstrip("/").endswith(".fifo"):
        allowed = "must name a standard queue: hints have no order, and one of .fifo refuses them"
        yield ConfigError(given[key].origin, key, shown(url), allowed)


def _database_tls_that_is_none(config: Config, given: Mapping[str, Given]) -> Iterator[ConfigError]:
    """What a URL asks of TLS: the driver would say less about it, and later."""
    for key in ("database.url", "database.migrations_url"):
        url = setting(config, key)
        if not isinstance(url, str):
            continue
        asked = parameters(url)
        mode = asked.get("sslmode", SSL_MODES[0])
        if mode not in SSL_MODES:
            allowed = f"must have an sslmode of {', '.join(SSL_MODES)}"
            yield ConfigError(given[key].origin, key, shown(f"sslmode={mode}"), allowed)
        for name in SSL_FILES & asked.keys():
            if not os.access(asked[name], os.R_OK):
                allowed = "must name a file that this user can read"
                text = shown(f"{name}={asked[name]}")
                yield ConfigError(given[key].origin, key, text, allowed)


def _failpoints_that_are_none(config: Config, given: Mapping[str, Given]) -> Iterator[ConfigError]:
    key = "testing.failpoints"
    for spec in config.testing.failpoints:
        try:
            failpoints.parse(spec)
        except ValueError as error:
            yield ConfigError(given[key].origin, key, shown(spec), f"is none: {error}")


def _tls_that_is_none(config: Config, given: Mapping[str, Given]) -> Iterator[ConfigError]:
    """A certificate or key that cannot be used would be found when the node is half up."""
    certificate, key = config.http.tls_certificate, config.http.tls_key_file
    if certificate is None or key is None or config.http.server != "hypercorn":
        return
    try:
        if key.stat().st_mode & (stat.S_IROTH | stat.S_IWOTH):
            allowed = "must not be readable or writable by others: chmod o= it"
            yield ConfigError(
                given["http.tls_key_file"].origin, "http.tls_key_file", shown(str(key)), allowed
            )
        tls.server_context(certificate, key)
    except (tls.NotUsable, OSError) as error:
        words = str(error) if isinstance(error, tls.NotUsable) else f"a file ({error.strerror})"
        name = "http.tls_certificate" if isinstance(error, tls.NotUsable) else "http.tls_key_file"
        yield ConfigError(given[name].origin, name, shown(given[name].value), f"must be {words}")


def _plans_that_admit_nothing(config: Config, given: Mapping[str, Given]) -> Iterator[ConfigError]:
    for name, plan in config.plans.items():
        if plan.max_cost is not None and plan.max_cost < plan.fee.least_reserve:
            key = f"plans.{name}"
            allowed = (
                "must be at least the smaller of minimum_fee_floor_usd and minimum_fee_cap_usd,"
                " or every submission is refused"
            )
            table = given[key].value
            text = shown(table.get("max_cost_usd")) if isinstance(table, dict) else ""
            yield ConfigError(given[key].origin, f"{key}.max_cost_usd", text, allowed)


def exposed(given: Mapping[str, Given], file: Path | None) -> Iterator[ConfigError]:
    """Yield an error for each password that stands in a file which everybody can read."""
    try:
        if file is None or not file.stat().st_mode & stat.S_IROTH:
            return
    except OSError:
        return  # who reads it has said so
    for key in ("database.url", "database.migrations_url", "redis.url", "sentry.dsn"):
        value, origin = str(given[key].value), given[key].origin
        if origin == str(file) and passwords(value):
            allowed = (
                f"must not stand in a file that everybody can read: chmod o= it, or use {key}_file"
            )
            yield ConfigError(origin, key, MASK, allowed)
