"""Log lines: one an event, of this run, bounded, and with no secret in them."""

from __future__ import annotations

import io
import json
import logging
import threading
import uuid
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import structlog
import trio

from dpp import logs

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KEY_ID = "Ab1Cd2Ef3Gh4"
PASSWORD = "canary-pa55-word"


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    before, root = structlog.get_config(), logging.getLogger()
    level = root.level
    yield
    structlog.configure(**before)
    root.handlers[:] = [handler for handler in root.handlers if type(handler) is not logs._Route]
    root.setLevel(level)


class Lines:
    """Where a test's lines go."""

    def __init__(self, level: str = "INFO", style: str = "json", **options: Any) -> None:
        self.stream = io.StringIO()
        logs.configure(level, style, stream=self.stream, **options)
        # Those of pytest raise what a bad record makes them raise.
        logging.getLogger().handlers[:] = logging.getLogger().handlers[-1:]
        self.log = logs.get_logger("dpp.test")

    @property
    def text(self) -> str:
        return self.stream.getvalue()

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.text.splitlines()]

    @property
    def event(self) -> dict[str, Any]:
        (event,) = self.events
        return event


def fail(text: str) -> None:
    raise ValueError(text)


# -- lines --------------------------------------------------------------------------------------


def test_an_event_is_one_line_of_json() -> None:
    lines = Lines()

    lines.log.info("reaper scan", taken_back=3, lapsed=["a", "b"], note="zwei\nZeilen")

    timestamp = lines.event.pop("timestamp")
    assert timestamp.endswith("Z")
    assert lines.text.count("\n") == 1
    assert {name: lines.event[name] for name in lines.event.keys() - {"timestamp"}} == {
        "event": "reaper scan",
        "level": "info",
        "logger": "dpp.test",
        "taken_back": 3,
        "lapsed": ["a", "b"],
        "note": "zwei\nZeilen",
    }


def test_below_the_level_nothing_comes_out_and_a_new_level_reaches_loggers_already_held() -> None:
    lines = Lines("WARNING")
    held = lines.log

    held.info("before")
    again = Lines("DEBUG")
    held.debug("after")

    assert lines.text == ""
    assert again.event["event"] == "after"


@pytest.mark.parametrize("level", ["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"])
def test_what_is_said_to_be_written_is_what_a_logger_writes(level: str) -> None:
    lines = Lines(level)

    for name in ("debug", "info", "warning", "error", "critical"):
        getattr(lines.log, name)(name)
        is_written = logs.are_written(logging.getLevelNamesMapping()[name.upper()])
        assert is_written == (name in lines.text)


def test_auto_is_json_unless_it_is_a_terminal() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    plain, terminal = io.StringIO(), Terminal()
    for stream in (plain, terminal):
        logs.configure("INFO", "auto", stream=stream)
        logs.get_logger("dpp.test").info("heartbeat")

    assert json.loads(plain.getvalue())["event"] == "heartbeat"
    assert "heartbeat" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")


def test_stderr_is_the_default_and_stdout_stays_clean(capsys: pytest.CaptureFixture[str]) -> None:
    logs.configure("INFO", "json")

    logs.get_logger("dpp.test").info("heartbeat")

    captured = capsys.readouterr()
    assert captured.out == ""
    assert json.loads(captured.err)["event"] == "heartbeat"


def test_a_broken_stderr_ends_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    class Broken(io.StringIO):
        def write(self, text: str, /) -> int:  # noqa: ARG002
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (Broken(), closed):
        logs.configure("INFO", "auto", stream=stream)
        logs.get_logger("dpp.test").error("nobody hears")
    monkeypatch.setattr("sys.stderr", None)
    logs.configure("INFO", "auto")
    logs.get_logger("dpp.test").error("nobody hears")


def test_critical_lines_carry_their_severity() -> None:
    lines = Lines()

    lines.log.critical("finding", reconcile_type="no_receipt_audit", run_id="r")

    assert lines.event["severity"] == "CRITICAL"
    assert lines.event["level"] == "critical"


