"""Webhooks on a real node: registering, changing, rotating, and the log of what was delivered."""

from __future__ import annotations

import base64
import re
from typing import Any

import pytest

from dpp.webhooks import EVENTS
from tests.core.test_egress import BY_FORM
from tests.http.api.conftest import NewTenant, Untouched
from tests.node_books import Books
from tests.node_client import Client, problem, until
from tests.node_process import NodeProcess

URL = "https://hooks.invalid/dpp"  # no name server knows it
BODY = {"url": URL, "events": ["run.completed", "run.failed"]}
UNKNOWN = "018f0000-0000-7000-8000-000000000000"
SHOWN = {
    *("webhook_id", "url", "events", "status", "disabled_reason", "created_at"),
    "previous_secret_until",
}
DELIVERY = {
    *("delivery_id", "event", "run_id", "attempts", "status", "response_status", "error"),
    *("created_at", "next_at"),
}


async def made(client: Client, **members: Any) -> dict[str, Any]:
    answer = await client.ask("POST", "/v1/webhooks", json={**BODY, **members})
    assert answer.status_code == 201, answer.text
    document: dict[str, Any] = answer.json()
    return document


def path_of(hook: dict[str, Any], rest: str = "") -> str:
    return f"/v1/webhooks/{hook['webhook_id']}{rest}"


async def ended_run(client: Client, **members: Any) -> str:
    run = await client.submitted(**members)
    return str((await client.ended(run["run_id"]))["run_id"])


async def test_a_webhook_is_made_and_its_secret_shown_once(acme: Client) -> None:
    answer = await acme.ask("POST", "/v1/webhooks", json=BODY)

    hook = answer.json()
    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert set(hook) == SHOWN | {"secret"}
    assert (hook["url"], hook["events"], hook["status"]) == (URL, BODY["events"], "enabled")
    assert hook["disabled_reason"] is hook["previous_secret_until"] is None
    assert re.fullmatch(r"whsec_[A-Za-z0-9+/]{43}=", hook["secret"])
    assert len(base64.b64decode(hook["secret"].removeprefix("whsec_"))) == 32
    shown = {name: value for name, value in hook.items() if name != "secret"}
    assert await acme.get(path_of(hook)) == shown
    assert await acme.get("/v1/webhooks") == {"items": [shown], "next_cursor": None}


async def test_each_secret_is_another_and_none_is_logged(
    acme: Client, served_node: NodeProcess
) -> None:
    hooks = [await made(acme) for _ in range(3)]
    rotated = await acme.ask("POST", path_of(hooks[0], ":rotate"))

    secrets = {hook["secret"] for hook in (*hooks, rotated.json())}
    assert len(secrets) == 4
    log = served_node.text()
    assert [secret for secret in secrets if secret.removeprefix("whsec_") in log] == []


async def test_a_url_is_stored_as_it_will_be_sent_to(acme: Client) -> None:
    hook = await made(acme, url="HTTPS://Bücher.Example.COM:443/x?y=1")

    assert hook["url"] == "https://xn--bcher-kva.example.com/x?y=1"


async def test_no_url_of_the_corpus_is_taken(shared: Client, untouched: Untouched) -> None:
    async with untouched(shared):
        for url in BY_FORM:
            if not url or len(url) > 2048:
                continue  # the type of the member says so
            answer = await shared.ask("POST", "/v1/webhooks", json={**BODY, "url": url})
            expected = (422, "invalid-request", "/url")
            if "\x00" in url:  # no JSON of ours has it
                assert problem(answer) == "malformed-json"
                continue
            found = answer.json()
            told = (answer.status_code, problem(answer), found["errors"][0]["pointer"])
            assert told == expected, url
    assert (await shared.get("/v1/webhooks"))["items"] == []


@pytest.mark.parametrize(
    ("changes", "pointer"),
    [
        ({"url": ""}, "/url"),
        ({"url": None}, "/url"),
        ({"url": 1}, "/url"),
        ({"url": "https://a.example.com/" + "x" * 2048}, "/url"),
        ({"events": []}, "/events"),
        ({"events": ["run.started"]}, "/events/0"),
        ({"events": ["run.failed", "run.failed"]}, "/events"),
        ({"events": "run.failed"}, "/events"),
        ({"events": [*EVENTS, "run.failed"]}, "/events"),
        ({"secret": "whsec_AAAA"}, "/secret"),
        ({"status": "disabled"}, "/status"),
    ],
)
async def test_what_is_wrong_with_a_webhook_is_told_by_its_place(
    shared: Client, changes: dict[str, Any], pointer: str
) -> None:
    answer = await shared.ask("POST", "/v1/webhooks", json={**BODY, **changes})

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert [error["pointer"] for error in answer.json()["errors"]] == [pointer]


