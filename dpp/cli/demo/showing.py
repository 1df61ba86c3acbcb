"""How the demo looks: the decision as a table, and the lines to go on with by hand."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from dpp.cli.demo import question

if TYPE_CHECKING:
    from dpp.cli.demo.child import Child
    from dpp.cli.output import Output

RANKS_SHOWN = 6
NUMBERS = tuple(name for name, _, _ in question.CRITERIA)


def show_question(out: Output, price: str) -> None:
    """Print what is asked."""
    offers = len(question.scores())
    out.say(f"\n{question.QUESTION}")
    weights = ", ".join(
        f"{name} {weight} ({direction})" for name, weight, direction in question.CRITERIA
    )
    out.say(f"{offers} offers, {len(question.CRITERIA)} criteria by weight: {weights}")
    out.say(f"method {question.METHOD}, price ${price}, at most ${question.MAX_COST_USD}")


def show_decision(out: Output, result: Mapping[str, Any]) -> None:
    """Print the best offers, what would change the answer, and the proof."""
    offers = question.scores()
    rows = [
        (row["rank"], row["option"], f"{row['score']:.6f}", *offers[row["option"]].values())
        for row in result["ranking"][:RANKS_SHOWN]
    ]
    columns = ("rank", "offer", "score", *NUMBERS)
    out.say()
    out.table(columns, rows, title="Result", numbers=("rank", "score", *NUMBERS))
    out.say(f"winner: {result.get('winner')}  ({result['verdict']})")
    flip = result.get("flip")
    if flip:
        change = f"{flip['change']:+.4g}"
        rival = flip.get("overtaken_by")
        out.say(f"smallest flip: weight of {flip['criterion']} {change} → {rival}")
    out.say(f"dominated: {len(result['dominated'])} offers that no weights could make the best")
    proof = result["proof"]
    out.say(f"proof: {proof['method']}, inputs sha256 {proof['inputs_sha256']}")


def curl_lines(child: Child, api_key: str, run_id: str) -> list[str]:
    """Return commands to go on with, each complete."""
    url, auth = child.node.url, f'-H "Authorization: Bearer {api_key}"'
    inputs = '{"message": "hello", "cost_usd": "0.05"}'
    body = f'{{"pack_type": "echo", "inputs": {inputs}, "max_cost_usd": "0.10"}}'
    submit = (
        f'curl -s -X POST {url}/v1/runs {auth} -H "Content-Type: application/json"'
        f" -H \"Idempotency-Key: hello-1\" -d '{body}'"
    )
    return [
        submit,
        f"curl -s {url}/v1/runs/{run_id} {auth}",
        f'curl -s "{url}/v1/runs?limit=5" {auth}',
        f"curl -s {url}/v1/budget {auth}",
        f"curl -s {url}/v1/transfers {auth}",
        f"curl -s {child.node.management_url}/metrics",
        f"dpp audit --data-dir {shlex.quote(str(child.path))}",
    ]
