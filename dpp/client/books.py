"""Money and prices: the budget, the ledger, usage by day, quotes, and what packs cost."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from datetime import date
from typing import Any

from attrs import evolve

from dpp.client import asking
from dpp.client.faults import BadAnswer
from dpp.client.steps import Context, Item, Items, Shut, Steps, read
from dpp.client.submissions import Money, usd
from dpp.client.values import Budget, Pack, Packs, Quote, Transfer, Usage

CSV = "text/csv"


def budget(context: Context) -> Steps[Budget]:
    """Return the tenant's budget: deposited = available + held + spent."""
    return asking.fetch(context, asking.get("/v1/budget"), Budget)


def transfers(context: Context) -> Items[Transfer]:
    """Give the tenant's ledger, newest first, page after page."""
    return asking.pages(context, "/v1/transfers", Transfer)


def transfers_csv(context: Context) -> Items[str]:
    """Give the whole ledger as lines of CSV with their ends, as `csv.DictReader` takes them.

    A connection that is cut raises `TransportError`: begin again.
    """
    request = evolve(asking.get("/v1/transfers"), headers={"Accept": CSV})
    reply = yield from asking.opened(context, request)
    if reply.headers.get("content-type", "").partition(";")[0].strip() != CSV:
        raise BadAnswer(reply.url, reply.status, "which is no CSV")
    decoder = codecs.getincrementaldecoder("utf-8")()
    rest = ""
    while piece := (yield from read()):
        *lines, rest = (rest + decoder.decode(piece)).split("\n")
        for line in lines:
            yield Item(line + "\n")
    yield Shut()
    if rest:
        yield Item(rest)


def usage(
    context: Context, first: date | str | None = None, last: date | str | None = None
) -> Steps[Usage]:
    """Return runs and cost by UTC day, both ends included, at most 366 days.

    Without `last` up to today, without `first` the last 30 days.
    """
    query = asking.params(**{"from": first, "to": last})
    return asking.fetch(context, asking.get("/v1/usage", query), Usage)


def quote(
    context: Context,
    pack_type: str,
    inputs: Mapping[str, Any],
    max_cost: Money | None = None,
    *,
    timebox_s: int | None = None,
) -> Steps[Quote]:
    """Return what this submission would reserve and may cost; nothing is reserved.

    Without `max_cost` for the least that would be admitted.
    """
    members = {
        "pack_type": pack_type,
        "inputs": dict(inputs),
        "max_cost_usd": None if max_cost is None else usd(max_cost),
        "timebox_s": timebox_s,
    }
    request = asking.send("POST", "/v1/quotes", members, repeatable=True)
    return asking.fetch(context, request, Quote)


def packs(context: Context) -> Steps[tuple[Pack, ...]]:
    """Return the packs that the tenant may use: schemas, prices, limits."""
    found = yield from asking.fetch(context, asking.get("/v1/packs"), Packs)
    return found.items
