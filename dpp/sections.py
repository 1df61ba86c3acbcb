"""The sections of the configuration: one frozen class a table of `config/dpp.toml`.

Each field's annotation is its type and its rule. There are no defaults here: the shipped file has
them, each with its unit and its reason. A plan is the exception, since a key that a plan leaves out
means that there is no such limit. `dpp.config` reads sources into these.
"""

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from attrs import field, frozen

from dpp.money import Micros
from dpp.plans import Plan, Plans
from dpp.pricing import FeeRule
from dpp.rules import (
    Amount,
    Amounts,
    Choice,
    Directory,
    File,
    Flag,
    Name,
    Names,
    Percent,
    Size,
    Token,
    Whole,
    Wholes,
)
from dpp.urls import Address, Listen, SecretUrl, Url

DAY_S = 86_400
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
PRODUCTION = "production"
EMBEDDED = "embedded"
PACK = r"[a-z0-9][a-z0-9_.-]{0,62}"
TENANT = r"[a-z0-9][a-z0-9_-]{0,62}"
POSTGRES = ("postgresql", "postgres")  # the second is what hosters print; the driver takes both
WEB = ("https", "http")
FEE = FeeRule()  # a plan that says nothing of the fee has the usual one
POOL_MIN = 4  # lease and follower 1, at least half of the rest for money, the remainder for reads

Seconds = Annotated[int, Whole(1, 3600)]
DAYS_MAX = 36_500
Days = Annotated[int, Whole(1, DAYS_MAX)]
Limit = Annotated[int | None, Whole(1, 1_000_000_000)]
Endpoint = Annotated[str | None, Url(WEB)]


@frozen
class Node:
    """The process."""

    data_dir: Annotated[Path | None, Directory()]
    drain_s: Annotated[int, Whole(0, 3600)]
    profile: Annotated[str, Choice(("dev", PRODUCTION))]


@frozen
class Http:
    """The public API."""

    listen: Annotated[Address, Listen()]
    server: Annotated[str, Choice(("actor", "hypercorn"))]
    cors_allowed_origins: Annotated[
        tuple[str, ...],
        Names(r"\*|https?://[^/\s?#@*,]{1,255}", 'origins such as "https://app.example.com"', 100),
    ]
    connections_max: Annotated[int, Whole(1, 100_000)]
    body_max_bytes: Annotated[int, Size(KIB, 64 * MIB)]
    batch_body_max_bytes: Annotated[int, Size(KIB, 256 * MIB)]
    wait_max_s: Annotated[int, Whole(0, 600)]
    tls_certificate: Annotated[Path | None, File()]
    tls_key_file: Annotated[Path | None, File()]


@frozen
class Management:
    """Metrics and the admin API. `token` is what `token_file` holds; None: `admin.token` has it."""

    listen: Annotated[Address, Listen()]
    token: Annotated[str | None, Token(least=16)] = field(repr=False)


@frozen
class Database:
    """PostgreSQL: the embedded one, or a URL."""

    url: Annotated[str, SecretUrl(POSTGRES, words=(EMBEDDED,))] = field(repr=False)
    migrations_url: Annotated[str | None, SecretUrl(POSTGRES)] = field(repr=False)
    pooler: Annotated[str, Choice(("auto", "direct", "session", "transaction"))]
    pool: Annotated[str, Choice(("queuepool", "nullpool"))]
    pool_size: Annotated[int, Whole(POOL_MIN, 500)]
    max_overflow: Annotated[int, Whole(0, 500)]
    allow_unsynced: Annotated[bool, Flag()]
    durability: Annotated[str, Choice(("local", "quorum"))]
    socket_group: Annotated[str | None, Name(r"[a-z_][a-z0-9_-]{0,31}", "the name of a group")]

    @property
    def embedded(self) -> bool:
        """Say whether the node runs PostgreSQL itself."""
        return self.url == EMBEDDED


@frozen
class Lease:
    """How long a node's right to its runs lasts, and how often it is renewed."""

    lease_s: Annotated[int, Whole(3, 3600)]
    heartbeat_interval_s: Seconds


@frozen
class Reaper:
    """Takes back the runs of lapsed leases."""

    interval_s: Seconds
    scan_limit: Annotated[int, Whole(1, 10_000)]


@frozen
class Reconcile:
    """Finishes runs whose result is stored and not settled."""

    interval_s: Seconds
    scan_limit: Annotated[int, Whole(1, 10_000)]
    store_wait_s: Annotated[int, Whole(0, DAY_S)]


@frozen
class Audit:
    """Proves the books all the time."""

    interval_s: Seconds


