"""A tenant's own keys on a real node: what may be handed on, rotated and revoked, and by whom."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
import trio

from dpp import keys
from dpp.keyring import KEYS_MAX
from dpp.keys import LIVES_MAX_S, OVERLAP_MAX_S, SCOPES
from tests.http.api.conftest import NewTenant
from tests.node_client import Client, problem, until

if TYPE_CHECKING:
    import httpx

    from tests.node_process import NodeProcess

UNKNOWN = "0" * keys.KEY_ID_CHARS
FELT_S = 5.0  # the promise
MEMBERS = {
    *("key_id", "scopes", "created_at", "created_by", "expires_at", "last_used_at"),
    *("revoked", "ended", "spend_limit_usd", "spent_usd"),
}
FAR = "2100-01-01T00:00:00Z"


def id_of(client: Client) -> str:
    """Return the id of the key that a client asks with."""
    presented = keys.parse(client.key or "")
    assert presented is not None
    return presented.key_id


async def ask_for(client: Client, **members: Any) -> httpx.Response:
    """Ask for a key; of all scopes if nothing is said."""
    return await client.ask("POST", "/v1/keys", json={"scopes": list(SCOPES), **members})


async def make(client: Client, **members: Any) -> Client:
    """Make a key, and return who asks with it."""
    answer = await ask_for(client, **members)
    assert answer.status_code == 201, answer.text
    return Client(client.http, answer.json()["api_key"], client.name)


async def rotate(client: Client, key_id: str | None = None, **members: Any) -> httpx.Response:
    """Rotate a key, the client's own if no other is named."""
    return await client.ask("POST", f"/v1/keys/{key_id or id_of(client)}:rotate", json=members)


async def revoke(client: Client, key_id: str) -> httpx.Response:
    return await client.ask("DELETE", f"/v1/keys/{key_id}")


async def listed(client: Client, **query: Any) -> list[dict[str, Any]]:
    """Return a page of keys."""
    items: list[dict[str, Any]] = (await client.get("/v1/keys", **query))["items"]
    return items


async def is_refused(client: Client) -> bool:
    return (await client.ask("GET", "/v1/keys")).status_code == 401


async def refused_within(client: Client, seconds: float) -> None:
    """Wait until a key is refused; it must be by then, with room for a busy machine."""

    async def refused() -> bool:
        return await is_refused(client)

    started_at = trio.current_time()
    await until(refused)
    assert trio.current_time() - started_at < seconds + 2


def lasts(key: dict[str, Any], since: dict[str, Any], seconds: float) -> bool:
    """Say whether a key ends so long after another was made, within one transaction."""
    left = datetime.fromisoformat(key["expires_at"]) - datetime.fromisoformat(since["created_at"])
    return seconds - FELT_S < left.total_seconds() <= seconds


def pointers(answer: httpx.Response) -> list[str]:
    """Return what an answer says is wrong."""
    assert problem(answer) == "invalid-request", answer.text
    return [error["pointer"] for error in answer.json()["errors"]]


async def test_key_is_made_shown_once_and_works(acme: Client) -> None:
    answer = await ask_for(acme, scopes=["runs:read"], expires_in_s=600, spend_limit_usd="5")
    made = answer.json()
    one = Client(acme.http, made["api_key"])

    shown = await listed(acme)

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert {*made} == MEMBERS | {"api_key"}
    assert made["key_id"] == id_of(one)
    assert made["created_by"] == f"key:{id_of(acme)}"
    assert (made["spend_limit_usd"], made["spent_usd"]) == ("5.00", "0.00")
    assert (made["scopes"], made["revoked"], made["ended"]) == (["runs:read"], False, False)
    assert lasts(made, made, 600)
    assert (await one.ask("GET", "/v1/runs")).status_code == 200
    assert problem(await one.ask("GET", "/v1/budget")) == "forbidden"
    assert problem(await one.ask("GET", "/v1/keys")) == "forbidden"
    assert [{*key} for key in shown] == [MEMBERS] * 2
    assert [key["key_id"] for key in shown] == [made["key_id"], id_of(acme)]
    assert shown[1]["created_by"] == "operator"
    assert (shown[1]["spend_limit_usd"], shown[1]["spent_usd"]) == (None, None)


