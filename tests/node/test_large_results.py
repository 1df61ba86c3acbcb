"""Results too large for a row, on a real node and its data directory."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import TYPE_CHECKING
from uuid import uuid4

import trio

from tests.node_client import connected
from tests.node_process import NodeProcess

if TYPE_CHECKING:
    from tests.conftest import StartNode
    from tests.node_books import Books

BooksOf = Callable[[NodeProcess], "Books"]
MESSAGE = "x" * 100_000  # over runs.inline_max_bytes
RESULT = b'{"message":"' + MESSAGE.encode() + b'"}'


def objects(node: NodeProcess) -> list[bytes]:
    """Return what lies in the blob store, without what each object says of itself."""
    files = [path for path in (node.data_dir / "blobs").rglob("*") if path.is_file()]
    return [path.read_bytes() for path in files if path.name != "store_id"]


async def test_a_large_result_lies_in_the_data_directory_and_its_run_names_it(
    fresh_node: StartNode, books_of: BooksOf
) -> None:
    node = fresh_node()
    books = books_of(node)
    async with connected(node.url, node.tenant("acme")) as client:
        inputs = {"message": MESSAGE, "cost_usd": "0.001"}
        run = await client.ended((await client.submitted(inputs=inputs))["run_id"])

    assert (run["status"], run["cost"]["actual_usd"], run["result"]) == ("COMPLETED", "0.001", None)
    assert run["result_sha256"] == hashlib.sha256(RESULT).hexdigest()
    (there,) = objects(node)
    assert RESULT in there
    (row,) = await books.rows("select result, result_key from dpp.endings")
    assert row["result"] is None
    assert run["run_id"] in row["result_key"]
    await books.judge()


async def test_the_audit_looks_at_objects_and_says_which_are_gone(fresh_node: StartNode) -> None:
    node = fresh_node()
    async with connected(node.url, node.tenant("acme")) as client:
        runs = [await client.submitted(inputs={"message": MESSAGE}) for _ in range(3)]
        for run in runs:
            await client.ended(run["run_id"])
    before = await trio.to_thread.run_sync(node.admin, "GET", "/admin/v1/audit")
    gone = runs[0]["run_id"]
    (found,) = (node.data_dir / "blobs").rglob(f"{gone}/1")
    found.unlink()

    after = await trio.to_thread.run_sync(node.admin, "GET", "/admin/v1/audit")

    (offended,) = [one for one in after["invariants"] if one["offenders"]]
    assert offended["name"] == "08_results_present"
    assert [offender["run_id"] for offender in offended["offenders"]] == [gone]
    assert (before["ok"], after["ok"]) == (True, False)
    assert before["large_results"] == after["large_results"] == {"looked": 3, "could_not_ask": None}


async def test_an_audit_while_the_store_cannot_be_asked_says_so(fresh_node: StartNode) -> None:
    node = fresh_node()
    async with connected(node.url, node.tenant("acme")) as client:
        await client.ended((await client.submitted(inputs={"message": MESSAGE}))["run_id"])
    (node.data_dir / "blobs").rename(node.data_dir / "moved")

    audit = await trio.to_thread.run_sync(node.admin, "GET", "/admin/v1/audit")

    assert audit["ok"] is True
    assert audit["large_results"]["looked"] == 0
    assert "ENOENT" in audit["large_results"]["could_not_ask"]
    (node.data_dir / "moved").rename(node.data_dir / "blobs")


async def test_a_node_on_another_store_than_its_database_refuses_to_start(
    fresh_node: StartNode,
) -> None:
    node = fresh_node()
    await trio.to_thread.run_sync(node.terminate)
    (node.data_dir / "blobs" / "store_id").write_text(f"{uuid4()}\n")

    node.launch()
    status = await trio.to_thread.run_sync(node.wait_ended)

    assert status == 78
    assert "lie in the store" in node.tail()
    assert node.postmasters() == []
