"""Whether a service of AWS is fit for production: where it is, and by which credentials."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dpp.diagnosis.aws import Facts, refusals
from dpp.sections import PRODUCTION
from dpp.store import aws
from dpp.store.place import SchemaRefused

if TYPE_CHECKING:
    from dpp.store.aws import Service


async def assert_fit(service: Service, client: Any) -> None:  # noqa: ANN401  # the driver has no types
    """Raise `SchemaRefused` where production must not ask it, or not by these keys."""
    facts = Facts(
        profile=PRODUCTION,
        production=True,
        endpoints=[await aws.endpoint_of(service, client)],
        credentials=await aws.credentials(),
    )
    wrong = refusals(facts)
    if wrong:
        found = "; ".join(f"{one.name}: {one.found}" for one in wrong)
        fixes = " ".join(dict.fromkeys(one.fix for one in wrong))
        raise SchemaRefused(f"Production refuses {found}.", f"{fixes} `dpp doctor` shows it all.")
