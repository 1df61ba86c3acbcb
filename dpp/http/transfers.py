"""The tenant's ledger, newest first: `GET /v1/transfers`."""

from typing import Final

from dpp.http import cursors
from dpp.http.answers import NO_STORE, Answer
from dpp.http.problems import Problem, invalid
from dpp.http.requests import Parameters, Request, Values, Whole, Words, read_query
from dpp.http.services import Services
from dpp.http.views import TransferList, encode, transfer_view
from dpp.pricing import InputError

QUERY: Final[Parameters] = {
    "limit": Whole(1, 200, default=50),
    "cursor": Words(cursors.CHARS_MAX),
}
_SEQ_DIGITS_MAX: Final = 18  # a bigint


async def list_transfers(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/transfers."""
    query = read_query(request, QUERY)
    if isinstance(query, Problem):
        return query
    before = _position(request.tenant_id, query)
    if isinstance(before, Problem):
        return before
    limit = query["limit"]
    assert isinstance(limit, int)
    entries = await services.reads.list_transfers(request.tenant_id, before=before, limit=limit + 1)
    page, more = entries[:limit], len(entries) > limit
    cursor = cursors.make("transfers", request.tenant_id, str(page[-1].seq)) if more else None
    transfers = TransferList([transfer_view(entry) for entry in page], cursor)
    return Answer(200, encode(transfers), (NO_STORE,))


def _position(tenant_id: str, query: Values) -> int | Problem | None:
    cursor = query["cursor"]
    if not isinstance(cursor, str):
        return None
    position = cursors.read("transfers", tenant_id, cursor)
    if position is None or not position.isdecimal() or len(position) > _SEQ_DIGITS_MAX:
        return invalid([InputError("/query/cursor", "is not a cursor of this list")])
    return int(position)
