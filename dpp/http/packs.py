"""The packs that a tenant may use: `GET /v1/packs`."""

from dpp.admission import PlanUnknown
from dpp.http.answers import NO_STORE, Answer
from dpp.http.problems import Problem
from dpp.http.refusals import problem_of
from dpp.http.requests import Request, read_query
from dpp.http.services import Bounds, Services
from dpp.http.views.encoding import encode
from dpp.http.views.packs import LimitsView, PackList, pack_view
from dpp.money import AMOUNT_MAX, show
from dpp.plans import Plan


async def list_packs(services: Services, request: Request) -> Answer | Problem:
    """GET /v1/packs: those that are loaded on this node and that the plan includes, by name."""
    query = read_query(request, {})
    if isinstance(query, Problem):
        return query
    assert request.principal is not None
    plan = services.plans.now.get(request.principal.plan)
    if plan is None:
        return problem_of(PlanUnknown(request.principal.plan))
    allowed = [
        facts
        for pack_type in services.packs.pack_types
        if plan.packs is None or pack_type in plan.packs
        if (facts := services.packs.facts(pack_type)) is not None
    ]
    listed = [pack_view(facts, limits(services.bounds, plan, facts.pack_type)) for facts in allowed]
    return Answer(200, encode(PackList(listed)), (NO_STORE,))


def limits(bounds: Bounds, plan: Plan, pack_type: str) -> LimitsView:
    """Return what a run of this pack may take: by this node, and by the tenant's plan."""
    most = plan.max_cost_of(pack_type)
    return LimitsView(
        timebox_s=bounds.timebox_s,
        timebox_max_s=bounds.timebox_max_s,
        result_max_bytes=bounds.result_max_bytes,
        max_cost_usd=show(AMOUNT_MAX if most is None else most),
    )
