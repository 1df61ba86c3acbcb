"""Retention: how long runs, keys and transfers stay, and how a tenant's books prove without them.

A tenant's *closing entry* says what its facts up to a place of its ledger come to; the fold is the
entry and the facts behind it. So facts that it covers may leave, and it counts those that did:
`closing = what is left of them + what has gone` is an invariant of the audit like any other.

    what                 leaves when
    inputs and results   the result is served no more (`result_expires_at`); their hashes stay
    runs                 they ended `run_days` ago: submission, ending, events, deliveries
    transfers            `transfer_days` after they were made; 0 = never
    idempotency keys     `key_days` after the run ended: until then a replay gets 410

Money that has been moved stays moved: usage, counters and the budget are not touched.
"""

from attrs import frozen


@frozen(kw_only=True)
class Keeping:
    """Days that things are kept, each from what ends it; `transfers` 0 = for ever."""

    runs: int
    keys: int
    transfers: int

    def __attrs_post_init__(self) -> None:
        assert self.runs > 0
        assert self.keys >= self.runs, "a key that went first would name a second run"


@frozen(kw_only=True)
class Overdue:
    """What retention finds to do for a tenant."""

    tenant_id: str
    bodies: bool
    closable: bool
    prunable: bool


@frozen
class Pruned:
    """What a batch took away: runs, and transfers."""

    runs: int
    transfers: int
