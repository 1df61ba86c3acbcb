"""What went wrong, as an exit status and words: one place that knows every exception of a command.

Problems of the server are the answer "no"; silence is "not reachable"; what a restart cannot mend
is a matter of configuration. Whatever is not named here is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import socket
import ssl
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from dpp.cli import problems
from dpp.cli.exits import Exit, Stop, Trouble

if TYPE_CHECKING:
    from dpp.settings import ConfigError

# SQLSTATEs, and classes of them, that come before any work: no connection, no such login, no such
# database, and a server that is just starting, which a restart of the node does mend.
LOGIN = {
    "08": Exit.NEGATIVE,
    "28": Exit.CONFIGURATION,
    "3D": Exit.CONFIGURATION,
    "57P03": Exit.NEGATIVE,
}
NO_RIGHT, PROTOCOL = "42501", "08P01"
BIND = {
    errno.EADDRINUSE: Exit.NEGATIVE,  # the other may end: a restart may mend it
    errno.EADDRNOTAVAIL: Exit.NEGATIVE,
    errno.EACCES: Exit.CONFIGURATION,
}
TRUST = (
    "If it is yours, name its file, or that of the authority which signed it, with SSL_CERT_FILE. "
    "If it is for another name, ask the node by that one: DPP_URL=https://NAME:PORT."
)
START = "Start one with `dpp serve`, or name the right one with DPP_URL and DPP_MANAGEMENT_URL."

AGAIN = (
    "Look whether it was done. To ask again, give the --reference or --idempotency-key that was "
    "printed: then it is done once."
)


def explain(error: BaseException) -> Stop | None:
    """Return how the command ends by this error; None = a bug, alone or in a group with others."""
    stops = [_of_leaf(leaf) for leaf in _leaves(error)]
    return None if None in stops else stops[0]


def _of_leaf(error: BaseException) -> Stop | None:
    for known in (_of_stop, _of_client, _of_configuration, _of_node, _of_database, _of_listener):
        stop = known(error)
        if stop is not None:
            return stop
    return None


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """Yield the exceptions in a group, however deep."""
    if isinstance(error, BaseExceptionGroup):
        for inner in error.exceptions:
            yield from _leaves(inner)
    else:
        yield error


def _of_stop(error: BaseException) -> Stop | None:
    return error if isinstance(error, Stop) else None


def _of_client(error: BaseException) -> Stop | None:
    from dpp.client import faults

    if isinstance(error, faults.NotAUrl):
        what = f"{error}: it must begin with http:// or https://, and name a host."
        todo = "Correct DPP_URL or DPP_MANAGEMENT_URL."
        return Stop(Exit.USAGE, Trouble("usage", what, "DPP asked nothing.", todo))
    if isinstance(error, faults.Misconfigured):
        return Stop(Exit.USAGE, Trouble("usage", f"{error}.", "DPP asked nothing."))
    if isinstance(error, faults.CertificateNotTrusted):
        what = f"The certificate of {error.url} is not trusted: {error.why}."
        more = {"url": error.url}
        trouble = Trouble("certificate-not-trusted", what, "DPP asked nothing.", TRUST, more)
        return Stop(Exit.UNREACHABLE, trouble)
    if isinstance(error, faults.TransportError):
        did, todo = (
            ("The request may have been carried out.", AGAIN)
            if error.sent
            else ("DPP asked nothing.", START)
        )
        what = f"No node answers at {error.url}: {error.why.rstrip('.')}."
        return Stop(Exit.UNREACHABLE, Trouble("unreachable", what, did, todo, {"url": error.url}))
    if isinstance(error, faults.BadAnswer):
        trouble = Trouble("bad-answer", f"{error}.", "", START, {"url": error.url})
        return Stop(Exit.UNREACHABLE, trouble)
    if isinstance(error, faults.ApiProblem):
        return Stop(Exit.NEGATIVE, problems.trouble_of(error.problem, error.retry_after_s))
    return None


def _of_configuration(error: BaseException) -> Stop | None:
    from dpp.datadir import DataDirError

    if isinstance(error, DataDirError):
        trouble = Trouble("data-directory", error.what, error.did, error.remedy)
        return Stop(Exit.CONFIGURATION, trouble)
    config = sys.modules.get("dpp.config")
    if config is not None and isinstance(error, config.ConfigErrors):
        lines = "\n".join(str(wrong) for wrong in error.errors)
        more = {"errors": [_error_document(wrong) for wrong in error.errors]}
        what = f"The configuration is wrong in {len(error.errors)} place(s):\n{lines}"
        todo = "Correct them; `dpp config check` reads it again."
        return Stop(Exit.CONFIGURATION, Trouble("configuration", what, "", todo, more))
    return None


def _error_document(wrong: ConfigError) -> dict[str, str]:
    return {
        "origin": wrong.origin,
        "key": wrong.key,
        "value": wrong.shown,
        "allowed": wrong.allowed,
    }


def _of_node(error: BaseException) -> Stop | None:
    """A start that was refused: an exception that only exists once a store is imported."""
    refused = getattr(sys.modules.get("dpp.store.refusal"), "StartRefused", None)
    if refused is not None and isinstance(error, refused):
        words = [str(getattr(error, name, "")) for name in ("what", "did", "remedy")]
        what = words[0] or str(error)
        return Stop(Exit.CONFIGURATION, Trouble("start-refused", what, words[1], words[2]))
    return None


def _of_database(error: BaseException) -> Stop | None:
    """A database that does not answer, or lets nobody in: what an operator has to look at."""
    did = "DPP changed nothing."
    asyncpg = sys.modules.get("asyncpg")
    if asyncpg is not None and isinstance(error, asyncpg.PostgresError):
        return _of_server(str(error.sqlstate or ""), str(error), did)
    if asyncpg is not None and isinstance(error, asyncpg.TargetServerAttributeNotMatched):
        what = "No server that database.url names is a primary: standbys only read."
        todo = (
            "Name the primary, or all servers that may be it (HOST:PORT,HOST:PORT); or promote one."
        )
        return Stop(Exit.NEGATIVE, Trouble("no-primary", what, did, todo))
    if asyncpg is not None and isinstance(error, asyncpg.ClientConfigurationError):
        todo = "Correct database.url or database.migrations_url."
        return Stop(Exit.CONFIGURATION, Trouble("database-url", f"{error}.", did, todo))
    if isinstance(error, ssl.SSLError):
        what = f"The database is not who database.url says: {_words_of_tls(error)}."
        todo = (
            "With sslmode=verify-full the host in the URL must stand in the server's certificate, "
            "and sslrootcert must name who signed that."
        )
        return Stop(Exit.CONFIGURATION, Trouble("database-tls", what, did, todo))
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        what = f"The database does not answer: {str(error) or type(error).__name__}."
        todo = "Start it, or correct database.url and database.migrations_url."
        return Stop(Exit.NEGATIVE, Trouble("database-unreachable", what, did, todo))
    return None


def _of_server(state: str, said: str, did: str) -> Stop | None:
    """What the server, or a pooler in its name, answers: a login, a right, a parameter."""
    what, status = f"The database says: {said}.", LOGIN.get(state, LOGIN.get(state[:2]))
    todo = "Check database.url, and the user, password and database that it names."
    if state == NO_RIGHT:
        status = Exit.CONFIGURATION
        todo = (
            "Let database.migrations_url name dpp_owner, which `dpp migrate roles` makes, or the "
            "owner of the schema dpp."
        )
    elif state == PROTOCOL and "startup parameter" in said:
        status = Exit.CONFIGURATION
        todo = (
            "Take it out of the URL: a pooler passes on no such setting. Limits belong to the role "
            "(alter role … set …)."
        )
    return None if status is None else Stop(status, Trouble("database-refused", what, did, todo))


def _words_of_tls(error: ssl.SSLError) -> str:
    """Return what is wrong, without OpenSSL's place in its own code."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message.rstrip(".")
    return str(error.reason or error)


def _of_listener(error: BaseException) -> Stop | None:
    """An address that the node cannot listen on; errors of files name their file, this one none."""
    if not isinstance(error, OSError) or error.filename is not None or error.errno not in BIND:
        return None
    what = f"The node cannot listen on {error.strerror}."
    todo = "End what listens there, or name other addresses (--listen, --management)."
    trouble = Trouble("address", what, "DPP did not start.", todo)
    return Stop(BIND[error.errno], trouble)