def test_lines_of_two_threads_do_not_mix() -> None:
    lines = Lines()

    def work(name: str) -> None:
        for number in range(200):
            lines.log.info("tick", name=name, number=number)

    threads = [threading.Thread(target=work, args=(name,)) for name in "ab"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(lines.events) == 400


# -- context ------------------------------------------------------------------------------------


async def test_the_context_of_a_run_is_on_its_lines_and_its_tasks_lines_alone() -> None:
    lines = Lines()

    async def attempt(run_id: str, nursery: trio.Nursery) -> None:
        with logs.bound(trace_id="t", run_id=run_id, tenant_id=None):
            nursery.start_soon(child)
            await trio.lowlevel.checkpoint()
            lines.log.info("attempt")

    async def child() -> None:
        lines.log.info("child")

    async with trio.open_nursery() as nursery:
        nursery.start_soon(attempt, "1", nursery)
        nursery.start_soon(attempt, "2", nursery)
    lines.log.info("outside")

    said = {(event["event"], event.get("run_id"), event.get("trace_id")) for event in lines.events}
    assert said == {
        ("attempt", "1", "t"),
        ("attempt", "2", "t"),
        ("child", "1", "t"),
        ("child", "2", "t"),
        ("outside", None, None),
    }
    assert not any("tenant_id" in event for event in lines.events)


# -- the standard library's loggers -------------------------------------------------------------


@pytest.mark.parametrize("name", ["asyncio", "hypercorn.error", "asyncpg", "quart.app"])
def test_libraries_go_the_same_way(name: str) -> None:
    lines = Lines()

    with logs.bound(trace_id="t"):
        logging.getLogger(name).warning("took %s s, token=%s", 3, PASSWORD)

    event = lines.event
    assert (event["event"], event["logger"]) == ("took 3 s, token=***", name)
    assert (event["level"], event["trace_id"]) == ("warning", "t")


def test_exceptions_of_libraries_come_with_their_traceback() -> None:
    lines = Lines()

    try:
        fail(f"password={PASSWORD}")
    except ValueError:
        logging.getLogger("asyncio").exception("Task exception was never retrieved")

    assert "ValueError: password=***" in lines.event["exception"]


@pytest.mark.parametrize("args", [("%d", "x"), ("%s %s", "x")])
def test_a_bad_format_string_of_a_library_is_still_a_line(args: tuple[str, str]) -> None:
    lines = Lines()

    logging.getLogger("asyncio").warning(*args)

    assert lines.event["event"] == args[0]


def test_odd_levels_and_empty_exceptions_of_libraries_pass() -> None:
    lines = Lines("DEBUG")

    logging.getLogger("asyncio").log(35, "odd", exc_info=(None, None, None))
    logging.getLogger("asyncio").log(99, "odder")
    logging.getLogger("httpx").info("chatter")

    assert [event["level"] for event in lines.events] == ["warning", "critical"]


# -- bounds -------------------------------------------------------------------------------------


def test_what_is_cut_says_so() -> None:
    lines = Lines()

    lines.log.info("big", text="x" * 5_000, many=list(range(200)), deep=[[[[[["bottom"]]]]]])

    event = lines.event
    assert event["text"] == "x" * logs.TEXT_MAX + "… cut, 5000 characters in all"
    assert event["many"] == [*range(logs.ITEMS_MAX), "… 150 more cut"]
    assert event["deep"] == [[[["… deeper levels cut"]]]]


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("fill", ["x", "\U0001f4b8", "é\n"])
def test_no_line_is_longer_than_the_bound_and_it_keeps_its_run(style: str, fill: str) -> None:
    lines = Lines(style=style)
    fields = {f"field_{n}": fill * 1_500 for n in range(60)}

    with logs.bound(trace_id="the-trace", run_id="the-run"):
        lines.log.error("big", **fields)

    assert len(lines.text.encode()) <= logs.LINE_BYTES_MAX + 1
    for word in ("big", "the-trace", "the-run", "characters, with"):
        assert word in lines.text


def test_a_long_traceback_keeps_both_ends() -> None:
    lines = Lines()

    try:
        fail("first" + "x" * 30_000 + "last")
    except ValueError:
        lines.log.exception("boom")

    trace = lines.event["exception"]
    assert len(trace) < logs.TRACE_MAX + 100
    assert trace.startswith("Traceback")
    assert trace.endswith("last")
    assert "… cut, " in trace


class Unshowable:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (2**80, "an integer of 81 bits"),
        pytest.param(10**5_000, "an integer of 16610 bits", id="too long to print"),
        (-5, -5),
        (float("nan"), "nan"),
        (float("inf"), "inf"),
        (1.5, 1.5),
        (True, True),
        (None, None),
        (b"\x00\xffab", "\\x00\\xffab"),
        ("\ud800", "\\ud800"),
        ("\x1b[31mred\x07\x9b\u202e\u2028", "\\x1b[31mred\\x07\\x9b\\u202e\\u2028"),
        (uuid.UUID(int=1), "00000000-0000-0000-0000-000000000001"),
        (Path("/run/dpp"), "/run/dpp"),
        (ValueError("x"), "ValueError('x')"),
        (Unshowable(), "<Unshowable that cannot be shown>"),
        ({1: {"a": 2}, None: 3}, {"1": {"a": 2}, "None": 3}),
        (("a", {"b"}), ["a", ["b"]]),
    ],
)
def test_every_value_can_be_said(value: object, shown: object) -> None:
    lines = Lines()

    lines.log.info("value", value=value)

    assert lines.event["value"] == shown


