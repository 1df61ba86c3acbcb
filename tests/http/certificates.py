"""A certificate of our own for 127.0.0.1, made by the openssl command."""

from __future__ import annotations

import shutil
import ssl
import subprocess
from typing import TYPE_CHECKING

import pytest
from attrs import frozen

if TYPE_CHECKING:
    from pathlib import Path


@frozen
class Certificate:
    """The files of a server, and what trusts them."""

    chain: Path
    key: Path

    def trusting(self, *protocols: str) -> ssl.SSLContext:
        """Return a client's context; it offers these protocols."""
        context = ssl.create_default_context(cafile=str(self.chain))
        if protocols:
            context.set_alpn_protocols(protocols)
        return context


def make_certificate(place: Path, *, password: str | None = None) -> Certificate:
    """Make a key and a certificate for 127.0.0.1; skips the test where there is no openssl."""
    openssl = shutil.which("openssl")
    if openssl is None:
        pytest.skip("needs the openssl command")
    made = Certificate(place / "chain.pem", place / "key.pem")
    hidden = ["-nodes"] if password is None else ["-passout", f"pass:{password}"]
    subprocess.run(
        [
            *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
            *("-keyout", str(made.key), "-out", str(made.chain), "-days", "3", *hidden),
            *("-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    made.key.chmod(0o600)
    return made
