"""Where requests of ours may go: which URLs, and which addresses behind them.

A tenant names a URL and this node sends there, from inside somebody's network. So a URL is taken
apart by strict rules and put together anew, a name is resolved once, each address it has must be a
public one, and the connection goes to that very address. Pure: the addresses come in as arguments,
and `dpp.outgoing` connects. Webhooks use it, and so may packs.
"""

import ipaddress
import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final, TypeAlias
from urllib.parse import SplitResult, urlsplit

import idna
from attrs import field, frozen

Address: TypeAlias = IPv4Address | IPv6Address

URL_MAX: Final = 2048  # what servers and proxies take
HOST_MAX: Final = 253  # of a name, RFC 1035
PORT_MAX: Final = 65_535
SCHEMES: Final = {"https": 443, "http": 80}
# Names that mean something inside a network: RFC 6761, 6762, 8375, those that ICANN never gives
# away, and where clouds keep their metadata.
INSIDE: Final = frozenset(
    {
        *("localhost", "localdomain", "local", "internal", "intranet", "private", "corp", "home"),
        *("lan", "arpa", "onion", "alt"),
    }
)
# IANA's special-purpose registry, whole and ours: Python's own tables differ between releases
# (CVE-2024-4032). The last is a public number that is no public host.
NOT_PUBLIC: Final = tuple(
    ipaddress.IPv4Network(text)
    for text in (
        *("0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16"),
        *("172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24"),
        *("192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24", "198.18.0.0/15"),
        *("198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4"),
        "168.63.129.16/32",  # what Azure's machines ask for their metadata
    )
)
# Global unicast is 2000::/3; these parts of it are for protocols, examples and tunnels.
PUBLIC_6: Final = ipaddress.IPv6Network("2000::/3")
NOT_PUBLIC_6: Final = tuple(
    ipaddress.IPv6Network(text)
    for text in ("2001::/23", "2001:db8::/32", "2002::/16", "2620:4f:8000::/48", "3fff::/20")
)
NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")  # an IPv4 address, seen from an IPv6 network

_PLAIN: Final = re.compile(r"[\x21-\x7e]+")  # what is left of a URL is sent as it stands there
_NOT_IN_A_HOST: Final = re.compile(r"[\x00-\x20\x7f-\xa0]")
_LABEL: Final = re.compile(r"(?!-)[a-z0-9-]{1,63}(?<!-)")
_PORT: Final = re.compile(r"[1-9][0-9]{0,4}")
_NUMBER: Final = re.compile(r"[0-9]+|0x[0-9a-f]*")  # as a last label: an address in some notation


@frozen
class Rules:
    """What the operator allows. `own_ports`: where this node listens; it never sends there."""

    ports: frozenset[int] = field(default=frozenset({443}))
    allow_loopback: bool = False
    own_ports: frozenset[int] = field(default=frozenset())


@frozen
class Refused:
    """A URL or address that nothing is sent to; `why` completes "must …" or stands alone."""

    why: str


