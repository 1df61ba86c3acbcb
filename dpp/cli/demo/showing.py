"""How the demo looks: the decision as a table, and the lines to go on with by hand."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from dpp.cli.demo import question
from dpp.cli.tables import when
from dpp.program import typed

if TYPE_CHECKING:
    from dpp.cli.demo.child import Child
    from dpp.cli.output import Output

RANKS_SHOWN = 6
# What fits a terminal of 80 columns with every cell whole: of the criteria the heaviest, and the
# ledger without the run, which is the same in all of it.
HEAVIEST = tuple(name for name, _, _ in question.CRITERIA[:4])
PER_LINE = 4  # of the criteria
USD = ("amount_usd", "cost_usd", "returned_usd")
LEDGER = ("seq", "kind", *USD, "created_at")


def show_question(out: Output, price: str) -> None:
    """Print what is asked."""
    offers = len(question.scores())
    out.say(f"\n{question.QUESTION}")
    weights = [f"{name} {weight} ({direction})" for name, weight, direction in question.CRITERIA]
    out.say(f"{offers} offers, {len(weights)} criteria by weight:")
    for first in range(0, len(weights), PER_LINE):
        out.say(f"  {', '.join(weights[first : first + PER_LINE])}")
    out.say(f"method {question.METHOD}, price ${price}, at most ${question.MAX_COST_USD}")


def show_decision(out: Output, result: Mapping[str, Any]) -> None:
    """Print the best offers, what would change the answer, and the proof."""
    offers = question.scores()
    rows = [
        (
            row["rank"],
            row["option"],
            f"{row['score']:.6f}",
            *(offers[row["option"]][name] for name in HEAVIEST),
        )
        for row in result["ranking"][:RANKS_SHOWN]
    ]
    columns = ("rank", "offer", "score", *HEAVIEST)
    out.say()
    out.table(columns, rows, title="Result", numbers=("rank", "score", *HEAVIEST))
    out.say(f"winner: {result.get('winner')}  ({result['verdict']})")
    flip = result.get("flip")
    if flip:
        change = f"{flip['change']:+.4g}"
        rival = flip.get("overtaken_by")
        out.say(f"smallest flip: weight of {flip['criterion']} {change} → {rival}")
    out.say(f"dominated: {len(result['dominated'])} offers that no weights could make the best")
    proof = result["proof"]
    out.say(f"proof: {proof['method']}, inputs sha256 {proof['inputs_sha256']}")


def show_ledger(out: Output, transfers: Iterable[Mapping[str, Any]], *, title: str) -> None:
    """Print the ledger, in the order given."""
    rows = [[*map(line.get, LEDGER[:-1]), when(line["created_at"])] for line in transfers]
    out.table(LEDGER, rows, title=title, numbers=("seq", *USD))


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
        f"{typed()} audit --data-dir {shlex.quote(str(child.path))}",
    ]
