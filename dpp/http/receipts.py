"""Receipts: `GET /v1/runs/{run_id}/receipt`."""

from dpp.http.answers import NO_STORE, Answer
from dpp.http.pasts import gone
from dpp.http.problems import Problem
from dpp.http.requests import Request, read_query
from dpp.http.runs import no_such_run, parse_run_id
from dpp.http.services import Services
from dpp.http.views.encoding import encode
from dpp.http.views.receipts import receipt_view
from dpp.receipts import Unresolved


async def get_receipt(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/runs/{run_id}/receipt."""
    query = read_query(request, {})
    if isinstance(query, Problem):
        return query
    run_id = parse_run_id(request.params["run_id"])
    if run_id is None:
        return no_such_run()
    receipt = await services.reads.get_receipt(request.tenant_id, run_id)
    if receipt is None:
        return await gone(services, request.tenant_id, run_id)
    if isinstance(receipt, Unresolved):
        detail = f"the run is {receipt.status}; its receipt is here once it has ended"
        return Problem("run-not-finished", detail, {"run_status": receipt.status.value})
    return Answer(200, encode(receipt_view(receipt)), (NO_STORE,))