@frozen
class Target:
    """A URL taken apart: all of it is ASCII, the host in lower case or a canonical address."""

    scheme: str
    host: str
    port: int
    path: str  # with the query; begins with a slash
    address: Address | None  # the host, where it is one

    @property
    def netloc(self) -> str:
        """Return host and port as a URL and the Host header have them."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return host if self.port == SCHEMES[self.scheme] else f"{host}:{self.port}"

    @property
    def url(self) -> str:
        """Return the URL, normalised: what is stored, shown and sent to."""
        return f"{self.scheme}://{self.netloc}{self.path}"

    @property
    def origin(self) -> str:
        """Return scheme, host and port; the port always."""
        host = f"[{self.host}]" if isinstance(self.address, IPv6Address) else self.host
        return f"{self.scheme}://{host}:{self.port}"

    @property
    def is_loopback(self) -> bool:
        """Say whether it names this machine by its URL alone."""
        if self.address is not None:
            return unwrapped(self.address).is_loopback
        return self.host == "localhost" or self.host.endswith(".localhost")


def take_apart(url: str) -> Target | Refused:
    """Take a URL apart, wherever it leads."""
    split = _split(url)
    if isinstance(split, Refused):
        return split
    host = _host(split.hostname or "")
    if isinstance(host, Refused):
        return host
    name, address = host
    port = split.port or SCHEMES[split.scheme]
    path = (split.path or "/") + (f"?{split.query}" if split.query else "")
    return Target(split.scheme, name, port, path, address)


def origin(url: str) -> str | None:
    """Return scheme, host and port, as RFC 6454 compares them; None = it is no such URL."""
    target = take_apart(url)
    return None if isinstance(target, Refused) else target.origin


def read(url: str, rules: Rules) -> Target | Refused:
    """Take a URL apart and judge what can be judged without resolving its name."""
    target = take_apart(url)
    if isinstance(target, Refused):
        return target
    if target.is_loopback and rules.allow_loopback:
        own = target.port in rules.own_ports
        return Refused("must not be this node itself") if own else target
    if target.scheme != "https":
        return Refused("must start with https://")
    if target.port not in rules.ports:
        allowed = ", ".join(str(one) for one in sorted(rules.ports))
        return Refused(f"must have a port of these: {allowed}")
    if target.address is not None and not is_public(target.address):
        return Refused("must be a public address")
    if target.address is None and _is_inside(target.host):
        return Refused("must be a public name")
    return target


def vet(target: Target, found: Iterable[str], rules: Rules) -> tuple[Address, ...] | Refused:
    """Return the addresses to connect to, in order, or why none: one bad one spoils them all.

    `found`: what the host resolved to, each time anew; a name may point elsewhere by now.
    """
    addresses: list[Address] = []
    for text in found:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:  # with a scope, such as fe80::1%eth0
            return Refused("resolved to what is no public address")
        if rules.allow_loopback and unwrapped(address).is_loopback:
            if target.port in rules.own_ports:
                return Refused("resolved to this node itself")
        elif not is_public(address):
            return Refused("resolved to what is no public address")
        elif target.scheme != "https":
            return Refused("http is for this machine alone")
        if address not in addresses:
            addresses.append(address)
    return tuple(addresses) or Refused("the name has no address")


def is_own(address: Address, local: Address, port: int, rules: Rules) -> bool:
    """Say whether a connection that stands ends at a listener of this very node.

    `local`: this end of it. Who connects to an address of the own machine comes from that address.
    """
    here = unwrapped(address)
    return port in rules.own_ports and (here.is_loopback or here == unwrapped(local))


def is_public(address: Address) -> bool:
    """Say whether this is a host of the public Internet, and no other inside it."""
    inner = unwrapped(address)
    if isinstance(inner, IPv4Address):
        return not any(inner in network for network in NOT_PUBLIC)
    return inner in PUBLIC_6 and not any(inner in network for network in NOT_PUBLIC_6)


def unwrapped(address: Address) -> Address:
    """Return the IPv4 address that an IPv6 one stands for, where the system would go there.

    Tunnels (6to4, Teredo) and other notations are not unwrapped: they are not public as a whole.
    """
    if isinstance(address, IPv4Address):
        return address
    if address.ipv4_mapped is not None:
        return address.ipv4_mapped
    if address in NAT64:
        return IPv4Address(int(address) & 0xFFFF_FFFF)
    return address


def _split(url: str) -> SplitResult | Refused:
    """Take the URL apart as far as its characters, its scheme and its authority go."""
    if len(url) > URL_MAX:
        return Refused(f"must have at most {URL_MAX} characters")
    head, mark, rest = url.partition("://")
    authority = re.split(r"[/?#]", rest, maxsplit=1)[0]
    if not mark or head.lower() not in SCHEMES or not authority:
        return Refused("must start with https:// and a host")
    # Only a host may have other letters; what `urlsplit` drops without a word is not let through.
    plain = url.replace(authority, "", 1)
    if not _PLAIN.fullmatch(plain) or _NOT_IN_A_HOST.search(authority) or "\\" in url:
        return Refused("must be percent-encoded ASCII without blanks")
    if "@" in authority:
        return Refused("must not name a user or a password")
    if "#" in rest:
        return Refused("must not have a fragment")
    port = authority.rpartition("]")[2].partition(":")[2] if ":" in authority else ""
    if authority.endswith(":") or (port and (not _PORT.fullmatch(port) or int(port) > PORT_MAX)):
        return Refused("must have a port from 1 to 65535, or none")
    try:
        return urlsplit(url)
    except ValueError:  # brackets without an address in them, characters that normalise to others
        return Refused("must have a host name or an IP address")


def _host(text: str) -> tuple[str, Address | None] | Refused:
    """Return the host as ASCII, and as an address where it is one."""
    wrong = Refused("must have a host name or an IP address")
    if ":" in text:
        try:
            address: Address = IPv6Address(text)
        except ValueError:
            return wrong
        return (str(address), address) if "%" not in text else wrong
    if (
        len(text) > HOST_MAX + 1
    ):  # with a dot at its end; what is longer in the end is refused below
        return wrong
    try:
        name = idna.encode(text, uts46=True, std3_rules=True).decode("ascii")
    except (idna.IDNAError, UnicodeError):
        return wrong
    name = name.removesuffix(".").lower()
    labels = name.split(".")
    if len(name) > HOST_MAX or not all(_LABEL.fullmatch(label) for label in labels):
        return wrong
    if not _NUMBER.fullmatch(labels[-1]):
        return name, None
    try:  # 0x7f000001, 2130706433, 0177.0.0.1, 127.1: resolvers read them, we do not
        address = IPv4Address(name)
    except ValueError:
        return wrong
    return str(address), address


def _is_inside(name: str) -> bool:
    """Say whether a name has no meaning outside of some network; a single word never has."""
    labels = name.split(".")
    return len(labels) == 1 or labels[-1] in INSIDE
