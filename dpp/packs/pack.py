"""The form of a pack: a name, a version, its inputs, its price, and the function that runs.

`appraise` is pure and cheap; HTTP calls it before anything is locked or reserved. `run` is what
the executor awaits. Both read the inputs anew with the same strict types, so a pack's function
never sees inputs that its own appraisal would refuse.
"""

from collections.abc import Awaitable, Callable, Mapping
from typing import Generic, TypeVar

from attrs import field, frozen
from attrs.validators import matches_re, max_len, min_len

from dpp.money import Micros
from dpp.packs.ctx import Ctx, InfrastructureFault
from dpp.packs.inputs import structure
from dpp.packs.schemas import input_schema, output_schema
from dpp.pricing import Appraised, InputsInvalid, PackFacts

Inputs = TypeVar("Inputs")


@frozen(kw_only=True)
class Pack(Generic[Inputs]):
    """What a run of this pack type executes.

    `quote` states the floor and the price of structured inputs, or what is wrong among them that
    types cannot say. `execute` does the work; what it returns must be JSON (`results.encode`).
    `price` is the rule in words, for the list of packs; `rates` are the amounts in it, by name.
    """

    pack_type: str = field(validator=matches_re(r"[a-z][a-z0-9_-]{0,63}"))
    version: str = field(validator=[min_len(1), max_len(64)])
    inputs: type[Inputs]
    result: type
    price: str
    quote: Callable[[Inputs], Appraised | InputsInvalid]
    execute: Callable[[Ctx, Inputs], Awaitable[object]]
    rates: Mapping[str, Micros] = field(factory=dict)

    @property
    def facts(self) -> PackFacts:
        """Return what the list of packs says of it; raises `NoSchema` where types have none."""
        inputs: type = self.inputs
        return PackFacts(
            pack_type=self.pack_type,
            version=self.version,
            input_schema=input_schema(inputs),
            output_schema=output_schema(self.result),
            price=self.price,
            rates=self.rates,
        )

    def appraise(self, inputs: object) -> Appraised | InputsInvalid:
        """Say what these inputs cost at least, or what is wrong with them."""
        structured = structure(inputs, self.inputs)
        if isinstance(structured, InputsInvalid):
            return structured
        return self.quote(structured)

    async def run(self, ctx: Ctx, inputs: object) -> object:
        """Return the result of one attempt. Raises what `ctx` lists, or any bug of the pack.

        Inputs that were admitted and are not valid here were admitted under another version of
        the pack: no fault of the tenant's, and a node that has that version may take the run.
        """
        structured = structure(inputs, self.inputs)
        quoted = structured if isinstance(structured, InputsInvalid) else self.quote(structured)
        if isinstance(structured, InputsInvalid) or isinstance(quoted, InputsInvalid):
            raise InfrastructureFault(
                f"{self.pack_type} {self.version} does not accept the admitted inputs"
            )
        return await self.execute(ctx, structured)