@pytest.mark.parametrize(
    ("body", "wrong"),
    [
        ({}, ["/scopes"]),
        ({"scopes": []}, ["/scopes"]),
        ({"scopes": "runs:read"}, ["/scopes"]),
        ({"scopes": ["runs:read", "all"]}, ["/scopes"]),
        ({"scopes": ["runs:read", "runs:read"]}, ["/scopes"]),
        ({"scopes": ["runs:read"], "expires_in_s": 0}, ["/expires_in_s"]),
        ({"scopes": ["runs:read"], "expires_in_s": LIVES_MAX_S + 1}, ["/expires_in_s"]),
        ({"scopes": ["runs:read"], "expires_in_s": True}, ["/expires_in_s"]),
        ({"scopes": ["runs:read"], "expires_at": "2030-01-01"}, ["/expires_at"]),
        ({"scopes": ["runs:read"], "expires_at": "2020-01-01T00:00:00Z"}, ["/expires_at"]),
        ({"scopes": ["runs:read"], "expires_at": FAR, "expires_in_s": 60}, ["/expires_in_s"]),
        ({"scopes": ["runs:read"], "spend_limit_usd": "0"}, ["/spend_limit_usd"]),
        ({"scopes": ["runs:read"], "spend_limit_usd": "-1"}, ["/spend_limit_usd"]),
        ({"scopes": ["runs:read"], "spend_limit_usd": "1.0000001"}, ["/spend_limit_usd"]),
        ({"scopes": ["runs:read"], "name": "mine"}, ["/name"]),
        ({"scopes": ["runs:read"], "tenant_id": "other"}, ["/tenant_id"]),
        ({"scopes": ["x"], "expires_in_s": 0, "more": 1}, ["/expires_in_s", "/more", "/scopes"]),
    ],
)
async def test_key_that_cannot_be_is_told_why_all_at_once_and_is_not_made(
    acme: Client, body: dict[str, Any], wrong: list[str]
) -> None:
    answer = await acme.ask("POST", "/v1/keys", json=body)

    assert sorted(pointers(answer)) == wrong
    assert len(await listed(acme, ended="true")) == 1


async def test_nothing_is_handed_on_that_a_key_does_not_have(acme: Client) -> None:
    less = await make(
        acme, scopes=["keys:write", "runs:read"], expires_in_s=600, spend_limit_usd="1.50"
    )

    wider = await ask_for(less, expires_at=FAR, spend_limit_usd="1.51")
    longer = await ask_for(less, scopes=["runs:read"], expires_in_s=601)
    child = (await ask_for(less, scopes=["runs:read"], spend_limit_usd="1.50")).json()
    brief = (await ask_for(less, scopes=["keys:write"], expires_in_s=60)).json()
    parent = (await listed(acme))[2]

    assert pointers(wider) == ["/scopes", "/expires_at", "/spend_limit_usd"]
    assert "shared with this key, whose limit is 1.50" in wider.json()["errors"][2]["message"]
    assert pointers(longer) == ["/expires_in_s"]
    assert parent["key_id"] == id_of(less)
    assert child["expires_at"] == parent["expires_at"]  # what is left out is the parent's
    assert brief["expires_at"] < parent["expires_at"]
    assert child["spend_limit_usd"] == brief["spend_limit_usd"] == "1.50"


