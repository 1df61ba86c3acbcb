"""Results and files whose stores fail: damaged, lost, away, and away in the middle."""

from __future__ import annotations

import csv
import io
from base64 import b64encode
from collections.abc import Sequence
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING, Any
from uuid import uuid4

import httpx
import pytest
import trio
from attrs import define, evolve, field
from structlog.testing import capture_logs

from dpp.blobs import BlobKey, CouldNotAsk, Label, Metadata, Stored
from dpp.faults import StoreUnavailable
from dpp.http import results, transfers
from dpp.ledger import Entry
from dpp.money import Micros
from dpp.runs import StoredResult
from dpp.settlement import Completed
from tests.store.steps import claim, end_one, take_lease

if TYPE_CHECKING:
    from tests.http.conftest import Api

BODY = b'"' + b"x" * (2 * results.PIECE) + b'"'  # three pieces


@define
class Large:
    """A run whose large result lies in the store of the API."""

    api: Api
    key: str
    place: BlobKey
    path: str

    async def get(self, **headers: str) -> httpx.Response:
        return await self.api.ask("GET", self.path, self.key, headers=headers)

    @property
    def object(self) -> Any:
        return self.api.blobs.objects[self.place.name]


@pytest.fixture
async def large(api: Api) -> Large:
    key = await api.tenant()
    run = (await api.submit(key)).json()
    lease = await take_lease(api.store)
    (claimed,) = await claim(api.store, lease, "acme")
    place = BlobKey.of("acme", claimed.created_at, claimed.fence)
    label = Label(lease_id=lease.lease_id, pack_type="echo", cost=Micros(0))
    assert isinstance(await api.blobs.put(place, label, BODY), Stored)
    stored = StoredResult(place.name, sha256(BODY).digest())
    await end_one(api.store, claimed, Completed(stored, Micros(0)))
    return Large(api, key, place, f"/v1/runs/{run['run_id']}/result")


def problem(answer: httpx.Response) -> str:
    return str(answer.json()["type"].rpartition("/")[2].rpartition("#")[2])


async def findings(api: Api) -> list[tuple[str, str]]:
    return [(one.invariant, one.subject) for one in await api.store.list_findings()]


def flip(large: Large) -> None:
    large.api.blobs.damage(large.place)


def cut(large: Large) -> None:
    objects = large.api.blobs.objects
    objects[large.place.name] = evolve(large.object, body=large.object.body[:-1])


def lose(large: Large) -> None:
    del large.api.blobs.objects[large.place.name]


def relabel(large: Large) -> None:
    strings = {**large.object.strings, "cost-micros": "1"}
    large.api.blobs.objects[large.place.name] = evolve(large.object, strings=strings)


@pytest.mark.parametrize("damage", [flip, cut, lose, relabel])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}, {"Range": "bytes=999999999-"}])
async def test_what_is_not_the_stored_result_is_never_sent_and_found_once(
    large: Large, damage: Any, headers: dict[str, str]
) -> None:
    """Also a range that the damage does not touch: nothing of it can be trusted."""
    damage(large)

    answers = [await large.get(**headers) for _ in range(2)]

    assert [(one.status_code, problem(one)) for one in answers] == [(500, "internal-error")] * 2
    run_id = str(large.place.run_id)
    assert await findings(large.api) == [("object_astray", run_id)]
    assert "blob" not in answers[0].text
    assert large.place.name not in answers[0].text
    budget = (await large.api.ask("GET", "/v1/budget", large.key)).json()
    assert budget["available_usd"] == "10.00"
    assert (await large.api.submit(large.key)).status_code == 201  # it freezes nobody


async def test_object_put_back_is_served_again(large: Large) -> None:
    before = large.object
    lose(large)
    assert (await large.get()).status_code == 500

    large.api.blobs.objects[large.place.name] = before

    assert (await large.get()).content == BODY


async def test_another_result_under_the_right_key_is_not_served(large: Large) -> None:
    """An object that agrees with itself, and not with the ending."""
    lose(large)
    label = Label(lease_id=uuid4(), pack_type="echo", cost=Micros(0))
    await large.api.blobs.put(large.place, label, b'"another"')

    answer = await large.get()

    assert answer.status_code == 500
    assert len(await findings(large.api)) == 1


