"""Logs: one line an event on stderr, as JSON or for a terminal, and never a secret in it.

Everything goes one way: structlog's loggers and the standard library's (asyncio, hypercorn, quart,
asyncpg) end in the same processors, which add the context of the run, take secrets out, cut what is
too long and render. Secrets are known by the name of their field, by their form in any string
(tracebacks included) and, where the configuration holds them, by their very words. Rendering and
writing never raise. `cli` and `node` call `configure`; before that, warnings come out and no more.
Log lines are the one place for the wall clock of Python.
"""

from __future__ import annotations

import json
import logging
import math
import re
import sys
import threading
from contextlib import suppress
from functools import lru_cache, partial
from typing import TYPE_CHECKING, Any, TextIO, cast

import msgspec
import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

from dpp.advice import advise
from dpp.metrics import log_entries
from dpp.repeats import Repeats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from contextlib import AbstractContextManager

    from structlog.typing import EventDict, FilteringBoundLogger

LINE_BYTES_MAX = 16_000  # Docker splits a line at 16 KiB, journald cuts it at 48
TEXT_MAX = 2_000  # characters of one value; what is longer is data
TRACE_MAX = 8_000  # of a traceback, of which both ends matter
WINDOW_MAX = 20_000  # of a string, are searched for secrets; bounds the time that a line may take
ITEMS_MAX = 50  # of one container
DEPTH_MAX = 4
SECRET_MIN = 6  # characters; masking the word "dpp" everywhere would leave no log
INT_BITS_MAX = 63
PAIR = 2
MASK = "***"
# What stands first, and what a line over LINE_BYTES_MAX keeps: what happened, to which run.
FIRST = (
    *("timestamp", "level", "severity", "logger", "event"),
    *("trace_id", "run_id", "tenant_id", "reconcile_type"),
)
# Libraries that say at INFO what our own events say better.
CHATTY = ("aiobotocore", "boto3", "botocore", "httpcore", "httpx", "hypercorn.access", "urllib3")

# A field of such a name is masked whatever it holds.
_SECRET_NAME = re.compile(
    r"authorization|cookie|passw|passphrase|secret|credential|(?:private|api)[-_]?key(?!_id)"
    r"|(?:^|[-_])(?:token|pwd|signature|dsn)s?$",
    re.IGNORECASE,
)
# Each form below holds one of these, and most strings hold none: looking for words is cheap.
_HINTS = (
    *("dpp_", "whsec_", "whsk_", "://", "bearer", "basic", "authori", "cookie", "passw", "pwd"),
    *("passphrase", "secret", "token", "credential", "key", "signature", "sig=", "x-amz-", "dsn"),
)
_IS = r"""["']?\]?\s{0,4}[=:]\s{0,4}"""
# Any run of backslashes escapes what follows: a text may have been quoted twice.
_WORD = r"""(?:b?"(?:[^"\\]|\\+.)*"|b?'(?:[^'\\]|\\+.)*'|[^\s"',;&)}\]]+)"""
_FORMS: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(form, re.IGNORECASE), mask)
    for form, mask in (
        # An API key keeps its key id, by which it is looked up and revoked.
        (r"(dpp_(?:live|test)_(?:[0-9a-z]{12}_)?)[0-9a-z_]+", rf"\1{MASK}"),
        (r"(wh(?:sec|sk)_)[0-9a-z+/=_-]+", rf"\1{MASK}"),
        # Whoever reads a presigned URL can use it: all of the query goes.
        (
            r"""(://[^\s?"'<>]{1,500})\?[^\s"'<>]{0,300}?(?:sig|x-amz-|token)[^\s"'<>]*""",
            rf"\1?{MASK}",
        ),
        (r"""((?:x-amz-[a-z-]{1,30}|signature|sig|awsaccesskeyid)=)[^\s&"'<>*]+""", rf"\1{MASK}"),
        # Up to the last @ of the word: a password that nobody quoted may hold any character.
        (r"""(://[^\s:/@"'<>]{0,100}):[^\s<>]{0,500}@""", rf"\1:{MASK}@"),
        (r"""(https?://)[^\s/@"'<>]{1,500}@""", rf"\1{MASK}@"),
        (
            r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]*(?:-----END [A-Z ]{0,30}-----)?",
            rf"\1{MASK}",
        ),
        (rf"""(cookie{_IS})[^\r\n]+""", rf"\1{MASK}"),
        (rf"""(authorization{_IS}b?["']?)(?!bearer\s)[^\r\n]+""", rf"\1{MASK}"),
        (r"""\b(bearer\s+)(?!dpp_)[^\s"',;)\]}]+""", rf"\1{MASK}"),
        # "basic" is a word, and a plan's name: what follows must look like base64.
        (r"\b(basic\s+)(?=[a-z0-9+/]*(?-i:[A-Z0-9+/=]))[a-z0-9+/]{6,}={0,2}", rf"\1{MASK}"),
        (
            (
                r"((?:passw(?:or)?d|passphrase|pwd|secret|credential|token|\bdsn"
                r"|(?:private|api|access)[-_]?key(?!_?id))"
                rf"[\w-]{{0,30}}{_IS})(?!dpp_|\*\*\*){_WORD}"
            ),
            rf"\1{MASK}",
        ),
    )
)