@frozen
class Runs:
    """What a run may take, and how long what it left is kept."""

    timebox_s: Annotated[int, Whole(1, DAY_S)]
    timebox_max_s: Annotated[int, Whole(1, DAY_S)]
    attempts_max: Annotated[int, Whole(1, 100)]
    queue_ttl_s: Annotated[int, Whole(1, 365 * DAY_S)]
    inline_max_bytes: Annotated[int, Size(0, 8 * MIB)]
    result_max_bytes: Annotated[int, Size(KIB, 4 * GIB)]
    result_retention_days: Days
    run_retention_days: Days
    key_retention_days: Days
    transfer_retention_days: Annotated[int, Whole(0, 36_500)]
    concurrency: Annotated[int, Whole(1, 100_000)]


@frozen
class Webhooks:
    """Where events may be sent."""

    ports: Annotated[tuple[int, ...], Wholes(1, 65_535, 100)]
    allow_loopback: Annotated[bool, Flag()]


@frozen
class Redis:
    """Hints between nodes; None: there is none."""

    url: Annotated[str | None, SecretUrl(("redis", "rediss"))] = field(repr=False)


@frozen
class S3:
    """Where large results go; no bucket: a directory."""

    bucket: Annotated[str | None, Name(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", "the name of a bucket")]
    region: Annotated[str | None, Name(r"[a-z0-9-]{2,32}", 'a region such as "us-east-1"')]
    endpoint_url: Endpoint
    kms_key_id: Annotated[
        str | None, Name(r"[A-Za-z0-9:/_-]{1,2048}", "a key of KMS: its id, alias/NAME or ARN")
    ]


@frozen
class Sqs:
    """Dispatch hints; no queue: none."""

    queue_url: Endpoint
    endpoint_url: Endpoint


@frozen
class Sentry:
    """Error tracking; None: there is none."""

    dsn: Annotated[str | None, SecretUrl(WEB)] = field(repr=False)


@frozen
class Log:
    """What is written to stderr."""

    level: Annotated[str, Choice(("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"))]
    format: Annotated[str, Choice(("auto", "json", "console"))]


@frozen
class Metrics:
    """What is exported beyond the usual."""

    tenants: Annotated[tuple[str, ...], Names(TENANT, "names of tenants", 100)]


@frozen
class Testing:
    """What only tests may arm."""

    failpoints: Annotated[tuple[str, ...], Names(r"[^\s,]{1,200}", "failpoints", 1000)]


@frozen
class PlanTable:
    """A `[plans.NAME]`. What is left out is no limit; the fee has defaults of its own."""

    submits_per_minute: Limit = None
    reads_per_minute: Limit = None
    concurrent_runs: Limit = None
    queued_runs: Limit = None
    max_cost_usd: Annotated[Micros | None, Amount(least=1)] = None
    max_cost_by_pack_usd: Annotated[Mapping[str, Micros] | None, Amounts(PACK)] = None
    spend_per_day_usd: Annotated[Micros | None, Amount(least=1)] = None
    spend_per_month_usd: Annotated[Micros | None, Amount(least=1)] = None
    result_retention_days: Annotated[int | None, Whole(1, DAYS_MAX)] = None
    packs: Annotated[tuple[str, ...] | None, Names(PACK, "packs", 1000)] = None
    minimum_fee_floor_usd: Annotated[Micros, Amount()] = FEE.floor
    minimum_fee_percent: Annotated[int, Percent()] = FEE.percent_ppm
    minimum_fee_cap_usd: Annotated[Micros, Amount()] = FEE.cap
    weight: Annotated[int, Whole(1, 1000)] = 1

    def plan(self, name: str) -> Plan:
        """Return the plan that the core knows."""
        return Plan(
            name=name,
            submits_per_minute=self.submits_per_minute,
            reads_per_minute=self.reads_per_minute,
            concurrent_runs=self.concurrent_runs,
            queued_runs=self.queued_runs,
            max_cost=self.max_cost_usd,
            max_cost_by_pack=dict(self.max_cost_by_pack_usd or {}),
            spend_per_day=self.spend_per_day_usd,
            spend_per_month=self.spend_per_month_usd,
            result_days=self.result_retention_days,
            packs=None if self.packs is None else frozenset(self.packs),
            fee=FeeRule(
                floor=self.minimum_fee_floor_usd,
                percent_ppm=self.minimum_fee_percent,
                cap=self.minimum_fee_cap_usd,
            ),
            weight=self.weight,
        )


@frozen
class Config:
    """All settings, the plans as the core knows them, and where each came from.

    `origins` has one entry a key ("http.listen", "plans.basic"); `warnings` are for the operator,
    said once at the start.
    """

    node: Node
    http: Http
    management: Management
    database: Database
    lease: Lease
    reaper: Reaper
    reconcile: Reconcile
    audit: Audit
    runs: Runs
    webhooks: Webhooks
    redis: Redis
    s3: S3
    sqs: Sqs
    sentry: Sentry
    log: Log
    metrics: Metrics
    testing: Testing
    plans: Plans
    origins: Mapping[str, str] = field(factory=lambda: MappingProxyType({}), eq=False, repr=False)
    warnings: tuple[str, ...] = field(default=(), eq=False)
