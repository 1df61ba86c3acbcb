"""The tenant's ledger, newest first: `GET /v1/transfers`, in pages as JSON, or all of it as CSV.

The CSV is read page by page, each a statement of its own, and sent as it is read; no transaction
stays open for a slow client. Lines are never changed and new ones come before the first, so the
file is the ledger as it was when its first page was read. A store that goes away in the middle cuts
the connection.
"""

import csv
import io
from collections.abc import AsyncGenerator, Iterable, Sequence
from typing import Final

from attrs import fields

from dpp.http import cursors
from dpp.http.answers import NO_STORE, Answer, Header, Streamed
from dpp.http.media import CSV, JSON, preferred
from dpp.http.problems import Problem, invalid
from dpp.http.requests import Parameters, Request, Values, Whole, Words, read_query
from dpp.http.services import Services
from dpp.http.views.books import TransferList, TransferView, transfer_view
from dpp.http.views.encoding import encode
from dpp.ledger import Entry
from dpp.pricing import InputError

QUERY: Final[Parameters] = {
    "limit": Whole(1, 200, default=50),
    "cursor": Words(cursors.CHARS_MAX),
}
OFFERS: Final = (JSON, CSV)
COLUMNS: Final = tuple(column.name for column in fields(TransferView))
CSV_PAGE: Final = 500  # lines: some 60 KB, and milliseconds of the store and of the loop
CSV_TYPE: Final = b"text/csv; charset=utf-8; header=present"
# What makes spreadsheets take a cell for a formula, wide forms too; and the mark against it.
ACTIVE: Final = tuple("=+-@\t\r\n\uff1d\uff0b\uff0d\uff20'")
TEXTS: Final = frozenset({"reference", "reason"})  # what people wrote; all else is ours

FIRST_SEQ: Final = 1

_VARY: Final[Header] = (b"vary", b"accept")
_SEQ_DIGITS_MAX: Final = 18  # a bigint


async def list_transfers(services: Services, request: Request) -> Answer | Streamed | Problem:
    """GET /v1/transfers."""
    as_csv = preferred(request.headers.get(b"accept", []), OFFERS) == CSV
    query = read_query(request, {} if as_csv else QUERY)  # pages are JSON's: the file is all of it
    if isinstance(query, Problem):
        return query
    if as_csv:
        return await export(services, request)
    before = _position(request.tenant_id, query)
    if isinstance(before, Problem):
        return before
    limit = query["limit"]
    assert isinstance(limit, int)
    entries = await services.reads.list_transfers(request.tenant_id, before=before, limit=limit + 1)
    page, more = entries[:limit], len(entries) > limit
    cursor = cursors.make("transfers", request.tenant_id, str(page[-1].seq)) if more else None
    transfers = TransferList([transfer_view(entry) for entry in page], cursor)
    return Answer(200, encode(transfers), (NO_STORE, _VARY))


async def export(services: Services, request: Request) -> Streamed:
    """Return the whole ledger as CSV; its first page is read before the answer begins."""
    tenant_id = request.tenant_id
    first = await services.reads.list_transfers(tenant_id, before=None, limit=CSV_PAGE)
    named = b'attachment; filename="transfers-%b.csv"' % tenant_id.encode("ascii")
    headers = (NO_STORE, _VARY, (b"content-disposition", named))
    return Streamed(200, pages(services, tenant_id, first), headers, CSV_TYPE)


async def pages(
    services: Services, tenant_id: str, page: Sequence[Entry]
) -> AsyncGenerator[bytes, None]:
    """Yield the ledger from its newest page on, each page as lines."""
    yield lines([COLUMNS])
    while page:
        yield lines(cells(transfer_view(entry)) for entry in page)
        oldest = page[-1].seq
        if oldest == FIRST_SEQ:
            return
        page = await services.reads.list_transfers(tenant_id, before=oldest, limit=CSV_PAGE)
        if not page and await services.reads.is_closed(tenant_id, oldest - 1):
            return  # what stood there is past retention
        if not page:  # a gap is a finding, and must not look like the end
            message = f"the ledger of {tenant_id} has nothing under {oldest}: run `dpp audit`"
            raise LookupError(message)


def cells(view: TransferView) -> list[object]:
    """Return a line of the ledger as cells; what is null is empty."""
    row: list[object] = []
    for name in COLUMNS:
        value = getattr(view, name)
        row.append(harmless(value) if name in TEXTS and value is not None else value)
    row[-1] = view.created_at.isoformat().replace("+00:00", "Z")
    return row


def harmless(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: an apostrophe goes before it.

    Also before one that begins with an apostrophe, so whoever takes one away has the text again.
    """
    return f"'{text}" if text.startswith(ACTIVE) else text


def lines(rows: Iterable[Iterable[object]]) -> bytes:
    """Return rows as CSV (RFC 4180): quoted where they must be, each ended by CR LF."""
    text = io.StringIO(newline="")
    csv.writer(text).writerows(rows)
    return text.getvalue().encode()


def _position(tenant_id: str, query: Values) -> int | Problem | None:
    cursor = query["cursor"]
    if not isinstance(cursor, str):
        return None
    position = cursors.read("transfers", tenant_id, cursor)
    if position is None or not position.isdecimal() or len(position) > _SEQ_DIGITS_MAX:
        return invalid([InputError("/query/cursor", "is not a cursor of this list")])
    return int(position)
