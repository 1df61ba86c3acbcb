"""`/docs` on a real node: all of the document, for people, under a policy that allows little."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from dpp.http.openapi.page import assets, curl, prose, type_text
from dpp.http.problems import TYPES
from dpp.http.routes import ROUTES
from dpp.webhooks import EVENTS
from tests import described
from tests.node_client import Client

VOID = {"meta", "link", "input", "br"}


class Page(HTMLParser):
    """A page as a browser without scripts has it: elements by their names, texts by their ids."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}  # of each element with an id
        self._open: list[tuple[str, str | None]] = []
        self.feed(text)
        self.close()
        assert self._open == [], "every element is closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append((tag, dict(attrs).get("id")))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        for _, name in self._open:
            if name is not None:
                self.texts[name] = self.texts.get(name, "") + data

    def values(self, attribute: str) -> list[str]:
        return [str(one[attribute]) for _, one in self.elements if attribute in one]


@pytest.fixture
async def page(shared: Client) -> Page:
    answer = await shared.as_nobody().ask("GET", "/docs")
    assert (answer.status_code, answer.headers["content-type"]) == (200, "text/html; charset=utf-8")
    return Page(answer.text)


async def test_every_operation_event_and_problem_stands_on_the_page(page: Page) -> None:
    public = {name for route in ROUTES for name in route.problems}

    for route in described.EVERY:
        text = page.texts[route.handler.__name__]
        assert route.path in text
        assert route.summary.replace("`", "") in text
        assert (route.scope or "No key is needed") in text
        told = described.DOCUMENT["paths"][route.path][route.method.lower()]
        names = {described.follow(one)["name"] for one in told["parameters"]}
        assert {name for name in names if name not in text} == set()
        assert {str(status) for status in route.answers if str(status) not in text} == set()
        assert {name for name in route.problems if name not in text} == set()
        assert "curl " in text
    assert {event for event in EVENTS if f"event-{event}" not in page.texts} == set()
    for name in public:
        assert TYPES[name].title in page.texts[f"problem-{name}"]


async def test_links_lead_somewhere_and_ids_are_unique(page: Page, shared: Client) -> None:
    ids = page.values("id")
    assert len(ids) == len({*ids})

    links = {*page.values("href"), *page.values("src")}

    assert {link[1:] for link in links if link.startswith("#")} <= {*ids}
    for link in links:
        if not link.startswith("#"):
            assert (await shared.as_nobody().ask("GET", link)).status_code == 200


async def test_nothing_on_the_page_comes_from_elsewhere_or_stands_inline(page: Page) -> None:
    """So the policy, which allows neither, keeps nothing from working."""
    for tag, attributes in page.elements:
        assert tag not in {"style", "iframe", "object", "form", "base"}
        assert not any(name == "style" or name.startswith("on") for name in attributes)
        assert (tag == "script") is ("src" in attributes)
    assert {link for link in page.values("src") if not link.startswith("/docs/")} == set()
    assert {link for link in page.values("href") if link[0] not in "/#"} == set()


@pytest.mark.parametrize("path", ["/docs", "/docs/page.css", "/docs/page.js"])
async def test_what_the_page_needs_is_served_under_its_policy(shared: Client, path: str) -> None:
    answer = await shared.as_nobody().ask("GET", path)
    again = await shared.as_nobody().ask(
        "GET", path, headers={"If-None-Match": answer.headers["etag"]}
    )
    posted = await shared.as_nobody().ask("POST", path)

    policy = dict(
        part.split(" ", 1) for part in answer.headers["content-security-policy"].split("; ")
    )
    assert answer.content == assets(described.DOCUMENT)[path].body
    assert policy["default-src"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert answer.headers.get_list("content-security-policy") == [
        answer.headers["content-security-policy"]
    ]
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-request-id"]
    assert (again.status_code, again.content) == (304, b"")
    assert posted.status_code == 405


async def test_other_paths_keep_the_policy_of_answers(shared: Client) -> None:
    for path in ("/docs/none", "/docs/../docs/page.html", "/none", "/health"):
        answer = await shared.as_nobody().ask("GET", path)
        assert answer.headers["content-security-policy"].startswith("default-src 'none'; frame")


def test_what_the_document_says_is_text_and_never_markup() -> None:
    evil = "<script>alert(1)</script> `<b>` \" ' &"
    document = json.loads(json.dumps(described.DOCUMENT))
    told = document["paths"]["/v1/budget"]["get"]
    told["summary"] = told["description"] = evil
    document["info"]["title"] = evil
    document["components"]["schemas"]["RunView"]["description"] = evil

    page = Page(assets(document)["/docs"].body.decode())

    assert [one for tag, one in page.elements if tag == "script"] == [
        {"src": "/docs/page.js", "defer": None}
    ]
    assert "<script>alert(1)</script> <b> \" ' &" in page.texts["get_budget"]


def test_words_between_backticks_are_code() -> None:
    assert prose("send `a < b`") == "send <code>a &lt; b</code>"


@pytest.mark.parametrize(
    ("schema", "text"),
    [
        ({"$ref": "#/components/schemas/RunView"}, "RunView"),
        (
            {"anyOf": [{"type": "string", "format": "uuid"}, {"type": "null"}]},
            "string, uuid or null",
        ),
        ({"type": "array", "items": {"enum": ["a", "b"]}}, 'array of "a" | "b"'),
        ({"type": "integer", "minimum": 0, "maximum": 9}, "integer, from 0, to 9"),
        ({"type": ["string", "null"]}, "string or null"),
        ({}, "any JSON"),
    ],
)
def test_a_type_is_said_in_a_few_words(schema: Any, text: str) -> None:
    assert type_text(schema) == text


def test_every_curl_line_is_one_command_with_what_must_be_sent() -> None:
    for path, methods in described.DOCUMENT["paths"].items():
        for method, told in methods.items():
            parameters = [described.follow(one) for one in told["parameters"]]
            words = shlex.split(curl(method.upper(), path, told, parameters))
            assert words[0] == "curl"
            assert ("Authorization: Bearer $DPP_API_KEY" in words) is ("security" in told)
            assert not re.search(r"[{}]", next(word for word in words if word.startswith("http")))
            if "requestBody" in told:
                assert isinstance(json.loads(words[words.index("-d") + 1]), dict)
            elif method != "get":
                assert words[1:3] == ["-X", method.upper()]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs chromium: apt-get install")
def test_a_browser_finds_nothing_to_complain_of(served_node: Any, tmp_path: Path) -> None:
    """The filter shows itself only where the script has run, which the policy must have allowed."""
    ended = subprocess.run(
        [
            *("chromium", "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr"),
            *(f"--user-data-dir={tmp_path}", "--virtual-time-budget=5000", "--dump-dom"),
            f"{served_node.url}/docs",
        ],
        capture_output=True,
        text=True,
        timeout=90,
        check=True,
    )

    assert "Content Security Policy" not in ended.stderr
    assert '<p class="filter">' in ended.stdout


async def test_pages_are_the_same_under_any_host(shared: Client) -> None:
    hosts = ["x" * 64 + ".example", "a..b", ".", "xn--a", "[::1]:8080", "127.0.0.1:1"]

    answers = [await shared.as_nobody().ask("GET", "/docs", headers={"Host": h}) for h in hosts]
    unknown = [await shared.as_nobody().ask("PUT", "/nowhere", headers={"Host": h}) for h in hosts]

    assert {(one.status_code, len(one.content)) for one in answers} == {
        (200, len(answers[0].content))
    }
    assert {one.status_code for one in unknown} == {404}