@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}])
async def test_store_that_cannot_be_asked_says_nothing_of_the_result(
    large: Large, headers: dict[str, str]
) -> None:
    large.api.blobs.away = "the volume is not mounted"

    answer = await large.get(**headers)

    assert (answer.status_code, problem(answer)) == (503, "temporary-reduced-capacity")
    assert int(answer.headers["retry-after"]) >= 1
    assert "volume" not in answer.text
    assert await findings(large.api) == []
    large.api.blobs.away = ""
    assert (await large.get()).content == BODY


# ── a store with links of its own ────────────────────────────────────────────────────────────────

LINKS = "https://results.example.com"


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("headers", [{}, {"Range": "bytes=0-9"}])
async def test_who_asks_for_a_linked_result_is_sent_to_it(
    large: Large, method: str, headers: dict[str, str]
) -> None:
    """A range goes along: who follows the link asks for it there."""
    large.api.blobs.links = LINKS

    answer = await large.api.ask(method, large.path, large.key, headers=headers)

    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["location"] == f"{LINKS}/{large.place.name}?{method}"
    assert answer.headers["cache-control"] == "no-store"
    digest = b64encode(sha256(BODY).digest()).decode()
    assert answer.headers["repr-digest"] == f"sha-256=:{digest}:"
    assert "etag" not in answer.headers
    assert large.api.blobs.asked[-1] == "link"  # nothing was read


@pytest.mark.parametrize("damage", [cut, lose, relabel])
async def test_nobody_is_sent_to_what_is_not_the_stored_result(large: Large, damage: Any) -> None:
    large.api.blobs.links = LINKS
    damage(large)

    answers = [await large.get() for _ in range(2)]

    assert [(one.status_code, problem(one)) for one in answers] == [(500, "internal-error")] * 2
    assert await findings(large.api) == [("object_astray", str(large.place.run_id))]


async def test_archived_result_is_expired_and_no_finding(large: Large) -> None:
    large.api.blobs.links = LINKS
    large.api.blobs.archived.add(large.place.name)

    answer = await large.get()

    assert (answer.status_code, problem(answer)) == (410, "result-expired")
    assert answer.json()["archived"] is True
    assert await findings(large.api) == []


async def test_nobody_else_is_told_the_link(large: Large) -> None:
    large.api.blobs.links = LINKS
    other = await large.api.tenant("other")

    answer = await large.api.ask("GET", large.path, other)

    assert (answer.status_code, "location" in answer.headers) == (404, False)


async def test_linked_store_that_is_away_is_a_503(large: Large) -> None:
    large.api.blobs.links = LINKS
    large.api.blobs.away = "SlowDown"

    answer = await large.get()

    assert (answer.status_code, problem(answer)) == (503, "temporary-reduced-capacity")


async def test_who_has_the_result_is_told_so_without_asking_the_store(large: Large) -> None:
    large.api.blobs.away = "the volume is not mounted"

    answer = await large.get(**{"If-None-Match": f'"{sha256(BODY).hexdigest()}"'})

    assert answer.status_code == 304


@define
class Failing:
    """A store of results in which something happens after so many pieces."""

    inner: Any
    after: int
    happen: Any
    pieces: list[int] = field(factory=list)

    async def link(self, key: BlobKey, method: str) -> Any:
        return await self.inner.link(key, method)

    async def check(self, key: BlobKey) -> Any:
        return await self.inner.check(key)

    async def piece(self, key: BlobKey, there: Metadata, start: int, length: int) -> bytes:
        if len(self.pieces) == self.after:
            self.happen()
        self.pieces.append(length)
        piece: bytes = await self.inner.piece(key, there, start, length)
        return piece


def through(large: Large, after: int, happen: Any) -> Failing:
    failing = Failing(large.api.blobs, after, happen)
    services = large.api.services
    object.__setattr__(services, "results", failing)
    return failing


