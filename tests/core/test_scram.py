"""Passwords as PostgreSQL keeps them."""

from __future__ import annotations

import base64

from dpp.store.scram import is_plain, verifier


def test_a_verifier_is_the_one_of_rfc_7677() -> None:
    """The exchange in its section 3: what a client proves with `pencil` and this salt."""
    salt = base64.b64decode("W22ZaJ0SNY7soEsUEjb6gQ==")

    assert verifier("pencil", salt) == (
        "SCRAM-SHA-256$4096:W22ZaJ0SNY7soEsUEjb6gQ==$"
        "WG5d8oPm3OtcPnkdi4Uo7BkeZkBFzpcXkuLmtbsT4qY=:wfPLwcE6nTWhTAmQ7tl2KeoiWGPlZqQxSrmfPwDl2dU="
    )


def test_what_drivers_prepare_each_in_their_way_is_not_plain() -> None:
    assert [is_plain(text) for text in ("a b~", "caf\u00e9", "tab\t", "")] == [
        True,
        False,
        False,
        True,
    ]