def configure(
    level: str, style: str = "auto", *, stream: TextIO | None = None, secrets: Iterable[str] = ()
) -> None:
    """Log at `level` and above, in `style` json, console or auto (JSON unless it is a terminal).

    May be called again, at any time: loggers that modules hold follow. `stream` is stderr if not
    given. `secrets` are words to mask wherever they stand.
    """
    number = logging.getLevelNamesMapping()[level.upper()]
    _configure(number, style, stream, secrets)
    root = logging.getLogger()
    for handler in [h for h in root.handlers if type(h) in (_Route, logging.StreamHandler)]:
        root.removeHandler(handler)
    root.addHandler(_Route())
    root.setLevel(number)
    for name in CHATTY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def report_to(reporter: Callable[[Mapping[str, Any]], object] | None) -> None:
    """Hand each line of an error or worse to somebody else as well, cleaned; None: to nobody."""
    global _reporter  # noqa: PLW0603 - there is one log
    _reporter = reporter


def get_logger(name: str) -> FilteringBoundLogger:
    """Return the logger of a module. Below the level a call costs about 2 µs."""
    return cast("FilteringBoundLogger", structlog.get_logger(name))


def are_written(level: int) -> bool:
    """Say whether lines of this level go out: 0.2 us, where a logger would be made to be asked."""
    return logging.root.isEnabledFor(level)