async def test_webhooks_are_listed_newest_first_in_pages(acme: Client) -> None:
    hooks = [await made(acme, url=f"{URL}/{n}") for n in range(5)]

    pages: list[list[str]] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = await acme.get("/v1/webhooks", limit=2, **more)
        pages.append([one["webhook_id"] for one in page["items"]])
        cursor = page["next_cursor"]

    assert [len(page) for page in pages] == [2, 2, 1]
    assert [one for page in pages for one in page] == [h["webhook_id"] for h in hooks[::-1]]


@pytest.mark.parametrize(
    ("path", "query"),
    [
        ("/v1/webhooks", {"limit": "0"}),
        ("/v1/webhooks", {"limit": "201"}),
        ("/v1/webhooks", {"cursor": "x"}),
        ("/v1/webhooks", {"status": "enabled"}),
        (f"/v1/webhooks/{UNKNOWN}/deliveries", {"limit": "0"}),
        (f"/v1/webhooks/{UNKNOWN}/deliveries", {"cursor": "x"}),
    ],
)
async def test_a_page_that_is_none_is_422(shared: Client, path: str, query: Any) -> None:
    answer = await shared.ask("GET", path, params=query)

    assert (answer.status_code, problem(answer)) == (422, "invalid-request")


async def test_a_cursor_of_one_list_is_none_of_another(acme: Client) -> None:
    hooks = [await made(acme) for _ in range(2)]
    for _ in range(2):
        await ended_run(acme)
    cursor = (await acme.get(path_of(hooks[0], "/deliveries"), limit=1))["next_cursor"]
    assert cursor is not None

    for path in (path_of(hooks[1], "/deliveries"), "/v1/webhooks"):
        answer = await acme.ask("GET", path, params={"cursor": cursor})
        assert (answer.status_code, problem(answer)) == (422, "invalid-request")


async def test_a_change_changes_what_it_names(acme: Client) -> None:
    hook = await made(acme)

    async def patch(**members: Any) -> dict[str, Any]:
        answer = await acme.ask("PATCH", path_of(hook), json=members)
        assert answer.status_code == 200, answer.text
        found: dict[str, Any] = answer.json()
        assert set(found) == SHOWN
        return found

    before = await acme.get(path_of(hook))
    assert await patch() == before
    assert await patch(url=f"{URL}/2") == {**before, "url": f"{URL}/2"}
    assert (await patch(events=["budget.low"]))["events"] == ["budget.low"]
    off = await patch(status="disabled")
    assert (off["status"], off["disabled_reason"]) == ("disabled", "disabled by the tenant")
    on = await patch(status="enabled")
    assert (on["status"], on["disabled_reason"]) == ("enabled", None)
    assert await acme.get(path_of(hook)) == on
    refused: list[Any] = [{"url": "http://a.example.com/"}, {"events": []}, {"status": "on"}]
    for wrong in (*refused, {"x": 1}):
        answer = await acme.ask("PATCH", path_of(hook), json=wrong)
        assert (answer.status_code, problem(answer)) == (422, "invalid-request")
    assert await acme.get(path_of(hook)) == on


async def test_a_deleted_webhook_is_gone(acme: Client) -> None:
    hook = await made(acme)

    answer = await acme.ask("DELETE", path_of(hook))

    assert (answer.status_code, answer.content) == (204, b"")
    for method, rest in (
        *(("GET", ""), ("POST", ":rotate"), ("GET", "/deliveries")),
        ("POST", f"/deliveries/{UNKNOWN}:replay"),
    ):
        answer = await acme.ask(method, path_of(hook, rest))
        assert (answer.status_code, problem(answer)) == (404, "not-found")
    assert (await acme.ask("PATCH", path_of(hook), json={})).status_code == 404
    assert (await acme.get("/v1/webhooks"))["items"] == []
    again = await acme.ask("DELETE", path_of(hook))  # its answer may have been lost
    assert (again.status_code, again.content) == (204, b"")


async def test_a_rotation_shows_the_new_secret_and_how_long_the_old_one_signs(
    acme: Client,
) -> None:
    hook = await made(acme)

    answer = await acme.ask("POST", path_of(hook, ":rotate"))

    rotated = answer.json()
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert set(rotated) == SHOWN | {"secret"}
    assert rotated["secret"] != hook["secret"]
    assert rotated["previous_secret_until"] is not None
    assert "secret" not in await acme.get(path_of(hook))


async def test_the_log_has_each_event_newest_first_in_pages(acme: Client) -> None:
    hook = await made(acme, events=list(EVENTS))
    runs = [await ended_run(acme) for _ in range(2)]
    runs.append(await ended_run(acme, inputs={"fail": True}))

    whole = (await acme.get(path_of(hook, "/deliveries")))["items"]
    items: list[Any] = []
    cursor: str | None = ""
    while cursor is not None:
        more = {"cursor": cursor} if cursor else {}
        page = await acme.get(path_of(hook, "/deliveries"), limit=2, **more)
        items += page["items"]
        cursor = page["next_cursor"]

    assert [(one["event"], one["run_id"]) for one in items] == [
        ("run.failed", runs[2]),
        ("run.completed", runs[1]),
        ("run.completed", runs[0]),
    ]
    assert [one["delivery_id"] for one in items] == [one["delivery_id"] for one in whole]
    assert all(set(one) == DELIVERY for one in items)


