"""What the verbs of the store share: the desk where each is handed in, and the limits.

Verbs are gathered by who asks for them: `for_nodes`, `for_tenants`, `for_operators`.
"""

from attrs import frozen

from dpp.admission import Terms
from dpp.plans import Plans
from dpp.retention import Keeping
from dpp.store.desk import Desk


@frozen(kw_only=True)
class Limits:
    """The numbers that verbs decide by; from the configuration."""

    attempts_max: int
    terms: Terms
    keeping: Keeping


class Verbs:
    """Every method runs on the bridge; `plans` and `limits` are swapped whole."""

    def __init__(self, desk: Desk, limits: Limits) -> None:
        self.plans: Plans = {}
        self._desk = desk
        self.limits = limits
