"""What a reload takes over, and what it refuses."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs
import pytest

from dpp import config as configuration
from dpp.combinations import COMBINATIONS
from dpp.config import load
from dpp.money import Micros
from dpp.plans import Plan
from dpp.pricing import FeeRule
from dpp.reload import LIVE, adopted, changes
from dpp.rules import MASK

if TYPE_CHECKING:
    from pathlib import Path

    from dpp.config import Config

RUNNING = """
[reaper]
interval_s = 5
[plans.gold]
submits_per_minute = 10
[plans.old]
weight = 2
[redis]
url = "redis://:first@cache/0"
"""


def read(tmp_path: Path, text: str) -> Config:
    file = tmp_path / "dpp.toml"
    file.write_text(text)
    file.chmod(0o600)
    return load({}, {}, file)


def test_what_is_live_is_taken_over_and_the_rest_stays(tmp_path: Path) -> None:
    running = read(tmp_path, RUNNING)
    changed = read(
        tmp_path,
        """
        [reaper]
        interval_s = 7
        [http]
        wait_max_s = 30
        [plans.gold]
        submits_per_minute = 20
        [plans.new]
        [redis]
        url = "redis://:second@cache/0"
        """,
    )

    told = {one.key: (one.was, one.now, one.live) for one in changes(running, changed)}
    after = adopted(running, changed)

    assert told["reaper.interval_s"] == (5, 7, True)
    assert told["http.wait_max_s"] == (60, 30, False)
    assert told["plans.gold"][0]["submits_per_minute"] == 10  # type: ignore[index]
    assert told["plans.gold"][1]["submits_per_minute"] == 20  # type: ignore[index]
    assert (told["plans.old"][1], told["plans.new"][0]) == (None, None)
    assert told["redis.url"] == (f"redis://:{MASK}@cache/0",) * 2 + (False,)
    assert len(told) == 6
    assert (after.reaper.interval_s, after.http.wait_max_s) == (7, 60)
    assert after.plans == changed.plans
    assert after.redis == running.redis
    assert after.origins["plans.new"].endswith("dpp.toml")
    assert "plans.old" not in after.origins
    assert changes(after, changed) == tuple(
        one for one in changes(running, changed) if not one.live
    )


def test_each_live_setting_is_one_and_is_taken_over(tmp_path: Path) -> None:
    running = read(tmp_path, "")
    changed = read(
        tmp_path,
        """
        audit.interval_s = 61
        log.level = "DEBUG"
        reaper = { interval_s = 6, scan_limit = 101 }
        reconcile = { interval_s = 61, scan_limit = 101 }
        [runs]
        attempts_max = 4
        concurrency = 501
        queue_ttl_s = 604801
        """,
    )

    assert {one.key for one in changes(running, changed) if one.live} == LIVE
    assert changes(adopted(running, changed), changed) == ()


def test_no_rule_is_about_what_is_live_and_what_is_not() -> None:
    """Else what was taken over might not go with what stayed."""
    assert [one for one in COMBINATIONS if (one.key in LIVE) != (one.beside in LIVE)] == []


@pytest.mark.parametrize("name", [one.name for one in attrs.fields(Plan) if one.name != "name"])
def test_whatever_differs_in_a_plan_is_shown(name: str) -> None:
    """A reload tells by this what changed, and `dpp config diff` whether a node goes by it."""
    others: dict[str, Any] = {
        "fee": FeeRule(floor=Micros(7), percent_ppm=0, cap=Micros(9)),
        "packs": frozenset({"echo"}),
        "max_cost_by_pack": {"echo": Micros(7)},
    }
    one = Plan("one")

    other = attrs.evolve(one, **{name: others.get(name, Micros(7))})

    assert configuration._show_plan(other) != configuration._show_plan(one)
