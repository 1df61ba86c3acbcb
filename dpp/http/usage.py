"""Usage by UTC day: `GET /v1/usage`.

A run counts on the day on which it ended, and its cost is what it was settled at: refunds are lines
of the ledger. Every day of the period is answered, one without runs as zeros, so that who draws
them need not fill in; the totals are of those days. Today is the database's.
"""

from datetime import date
from typing import Final

from dpp.http.answers import NO_STORE, Answer
from dpp.http.problems import Problem, invalid
from dpp.http.requests import Day, Parameters, Request, read_query
from dpp.http.services import Services
from dpp.http.views.encoding import encode
from dpp.http.views.usage import usage_view
from dpp.pricing import InputError
from dpp.usage import DAYS_MAX

QUERY: Final[Parameters] = {"from": Day(), "to": Day()}


async def get_usage(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/usage."""
    query = read_query(request, QUERY)
    if isinstance(query, Problem):
        return query
    first, last = query["from"], query["to"]
    assert first is None or isinstance(first, date)
    assert last is None or isinstance(last, date)
    usage = await services.reads.get_usage(request.tenant_id, first=first, last=last)
    if not 0 < usage.span <= DAYS_MAX:
        at = "/query/from" if first is not None else "/query/to"
        wrong = f"must be a day of the {DAYS_MAX} days up to {usage.last.isoformat()}"
        return invalid([InputError(at, wrong)])
    return Answer(200, encode(usage_view(usage)), (NO_STORE,))
