"""Results: verified to the last byte, in memory or in a file that is whole or not there."""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from dpp.client import BadAnswer, DigestMismatch, Expired, NotFound, RunNotFinished, Saved
from tests.cli.peers import Says, peer
from tests.client.conftest import RUN, Ask, problem

CONTENT = json.dumps({"verdict": "decided", "rows": list(range(50_000))}).encode()
SHA256 = hashlib.sha256(CONTENT)


def digest(content: bytes) -> str:
    return f"sha-256=:{base64.b64encode(hashlib.sha256(content).digest()).decode()}:"


def stored(content: bytes = CONTENT, *, named: bytes | None = CONTENT, **more: Any) -> Says:
    headers = {"Content-Type": "application/json"}
    if named is not None:
        headers["Repr-Digest"] = digest(named)
    return Says(200, content, headers, **more)


CUT = stored(CONTENT[:-10_000], cut=True)


def result(client: Any) -> Any:
    return client.result("r1")


def test_a_result_is_read_verified_and_asked_for_as_it_is_stored(ask: Ask) -> None:
    with peer([stored()]) as server:
        got = ask(server.url, result)

    (asked,) = server.asked
    assert (got.content, got.sha256, got.media_type) == (
        CONTENT,
        SHA256.hexdigest(),
        "application/json",
    )
    assert got.json()["verdict"] == "decided"
    assert (asked.path, asked.headers["Accept-Encoding"]) == ("/v1/runs/r1/result", "identity")


@pytest.mark.parametrize("ill", [CUT, Says(None), problem(503, "0")], ids=["cut", "silent", "503"])
def test_a_result_that_was_cut_is_read_anew(ask: Ask, ill: Says, tmp_path: Path) -> None:
    with peer([ill, ill, stored()]) as server:
        got = ask(server.url, result)
    with peer([ill, ill, stored()]) as server:
        saved = ask(server.url, lambda client: client.download_result("r1", tmp_path / "result"))

    assert got.content == CONTENT
    assert saved == Saved(size_bytes=len(CONTENT), sha256=SHA256.hexdigest())
    assert [(file.name, file.read_bytes()) for file in tmp_path.iterdir()] == [("result", CONTENT)]


@pytest.mark.parametrize(
    "wrong",
    [stored(CONTENT[:-1] + b"]"), stored(CONTENT, named=b"other"), stored(b"")],
    ids=["another byte", "another digest", "nothing"],
)
def test_bytes_that_the_digest_does_not_name_are_no_result(
    ask: Ask, wrong: Says, tmp_path: Path
) -> None:
    (tmp_path / "result").write_text("from before")

    with peer([wrong]) as server, pytest.raises(DigestMismatch):
        ask(server.url, result)
    with peer([wrong]) as server, pytest.raises(DigestMismatch):
        ask(server.url, lambda client: client.download_result("r1", tmp_path / "result"))

    assert [file.read_text() for file in tmp_path.iterdir()] == ["from before"]


def test_a_result_elsewhere_is_fetched_without_the_key(ask: Ask) -> None:
    with peer([stored(named=None)]) as store:
        headers = {
            "Location": f"{store.url}/bucket/key?signature=x",
            "Repr-Digest": digest(CONTENT),
        }
        with peer([Says(307, "", headers)]) as server:
            got = ask(server.url, result)

    assert got.content == CONTENT
    assert store.asked[0].path == "/bucket/key?signature=x"
    assert "Authorization" not in store.asked[0].headers


@pytest.mark.parametrize("sha256", [SHA256.hexdigest(), "0" * 64])
def test_a_digest_that_no_answer_names_is_taken_from_the_run(ask: Ask, sha256: str) -> None:
    run = Says(200, json.dumps({**RUN, "result_sha256": sha256}))
    with peer([stored(named=None), run]) as server:
        if sha256 == SHA256.hexdigest():
            assert ask(server.url, result).content == CONTENT
        else:
            with pytest.raises(DigestMismatch):
                ask(server.url, result)

    assert [asked.path for asked in server.asked] == ["/v1/runs/r1/result", "/v1/runs/r1"]


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (problem(409, name="run-not-finished"), RunNotFinished),
        (problem(410, name="result-expired"), Expired),
        (problem(404, name="not-found"), NotFound),
        (Says(307, ""), BadAnswer),
        (Says(304, ""), BadAnswer),
    ],
    ids=lambda one: getattr(one, "__name__", ""),
)
def test_a_result_that_is_not_there_leaves_no_file(
    ask: Ask, answer: Says, error: type[Exception], tmp_path: Path
) -> None:
    with peer([answer]) as server, pytest.raises(error):
        ask(server.url, lambda client: client.download_result("r1", tmp_path / "result"))

    assert list(tmp_path.iterdir()) == []