async def test_keys_of_one_allowance_share_what_is_spent(acme: Client) -> None:
    one = await make(acme, spend_limit_usd="0.05")
    two = await make(one)

    run = await one.submitted(max_cost_usd="0.02", inputs={"cost_usd": "0.01"})
    await acme.ended(run["run_id"])
    turned = (await rotate(two)).json()
    spent = {key["key_id"]: key["spent_usd"] for key in await listed(acme)}

    assert spent == {
        turned["key_id"]: "0.01",
        id_of(two): "0.01",
        id_of(one): "0.01",
        id_of(acme): None,
    }
    over = await two.submit(max_cost_usd="0.05")
    assert (over.status_code, problem(over)) == (402, "spend-limit-exceeded")


async def test_list_goes_on_behind_its_cursor_and_hides_what_has_ended(acme: Client) -> None:
    made = [id_of(await make(acme)) for _ in range(5)]
    await revoke(acme, made[1])

    pages, cursor = [], None
    while True:
        query = {"limit": 2, "ended": "true", **({"cursor": cursor} if cursor else {})}
        page = await acme.get("/v1/keys", **query)
        pages.append([key["key_id"] for key in page["items"]])
        if (cursor := page["next_cursor"]) is None:
            break
    alive = [key["key_id"] for key in await listed(acme)]

    newest_first = [*reversed(made), id_of(acme)]
    assert pages == [newest_first[:2], newest_first[2:4], newest_first[4:]]
    assert alive == [key_id for key_id in newest_first if key_id != made[1]]
    for query in ({"limit": 0}, {"limit": 201}, {"ended": "yes"}, {"cursor": "x"}, {"more": 1}):
        answer = await acme.ask("GET", "/v1/keys", params=query)
        assert pointers(answer) == [f"/query/{next(iter(query))}"]


async def test_cursor_of_another_tenant_shows_nothing_of_it(
    acme: Client, new_tenant: NewTenant
) -> None:
    other = await new_tenant()
    await make(other)
    cursor = (await other.get("/v1/keys", limit=1))["next_cursor"]

    answer = await acme.ask("GET", "/v1/keys", params={"cursor": cursor})

    assert pointers(answer) == ["/query/cursor"]


async def test_rotated_key_has_a_heir_with_its_rights_and_goes_on_for_the_overlap(
    acme: Client,
) -> None:
    old = await make(acme, scopes=["keys:write", "runs:read"], expires_in_s=3600)

    answer = await rotate(old, overlap_s=60)
    turned = answer.json()
    heir = Client(acme.http, turned["api_key"])

    assert answer.status_code == 201
    assert answer.headers["cache-control"] == "no-store"
    assert {*turned} == MEMBERS | {"api_key", "replaces"}
    assert {*turned["replaces"]} == MEMBERS
    assert turned["scopes"] == ["keys:write", "runs:read"]
    assert turned["created_by"] == f"rotation:{id_of(old)}"
    assert lasts(turned["replaces"], turned, 60)
    assert turned["expires_at"] > turned["replaces"]["expires_at"]
    assert [(await one.ask("GET", "/v1/runs")).status_code for one in (old, heir)] == [200, 200]


async def test_rotation_without_overlap_ends_the_old_key_within_five_seconds(acme: Client) -> None:
    old = await make(acme)
    assert not await is_refused(old)  # so it is remembered as good

    turned = (await rotate(old, overlap_s=0)).json()

    assert turned["replaces"]["ended"] is True
    await refused_within(old, FELT_S)
    assert not await is_refused(Client(acme.http, turned["api_key"]))
    assert problem(await rotate(acme, id_of(old))) == "not-found"  # it has ended


async def test_rotation_gives_the_old_key_a_day_where_nothing_is_said(acme: Client) -> None:
    turned = (await rotate(acme)).json()

    assert lasts(turned["replaces"], turned, 86_400)
    assert turned["expires_at"] is None


@pytest.mark.parametrize("overlap", [-1, OVERLAP_MAX_S + 1, 1.5, "60", None, True])
async def test_overlap_is_at_most_a_week(acme: Client, overlap: object) -> None:
    assert pointers(await rotate(acme, overlap_s=overlap)) == ["/overlap_s"]
    assert (await listed(acme))[0]["expires_at"] is None