async def raw(large: Large, *lines: str) -> bytes:
    """Return all that comes over a connection of its own."""
    head = "\r\n".join(
        (f"GET {large.path} HTTP/1.1", "Host: dpp", f"Authorization: Bearer {large.key}", *lines)
    )
    async with large.api.server.connect() as wire:
        await wire.send(f"{head}\r\n\r\n".encode())
        return await wire.rest()


@pytest.mark.parametrize("after", [1, 2])
async def test_store_that_goes_away_in_the_middle_cuts_the_connection(
    large: Large, after: int
) -> None:
    def away() -> None:
        raise CouldNotAsk("the volume is gone")

    through(large, after, away)

    with capture_logs() as told:
        out = await raw(large)

    head, _, body = out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert f"content-length: {len(BODY)}".encode() in head
    assert body == BODY[: after * results.PIECE]  # a client sees that it is cut
    (warning,) = (one for one in told if one["log_level"] not in {"debug", "info"})
    assert (warning["event"], warning["log_level"]) == ("answer cut short", "warning")  # no bug
    assert "the volume is gone" in warning["detail"]


async def test_store_that_goes_away_before_the_first_piece_is_a_503(large: Large) -> None:
    def away() -> None:
        raise CouldNotAsk("the volume is gone")

    through(large, 0, away)

    answer = await large.get()

    assert (answer.status_code, problem(answer)) == (503, "temporary-reduced-capacity")


async def test_whole_that_changes_while_it_is_sent_never_ends(large: Large) -> None:
    """The last piece is kept back until what was sent is known to be right."""
    through(large, 1, lambda: flip(large))

    _, _, body = (await raw(large)).partition(b"\r\n\r\n")

    assert len(body) <= len(BODY) - (len(BODY) - 1) % results.PIECE - 1
    assert len(body) == 2 * results.PIECE


async def test_object_that_is_deleted_while_it_is_sent_cuts_it(large: Large) -> None:
    through(large, 1, lambda: lose(large))

    _, _, body = (await raw(large)).partition(b"\r\n\r\n")

    assert body == BODY[: results.PIECE]


async def test_download_holds_a_piece_at_a_time(large: Large) -> None:
    """A client that reads nothing is not read for: what the sockets hold, and a piece."""
    failing = through(large, 99, lambda: None)
    places = [(start, stop) for start in (0, 7) for stop in (8, len(BODY))]

    for start, stop in places:
        answer = await large.get(Range=f"bytes={start}-{stop - 1}")
        assert answer.content == BODY[start:stop]

    assert max(failing.pieces) == results.PIECE
    assert sum(failing.pieces) == sum(stop - start for start, stop in places)  # and no byte more


