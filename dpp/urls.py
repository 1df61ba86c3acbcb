"""Settings that name a place: where a listener binds, and URLs, of which some hold a password.

The rules are of the same kind as those of `rules`. A URL with a secret in it is shown without, and
`passwords` finds the secret for those who must leave it out elsewhere.
"""

import ipaddress
import re
import socket
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlsplit

from attrs import frozen

from dpp.rules import MASK, TEXT_MAX, NotAllowed, Plain

_UNPRINTABLE = re.compile(r"[\x00-\x20\x7f]")
_QUERY_PASSWORD = re.compile(r"(?i)[?&][^=&]*password=([^&#]+)")
_ADDRESS = re.compile(r"(?:\[([0-9A-Fa-f:.]+)\]|([A-Za-z0-9._-]+)):([0-9]{1,5})")
PORT_MAX = 65_535
SEVERAL_HOSTS = frozenset({"postgresql", "postgres"})  # tried in order, until one is the primary
# What a PostgreSQL URL may ask of TLS, from the least on; and the files that it may name for it.
SSL_MODES = ("disable", "allow", "prefer", "require", "verify-ca", "verify-full")
SSL_FILES = frozenset({"sslrootcert", "sslcert", "sslkey", "sslcrl"})


@frozen
class Address:
    """Where a listener binds. Port 0 lets the system choose."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


@frozen
class Listen(Plain):
    """HOST:PORT, with brackets around an IPv6 address."""

    @property
    def allowed(self) -> str:
        return 'HOST:PORT, such as "127.0.0.1:8080", "0.0.0.0:8080" or "[::1]:8080"'

    def read(self, value: object) -> Address:
        found = _ADDRESS.fullmatch(value) if isinstance(value, str) else None
        if found is None or int(found[3]) > PORT_MAX or not _is_host(found[1], found[2]):
            raise NotAllowed(self.allowed)
        return Address(found[1] or found[2], int(found[3]))

    def show(self, value: object) -> object:
        return str(value)


@frozen
class Url(Plain):
    """A URL of one of these schemes, or one of these words ("" means that there is none)."""

    schemes: tuple[str, ...]
    words: tuple[str, ...] = ("",)

    @property
    def allowed(self) -> str:
        schemes = " or ".join(f"{scheme}://" for scheme in self.schemes)
        return f"a URL that starts with {schemes}, or " + " or ".join(f'"{w}"' for w in self.words)

    def read(self, value: object) -> str | None:
        if value in self.words:
            return str(value) or None
        if not isinstance(value, str) or len(value) > TEXT_MAX or not self._is_url(value):
            raise NotAllowed(self.allowed)
        return str(value)

    def _is_url(self, text: str) -> bool:
        if _UNPRINTABLE.search(text):
            return False
        try:
            url = urlsplit(text)
            if url.scheme not in self.schemes:
                return False
            if url.scheme in SEVERAL_HOSTS:
                return _are_hosts(url)
            _ = url.port  # raises where it is no number
        except ValueError:
            return False
        return bool(url.hostname)

    def show(self, value: object) -> object:
        return value or ""


@frozen
class SecretUrl(Url):
    """A URL that may hold a password: it is shown without."""

    @property
    def secret(self) -> bool:
        return True

    def show(self, value: object) -> object:
        return masked_url(value) if isinstance(value, str) else ""


def masked_url(text: str) -> str:
    """Return the URL without what opens a door: the password, or a user without one (a DSN key)."""
    head, at, rest = text.rpartition("@")
    scheme, _, userinfo = head.partition("://")
    if at:
        user, colon, _ = userinfo.partition(":")
        text = f"{scheme}://{user}:{MASK}@{rest}" if colon else f"{scheme}://{userinfo}@{rest}"
        if not colon and scheme.startswith("http"):
            text = f"{scheme}://{MASK}@{rest}"
    return re.sub(r"(?i)([?&][^=&]*password=)[^&#]*", rf"\1{MASK}", text)


def passwords(text: str) -> tuple[str, ...]:
    """Return the secret words in a URL, as they stand there and as they are meant."""
    userinfo = text.partition("://")[2].rpartition("@")[0]
    user, colon, password = userinfo.partition(":")
    words = [password] if colon else [user] if text.startswith("http") else []
    words += [found[1] for found in _QUERY_PASSWORD.finditer(text)]
    return tuple({form for word in words if word for form in (word, unquote(word))})


def parameters(text: str) -> dict[str, str]:
    """Return what stands behind the `?` of a URL; of a name that repeats, the last."""
    return dict(parse_qsl(urlsplit(text).query))


def user_of(text: str) -> str | None:
    """Return whom a PostgreSQL URL names, if it names one."""
    userinfo = urlsplit(text).netloc.rpartition("@")[0]
    return unquote(userinfo.partition(":")[0]) or parameters(text).get("user")


def password_of(text: str) -> str | None:
    """Return the password in a PostgreSQL URL, as it is meant."""
    userinfo = urlsplit(text).netloc.rpartition("@")[0]
    return unquote(userinfo.partition(":")[2]) or parameters(text).get("password")


def database_of(text: str) -> str | None:
    """Return the database that a PostgreSQL URL names, if it names one."""
    return unquote(urlsplit(text).path[1:]) or parameters(text).get("dbname")


def is_loopback(host: str) -> bool:
    """Say whether this host is the machine itself, in any way of writing it.

    0.0.0.0 and :: lead here too when they are connected to; resolvers read 127.1 and 0x7f000001.
    """
    name = host.rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(name)
    except ValueError:
        try:
            address = ipaddress.ip_address(socket.inet_aton(name))
        except OSError:
            return False
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_loopback or mapped.is_unspecified)


def _is_host(bracketed: str | None, plain: str | None) -> bool:
    """Say whether a listener may be told this host: an address, or a name to look up."""
    if plain is not None and not re.fullmatch(r"[0-9.]+", plain):
        return True
    try:
        ipaddress.ip_address(bracketed or plain or "")
    except ValueError:
        return False
    return True


def _are_hosts(url: SplitResult) -> bool:
    """Say whether a URL names hosts, one or several; raises ValueError where a port is none."""
    hosts = url.netloc.rpartition("@")[2]
    if not hosts:
        return bool(_socket_host(url))
    each = [urlsplit(f"//{host}") for host in hosts.split(",")]
    return all(one.hostname and (one.port is None or one.port) for one in each)


def _socket_host(url: SplitResult) -> str | None:
    """Return the `host=` of a URL whose server is a Unix socket."""
    return parse_qs(url.query).get("host", [None])[0]