def test_a_terminal_is_told_nothing_that_moves_its_cursor() -> None:
    lines = Lines(style="console")

    lines.log.info("say \x1b[2J\r", note="a\nb\x9b", **{"na\x1bme": 1})

    assert lines.text.count("\n") == 1
    assert lines.text.removesuffix("\n").isprintable()


# -- secrets ------------------------------------------------------------------------------------

# Each form in which a secret may reach a line; {} stands for the secret.
FORMS = [
    "Authorization: Bearer {}",
    "authorization: bearer {}",
    "{{'Authorization': 'Bearer {}'}}",
    "[(b'authorization', b'Bearer {}')]",
    "[(b'authorization', b'Basic {}==')]",
    'proxy-authorization = "Digest {}"',
    "Authorization: Token {}",
    "GET / HTTP/1.1\r\nAuthorization: Basic {}\r\nHost: h",
    "cookie: sid={}; theme=dark",
    "Set-Cookie: sid={}; HttpOnly",
    "postgresql://app:{}@db.example.com:5432/dpp",
    "postgres://app.ref:{}@aws-0-eu.pooler.supabase.com:6543/postgres?sslmode=require",
    "redis://:{}@cache:6379/0",
    "could not connect to rediss://user:{}@cache:6379 (timeout)",
    "postgresql://u:pa/ss?'{}@h/d",
    "https://{}@o1.ingest.sentry.io/2",
    "host=h user=u password={} dbname=d",
    "password: {}",
    '{{"password": "{}", "a": 1}}',
    '{{"api_key": "with \\" quote {}"}}',
    "Config(password='{}')",
    "PGPASSWORD={}",
    "DPP_ADMIN_TOKEN={}",
    "aws_secret_access_key = {}",
    "AWS_SESSION_TOKEN={}",
    "X-Api-Key: {}",
    "client_secret={}&grant_type=x",
    "https://b.s3.amazonaws.com/k?X-Amz-Credential=a&X-Amz-Signature={}&X-Amz-Expires=600",
    "https://b.s3.amazonaws.com/k?AWSAccessKeyId=a&Signature={}",
    "https://x.blob.core.windows.net/c?sv=1&sig={}",
    "/k?X-Amz-Security-Token={}&x=1",
    "GET /k?X-Amz-Signature={}",
    "whsec_{}",
    "webhook secret whsec_{}==, id 7",
    "dpp_live_{}",
    f"dpp_live_{KEY_ID}_{{}}",
    f"the key dpp_test_{KEY_ID}_{{}} is revoked",
    "-----BEGIN RSA PRIVATE KEY-----\nMIIE{}\n-----END RSA PRIVATE KEY-----",
]

# Ways from a text to a log line.
PLACES: dict[str, Callable[[Any, str], None]] = {}


def place(function: Callable[[Any, str], None]) -> Callable[[Any, str], None]:
    PLACES[function.__name__] = function
    return function


@place
def in_the_event(log: Any, text: str) -> None:
    log.info(text)


@place
def in_a_field(log: Any, text: str) -> None:
    log.info("event", detail=text)


@place
def in_bytes(log: Any, text: str) -> None:
    log.info("event", detail=text.encode())


@place
def in_nested_values(log: Any, text: str) -> None:
    log.info("event", detail={"list": [(text,)], "set": {text}, text: 1})


@place
def in_the_context(log: Any, text: str) -> None:
    with logs.bound(trace_id=text):
        log.info("event")


@place
def in_a_bound_logger(log: Any, text: str) -> None:
    log.bind(detail=text).info("event")


@place
def in_an_exception(log: Any, text: str) -> None:
    try:
        fail(text)
    except ValueError:
        log.exception("event")


@place
def in_the_cause_of_an_exception(log: Any, text: str) -> None:
    try:
        try:
            fail(text)
        except ValueError as error:
            raise RuntimeError("outer") from error
    except RuntimeError as error:
        log.error("event", exc_info=error)  # noqa: TRY400 - as `supervise` does


@place
def in_a_group_of_exceptions(log: Any, text: str) -> None:
    group = ExceptionGroup("two", [ValueError(text), ExceptionGroup("one", [KeyError(text)])])
    log.error("event", exc_info=group, error=group)


@place
def in_a_note_of_an_exception(log: Any, text: str) -> None:
    error = ValueError("x")
    error.add_note(text)
    log.error("event", exc_info=error)


@place
def in_a_record_of_the_standard_library(log: Any, text: str) -> None:
    logging.getLogger("asyncpg").warning("failed: %s", text)