async def test_store_that_hangs_is_waited_for_a_while(
    large: Large, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(results, "CHECK_WAIT_S", 0.05)

    async def check(_key: BlobKey) -> Any:
        await trio.sleep_forever()

    object.__setattr__(large.api.services, "results", Hanging(check))

    answer = await large.get()

    assert (answer.status_code, problem(answer)) == (503, "temporary-reduced-capacity")
    assert await findings(large.api) == []


@define
class Hanging:
    """A store of results on a disk that hangs."""

    check: Any

    async def link(self, _key: BlobKey, _method: str) -> None:
        await trio.lowlevel.checkpoint()


# ── the ledger as a file ─────────────────────────────────────────────────────────────────────────


@define
class Ledger:
    """Reads whose ledger is a list, and which fail after so many pages."""

    inner: Any
    length: int
    pages_max: int
    asked: list[int | None] = field(factory=list)

    async def list_transfers(
        self,
        tenant_id: str,  # noqa: ARG002 - there is one
        *,
        before: int | None,
        limit: int,
    ) -> Sequence[Entry]:
        await trio.lowlevel.checkpoint()
        if len(self.asked) == self.pages_max:
            raise StoreUnavailable("PostgreSQL is away")
        self.asked.append(before)
        newest = self.length if before is None else before - 1
        return [line(seq) for seq in range(newest, max(newest - limit, 0), -1)]


def line(seq: int) -> Entry:
    return Entry(
        seq=seq,
        kind="deposit",
        amount=Micros(1),
        cost=None,
        returned=None,
        run_id=None,
        reference=f"r{seq}",
        reason=None,
        created_at=datetime(2026, 3, 1, tzinfo=UTC),
    )


async def export(api: Api, length: int, pages_max: int = 99) -> tuple[bytes, Ledger]:
    """Return all that comes over a connection that asks for the file."""
    key = await api.tenant()
    assert (await api.ask("GET", "/v1/budget", key)).status_code == 200  # the key is known
    ledger = Ledger(api.store, length, pages_max)
    object.__setattr__(api.services, "reads", ledger)
    lines = ("GET /v1/transfers HTTP/1.1", "Host: dpp", f"Authorization: Bearer {key}")
    async with api.server.connect() as wire:
        ask = "\r\n".join((*lines, "Accept: text/csv", "Connection: close", "", ""))
        await wire.send(ask.encode())
        return await wire.rest(), ledger


@pytest.mark.parametrize("length", [0, 1, 499, 500, 501, 1000, 1201])
async def test_file_has_every_warningwhatever_their_number(api: Api, length: int) -> None:
    out, ledger = await export(api, length)

    head, _, body = out.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 ")
    assert body.endswith(b"0\r\n\r\n")
    assert body.count(b"\r\n") >= length + 1
    assert [f"tr_{seq}," in body.decode() for seq in range(1, length + 1)] == [True] * length
    assert len(ledger.asked) == max(-(-length // transfers.CSV_PAGE), 1)  # and no page more


async def test_outage_before_the_first_warningis_a_503(api: Api) -> None:
    out, _ = await export(api, 1201, pages_max=0)

    assert out.startswith(b"HTTP/1.1 503 ")
    assert b"temporary-reduced-capacity" in out


@pytest.mark.parametrize("pages", [1, 2])
async def test_outage_in_the_middle_leaves_a_file_that_does_not_end(api: Api, pages: int) -> None:
    out, _ = await export(api, 1201, pages_max=pages)

    assert out.startswith(b"HTTP/1.1 200 ")
    assert b"tr_1201," in out
    assert b"tr_1," not in out
    assert not out.endswith(b"0\r\n\r\n")  # the last chunk, without which it is not whole


async def test_gap_in_the_ledger_is_not_taken_for_its_end(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = Ledger.list_transfers

    async def gapped(self: Ledger, tenant_id: str, *, before: int | None, limit: int) -> Any:
        found = await whole(self, tenant_id, before=before, limit=limit)
        return [one for one in found if one.seq > 701]

    monkeypatch.setattr(Ledger, "list_transfers", gapped)

    out, _ = await export(api, 1201)

    assert b"tr_702," in out
    assert not out.endswith(b"0\r\n\r\n")


async def test_empty_ledger_is_a_header(api: Api) -> None:
    out, _ = await export(api, 0)

    header = b",".join(name.encode() for name in transfers.COLUMNS) + b"\r\n"
    assert out.endswith(b"\r\n\r\n%x\r\n%b\r\n0\r\n\r\n" % (len(header), header))


@pytest.mark.parametrize("first", [*"=+-@\t\r\n'", "\uff1d", "\uff0b", "\uff0d", "\uff20"])
def test_text_that_a_spreadsheet_would_run_is_marked(first: str) -> None:
    marked = transfers.harmless(f"{first}cmd|' /C calc'!A0")

    assert marked == f"'{first}cmd|' /C calc'!A0"
    (row,) = csv.reader(io.StringIO(transfers.lines([[marked]]).decode(), newline=""))
    assert row == [marked]


def test_cells_come_back_as_they_were() -> None:
    texts = ["", 'a "quoted", text', "two\r\nlines", "\u00e9\U0001f600", " blank ", "a;b"]

    written = transfers.lines([texts, ["x"]])

    assert [*csv.reader(io.StringIO(written.decode(), newline=""))] == [texts, ["x"]]
    assert [transfers.harmless(text) for text in texts] == texts
