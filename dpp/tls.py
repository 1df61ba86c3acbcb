"""TLS of the public listener: a certificate and its key become a context, or the reason why not."""

import ssl
from pathlib import Path
from typing import Final

# Forward secrecy and no CBC (RFC 9113, 9.2.2 asks for that); TLS 1.3 has its own, all fit.
CIPHERS: Final = "ECDHE+AESGCM:ECDHE+CHACHA20"
PROTOCOLS: Final = ("h2", "http/1.1")


class NotUsable(ValueError):
    """The files make no TLS; the message completes "must be …"."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return what a listener speaks TLS with. Raises `NotUsable`. Reads both files."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_ciphers(CIPHERS)
    context.set_alpn_protocols(PROTOCOLS)
    try:
        # A password is not asked for: nobody sits there. An encrypted key is then refused.
        context.load_cert_chain(certificate, key, password="")
    except ssl.SSLError as error:
        reason = (error.reason or "no PEM").lower().replace("_", " ")
        raise NotUsable(f"a chain in PEM that belongs to the key ({reason})") from None
    except OSError as error:
        raise NotUsable(f"a file that can be read, as its key ({error.strerror})") from None
    return context
