"""What schemathesis is told beside the document.

First, which refusals valid data may meet: they depend on money, limits and what was sent before,
not on the form of the request. All of them are in the document; that data of the right form is
never `invalid-request` is what is checked. Then, what it must not do.
"""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData
from schemathesis.specs.openapi.checks import positive_data_acceptance

if TYPE_CHECKING:
    from schemathesis import Case, CheckContext, HookContext, Response
    from schemathesis.core.failures import Failure

BY_STATE = {
    "budget-exceeded",  # the money is another run's
    "spend-limit-exceeded",
    "idempotency-key-reused",  # the generator likes its keys, and changes the body under them
    "max-cost-too-low",  # what a run needs at least is the plan's and the pack's
    "max-cost-too-high",
    "quota-exceeded",  # keys a day
    "key-limit-reached",
    "webhook-limit-reached",
    "webhook-disabled",
    "not-found",  # a name that nothing was ever given has the right form
    "run-not-finished",
    "run-expired",
    "result-expired",
    "range-not-satisfiable",
}


@schemathesis.check
def valid_data_is_taken(ctx: CheckContext, response: Response, case: Case[Any]) -> bool | None:
    """Do what `positive_data_acceptance` does, by the type of the problem instead of its status."""
    if response.status_code >= 400:
        problem = json.loads(response.content)
        # To JSON Schema 5.0 is an integer; here it is none, so that a number has one form.
        messages = {error["message"] for error in problem.get("errors", ())}
        # And JSON's integers have no end; here they must be safe for every reader (I-JSON).
        is_too_large = "beyond 2^53" in problem["detail"]
        if name_of(problem) in BY_STATE or messages == {"must be an integer"} or is_too_large:
            return None
    return positive_data_acceptance(ctx, response, case)


@schemathesis.hook
def before_call(context: HookContext, case: Case[Any], kwargs: dict[str, Any]) -> None:
    """Keep the key that asks from being revoked or rotated: it stands in the list of keys."""
    if case.path_parameters.get("key_id") == os.environ["DPP_OWN_KEY_ID"]:
        case.path_parameters["key_id"] = "0" * 12


@schemathesis.hook
def filter_failure(
    context: HookContext, failure: Failure, case: Case[Any], response: Response
) -> bool:
    """Pass over what is no answer to the question.

    Links of a run lead to `{run_id}:cancel`, another path, which has no GET. And what is wrong with
    one submission of a batch is that item's problem: the batch itself is answered 200.
    """
    names = [unquote(str(value)) for value in (case.path_parameters or {}).values()]
    is_batch = case.operation.path == "/v1/runs:batch" and response.status_code == 200
    is_taken = isinstance(failure, AcceptedNegativeData)
    return not (any(":" in name for name in names) or (is_batch and is_taken))


def name_of(problem: Any) -> str:
    """Return the last word of a problem's type."""
    return str(problem["type"]).rpartition("/")[2].rpartition("#")[2]
