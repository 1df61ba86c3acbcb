"""Gauges: what a node asks the database for, to be shown; nothing is decided by it."""

from collections.abc import Mapping

from attrs import frozen

from dpp.money import Micros


@frozen(kw_only=True)
class Health:
    """How the server is. Ages are in transactions; `dead_rows` by table, as it estimates them.

    `transactions`: how many there have been, by the clock that ages are told by, modulo 2^32.
    """

    dead_rows: Mapping[str, int]
    oldest_xmin_age: int
    transactions: int
    frozen_xid_age: int
    waits_for_standby: bool


@frozen(kw_only=True)
class Gauges:
    """What was read, each figure of its own moment.

    `runs`: live ones by status and pack, counted as far as that is cheap and estimated beyond.
    `queue_age_s`: of the oldest that nobody has started; 0 = none waits. `heartbeats`: when nodes
    that did not leave in order were last heard of, in seconds since 1970 by the database's clock.
    """

    runs: Mapping[tuple[str, str], int]
    queue_age_s: float
    heartbeats: Mapping[str, float]
    balances: Mapping[str, Micros]
    health: Health
