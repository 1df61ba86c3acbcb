"""Keys on a real node: every bad one gets the same answer, and guessing gets nowhere."""

from __future__ import annotations

import secrets
from typing import TYPE_CHECKING, Any

import httpx
import pytest

from dpp import keys
from tests.http.api.conftest import NewTenant, Untouched
from tests.node_client import Client, connected, problem, send_raw
from tests.node_process import NodeProcess

if TYPE_CHECKING:
    from tests.conftest import StartNode

OTHERS = 60  # bad keys of an address in a minute, then 429


def minted() -> str:
    """Return a key that is well-formed and nobody's."""
    return keys.mint(secrets.token_bytes(keys.RANDOM_BYTES)).text


def rechecked(body: str) -> str:
    """Return a key with the check that belongs to it."""
    return body + keys.check(body)


def bad_keys(key: str, other: str) -> dict[str, str]:
    """Return everything that is no key of this tenant, though it may look like one."""
    bearer = f"Bearer {key}"
    return {
        "nothing": "",
        "no scheme": key,
        "Basic": f"Basic {key}",
        "Digest": f"Digest {key}",
        "only the scheme": "Bearer",
        "wrong check": bearer[:-1] + ("a" if key[-1] != "a" else "b"),
        "truncated": bearer[:-1],
        "one more": bearer + "a",
        "a word behind": bearer + " x",
        "in quotes": f'Bearer "{key}"',
        "test key": f"Bearer {rechecked(key[:-6].replace('dpp_live_', 'dpp_test_'))}",
        "upper case": f"Bearer {key.upper()}",
        "nobody's": f"Bearer {minted()}",
        "another's id, own secret": f"Bearer {rechecked(other[:21] + key[21:-6])}",
        "own id, another's secret": f"Bearer {rechecked(key[:21] + other[21:-6])}",
        "10,000 characters": "Bearer " + "a" * 10_000,
        "SQL": "Bearer ' OR '1'='1",
        "two keys": f"{bearer}, {bearer}",
    }


async def test_every_bad_key_gets_the_same_answer_and_writes_nothing(
    acme: Client, new_tenant: NewTenant, untouched: Untouched
) -> None:
    other = await new_tenant()
    assert acme.key is not None
    assert other.key is not None
    nobody = acme.as_nobody()
    async with untouched(acme), untouched(other):
        answers = {
            name: await nobody.submit(headers={"Authorization": value} if value else None)
            for name, value in bad_keys(acme.key, other.key).items()
        }

    def told(answer: httpx.Response) -> Any:
        document = {**answer.json(), "request_id": ""}
        headers = {
            name: v for name, v in answer.headers.items() if name not in ("x-request-id", "date")
        }
        return answer.status_code, document, headers

    assert {problem(answer) for answer in answers.values()} == {"unauthorized"}
    expected = told(answers["nothing"])
    assert {name: told(answer) for name, answer in answers.items()} == dict.fromkeys(
        answers, expected
    )
    assert answers["nothing"].headers["www-authenticate"].startswith("Bearer")


@pytest.mark.parametrize("scheme", ["bearer", "BEARER", "Bearer  "])
async def test_name_of_the_scheme_has_no_case(shared: Client, scheme: str) -> None:
    headers = {"Authorization": f"{scheme} {shared.key}"}

    assert (await shared.as_nobody().ask("GET", "/v1/budget", headers=headers)).status_code == 200


@pytest.mark.parametrize("name", ["api_key", "key", "access_token", "authorization"])
async def test_key_in_the_query_opens_nothing(shared: Client, name: str) -> None:
    answer = await shared.as_nobody().ask("GET", "/v1/budget", params={name: shared.key})

    assert (answer.status_code, problem(answer)) == (401, "unauthorized")


async def test_two_authorization_lines_open_nothing(
    served_node: NodeProcess, shared: Client
) -> None:
    line = f"Authorization: Bearer {shared.key}\r\n".encode()

    answer = await send_raw(
        served_node.url,
        b"GET /v1/budget HTTP/1.1\r\nHost: dpp\r\nConnection: close\r\n%b%b\r\n" % (line, line),
    )

    assert answer.startswith(b"HTTP/1.1 401 "), answer


@pytest.mark.parametrize("letter", ["е", "ｅ", "\xe9"])
async def test_letters_that_look_alike_open_nothing(
    served_node: NodeProcess, shared: Client, letter: str
) -> None:
    looks = f"Bearer {shared.key}".replace("e", letter, 1).encode()

    answer = await send_raw(
        served_node.url,
        b"GET /v1/budget HTTP/1.1\r\nHost: dpp\r\nConnection: close\r\nAuthorization: %b\r\n\r\n"
        % looks,
    )

    assert answer.startswith(b"HTTP/1.1 401 "), answer


async def test_guesses_end_in_429_and_lock_nobody_out(fresh_node: StartNode) -> None:
    node = fresh_node()
    async with connected(node.url, node.tenant("acme")) as acme:
        assert (await acme.ask("GET", "/v1/budget")).status_code == 200
        guesses = [
            await acme.ask("GET", "/v1/budget", headers={"Authorization": f"Bearer {minted()}"})
            for _ in range(300)
        ]
        unseen = await acme.ask(
            "GET", "/v1/budget", headers={"Authorization": f"Bearer {node.new_key('acme')}"}
        )
        malformed = await acme.ask("GET", "/v1/budget", headers={"Authorization": "Bearer x"})
        known = await acme.submit()

    statuses = [answer.status_code for answer in guesses]
    assert statuses == [401] * OTHERS + [429] * (300 - OTHERS)
    assert {problem(answer) for answer in guesses[OTHERS:]} == {"quota-exceeded"}
    assert all(1 <= int(answer.headers["retry-after"]) <= 60 for answer in guesses[OTHERS:])
    assert unseen.status_code == 200
    assert malformed.status_code == 401  # costs nothing, so it is not counted
    assert known.status_code == 201
