"""The tenant's money at a glance: `GET /v1/budget`."""

from dpp.http.answers import NO_STORE, Answer
from dpp.http.problems import Problem
from dpp.http.requests import Request, read_query
from dpp.http.services import Services
from dpp.http.views.books import budget_view
from dpp.http.views.encoding import encode


async def get_budget(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/budget."""
    query = read_query(request, {})
    if isinstance(query, Problem):
        return query
    budget = await services.reads.get_budget(request.tenant_id)
    return Answer(200, encode(budget_view(budget)), (NO_STORE,))
