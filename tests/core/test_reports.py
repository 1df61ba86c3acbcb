"""What reaches Sentry: errors and worse, as clean as the log's own lines."""

from __future__ import annotations

import io
import sys
from typing import TYPE_CHECKING

import pytest

from dpp import logs
from dpp.reports import NoSentry, open_reports
from tests.sentry import Sentry, sentry

if TYPE_CHECKING:
    from collections.abc import Iterator

PASSWORD = "correct-horse-battery"


@pytest.fixture
def listening() -> Iterator[Sentry]:
    with sentry() as server:
        logs.configure("INFO", "json", stream=io.StringIO(), secrets=[PASSWORD])
        yield server
    logs.configure("WARNING")


def fail(url: str) -> None:
    raise ConnectionError(f"cannot reach {url}")


def test_an_error_comes_once_with_its_words_and_no_secret(listening: Sentry) -> None:
    close = open_reports(listening.dsn, "production")
    log = logs.get_logger("dpp.here")
    log.info("all is well")
    log.warning("nearly")
    try:
        fail(f"postgresql://dpp:{PASSWORD}@db/dpp")
    except ConnectionError as error:
        log.error("it broke", run_id="r-1", api_key="dpp_live_abcdefghijkl_sesame", exc_info=error)  # noqa: TRY400
    log.critical("AUDIT_REQUIRED", tenant_id="acme", detail={"password": PASSWORD})
    close()
    log.error("after the end")

    first, second = listening.wait(2)
    assert (first["level"], first["message"], first["tags"]) == (
        "error",
        "it broke",
        {"run_id": "r-1"},
    )
    assert "ConnectionError" in first["extra"]["exception"]
    assert (second["level"], second["tags"]) == ("fatal", {"tenant_id": "acme"})
    assert first["environment"] == "production"
    assert len(listening.bodies) == 2
    assert PASSWORD not in "".join(listening.bodies)
    assert "sesame" not in "".join(listening.bodies)


def test_a_sentry_that_is_away_costs_no_line() -> None:
    stream = io.StringIO()
    logs.configure("INFO", "json", stream=stream)
    close = open_reports("http://public@127.0.0.1:9/1", "dev")
    logs.get_logger("dpp.here").error("it broke")
    close()
    logs.configure("WARNING")

    assert '"event":"it broke"' in stream.getvalue()


def test_a_dsn_that_is_none_is_refused() -> None:
    with pytest.raises(NoSentry, match="is none"):
        open_reports("https://sentry.example/1", "dev")


def test_without_the_library_the_start_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)

    with pytest.raises(NoSentry, match="not installed"):
        open_reports("https://public@sentry.example/1", "dev")
