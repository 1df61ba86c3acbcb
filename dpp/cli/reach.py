"""How a command finds the node: where it listens, and by which token or key it is asked.

What the environment names (DPP_URL, DPP_MANAGEMENT_URL) is asked; else the node that runs on the
data directory says in `node.json` where it listens. Only where --data-dir and DPP_DATA_DIR name
none are the addresses of the configuration tried: who names a directory means no other node. The
admin token is the one of the data directory where its node is asked, else DPP_ADMIN_TOKEN.
"""

from __future__ import annotations

import os
import pwd
import shlex
import socket
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from attrs import frozen

from dpp import datadir
from dpp.cli.exits import Exit, Stop, Trouble

if TYPE_CHECKING:
    from dpp.cli.session import Session
    from dpp.client import Client, ClientError, Retries
    from dpp.client.admin import Admin
    from dpp.client.auth import Renewed
    from dpp.urls import Address

KEY_LIVES_S = 600  # long enough for a command, short enough to be forgotten
KNOCK_S = 5
PAUSE_MAX_S = 5.0  # between two tries of a command
# What a listener binds, and what reaches it.
ANY = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}  # noqa: S104
NO_TOKEN = Trouble(
    "no-admin-token",
    "There is no admin token to ask the node with.",
    "DPP asked nothing.",
    "Run as the user of the node, name its data directory with --data-dir, or set DPP_ADMIN_TOKEN.",
)
NO_KEY = Trouble(
    "no-api-key",
    "This command asks in the name of a tenant, and no API key is given.",
    "DPP asked nothing.",
    "Give --api-key or DPP_API_KEY, or --tenant NAME to have a key made for ten minutes.",
)


@frozen
class Place:
    """Where a node is, by whatever named it."""

    url: str
    management_url: str
    running: bool  # node.json named it


def operator_name() -> str:
    """Return the name of the user, as the operating system knows it."""
    uid = os.getuid()
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def admin(session: Session, operator: str | None = None, retries: Retries | None = None) -> Admin:
    """Return the operator's client."""
    from dpp.client.admin import Admin

    url, running = _url(session, management=True)
    token = _admin_token(session, running=running)
    if not token:
        _knock(url)
        raise Stop(Exit.USAGE, NO_TOKEN)
    return Admin(
        url,
        token,
        operator or operator_name(),
        retries=retries or _retries(),
        on_retry=partial(_tell, session),
    )


def urls(session: Session) -> tuple[str, str]:
    """Return where a node's public listener is, and its management listener."""
    return _url(session, management=False)[0], _url(session, management=True)[0]


def client(session: Session, api_key: str | None, tenant: str | None) -> Client:
    """Return a tenant's client, by the key given or by one that the admin API makes when asked."""
    from dpp.client.auth import Renewed

    if not api_key and not tenant:
        raise Stop(Exit.USAGE, NO_KEY)
    url, _ = _url(session, management=False)
    if tenant is None:
        return _client(session, url, api_key or "")

    made: list[str] = []

    def make() -> str:
        with admin(session) as asked:
            answer = asked.create_key(tenant, expires_in_s=KEY_LIVES_S)
        made.append(answer["key_id"])
        return str(answer["api_key"])

    def revoke() -> None:
        if made:
            _revoke(session, tenant, made[-1])  # those before it have run out

    return _client(session, url, Renewed(make, revoke))


def _client(session: Session, url: str, key: str | Renewed) -> Client:
    from dpp.client import Client

    return Client(url, key, retries=_retries(), on_retry=partial(_tell, session))


def _revoke(session: Session, tenant: str, key_id: str) -> None:
    """Revoke a key that is not needed any more: asked once, as it runs out by itself too."""
    from dpp.client import ClientError, Retries

    with suppress(ClientError, Stop), admin(session, retries=Retries(attempts=1)) as asked:
        asked.revoke_key(tenant, key_id)


def _retries() -> Retries:
    """Return how commands ask again: not where nobody ever answered."""
    from dpp.client import Retries

    return Retries(pause_max_s=PAUSE_MAX_S, at_first=False)


def _tell(session: Session, failure: ClientError, pause_s: float) -> None:
    session.out.note(f"{failure}; asking again in {pause_s:.1f} s")


def _url(session: Session, *, management: bool) -> tuple[str, bool]:
    """Return the URL to ask, and whether it is that of the data directory's node."""
    named = os.environ.get("DPP_MANAGEMENT_URL" if management else "DPP_URL")
    if named:
        return named, False
    node = _running(session)
    found = node and (node.management_url if management else node.url)
    if found:
        return found, True
    if session.names_data_dir:
        raise Stop(Exit.UNREACHABLE, _no_node(session.data_dir(), node))
    config = session.config()
    if management:
        return _url_of("http", config.management.listen), False
    return _url_of("https" if config.http.tls_certificate else "http", config.http.listen), False


def _running(session: Session) -> datadir.RunningNode | None:
    try:
        return datadir.running(session.data_dir())
    except PermissionError:
        return None  # another user's: whether a node runs there is not for us to see


def _no_node(directory: Path, starting: datadir.RunningNode | None) -> Trouble:
    what = f"No node runs on {directory} that this user can see."
    if starting is not None:
        what = f"The node on {directory} (pid {starting.pid}) does not listen yet."
    return Trouble(
        "no-node",
        what,
        "DPP asked nothing.",
        f"Start one with `dpp serve --data-dir {shlex.quote(str(directory))}`, or name the right "
        "one by its --data-dir, or by DPP_URL and DPP_MANAGEMENT_URL.",
    )


def _url_of(scheme: str, address: Address) -> str:
    host = ANY.get(address.host) or (f"[{address.host}]" if ":" in address.host else address.host)
    return f"{scheme}://{host}:{address.port}"


def _knock(url: str) -> None:
    """Raise `TransportError` if nobody listens: that comes before any question of tokens."""
    from dpp.client import TransportError

    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    try:
        socket.create_connection((parts.hostname or "", port), KNOCK_S).close()
    except OSError as error:
        raise TransportError(url, str(error), sent=False) from error


def _admin_token(session: Session, *, running: bool) -> str:
    """Return the first token there is; the data directory's goes first where its node is asked."""
    ours = os.environ.get("DPP_ADMIN_TOKEN", "")
    token = (_local_token(session) or ours) if running else (ours or _local_token(session))
    return token or ""


def _token_of_configuration(session: Session) -> str | None:
    """Return the token that the configuration names.

    One that is wrong, which a reload refuses, keeps nobody from the node that runs on a directory
    that is named: the token may lie there.
    """
    from dpp.config import ConfigErrors

    try:
        return session.config().management.token
    except ConfigErrors:
        if not session.names_data_dir:
            raise
        session.out.note("warning: the configuration is wrong: see `dpp config check`")
        return None


def _local_token(session: Session) -> str | None:
    """Return the token that a node of this configuration on this data directory answers to."""
    configured = _token_of_configuration(session)
    if configured:
        return configured
    try:
        return datadir.admin_token(Path(session.data_dir()))
    except PermissionError:
        return None
