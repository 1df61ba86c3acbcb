"""Quotes: what a submission would reserve and may cost: `POST /v1/quotes`.

A quote is decided as the intake would decide the submission, by the same functions, from what
depends on the request, this node's packs and the plan. Nothing is asked of the books: whether the
budget, a spend limit, the queue or a suspended tenant would refuse it, and whether `webhook_url` is
registered, is known at the submission. So it does not bind.
"""

from typing import Final

from attrs import evolve

from dpp.admission import Account, Created, Exists, PlanUnknown, Submission, unfit
from dpp.http.answers import NO_STORE, Answer
from dpp.http.decoder import NotJson
from dpp.http.envelopes import decoded, received
from dpp.http.problems import Problem
from dpp.http.refusals import problem_of
from dpp.http.requests import Request, read_body, read_query
from dpp.http.services import Services
from dpp.http.views.encoding import encode
from dpp.http.views.packs import quote_view
from dpp.ids import made_at
from dpp.money import ZERO
from dpp.plans import Plan
from dpp.pricing import Appraised, Quote, quote

KEY: Final = "quote"  # a quote has no key, and what is built here is never submitted
ANY: Final = "1"  # stands for a max_cost_usd that is left open, until the least is known


async def make_quote(services: Services, request: Request) -> Answer | Problem:
    """POST /v1/quotes."""
    query = read_query(request, {})
    if isinstance(query, Problem):
        return query
    body = await read_body(request, services.bounds.body_max_bytes)
    if isinstance(body, Problem):
        return body
    sent = await decoded(services.bench, body)
    if isinstance(sent, NotJson):
        return Problem("malformed-json", sent.detail)
    is_open = sent.get("max_cost_usd") is None
    whole = {**sent, "max_cost_usd": ANY} if is_open else sent
    asked = await services.bench.once(lambda: received(services, request, KEY, whole))
    if isinstance(asked, Problem):
        return asked
    assert request.principal is not None
    plan = services.plans.now.get(request.principal.plan)
    if plan is None:
        return problem_of(PlanUnknown(request.principal.plan))
    quoted = quoted_for(asked, plan, is_open=is_open)
    if isinstance(quoted, Problem):
        return quoted
    return Answer(200, encode(quote_view(asked.pack_type, quoted, plan.fee.code)), (NO_STORE,))


def quoted_for(asked: Submission, plan: Plan, *, is_open: bool) -> Quote | Problem:
    """Return the quote, or what the intake would have against the submission.

    `is_open`: nobody said a `max_cost`; it is the least that would be admitted.
    """
    appraisal = asked.appraisal
    if is_open and isinstance(appraisal, Appraised):
        asked = evolve(asked, max_cost=quote(appraisal, plan.fee, None).reserve)
    account = Account(
        plan=plan.name,
        suspended=False,
        frozen=False,
        available=ZERO,
        seq=0,
        queued=0,
        window_from=None,
        window_count=0,
    )
    refusal = unfit(evolve(asked, webhook_url=None), account, plan, made_at(asked.run_id))
    if refusal is not None:
        assert not isinstance(refusal, Created | Exists)
        return problem_of(refusal)
    assert isinstance(appraisal, Appraised)
    return quote(appraisal, plan.fee, asked.max_cost)
