"""Whose certificates the client believes, and what it says of one that it does not."""

from __future__ import annotations

import ssl
from typing import TYPE_CHECKING, Any

import pytest

from dpp.client import CertificateNotTrusted, Misconfigured
from tests.cli.peers import Says, peer
from tests.http.certificates import make_certificate

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.cli.peers import Peer
    from tests.client.conftest import Ask

BUDGET = Says(
    200,
    '{"deposited_usd": "1.00", "available_usd": "1.00", "held_usd": "0.00", "spent_usd": "0.00"}',
)
FORGET = ("SSL_CERT_FILE", "SSL_CERT_DIR")


@pytest.fixture(autouse=True)
def _nobody_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in FORGET:
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a certificate for 127.0.0.1 that signed itself; its key lies beside it."""
    return make_certificate(tmp_path_factory.mktemp("certificates")).chain


@pytest.fixture
def server(chain: Path) -> Iterator[Peer]:
    """Serve with it."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(chain, chain.with_name("key.pem"))
    with peer([BUDGET], context) as one:
        yield one


def budget(client: Any) -> Any:
    return client.budget()


def told() -> tuple[list[str], Callable[[Exception, float], None]]:
    """Return what a client says of its retries, and what notes it."""
    words: list[str] = []
    return words, lambda failure, _pause_s: words.append(str(failure))


def test_one_that_signed_for_itself_is_not_believed_and_not_asked_again(
    ask: Ask, server: Peer
) -> None:
    retried, note = told()

    with pytest.raises(CertificateNotTrusted) as refused:
        ask(server.url, budget, on_retry=note)

    assert refused.value.why == "self-signed certificate"
    assert (refused.value.url, refused.value.sent) == (server.url, False)
    assert (retried, server.asked) == ([], [])


def test_one_that_is_named_is_believed_for_the_name_that_it_has_and_no_other(
    ask: Ask, server: Peer, chain: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(chain))

    assert str(ask(server.url, budget).deposited_usd) == "1.00"
    with pytest.raises(CertificateNotTrusted, match=r"Hostname mismatch.*'localhost'"):
        ask(server.url.replace("127.0.0.1", "localhost"), budget)
    assert len(server.asked) == 1


def test_a_file_without_certificates_is_said_before_anything_is_asked(
    ask: Ask, server: Peer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    empty = tmp_path / "empty.pem"
    empty.touch()

    for file in (empty, tmp_path / "missing.pem"):
        monkeypatch.setenv("SSL_CERT_FILE", str(file))
        with pytest.raises(Misconfigured, match=f"SSL_CERT_FILE .*{file.name}"):
            ask(server.url, budget)

    assert server.asked == []