@place
def in_a_bad_record_of_the_standard_library(log: Any, text: str) -> None:
    logging.getLogger("asyncpg").warning(f"{text} %d", "x")  # noqa: G004 - the bad record


@place
def before_much_else(log: Any, text: str) -> None:
    log.info("event", detail=text + "\n" + "x" * 30_000)


@place
def across_the_cut(log: Any, text: str) -> None:
    log.info("event", detail="x" * (logs.TEXT_MAX - 12) + " " + text)


@pytest.mark.parametrize("style", ["json", "console"])
@pytest.mark.parametrize("way", sorted(PLACES))
def test_no_secret_of_any_form_comes_out_of_any_place(way: str, style: str) -> None:
    lines = Lines("DEBUG", style)
    canaries = [f"Canary{uuid.UUID(int=number).hex}" for number in range(len(FORMS))]

    for form, canary in zip(FORMS, canaries, strict=True):
        PLACES[way](lines.log, form.format(canary))

    leaked = [
        form for form, canary in zip(FORMS, canaries, strict=True) if canary[6:] in lines.text
    ]
    assert leaked == []
    assert (
        lines.text.count("event") >= len(FORMS) or way.startswith("in_the_event") or "record" in way
    )


SECRET_FIELDS = [
    *("authorization", "Authorization", "proxy_authorization", "cookie", "set_cookie", "password"),
    *("db_password", "passphrase", "passwd", "pwd", "secret", "webhook_secret", "client_secret"),
    *("token", "admin_token", "tokens", "credential", "credentials", "private_key", "api_key"),
    *("apikey", "api-key", "x-api-key", "signature", "dsn", "sentry_dsn"),
]


@pytest.mark.parametrize("name", SECRET_FIELDS)
@pytest.mark.parametrize("value", [PASSWORD, PASSWORD.encode(), [PASSWORD], {"a": PASSWORD}, 12345])
def test_a_field_of_a_secret_name_is_masked_whatever_it_holds(name: str, value: object) -> None:
    lines = Lines()

    lines.log.info("event", **{name: value}, headers={name: value}, pairs=[(name, value)])

    event = lines.event
    assert event[name] == "***"
    assert event["headers"] == {name: "***"}
    assert event["pairs"] == [[name, "***"]]
    assert PASSWORD not in lines.text


@pytest.mark.parametrize(
    "secret", [PASSWORD, "s3cr3t", 'qu"ote\\d', "zwei wörter", "x" * 43, "a-token-inside-a-token"]
)
def test_words_that_the_configuration_holds_never_come_out(secret: str) -> None:
    lines = Lines(secrets=(secret, "a-token", "", "dpp"))

    said = f"said {secret}"
    lines.log.info(said, dpp="dpp", detail=f"<{secret}>", items=[secret.encode()])
    try:
        fail(secret)
    except ValueError:
        lines.log.exception("boom")

    assert secret not in lines.text
    assert json.dumps(secret)[1:-1] not in lines.text
    assert lines.events[0]["dpp"] == "dpp"
    assert "-inside-" not in lines.text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (f"dpp_live_{KEY_ID}_{'s' * 49}", f"dpp_live_{KEY_ID}_***"),
        (f"Bearer dpp_live_{KEY_ID}_{'s' * 49}", f"Bearer dpp_live_{KEY_ID}_***"),
        ("postgresql://app:pw@db:5432/dpp", "postgresql://app:***@db:5432/dpp"),
        ("https://b.s3.amazonaws.com/k?X-Amz-Signature=1&x=2", "https://b.s3.amazonaws.com/k?***"),
    ],
)
def test_what_helps_to_find_the_fault_stays(text: str, shown: str) -> None:
    lines = Lines()

    lines.log.info("event", detail=text, api_key=text)

    assert lines.event["detail"] == shown
    assert lines.event["api_key"] == (shown if shown.startswith("dpp_") else "***")


@pytest.mark.parametrize(
    "text",
    [
        "plan basic exceeded its limit of 60",
        "basic authentication is not offered",
        "http://127.0.0.1:8080/v1/runs?limit=20",
        "idempotency_key=order-17",
        "listening on 127.0.0.1:8080, key_id abc",
        "select key from t where token is null",
        "dpp_runs_ended_total",
        "12:30:00 INFO a@b.example",
    ],
)
def test_harmless_words_stay_as_they_are(text: str) -> None:
    assert logs.redact(text) == text


def test_names_that_only_look_like_secrets_stay() -> None:
    lines = Lines()

    lines.log.info("event", key_id=KEY_ID, api_key_id=KEY_ID, idempotency_key="k", token=None)

    event = lines.event
    assert (event["key_id"], event["api_key_id"]) == (KEY_ID, KEY_ID)
    assert (event["idempotency_key"], event["token"]) == ("k", None)