def bound(**values: str | None) -> AbstractContextManager[None]:
    """Put `trace_id`, `run_id` and `tenant_id` on every line of this task, and of tasks it starts.

    None is left out.
    """
    return bound_contextvars(**{name: value for name, value in values.items() if value is not None})


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """Return the text without what opens a door."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    lower = text.lower()
    for hint in _HINTS:
        if hint in lower:
            break
    else:
        return text
    for form, mask in _FORMS:
        text = form.sub(mask, text)
    return text


def _configure(level: int, style: str, stream: TextIO | None, secrets: Iterable[str]) -> None:
    console = style == "console" or (style == "auto" and _is_terminal(stream))
    # The longest first, so that a secret inside another leaves nothing of it.
    known = tuple(sorted({s for s in secrets if len(s) >= SECRET_MIN}, key=len, reverse=True))
    cleaner = _Cleaner(known, spared="" if console else "\n\t")
    structlog.configure(
        processors=[
            merge_contextvars,
            structlog.processors.add_log_level,
            _count,
            Repeats(),
            _add_origin,
            advise,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            cleaner,
            _report,
            partial(_bounded, _console(colors=_is_terminal(stream)) if console else _json),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=partial(_Lines, stream),
        # A cached logger would keep the level it was made with, and a reload could not change it.
        cache_logger_on_first_use=False,
    )


def _is_terminal(stream: TextIO | None) -> bool:
    stream = stream or sys.stderr
    return stream is not None and not stream.closed and stream.isatty()


class _Lines:
    """Where lines go. The loss of stderr is no reason to lose a run."""

    _lock = threading.Lock()  # the bridge's thread logs too

    def __init__(self, stream: TextIO | None, name: str = "dpp") -> None:
        self._stream = stream
        self.name = name

    def write(self, line: str) -> None:
        stream = self._stream or sys.stderr  # looked up each time: tests and daemons replace it
        with suppress(OSError, ValueError, AttributeError), self._lock:
            stream.write(f"{line}\n")
            stream.flush()

    debug = info = warning = error = critical = exception = write


class _Route(logging.Handler):
    """Hands the standard library's records to the same processors."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            message = record.getMessage()
        except Exception:  # noqa: BLE001 - a library's bad format string; the words are still worth a line
            message = str(record.msg)
        level = min(max(record.levelno // 10 * 10, logging.DEBUG), logging.CRITICAL)
        exc_info = record.exc_info if record.exc_info and record.exc_info[1] else None
        fields = {"exc_info": exc_info} if exc_info else {}
        get_logger(record.name).log(level, message, **fields)


def _count(_logger: _Lines, _method: str, event: EventDict) -> EventDict:
    log_entries.count(event["level"].upper(), str(event.get("reconcile_type", "")))
    return event


def _add_origin(logger: _Lines, _method: str, event: EventDict) -> EventDict:
    event["logger"] = logger.name
    if event["level"] == "critical":
        event.setdefault("severity", "CRITICAL")  # what alerts on findings look for
    return event


_reporter: Callable[[Mapping[str, Any]], object] | None = None


def _report(_logger: object, _method: str, event: EventDict) -> EventDict:
    if _reporter is not None and event["level"] in {"error", "critical"}:
        with suppress(Exception):  # whoever hears of it: the line comes first
            _reporter(dict(event))
    return event


class _Cleaner:
    """Makes every value a bounded one of JSON's, without secrets and without control characters."""

    def __init__(self, secrets: tuple[str, ...], *, spared: str) -> None:
        self._secrets = secrets
        self._spared = spared
        self._key = lru_cache(maxsize=1024)(self._text)  # names of fields are few

    def __call__(self, _logger: object, _method: str, event: EventDict) -> EventDict:
        trace = event.pop("exception", None)
        ordered = {name: event.pop(name) for name in FIRST if name in event}
        ordered.update(event)
        cleaned = self._mapping(ordered, 0)
        if trace is not None:
            cleaned["exception"] = self._trace(str(trace))
        return cleaned

    def _mapping(self, fields: Mapping[Any, object], depth: int) -> dict[str, object]:
        cleaned: dict[str, object] = {}
        for name, value in fields.items():
            if len(cleaned) == ITEMS_MAX:
                cleaned["cut"] = f"{len(fields) - ITEMS_MAX} more fields"
                break
            key = self._key(name if type(name) is str else _safely(str, name))
            cleaned[key] = (
                self._masked(value) if _is_secret_name(key) else self._value(value, depth)
            )
        return cleaned

    def _value(self, value: object, depth: int) -> object:
        match value:
            case str():
                return self._text(str(value))
            case bool() | None:
                return value
            case int():
                bits = value.bit_length()
                return int(value) if bits <= INT_BITS_MAX else f"an integer of {bits} bits"
            case float():
                return float(value) if math.isfinite(value) else str(value)
            case bytes():
                return self._text(value[:WINDOW_MAX].decode("utf-8", "backslashreplace"))
            case dict() | list() | tuple() | set() | frozenset():
                return self._container(value, depth + 1)
        return self._text(_safely(repr if isinstance(value, BaseException) else str, value))

    def _container(self, value: Iterable[object], depth: int) -> object:
        if depth > DEPTH_MAX:
            return "… deeper levels cut"
        if isinstance(value, dict):
            return self._mapping(value, depth)
        items = list(value)
        if (
            len(items) == PAIR
            and isinstance(items[0], str | bytes)
            and _is_secret_name(_name(items[0]))
        ):
            return [self._value(items[0], depth), self._masked(items[1])]  # a header
        cleaned = [self._value(item, depth) for item in items[:ITEMS_MAX]]
        if len(items) > ITEMS_MAX:
            cleaned.append(f"… {len(items) - ITEMS_MAX} more cut")
        return cleaned

    def _text(self, text: str) -> str:
        size = len(text)
        text = self._printable(redact(text[:WINDOW_MAX], self._secrets), self._spared)
        if size > WINDOW_MAX or len(text) > TEXT_MAX:
            return f"{text[:TEXT_MAX]}… cut, {size} characters in all"
        return text

    def _trace(self, text: str) -> str:
        size, half = len(text), TRACE_MAX // 2
        if size > WINDOW_MAX:
            text = f"{text[: WINDOW_MAX // 2]}\n{text[-WINDOW_MAX // 2 :]}"
        text = self._printable(redact(text, self._secrets), "\n\t")
        if len(text) > TRACE_MAX:
            return f"{text[:half]}\n… cut, {size} characters in all …\n{text[-half:]}"
        return text

    def _masked(self, value: object) -> object:
        """Return what stands for a secret: of an API key, its key id."""
        if value is None or isinstance(value, bool):
            return value
        text = redact(value) if isinstance(value, str) else ""
        return text if text.startswith("dpp_") and text.endswith(MASK) and " " not in text else MASK

    def _printable(self, text: str, spared: str) -> str:
        """Escape what moves a terminal's cursor, starts a line or cannot be encoded."""
        if text.isprintable():
            return text
        return "".join(c if c.isprintable() or c in spared else ascii(c)[1:-1] for c in text)


def _name(name: str | bytes) -> str:
    return name if isinstance(name, str) else name.decode("latin-1")


@lru_cache(maxsize=1024)
def _is_secret_name(name: str) -> bool:
    return _SECRET_NAME.search(name) is not None


def _safely(show: Callable[[object], str], value: object) -> str:
    try:
        return show(value)
    except Exception:  # noqa: BLE001 - a broken __str__ must not end who logs it
        return f"<{type(value).__name__} that cannot be shown>"


def _bounded(
    render: Callable[[EventDict], str], _logger: object, _method: str, event: EventDict
) -> str:
    """Render; a line that is too long says what it was, and of which run."""
    line = render(dict(event))
    if len(line) * 4 <= LINE_BYTES_MAX or len(line.encode(errors="replace")) <= LINE_BYTES_MAX:
        return line
    kept = {name: str(event[name])[:500] for name in FIRST if name in event}
    if "exception" in event:
        kept["exception"] = f"{event['exception'][:1000]}\n…\n{event['exception'][-1000:]}"
    cut = f"{len(line)} characters, with {', '.join(str(name) for name in event)}"
    return render({**kept, "cut": cut[:500]})


def _json(event: EventDict) -> str:
    try:
        return _ENCODER.encode(event).decode()
    except (TypeError, ValueError):  # UnicodeEncodeError is a ValueError
        return json.dumps(event, default=repr)


def _console(*, colors: bool) -> Callable[[EventDict], str]:
    renderer = structlog.dev.ConsoleRenderer(colors=colors, pad_event_to=0)
    return lambda event: renderer(None, "", event)


_ENCODER = msgspec.json.Encoder()
_configure(logging.WARNING, "auto", None, ())  # structlog's own default would write to stdout
