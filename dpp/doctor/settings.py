"""The configuration's facts: what it warns of, which files it names, what leaves it in the open."""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from dpp.diagnosis.settings import Secret, Settings
from dpp.sections import PRODUCTION
from dpp.urls import SSL_MODES, is_loopback, parameters

if TYPE_CHECKING:
    from collections.abc import Iterator

    from dpp.config import Config
    from dpp.datadir import RunningNode

CHECKED = frozenset({"verify-ca", "verify-full"})  # the modes that somebody in between cannot fool
_FILE = re.compile(r"\((?P<key>\S+_file) (?P<path>.+)\)$")  # how an origin names a secret's file


def gather(config: Config, file: Path | None, node: RunningNode | None = None) -> Settings:
    """Return what `dpp.diagnosis.settings` judges. `file`: the configuration that was read."""
    return Settings(
        production=config.node.profile == PRODUCTION,
        file=None if file is None else str(file),
        file_mode=None if file is None else _mode(file),
        warnings=config.warnings,
        secrets=[Secret(key, str(path), _mode(path)) for key, path in _secret_files(config)],
        cors=config.http.cors_allowed_origins,
        plain_links=list(_plain_links(config)),
        allow_unsynced=config.database.allow_unsynced,
        management=_host(node.management_url if node else "") or config.management.listen.host,
        public=_host(node.url if node else "") or config.http.listen.host,
        tls=config.http.tls_certificate is not None,
        loopback_webhooks=config.webhooks.allow_loopback,
    )


def _host(url: str) -> str | None:
    """Return where a node that runs really listens: its socket may be systemd's."""
    return urlsplit(url).hostname


def certificates(config: Config) -> list[tuple[str, Path]]:
    """Return the files with certificates, each with its setting."""
    found = []
    if config.http.tls_certificate is not None:
        found.append(("http.tls_certificate", config.http.tls_certificate))
    for key, url in _database_urls(config):
        asked = parameters(url)
        found += [(key, Path(asked[name])) for name in ("sslrootcert", "sslcert") if name in asked]
    return list(dict.fromkeys(found))


def _secret_files(config: Config) -> Iterator[tuple[str, Path]]:
    for key, origin in config.origins.items():
        named = _FILE.search(origin)
        if named:
            yield key, Path(named["path"])
    if config.http.tls_key_file is not None:
        yield "http.tls_key_file", config.http.tls_key_file
    for key, url in _database_urls(config):
        if "sslkey" in parameters(url):
            yield key, Path(parameters(url)["sslkey"])


def _mode(path: Path) -> int | None:
    try:
        return stat.S_IMODE(path.stat().st_mode)
    except OSError:
        return None


def _database_urls(config: Config) -> Iterator[tuple[str, str]]:
    if not config.database.embedded:
        yield "database.url", config.database.url
    if config.database.migrations_url:
        yield "database.migrations_url", config.database.migrations_url


def _plain_links(config: Config) -> Iterator[str]:
    for key, url in _database_urls(config):
        if parameters(url).get("sslmode", SSL_MODES[0]) not in CHECKED:
            yield from (f"{key} to {host}" for host in _away(url))
    if config.redis.url and urlsplit(config.redis.url).scheme == "redis":
        yield from (f"redis.url to {host}" for host in _away(config.redis.url))


def _away(url: str) -> Iterator[str]:
    """Yield the hosts of a URL that are other machines; a socket is none."""
    for one in urlsplit(url).netloc.rpartition("@")[2].split(","):
        host = urlsplit(f"//{one}").hostname
        if host and not is_loopback(host):
            yield host
