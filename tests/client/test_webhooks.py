"""Webhooks that arrive: believed if they were signed with the secret, just now, and are events."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from standardwebhooks import Webhook

from dpp.client import ClientError, SignatureInvalid, verify_webhook
from tests.cli.peers import Says, peer
from tests.client.conftest import Ask

SECRET, OTHER = (f"whsec_{base64.b64encode(bytes([n]) * 32).decode()}" for n in (1, 2))
EVENT = {
    "type": "run.completed",
    "timestamp": "2026-01-01T00:00:00Z",
    "data": {"run_id": "r1", "status": "COMPLETED"},
    "later": 1,
}
HOOK = {
    "webhook_id": "w/1",
    "url": "https://h",
    "events": ["run.completed"],
    "status": "enabled",
    "created_at": "2026-01-01T00:00:00Z",
}


def signed(body: bytes, secret: str = SECRET, age: timedelta = timedelta()) -> dict[str, str]:
    now = datetime.now(UTC) - age  # noqa: TID251 - the library looks at the same clock
    return {
        "Webhook-Id": "msg_1",
        "Webhook-Timestamp": str(int(now.timestamp())),
        "Webhook-Signature": Webhook(secret).sign("msg_1", now, body.decode()),
    }


BODY = json.dumps(EVENT).encode()


@pytest.mark.parametrize("secret", [SECRET, (OTHER, SECRET), [SECRET]])
def test_a_webhook_that_was_signed_is_read(secret: Any) -> None:
    event = verify_webhook(signed(BODY), BODY, secret)

    assert (event.event_id, event.type, event.run_id) == ("msg_1", "run.completed", "r1")
    assert event.timestamp == datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "sent", "secret"),
    [
        ({}, BODY + b" ", SECRET),
        ({}, BODY, OTHER),
        ({}, BODY, ()),
        ({}, b"\xff", SECRET),
        ({"Webhook-Id": ""}, BODY, SECRET),
        ({"Webhook-Id": "msg_2"}, BODY, SECRET),
        ({"Webhook-Signature": ""}, BODY, SECRET),
        ({"Webhook-Signature": "nonsense"}, BODY, SECRET),
        ({"Webhook-Signature": "v1,é"}, BODY, SECRET),
        ({"Webhook-Signature": "v1a,x v2,y"}, BODY, SECRET),
        ({"Webhook-Timestamp": "now"}, BODY, SECRET),
        ({"Webhook-Timestamp": ""}, BODY, SECRET),
    ],
)
def test_what_was_not_signed_so_is_not_believed(
    header: dict[str, str], sent: bytes, secret: Any
) -> None:
    with pytest.raises(SignatureInvalid):
        verify_webhook({**signed(BODY), **header}, sent, secret)


@pytest.mark.parametrize("minutes", [-6, 6])
def test_what_was_not_signed_just_now_is_not_believed(minutes: int) -> None:
    with pytest.raises(SignatureInvalid):
        verify_webhook(signed(BODY, age=timedelta(minutes=minutes)), BODY, SECRET)


@pytest.mark.parametrize("body", [b"[]", b"{}", b"no", b'{"type": "run.completed"}'])
def test_what_is_signed_and_no_event_is_none(body: bytes) -> None:
    with pytest.raises(SignatureInvalid, match="no event of DPP"):
        verify_webhook(signed(body), body, SECRET)


@pytest.mark.parametrize("secret", ["", "whsec_", "whsec_a", (SECRET[:-3], "")])
def test_what_is_no_secret_verifies_nothing(secret: Any) -> None:
    with pytest.raises(ClientError):
        verify_webhook(signed(BODY), BODY, secret)


def test_webhooks_are_made_changed_and_deleted(ask: Ask) -> None:
    made = Says(201, json.dumps({**HOOK, "secret": SECRET}))
    changed = Says(200, json.dumps({**HOOK, "status": "disabled"}))
    with peer([made, changed, Says(204, "")]) as server:
        new = ask(server.url, lambda c: c.create_webhook("https://h", ["run.completed"]))
        off = ask(server.url, lambda c: c.update_webhook("w/1", status="disabled"))
        assert ask(server.url, lambda c: c.delete_webhook("w/1")) is None

    assert (new.secret, off.secret, off.status) == (SECRET, None, "disabled")
    assert SECRET not in repr(new)
    assert [(asked.method, asked.path) for asked in server.asked] == [
        ("POST", "/v1/webhooks"),
        ("PATCH", "/v1/webhooks/w%2F1"),
        ("DELETE", "/v1/webhooks/w%2F1"),
    ]
    assert json.loads(server.asked[1].body) == {"status": "disabled"}


def test_keys_are_asked_for_with_what_was_given(ask: Ask) -> None:
    made = Says(201, json.dumps({"key_id": "k", "api_key": "secret", "spend_limit_usd": "5.00"}))
    with peer([made]) as server:
        key = ask(
            server.url, lambda c: c.create_key(["runs:read"], expires_in_s=60, spend_limit="5.00")
        )

    assert (key.key_id, key.api_key, key.spend_limit_usd) == ("k", "secret", Decimal("5.00"))
    assert json.loads(server.asked[0].body) == {
        "scopes": ["runs:read"],
        "expires_in_s": 60,
        "spend_limit_usd": "5.00",
    }
