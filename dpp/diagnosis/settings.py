"""What the configuration says that it should not, and what it leaves open to others."""

from collections.abc import Iterator, Sequence
from ipaddress import ip_address

from attrs import frozen

from dpp.diagnosis.checks import Check, listed, well, wrong

OTHERS_READ, OTHERS_WRITE, GROUP_WRITES = 0o004, 0o002, 0o020
EVERYWHERE = {"0.0.0.0", "::", ""}  # noqa: S104 - what is looked for


@frozen
class Secret:
    """A file that a setting names: its mode; None: it is not there, or not to be seen."""

    setting: str
    path: str
    mode: int | None


@frozen(kw_only=True)
class Settings:
    """The configuration, as far as it is judged. `file` None: nothing but the defaults."""

    production: bool
    file: str | None
    file_mode: int | None
    warnings: Sequence[str]
    secrets: Sequence[Secret]
    cors: Sequence[str]
    plain_links: Sequence[str]  # what crosses a network without TLS: "database.url to db.example"
    allow_unsynced: bool
    management: str  # the host that its listener binds
    public: str
    tls: bool
    loopback_webhooks: bool


def diagnose(facts: Settings) -> Iterator[Check]:
    """Judge the configuration."""
    yield _configuration(facts)
    yield _unsafe(facts)
    yield _secrets(facts)
    yield _management(facts)


def _configuration(facts: Settings) -> Check:
    name, where = "configuration", facts.file or "the defaults"
    if facts.warnings:
        fix = "Take out what each line names, or correct it; `dpp config check` reads it again."
        return wrong(name, f"{where}: {'; '.join(facts.warnings)}", fix)
    if (facts.file_mode or 0) & OTHERS_WRITE:
        fix = f"chmod o-w {facts.file}"
        return wrong(name, f"{where} may be written by everybody on this machine", fix)
    return well(name, f"{where}: read, without warnings")


def _unsafe(facts: Settings) -> Check:
    name = "unsafe settings"
    found = list(_what_is_unsafe(facts))
    if not found:
        return well(name, "none")
    if not facts.production:
        return well(name, f"outside production let pass: {'; '.join(found)}")
    fix = (
        "Name the origins; add sslmode=verify-full and sslrootcert to a URL of PostgreSQL, write "
        "rediss:// for Redis; serve TLS, or listen where only your proxy comes."
    )
    return wrong(name, "; ".join(found), fix)


def _what_is_unsafe(facts: Settings) -> Iterator[str]:
    if "*" in facts.cors:
        yield "http.cors_allowed_origins lets pages of any site call the API"
    for link in facts.plain_links:
        yield f"{link} crosses a network without TLS that is checked"
    if facts.allow_unsynced:
        yield "database.allow_unsynced takes a server whose crash may lose commits"
    if not facts.tls and facts.public not in EVERYWHERE and _is_global(facts.public):
        yield f"http.listen is on {facts.public}, a public address, without TLS"
    if facts.loopback_webhooks:
        yield "webhooks.allow_loopback lets tenants ask this machine"


def _secrets(facts: Settings) -> Check:
    name = "secret files"
    gone = [f"{one.path} ({one.setting})" for one in facts.secrets if one.mode is None]
    if gone:
        fix = "Put them there, readable by the node's user, or run this as that user."
        return wrong(name, f"not to be read: {listed(gone)}", fix)
    open_ = [
        one
        for one in facts.secrets
        if (one.mode or 0) & (OTHERS_READ | OTHERS_WRITE | GROUP_WRITES)
    ]
    if open_:
        told = [f"{one.path} ({one.setting}, {(one.mode or 0):04o})" for one in open_]
        paths = " ".join(one.path for one in open_)
        return wrong(name, f"open to others: {listed(told)}", f"chmod g-w,o= {paths}")
    return well(name, f"{len(facts.secrets)}, none open to others" if facts.secrets else "none")


def _management(facts: Settings) -> Check:
    name = "management listener"
    host = facts.management
    fix = (
        "Let management.listen name 127.0.0.1, or this machine's address in the network of your "
        "Prometheus, and let its firewall keep others out."
    )
    if host in EVERYWHERE:
        said = "listens on every address: /metrics is open, and the admin API has one token"
        return wrong(name, said, fix)
    if _is_global(host):
        return wrong(name, f"listens on {host}, a public address", fix)
    return well(name, f"listens on {host}")


def _is_global(host: str) -> bool:
    """Say whether anybody may reach it; a name is not judged."""
    try:
        return host in EVERYWHERE or ip_address(host).is_global
    except ValueError:
        return False