async def test_rotation_whose_answer_was_lost_is_asked_again(acme: Client) -> None:
    await rotate(acme)  # and nobody read the answer

    found = (await rotate(acme)).json()

    assert found["expires_at"] is None  # not the end of the overlap
    assert found["replaces"]["expires_at"] is not None


async def test_key_rotates_no_other_that_is_more_than_itself_and_revokes_any(acme: Client) -> None:
    less = await make(acme, scopes=["keys:write"])
    more = await make(acme)

    refused = await rotate(less, id_of(more))
    untouched = (await listed(acme))[0]
    revoked = await revoke(less, id_of(more))

    assert (refused.status_code, problem(refused)) == (403, "forbidden")
    assert "scopes" in refused.json()["detail"]
    assert (untouched["key_id"], untouched["expires_at"]) == (id_of(more), None)
    assert revoked.status_code == 204


async def test_revoked_key_is_refused_within_five_seconds_and_hands_nothing_on_at_once(
    acme: Client,
) -> None:
    one = await make(acme)
    assert not await is_refused(one)  # so it is remembered as good

    first = await revoke(acme, id_of(one))
    again = await revoke(acme, id_of(one))
    answers = [await ask_for(one), await rotate(one), await rotate(one, id_of(acme))]

    assert (first.status_code, first.content) == (again.status_code, again.content) == (204, b"")
    assert [(a.status_code, problem(a)) for a in answers] == [(401, "unauthorized")] * 3
    await refused_within(one, FELT_S)
    assert [key["key_id"] for key in await listed(acme)] == [id_of(acme)]


async def test_key_may_revoke_itself(acme: Client) -> None:
    one = await make(acme)

    assert (await revoke(one, id_of(one))).status_code == 204
    await refused_within(one, FELT_S)


@pytest.mark.parametrize("key_id", [UNKNOWN, "x", "%00", "a" * 200, "..", "0" * 11 + "é"])
async def test_key_that_is_not_there_is_404(acme: Client, key_id: str) -> None:
    answers = [await revoke(acme, key_id), await rotate(acme, key_id)]

    assert [(a.status_code, problem(a)) for a in answers] == [(404, "not-found")] * 2


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/keys"),
        ("POST", "/v1/keys"),
        ("POST", f"/v1/keys/{UNKNOWN}:rotate"),
        ("DELETE", f"/v1/keys/{UNKNOWN}"),
    ],
)
async def test_keys_are_a_matter_of_their_scope(acme: Client, method: str, path: str) -> None:
    without = await make(acme, scopes=[scope for scope in SCOPES if scope != "keys:write"])

    body: dict[str, Any] = {"json": {}} if method == "POST" else {}
    answer = await without.ask(method, path, **body)

    assert (answer.status_code, problem(answer)) == (403, "forbidden")


async def test_tenant_has_so_many_good_keys(acme: Client, served_node: NodeProcess) -> None:
    made = [id_of(await make(acme)) for _ in range(KEYS_MAX - 1)]

    refused = await ask_for(acme)
    overlapping = await rotate(acme)
    by_operator = served_node.new_key(acme.name)
    for key_id in made[:2]:
        await revoke(acme, key_id)
    after = await ask_for(acme)

    assert (refused.status_code, problem(refused)) == (409, "key-limit-reached")
    assert refused.json()["keys_max"] == KEYS_MAX
    assert problem(overlapping) == "key-limit-reached"
    assert not await is_refused(Client(acme.http, by_operator))
    assert after.status_code == 201


async def test_use_of_a_key_is_shown_after_a_while(acme: Client) -> None:
    before = datetime.now(UTC)  # noqa: TID251 - the node's database runs on this machine
    one = await make(acme)
    await one.ask("GET", "/v1/budget")

    async def used() -> Any:
        return (await listed(acme))[0]["last_used_at"]

    at = datetime.fromisoformat(await until(used))
    assert timedelta(seconds=-1) < at - before < timedelta(seconds=60)
