"""Moments: what RFC 3339 says, within what the database and its driver can hold."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from dpp.moments import FIRST, LAST, parse


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-01T00:00:00Z", datetime(2026, 3, 1, tzinfo=UTC)),
        ("2026-03-01t02:30:00.5+02:30", datetime(2026, 3, 1, 0, 0, 0, 500_000, tzinfo=UTC)),
        ("0001-01-01T00:00:00Z", FIRST),
        ("9999-12-31T23:59:59.999999Z", LAST),
        ("9999-12-31T23:59:59-23:59", None),
        ("2026-13-01T00:00:00Z", None),
        ("2026-03-01T00:00:00", None),
        ("2026-03-01", None),
    ],
)
def test_a_moment_is_read_as_utc_and_never_as_an_infinity(
    text: str, expected: datetime | None
) -> None:
    assert parse(text) == expected
