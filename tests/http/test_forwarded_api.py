"""Who asks is who holds the connection, whatever the headers say of it."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING

from dpp import keys

if TYPE_CHECKING:
    from tests.http.conftest import Api

GUESSES = 60  # of an address in a minute, then 429


async def test_guesses_are_counted_by_the_peer_and_not_by_what_is_forwarded(api: Api) -> None:
    def guess() -> str:
        return keys.mint(secrets.token_bytes(keys.RANDOM_BYTES)).text

    answers = [
        await api.ask(
            "GET",
            "/v1/budget",
            guess(),
            headers={
                "X-Forwarded-For": f"10.0.0.{n}",
                "X-Real-IP": f"10.0.0.{n}",
                "Forwarded": f"for=10.0.0.{n}",
            },
        )
        for n in range(GUESSES + 5)
    ]

    assert [answer.status_code for answer in answers] == [401] * GUESSES + [429] * 5
