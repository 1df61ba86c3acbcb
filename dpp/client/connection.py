"""What both shells know of httpx: where to, in whose name, how patiently, what a fault means."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Mapping
from typing import Any

import httpx
from attrs import frozen

from dpp.client.auth import Bearer
from dpp.client.faults import (
    BadAnswer,
    CertificateNotTrusted,
    ClientError,
    Misconfigured,
    NotAUrl,
    TransportError,
)
from dpp.client.retries import Retries
from dpp.client.steps import Context, Reply, Request
from dpp.version import VERSION

URL, API_KEY = "DPP_URL", "DPP_API_KEY"
CERTIFICATES = "SSL_CERT_FILE", "SSL_CERT_DIR"  # as OpenSSL names them
CONNECT_S = 5.0
ANSWER_S = 30.0  # the server's own limits are all shorter; waits add to it
TIMEOUT = httpx.Timeout(ANSWER_S, connect=CONNECT_S)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})

OnRetry = Callable[[ClientError, float], None]


@frozen
class Settings:
    """How one client connects: where, in whose name, how patiently."""

    url: str
    auth: httpx.Auth
    timeout: httpx.Timeout

    @classmethod
    def of(
        cls,
        url: str | None,
        key: str | httpx.Auth | None,
        timeout: httpx.Timeout | float | None,
    ) -> Settings:
        """Complete what was given from the environment; raises `Misconfigured`."""
        url = url or os.environ.get(URL)
        if not url:
            message = f"no node is named: give base_url, or set {URL}"
            raise Misconfigured(message)
        key = key or os.environ.get(API_KEY)
        if not key:
            message = f"no API key is given: give api_key, or set {API_KEY}"
            raise Misconfigured(message)
        auth = Bearer(key) if isinstance(key, str) else key
        times = timeout if isinstance(timeout, httpx.Timeout) else httpx.Timeout(timeout)
        return cls(checked(url), auth, times)

    @property
    def client(self) -> Mapping[str, Any]:
        """Return what httpx's clients take; raises `Misconfigured`."""
        return {
            "auth": self.auth,
            "verify": trusted(),
            # A proxy of the environment is for other hosts than this one.
            "trust_env": httpx.URL(self.url).host not in LOOPBACK,
            "headers": {"User-Agent": f"dpp/{VERSION}", "Accept": "application/json"},
        }

    def request(self, request: Request) -> Mapping[str, Any]:
        """Return what `build_request` takes."""
        times = self.timeout
        read_s = None if times.read is None else times.read + request.wait_s
        return {
            "method": request.method,
            "url": f"{self.url}{request.url}" if request.url.startswith("/") else request.url,
            "params": list(request.params) or None,
            "headers": [(name, value.encode()) for name, value in request.headers.items()],
            "content": request.content,
            "timeout": httpx.Timeout(
                connect=times.connect, read=read_s, write=times.write, pool=times.pool
            ),
        }

    def auth_of(self, request: Request) -> httpx.Auth:
        """Return who signs the request: nobody, where it goes to somebody else."""
        return self.auth if request.signed else httpx.Auth()


def context(retries: Retries | None, on_retry: OnRetry | None) -> Context:
    """Return what the operations of a new client share."""
    return Context(retries or Retries(), on_retry)


def checked(url: str) -> str:
    """Return the URL of a node, without the slash at its end; raises `NotAUrl`."""
    try:
        parsed = httpx.URL(url)
    except httpx.InvalidURL as error:
        raise NotAUrl(url) from error
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise NotAUrl(url)
    return url.rstrip("/")


def trusted() -> ssl.SSLContext | bool:
    """Return whose certificates are believed; True = those that httpx comes with.

    httpx heeds these variables itself, but not where it is to leave the proxies of the environment
    alone, which is so for a node on this host: the one most likely to have signed for itself.
    """
    file, directory = (os.environ.get(name) or None for name in CERTIFICATES)
    if file is None and directory is None:
        return True
    try:
        return ssl.create_default_context(cafile=file, capath=directory)
    except OSError as error:
        message = f"SSL_CERT_FILE names no certificates that can be read: {file}: {error}"
        raise Misconfigured(message) from error


def reply_of(answer: httpx.Response, content: bytes) -> Reply:
    """Return an answer as the operations see it."""
    return Reply(str(answer.url), answer.status_code, dict(answer.headers), content)


def fault_of(error: httpx.RequestError | httpx.InvalidURL, url: str) -> ClientError:
    """Return what a fault of the network means."""
    match error:
        case httpx.ConnectError() if refused := _of_certificate(error):
            return CertificateNotTrusted(url, refused.verify_message.rstrip("."))
        case httpx.ConnectError() | httpx.ConnectTimeout() | httpx.PoolTimeout():
            return TransportError(url, _why(error), sent=False)
        case httpx.InvalidURL() | httpx.UnsupportedProtocol():
            return TransportError(url, str(error), sent=False)
        case httpx.DecodingError():
            return BadAnswer(url, httpx.codes.OK, "with bytes that cannot be decoded")
        case _:
            return TransportError(url, _why(error), sent=True)


def _of_certificate(error: BaseException) -> ssl.SSLCertVerificationError | None:
    """Return what is wrong with a certificate, if that is behind an error: httpx does not tell."""
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ssl.SSLCertVerificationError):
        cause = cause.__cause__ or cause.__context__
    return cause


def _why(error: httpx.RequestError) -> str:
    """Say it in the operating system's words where there are any."""
    if isinstance(error, httpx.TimeoutException):
        return "it took too long"
    return str(error) or type(error).__name__