async def test_a_delivery_that_cannot_be_sent_says_so_and_is_tried_again(acme: Client) -> None:
    hook = await made(acme)
    await ended_run(acme)

    async def tried() -> Any:
        (one,) = (await acme.get(path_of(hook, "/deliveries")))["items"]
        return one if one["error"] else None

    one = await until(tried)
    assert (one["status"], one["attempts"], one["error"]) == ("pending", 1, "name not found")
    assert one["response_status"] is None
    assert one["next_at"] is not None


async def test_a_replay_sets_a_delivery_due_again(acme: Client, books: Books) -> None:
    hook = await made(acme)
    await ended_run(acme)
    (one,) = (await acme.get(path_of(hook, "/deliveries")))["items"]
    path = path_of(hook, f"/deliveries/{one['delivery_id']}:replay")
    dead = "update dpp.webhook_deliveries set status = 'failed', next_at = null, attempts = 10"
    await books.rows(f"{dead} where delivery_id = $1::uuid returning 1", one["delivery_id"])

    answer = await acme.ask("POST", path)

    replayed = answer.json()
    assert answer.status_code == 202
    assert set(replayed) == DELIVERY
    assert (replayed["delivery_id"], replayed["status"]) == (one["delivery_id"], "pending")
    assert (replayed["attempts"], replayed["error"]) == (0, None)


async def test_another_tenants_webhook_is_404_as_an_unknown_one(
    acme: Client, new_tenant: NewTenant
) -> None:
    other = await new_tenant()
    hook = await made(acme)
    await ended_run(acme)
    (one,) = (await acme.get(path_of(hook, "/deliveries")))["items"]

    for method, rest, body in (
        ("GET", "", None),
        ("PATCH", "", {"status": "disabled"}),
        ("DELETE", "", None),
        ("POST", ":rotate", None),
        ("GET", "/deliveries", None),
        ("POST", f"/deliveries/{one['delivery_id']}:replay", None),
    ):
        answers = [
            await other.ask(method, f"/v1/webhooks/{named}{rest}", json=body)
            for named in (hook["webhook_id"], UNKNOWN, "x", hook["webhook_id"].upper())
        ]
        assert [(answer.status_code, problem(answer)) for answer in answers] == [
            (404, "not-found")
        ] * 4
        assert len({answer.json()["detail"] for answer in answers}) == 1
    assert (await acme.get(path_of(hook)))["status"] == "enabled"
    assert (await other.get("/v1/webhooks"))["items"] == []


async def test_a_key_without_the_scope_is_refused_everywhere(
    acme: Client, served_node: NodeProcess
) -> None:
    hook = await made(acme)
    scopes = ["runs:write", "runs:read", "budget:read", "keys:write"]
    weak = Client(acme.http, served_node.new_key(acme.name, scopes=scopes))

    for method, path in (
        ("GET", "/v1/webhooks"),
        ("GET", path_of(hook)),
        ("DELETE", path_of(hook)),
        ("POST", path_of(hook, ":rotate")),
        ("GET", path_of(hook, "/deliveries")),
        ("POST", path_of(hook, f"/deliveries/{UNKNOWN}:replay")),
    ):
        answer = await weak.ask(method, path)
        assert (answer.status_code, problem(answer)) == (403, "forbidden")
    answer = await weak.ask("POST", "/v1/webhooks", json=BODY)
    assert (answer.status_code, problem(answer)) == (403, "forbidden")


async def test_what_is_answered_is_as_the_document_says(acme: Client) -> None:
    """`Client` holds each answer against the document."""
    hook = await made(acme)
    await ended_run(acme)
    (one,) = (await acme.get(path_of(hook, "/deliveries")))["items"]
    root = "/v1/webhooks"
    replay = f"/deliveries/{one['delivery_id']}:replay"

    asked: list[tuple[str, str, Any, int]] = [
        ("POST", root, BODY, 201),
        ("POST", root, {}, 422),
        ("GET", root, None, 200),
        ("GET", path_of(hook), None, 200),
        ("GET", f"{root}/{UNKNOWN}", None, 404),
        ("PATCH", path_of(hook), {"events": ["run.failed"]}, 200),
        ("POST", path_of(hook, ":rotate"), None, 200),
        ("GET", path_of(hook, "/deliveries"), None, 200),
        ("POST", path_of(hook, replay), None, 202),
        ("PATCH", path_of(hook), {"status": "disabled"}, 200),
        ("POST", path_of(hook, replay), None, 409),
        ("DELETE", path_of(hook), None, 204),
    ]
    for method, path, body, status in asked:
        assert (await acme.ask(method, path, json=body)).status_code == status
