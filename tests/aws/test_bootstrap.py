"""The bucket and its parts: made once, kept, brought back where somebody changed them."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import pytest

from dpp.blobs import CouldNotAsk
from dpp.cloud import wanted_bucket
from dpp.config import defaults, load
from dpp.store import bucket_parts
from dpp.store.bucket_parts import Wanted
from dpp.store.provisions import Outcome, Provided, provide
from tests.aws.proxy import Fault

if TYPE_CHECKING:
    from pathlib import Path

    from tests.aws.conftest import S3


async def made(depot: S3, wanted: Wanted) -> dict[Outcome, list[tuple[str, str]]]:
    """Make it; returns what was made and what was kept."""
    parts = bucket_parts.parts_of(depot.client, wanted)
    provided: list[Provided] = await depot.bridge.run(partial(provide, parts))
    return {
        outcome: [(one.resource, one.part) for one in provided if one.outcome is outcome]
        for outcome in Outcome
    }


async def ask(depot: S3, bucket: str, operation: str, **said: Any) -> Any:
    return await depot.bridge.run(partial(getattr(depot.client, operation), Bucket=bucket, **said))


async def test_all_of_it_is_made_once_and_then_kept(depot: S3) -> None:
    wanted = Wanted(f"{depot.bucket}-a", 30)

    first, second = await made(depot, wanted), await made(depot, wanted)

    assert len(first[Outcome.MADE]) == 11
    assert second == {Outcome.MADE: [], Outcome.KEPT: first[Outcome.MADE]}
    read = partial(ask, depot, wanted.name)
    assert (await read("get_bucket_versioning"))["Status"] == "Enabled"
    (rule,) = (await read("get_bucket_encryption"))["ServerSideEncryptionConfiguration"]["Rules"]
    assert rule["ApplyServerSideEncryptionByDefault"] == {"SSEAlgorithm": "AES256"}
    logging = (await read("get_bucket_logging"))["LoggingEnabled"]
    assert (logging["TargetBucket"], logging["TargetPrefix"]) == (wanted.logs, "s3/")
    blocked = (await read("get_public_access_block"))["PublicAccessBlockConfiguration"]
    assert set(blocked.values()) == {True}


@pytest.mark.parametrize(
    ("days", "member", "value"),
    [
        (30, "Expiration", {"Days": 31}),
        (90, "Expiration", {"Days": 91}),
        (91, "Transitions", [{"Days": 90, "StorageClass": "GLACIER"}]),
    ],
)
async def test_results_expire_or_are_archived_and_nothing_else_does(
    depot: S3, days: int, member: str, value: Any
) -> None:
    wanted = Wanted(f"{depot.bucket}-b{days}", days)
    await made(depot, wanted)

    (rule,) = (await ask(depot, wanted.name, "get_bucket_lifecycle_configuration"))["Rules"]

    assert rule["Filter"] == {"Prefix": "results/"}
    assert {name: rule[name] for name in ("Expiration", "Transitions") if name in rule} == {
        member: value
    }


async def test_what_differs_is_mended_and_an_operators_own_rule_stays(depot: S3) -> None:
    wanted = Wanted(f"{depot.bucket}-c", 30)
    await made(depot, wanted)
    write = partial(ask, depot, wanted.name)
    own = {"ID": "own", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 1}}
    await write("put_bucket_lifecycle_configuration", LifecycleConfiguration={"Rules": [own]})
    await write("put_bucket_versioning", VersioningConfiguration={"Status": "Suspended"})
    await write("delete_public_access_block")

    again = await made(depot, wanted)

    parts = ["public access block", "versioning", "lifecycle"]
    assert again[Outcome.MADE] == [(wanted.name, part) for part in parts]
    rules = (await write("get_bucket_lifecycle_configuration"))["Rules"]
    assert [rule["ID"] for rule in rules] == ["own", "dpp-results"]


async def test_a_key_of_kms_becomes_the_buckets_own(depot: S3) -> None:
    wanted = Wanted(f"{depot.bucket}-d", 30, "alias/results")
    await made(depot, wanted)

    said = await ask(depot, wanted.name, "get_bucket_encryption")

    (rule,) = said["ServerSideEncryptionConfiguration"]["Rules"]
    default = rule["ApplyServerSideEncryptionByDefault"]
    assert default == {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": "alias/results"}
    assert rule["BucketKeyEnabled"] is True
    assert (await made(depot, wanted))[Outcome.MADE] == []


async def test_cut_short_anywhere_it_is_ended_by_asking_again(depot: S3) -> None:
    wanted = Wanted(f"{depot.bucket}-e", 30)
    for done in (3, 9, 15):
        depot.proxy.plan.extend([None] * done + [Fault.FORBIDDEN])
        with pytest.raises(CouldNotAsk, match=r"AccessDenied|403"):
            await made(depot, wanted)
    depot.proxy.plan.clear()

    await made(depot, wanted)

    assert (await made(depot, wanted))[Outcome.MADE] == []


async def test_an_answer_that_is_lost_makes_no_part_twice(depot: S3) -> None:
    wanted = Wanted(f"{depot.bucket}-f", 30)
    depot.proxy.applies = lambda request: request.method == "PUT"
    depot.proxy.storm(0.5, Fault.REPLY_LOST)

    await made(depot, wanted)

    depot.proxy.storm(0.0)
    assert depot.proxy.made[Fault.REPLY_LOST] >= 1
    assert (await made(depot, wanted))[Outcome.MADE] == []


def test_the_most_generous_plan_says_how_long_results_are_kept(tmp_path: Path) -> None:
    file = tmp_path / "dpp.toml"
    file.write_text('[s3]\nbucket = "dpp-results"\n[plans.gold]\nresult_retention_days = 60\n')
    config = load({}, {}, file)

    assert wanted_bucket(config).retention_days == 60
    assert defaults().runs.result_retention_days == 30
