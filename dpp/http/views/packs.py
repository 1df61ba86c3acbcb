"""Packs and quotes, as they go out."""

from typing import Any, Literal

from attrs import frozen

from dpp.http.views.encoding import USD
from dpp.http.views.runs import _policy
from dpp.money import show
from dpp.pricing import PackFacts, Quote


@frozen(slots=False)
class ExpectedView:
    """Between what a run is expected to cost if it completes."""

    low: str
    high: str


@frozen(kw_only=True, slots=False)
class QuoteView:
    """What a submission would reserve, and may cost. It binds nobody."""

    pack_type: str
    reserve_usd: str
    expected_usd: ExpectedView
    minimum_fee_usd: str
    currency: Literal["USD"]
    policy: str
    binding: Literal[False]


@frozen(slots=False)
class PriceView:
    """The rule in words, and the amounts in it by name."""

    rule: str
    rates_usd: dict[str, str]


@frozen(kw_only=True, slots=False)
class LimitsView:
    """What a run of the pack may take: seconds, bytes of the result, and its most by the plan."""

    timebox_s: int
    timebox_max_s: int
    result_max_bytes: int
    max_cost_usd: str


@frozen(kw_only=True, slots=False)
class PackView:
    """A pack: what it takes and gives, as JSON Schema, and what it costs."""

    pack_type: str
    version: str
    input_schema: dict[str, Any]
    output_schema: dict[str, Any]
    price: PriceView
    limits: LimitsView


@frozen(slots=False)
class PackList:
    """The packs that the tenant may use, by name."""

    items: list[PackView]


def quote_view(pack_type: str, quote: Quote, policy: str) -> QuoteView:
    """Return a quote as the API shows it."""
    return QuoteView(
        pack_type=pack_type,
        reserve_usd=show(quote.reserve),
        expected_usd=ExpectedView(show(quote.low), show(quote.high)),
        minimum_fee_usd=show(quote.minimum_fee),
        currency=USD,
        policy=_policy(policy),
        binding=False,
    )


def pack_view(facts: PackFacts, limits: LimitsView) -> PackView:
    """Return a pack as the API shows it."""
    return PackView(
        pack_type=facts.pack_type,
        version=facts.version,
        input_schema=dict(facts.input_schema),
        output_schema=dict(facts.output_schema),
        price=PriceView(facts.price, {name: show(rate) for name, rate in facts.rates.items()}),
        limits=limits,
    )
