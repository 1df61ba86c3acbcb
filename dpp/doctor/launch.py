"""What a launch asks of the running node: its listeners, its books, its neighbours, its backups."""

from __future__ import annotations

import re
import ssl
from datetime import datetime
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import httpx
from prometheus_client.parser import text_string_to_metric_families

from dpp.backups import copies
from dpp.backups.programs import BackupRefused
from dpp.client.faults import ClientError
from dpp.diagnosis.checks import Unknown
from dpp.diagnosis.launch import (
    LIMITS,
    Backup,
    Books,
    Facts,
    Metrics,
    Node,
    PlanInUse,
    Ready,
    Settings,
)
from dpp.resources import config_dir
from dpp.sections import PRODUCTION
from dpp.urls import is_loopback

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from dpp.client.admin import Admin
    from dpp.config import Config
    from dpp.diagnosis.checks import Check

T = TypeVar("T")

REPLY_S = 5.0  # a listener of this machine; /readyz asks others for a second
HOUR_S = 3600
RULES = ("alerts.yml", "records.yml")
_RULE = re.compile(r"^\s*- (alert|record):", re.MULTILINE)


def gather(
    config: Config,
    checks: Sequence[Check],
    node: tuple[str, str, Admin] | Unknown,
    *,
    wanted_nodes: int,
    backups_dir: Path,
    now: datetime,
    say: Callable[[str], None],
) -> Facts:
    """Ask everything; `node`: its URLs and its operator's client, or why there are none."""
    url, management, admin = (node, node, node) if isinstance(node, Unknown) else node
    say("node")
    asked = partial(_of, admin)
    return Facts(
        checks=checks,
        settings=_settings(config, url),
        wanted_nodes=wanted_nodes,
        external=not config.database.embedded,
        health=_of(url, lambda there: _get(f"{there}/health").status_code),
        ready=_of(url, _ready),
        metrics=_of(management, _metrics),
        nodes=asked(_nodes),
        mode=asked(lambda one: str(one.mode()["mode"])),
        plans=asked(partial(_plans, config)),
        books=asked(partial(_books, say)),
        backup=_backup(backups_dir, now, say) if config.database.embedded else None,
        rules=_rules(),
    )


def _of(there: Any, ask: Callable[[Any], T]) -> T | Unknown:  # noqa: ANN401 - a URL or a client
    """Ask, where there is somebody to ask."""
    if isinstance(there, Unknown):
        return there
    try:
        return ask(there)
    except (httpx.HTTPError, ClientError, KeyError, ValueError) as error:
        return Unknown(str(error) or type(error).__name__)


def _get(url: str) -> httpx.Response:
    """Ask a listener whether it is there; whose certificate it has is not the question."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return httpx.get(url, timeout=REPLY_S, trust_env=False, verify=context)


def _ready(url: str) -> Ready:
    answer = _get(f"{url}/readyz")
    return Ready(answer.status_code, answer.json().get("services", {}))


def _metrics(url: str) -> Metrics:
    answer = _get(f"{url}/metrics").raise_for_status()
    families = list(text_string_to_metric_families(answer.text))
    samples = [one for family in families for one in family.samples]
    return Metrics(
        names=len([one for one in families if one.name.startswith(("dpp_", "http_"))]),
        critical=_sum(samples, "log_entries", severity="CRITICAL"),
        completed=_sum(samples, "dpp_runs_ended_total", status="COMPLETED"),
    )


def _sum(samples: Sequence[Any], name: str, **labels: str) -> float:
    return sum(
        float(one.value)
        for one in samples
        if one.name.removesuffix("_total") == name.removesuffix("_total")
        and labels.items() <= one.labels.items()
    )


def _nodes(admin: Admin) -> list[Node]:
    return [
        Node(
            str(one["node_id"]),
            str(one["state"]),
            int(one["concurrency"] or 0),
            one["loops"].get("reaper"),
        )
        for one in admin.nodes()
    ]


def _books(say: Callable[[str], None], admin: Admin) -> Books:
    say("audit")
    audit = admin.audit()
    return Books(audit.get("ok") is True, sum(1 for _ in admin.findings()))


def _plans(config: Config, admin: Admin) -> list[PlanInUse]:
    used = [str(one["plan"]) for one in admin.tenants()]
    return [PlanInUse(name, used.count(name), _lacking(config, name)) for name in sorted({*used})]


def _lacking(config: Config, name: str) -> list[str] | None:
    plan = config.plans.get(name)
    return None if plan is None else [one for one in LIMITS if getattr(plan, one) is None]


def _backup(directory: Path, now: datetime, say: Callable[[str], None]) -> Backup | Unknown | None:
    try:
        found = copies.whole(directory)
        if not found:
            directory.stat()
            return None
        newest = found[-1]
        taken_at = datetime.fromisoformat(copies.read_about(newest).taken_at)
    except FileNotFoundError:
        return None
    except OSError as error:
        return Unknown(f"{directory}: {error.strerror}")
    except BackupRefused as refused:
        return Unknown(refused.what)
    hours = (now - taken_at).total_seconds() / HOUR_S
    say(f"backup {newest}")
    try:
        copies.verify(newest, say=say)
    except BackupRefused as refused:
        return Backup(str(newest), hours, refused.what)
    return Backup(str(newest), hours, None)


def _rules() -> Mapping[str, int] | Unknown:
    directory = config_dir() / "prometheus"
    try:
        return {
            str(directory / name): len(_RULE.findall((directory / name).read_text("utf-8")))
            for name in RULES
        }
    except OSError as error:
        return Unknown(f"{error.filename}: {error.strerror}")


def _settings(config: Config, url: str | Unknown) -> Settings:
    """Return what is set, and where the node really listens: a socket may be systemd's."""
    there = None if isinstance(url, Unknown) else urlsplit(url)
    host = config.http.listen.host if there is None else there.hostname or ""
    tls = config.http.tls_certificate is not None if there is None else there.scheme == "https"
    return Settings(
        production=config.node.profile == PRODUCTION,
        profile=config.node.profile,
        tls=tls,
        public=str(config.http.listen) if there is None else there.netloc,
        loopback=is_loopback(host) and host not in {"0.0.0.0", "::"},  # noqa: S104 - not it
        webhook_ports=config.webhooks.ports,
        loopback_webhooks=config.webhooks.allow_loopback,
        log_format=config.log.format,
        log_level=config.log.level,
    )
