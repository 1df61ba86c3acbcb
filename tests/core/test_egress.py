"""Where requests may go: URLs by their form, names by what they resolve to."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpp import egress
from dpp.egress import Refused, Rules, Target, is_own, is_public, origin, read, unwrapped, vet

RULES = Rules()
DEV = Rules(allow_loopback=True, own_ports=frozenset({8080, 9090}))

# Refused for their form alone, without a look at any name server.
BY_FORM = (
    # not https
    *("http://hooks.example.com/", "http://93.184.216.34/", "file:///etc/passwd"),
    *("gopher://127.0.0.1:6379/_FLUSHALL", "ftp://hooks.example.com/", "//hooks.example.com/"),
    *("javascript:alert(1)", "data:text/html,x", "dict://127.0.0.1:11211/", "hooks.example.com"),
    *("", "https://", "https:///path", "https:hooks.example.com", "HTTPS://", "ws://a.example.com"),
    # somebody's name and password
    *("https://user@hooks.example.com/", "https://user:pw@hooks.example.com/"),
    *("https://hooks.example.com@127.0.0.1/", "https://127.0.0.1\\@hooks.example.com/"),
    # this machine, in all notations
    *("https://127.0.0.1/", "https://127.0.0.1:443/", "https://127.1/", "https://127.255.255.254/"),
    *("https://0/", "https://0.0.0.0/", "https://0x7f000001/", "https://0X7F.0.0.1/"),
    *("https://2130706433/", "https://017700000001/", "https://0177.0.0.1/", "https://127.0.0.01/"),
    *("https://[::1]/", "https://[::]/", "https://[0:0:0:0:0:0:0:1]/", "https://[::127.0.0.1]/"),
    *("https://[::ffff:127.0.0.1]/", "https://[::ffff:7f00:1]/", "https://[64:ff9b::7f00:1]/"),
    *("https://localhost/", "https://localhost./", "https://LOCALHOST/", "https://a.localhost/"),
    *("https://localhost.localdomain/", "https://ip6-localhost/", "https://redis/"),
    # this network
    *(
        "https://10.0.0.1/",
        "https://172.16.0.1/",
        "https://172.31.255.255/",
        "https://192.168.0.1/",
    ),
    *("https://100.64.0.1/", "https://198.18.0.1/", "https://192.0.2.1/", "https://203.0.113.9/"),
    *("https://224.0.0.1/", "https://240.0.0.1/", "https://255.255.255.255/"),
    *("https://[fc00::1]/", "https://[fd12:3456::1]/", "https://[fe80::1]/", "https://[ff02::1]/"),
    *("https://[fe80::1%25eth0]/", "https://[2001:db8::1]/", "https://[2002:7f00:1::]/"),
    *("https://[2001:0:7f00:1::]/", "https://db.corp/", "https://nas.local/", "https://x.lan/"),
    "https://1.0.0.127.in-addr.arpa/",
    # where clouds keep their secrets
    *("https://169.254.169.254/latest/meta-data/", "https://[::ffff:a9fe:a9fe]/"),
    *("https://[fd00:ec2::254]/", "https://100.100.100.200/", "https://192.0.0.192/"),
    *("https://168.63.129.16/", "https://metadata.google.internal/computeMetadata/v1/"),
    *("https://metadata.google.internal./", "https://[fd20:ce::254]/", "https://2852039166/"),
    # other services
    *("https://hooks.example.com:22/", "https://hooks.example.com:6379/"),
    *("https://hooks.example.com:5432/", "https://hooks.example.com:80/"),
    *("https://hooks.example.com:0/", "https://hooks.example.com:65536/"),
    *("https://hooks.example.com:0443/", "https://hooks.example.com:/"),
    *("https://hooks.example.com:443:443/", "https://hooks.example.com:+443/"),
    # letters that look like others
    *(
        "https://１２７.0.0.1/",
        "https://127。0。0。1/",
        "https://ⓛⓞⓒⓐⓛⓗⓞⓢⓣ/",
        "https://ｌocalhost/",
    ),
    *("https://①②⑦.⓪.⓪.①/", "https://metadata.google。internal/", "https://\u017f.lo\u00adcal/"),
    # what no two programs read alike
    *(
        "https://hooks.example.com/a b",
        "https://hooks.example.com/\r\nHost: x",
        "https://a..b.com/",
    ),
    *("https://hooks.example.com\t/", "https://hooks.example.com/\x00", "https://-a.example.com/"),
    *("https://a_b.example.com/", "https://hooks.example.com/#x", "https://hooks.example.com/é"),
    *("https://[::1/", "https://::1/", "https://%31%32%37.0.0.1/", "https://hooks%2eexample.com/"),
    *("https://" + "a" * 64 + ".example.com/", "https://" + "a." * 200 + "com/"),
    "https://hooks.example.com/" + "a" * 2048,
)
# Names that anybody may have, and what they resolve to.
BY_ADDRESS: tuple[tuple[str, list[str]], ...] = (
    ("https://127.0.0.1.nip.io/", ["127.0.0.1"]),
    ("https://10-0-0-1.sslip.io/", ["10.0.0.1"]),
    ("https://localtest.me/", ["::1", "127.0.0.1"]),
    ("https://rebinds.example.com/", ["169.254.169.254"]),
    ("https://half.example.com/", ["93.184.216.34", "10.0.0.1"]),
    ("https://late.example.com/", ["2606:2800:220:1::1", "::ffff:192.168.1.1"]),
    ("https://nat.example.com/", ["64:ff9b::a00:1"]),
    ("https://scope.example.com/", ["fe80::1%eth0"]),
    ("https://zero.example.com/", ["0.0.0.0"]),  # noqa: S104 - nobody listens here
    ("https://none.example.com/", []),
    ("https://azure.example.com/", ["168.63.129.16"]),
    ("https://teredo.example.com/", ["2001:0:4136:e378:8000:63bf:3fff:fdd2"]),
)


def test_the_corpus_is_as_large_as_was_promised() -> None:
    assert len({*BY_FORM}) == len(BY_FORM)
    assert len(BY_FORM) + len(BY_ADDRESS) >= 60


@pytest.mark.parametrize("url", BY_FORM)
def test_a_url_is_refused_for_its_form(url: str) -> None:
    assert isinstance(read(url, RULES), Refused)


@pytest.mark.parametrize(("url", "found"), BY_ADDRESS)
def test_a_name_is_refused_for_one_address_of_it(url: str, found: list[str]) -> None:
    target = read(url, RULES)
    assert isinstance(target, Target)

    assert isinstance(vet(target, found, RULES), Refused)


@pytest.mark.parametrize(
    ("url", "normal"),
    [
        ("https://hooks.example.com", "https://hooks.example.com/"),
        ("HTTPS://Hooks.EXAMPLE.com:443/a?b=c", "https://hooks.example.com/a?b=c"),
        ("https://hooks.example.com./", "https://hooks.example.com/"),
        ("https://bücher.example.com/", "https://xn--bcher-kva.example.com/"),
        # Nobody is taken in by a Cyrillic letter: what is stored and shown is this.
        ("https://аpple.com/", "https://xn--pple-43d.com/"),
        ("https://hooks.example.com?x=1", "https://hooks.example.com/?x=1"),
        ("https://hooks.example.com/a/../b;c=%2e", "https://hooks.example.com/a/../b;c=%2e"),
        ("https://8.8.8.8/", "https://8.8.8.8/"),
        ("https://[2606:4700::0:1111]/", "https://[2606:4700::1111]/"),
        ("https://[64:ff9b::808:808]/", "https://[64:ff9b::808:808]/"),
        ("https://hooks.example.com:8443/", "https://hooks.example.com:8443/"),
    ],
)
def test_a_url_that_may_be_sent_to_is_put_together_anew(url: str, normal: str) -> None:
    rules = Rules(ports=frozenset({443, 8443}))

    target = read(url, rules)

    assert isinstance(target, Target)
    assert target.url == normal
    assert read(normal, rules) == target


def test_each_public_address_of_a_name_may_be_connected_to_in_its_order() -> None:
    target = read("https://hooks.example.com/", RULES)
    assert isinstance(target, Target)

    found = vet(target, ["2606:4700::1111", "1.1.1.1", "1.1.1.1", "::ffff:8.8.8.8"], RULES)

    assert found == tuple(
        ipaddress.ip_address(text) for text in ("2606:4700::1111", "1.1.1.1", "::ffff:8.8.8.8")
    )


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:3000/", "http://localhost/", "https://[::1]:8443/", "http://127.9.9.9/"],
)
def test_this_machine_is_allowed_where_the_operator_says_so(url: str) -> None:
    assert isinstance(read(url, DEV), Target)
    assert isinstance(read(url, RULES), Refused)


@pytest.mark.parametrize(
    "url",
    [
        *("http://127.0.0.1:8080/v1/runs", "http://localhost:9090/admin/v1/tenants"),
        *("https://[::ffff:127.0.0.1]:9090/", "http://10.0.0.1/", "http://hooks.example.com/"),
        *("https://hooks.example.com:9090/", "https://169.254.169.254/"),
    ],
)
def test_where_this_machine_is_allowed_its_own_listeners_and_all_else_are_not(url: str) -> None:
    assert isinstance(read(url, DEV), Refused)


def test_a_name_that_leads_to_an_own_listener_is_refused_where_loopback_is_allowed() -> None:
    rules = Rules(frozenset({443, 8080}), allow_loopback=True, own_ports=frozenset({8080}))
    own, other = read("https://a.example.com:8080/", rules), read("https://a.example.com/", rules)
    assert isinstance(own, Target)
    assert isinstance(other, Target)

    assert isinstance(vet(own, ["127.0.0.1"], rules), Refused)
    assert vet(other, ["127.0.0.1"], rules) == (ipaddress.ip_address("127.0.0.1"),)


def test_http_goes_to_no_public_address_whatever_a_name_of_this_machine_resolves_to() -> None:
    target = read("http://app.localhost:3000/", DEV)
    assert isinstance(target, Target)

    assert isinstance(vet(target, ["93.184.216.34"], DEV), Refused)


@pytest.mark.parametrize(
    ("there", "here", "port", "own"),
    [
        ("127.0.0.1", "127.0.0.1", 9090, True),
        ("93.184.216.34", "93.184.216.34", 9090, True),  # the machine's own public address
        ("::ffff:93.184.216.34", "93.184.216.34", 9090, True),
        ("93.184.216.34", "10.0.0.7", 9090, False),
        ("127.0.0.1", "127.0.0.1", 3000, False),
    ],
)
def test_a_connection_that_ends_here_is_told(
    there: str, here: str, port: int, *, own: bool
) -> None:
    addresses = (ipaddress.ip_address(there), ipaddress.ip_address(here))

    assert is_own(*addresses, port, DEV) is own


@given(st.ip_addresses(v=4))
def test_whatever_wraps_an_ipv4_address_is_as_public_as_that(inner: ipaddress.IPv4Address) -> None:
    mapped = ipaddress.IPv6Address(0xFFFF << 32 | int(inner))
    nat64 = ipaddress.IPv6Address(int(egress.NAT64.network_address) | int(inner))

    assert unwrapped(mapped) == unwrapped(nat64) == inner
    assert is_public(mapped) == is_public(nat64) == is_public(inner)


@given(st.ip_addresses())
def test_what_python_knows_to_be_private_is_not_public(address: egress.Address) -> None:
    if not unwrapped(address).is_global or address.is_multicast:
        assert not is_public(address)


@given(st.text(max_size=60))
def test_any_text_is_judged_and_what_passes_is_plain(text: str) -> None:
    for url in (text, f"https://{text}", f"https://a.example.com{text}"):
        target = read(url, RULES)
        if isinstance(target, Target):
            assert target.url.isascii()
            assert target.url.isprintable()
            assert " " not in target.url
            assert target.port == 443


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://hooks.example.com/a?b=c", "https://hooks.example.com:443"),
        ("HTTPS://Hooks.Example.COM:8443", "https://hooks.example.com:8443"),
        ("https://bücher.example/", "https://xn--bcher-kva.example:443"),
        ("http://[::1]:9000/x", "http://[::1]:9000"),
        ("ftp://hooks.example.com/", None),
        ("https://user@hooks.example.com/", None),
        ("https://hooks.example.com\\@evil.example/", None),
        ("hooks.example.com", None),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, expected: str | None) -> None:
    assert origin(url) == expected
