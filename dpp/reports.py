"""Reports to Sentry: each line of the log that is an error or worse, as it stands there.

A report is made from a line that the log has cleaned already: no secret is in it, no body of a
request, no local variable, and a traceback is text. Nothing of the library's own looks into the
process: its integrations, sessions and breadcrumbs are off. It sends from a thread of its own,
keeps a hundred reports at most where Sentry does not take them, and what it cannot send is lost: a
report is help for people, the log is what happened.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from dpp import logs
from dpp.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

LEVELS: Final = {"error": "error", "critical": "fatal"}
TAGS: Final = ("trace_id", "run_id", "tenant_id", "reconcile_type", "actor")  # to search by
FLUSH_S: Final = 2.0  # at the end of the node, for what is on its way
TO_INSTALL: Final = "Install it with DPP: pip install 'dpp[sentry]'. Or take sentry.dsn out."


class NoSentry(Exception):  # said by its words
    """A DSN is configured, and the library is not there or will not have it."""


def open_reports(dsn: str, environment: str) -> Callable[[], None]:
    """Report from now on; returns what ends it, which may take `FLUSH_S`. Raises `NoSentry`."""
    try:
        from sentry_sdk import Client  # noqa: PLC0415 - an extra
        from sentry_sdk.utils import BadDsn  # noqa: PLC0415
    except ImportError as missing:
        raise NoSentry("sentry.dsn is set, and sentry-sdk is not installed.") from missing
    try:
        client: Any = Client(
            dsn=dsn,
            release=f"dpp@{VERSION}",
            environment=environment,
            default_integrations=False,
            auto_enabling_integrations=False,
            auto_session_tracking=False,
            include_local_variables=False,
            include_source_context=False,
            max_breadcrumbs=0,
            send_client_reports=False,
        )
    except BadDsn as bad:
        raise NoSentry(f"sentry.dsn is none: {bad}.") from bad
    logs.report_to(lambda line: client.capture_event(event(line)))

    def close() -> None:
        logs.report_to(None)
        client.close(timeout=FLUSH_S)

    return close


def event(line: Mapping[str, Any]) -> dict[str, Any]:
    """Return what Sentry takes for a cleaned line; those of one place and text are one issue."""
    known = {"event", "level", "logger", "timestamp", *TAGS}
    return {
        "level": LEVELS[line["level"]],
        "logger": line.get("logger"),
        "message": line["event"],
        "timestamp": line.get("timestamp"),
        "fingerprint": [line.get("logger", ""), line["event"]],
        "tags": {name: str(line[name]) for name in TAGS if line.get(name) is not None},
        "extra": {name: value for name, value in line.items() if name not in known},
    }
