"""What went wrong, as an exit status and words: one place that knows every exception of a command.

Problems of the server are the answer "no"; silence is "not reachable"; what a restart cannot mend
is a matter of configuration. Whatever is not named here is a bug and keeps its traceback.
"""

from __future__ import annotations

import errno
import socket
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from dpp.cli.exits import Exit, Stop, Trouble

if TYPE_CHECKING:
    from dpp.client.faults import Problem
    from dpp.settings import ConfigError

# SQLSTATEs, and classes of them, that come before any work: no connection, no such login, no such
# database, and a server that is just starting, which a restart of the node does mend.
LOGIN = {
    "08": Exit.NEGATIVE,
    "28": Exit.CONFIGURATION,
    "3D": Exit.CONFIGURATION,
    "57P03": Exit.NEGATIVE,
}
BIND = {
    errno.EADDRINUSE: Exit.NEGATIVE,  # the other may end: a restart may mend it
    errno.EADDRNOTAVAIL: Exit.NEGATIVE,
    errno.EACCES: Exit.CONFIGURATION,
}
START = "Start one with `dpp serve`, or name the right one with DPP_URL and DPP_MANAGEMENT_URL."
TODO: Mapping[str, str] = {
    "budget-exceeded": "Deposit more (`dpp deposit TENANT AMOUNT`), or lower --max-cost.",
    "max-cost-too-low": "Raise --max-cost to at least what is required.",
    "max-cost-too-high": "Lower --max-cost, or give the tenant another plan.",
    "tenant-suspended": "`dpp tenant resume TENANT` lets it submit again.",
    "tenant-frozen": "`dpp audit` shows the open finding.",
    "internal-error": "Report it with the lines of the log.",
    "unauthorized": "Check the key or token: `dpp key create TENANT` makes another key.",
    "tenant-exists": "`dpp tenant show TENANT` shows it; `dpp key create TENANT` makes it a key.",
    "reference-reused": "Use another --reference for another transfer.",
    "idempotency-key-reused": "Use another --idempotency-key for another request.",
    "quota-exceeded": "Wait as long as it says, or give the tenant another plan.",
    "temporary-reduced-capacity": "Ask the same again: what happened already is not done twice.",
}


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

    if isinstance(error, faults.Unreachable):
        did = "The request may have been carried out." if error.sent else "DPP asked nothing."
        what = f"No node answers at {error.url}: {error.why}."
        return Stop(Exit.UNREACHABLE, Trouble("unreachable", what, did, START, {"url": error.url}))
    if isinstance(error, faults.BadAnswer):
        trouble = Trouble("bad-answer", f"{error}.", "", START, {"url": error.url})
        return Stop(Exit.UNREACHABLE, trouble)
    if isinstance(error, faults.Refused):
        return Stop(Exit.NEGATIVE, _of_problem(error.problem, error.retry_after_s))
    return None


def _of_problem(problem: Problem, retry_after_s: float | None) -> Trouble:
    lines = [problem.detail or problem.title or problem.name]
    lines += [f"{error.pointer or '/'}: {error.message}" for error in problem.errors]
    lines += [f"{name}: {value}" for name, value in problem.members.items()]
    if retry_after_s is not None:
        lines.append(f"again after {retry_after_s:g} s")
    more: dict[str, Any] = {"problem": dict(problem.document)}
    did = f"The node refused it ({problem.name}, {problem.status}) and changed nothing."
    if problem.status >= 500 and problem.name == "internal-error":  # noqa: PLR2004 - server errors
        did = "Its log has the cause under request_id " + (problem.request_id or "(none)") + "."
    elif problem.status == 503:  # noqa: PLR2004 - the only answer that leaves it open
        did = "The node did not get it done, as far as it knows."
    return Trouble(problem.name, "\n     ".join(lines), did, TODO.get(problem.name, ""), more)


def _of_configuration(error: BaseException) -> Stop | None:
    from dpp.datadir import DataDirError

    if isinstance(error, DataDirError):
        trouble = Trouble("data-directory", error.what, error.did, error.remedy)
        return Stop(Exit.CONFIGURATION, trouble)
    config = sys.modules.get("dpp.config")
    if config is not None and isinstance(error, config.ConfigErrors):
        lines = "\n     ".join(str(wrong) for wrong in error.errors)
        more = {"errors": [_error_document(wrong) for wrong in error.errors]}
        what = f"The configuration is wrong in {len(error.errors)} place(s):\n     {lines}"
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
    """A start that the node refused: an exception that only exists once the node is imported."""
    node = sys.modules.get("dpp.node")
    refused = getattr(node, "StartRefused", None)
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
        state = str(error.sqlstate or "")
        status = LOGIN.get(state, LOGIN.get(state[:2]))
        if status is None:
            return None
        todo = "Check database.url, and the user, password and database that it names."
        return Stop(status, Trouble("database-refused", f"The database says: {error}.", did, todo))
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror):
        what = f"The database does not answer: {str(error) or type(error).__name__}."
        todo = "Start it, or correct database.url and database.migrations_url."
        return Stop(Exit.NEGATIVE, Trouble("database-unreachable", what, did, todo))
    return None


def _of_listener(error: BaseException) -> Stop | None:
    """An address that the node cannot listen on; errors of files name their file, this one none."""
    if not isinstance(error, OSError) or error.filename is not None or error.errno not in BIND:
        return None
    what = f"The node cannot listen on {error.strerror}."
    todo = "End what listens there, or name other addresses (--listen, --management)."
    trouble = Trouble("address", what, "DPP did not start.", todo)
    return Stop(BIND[error.errno], trouble)
