"""What operators do about AWS: look at how this node reaches it, and make what DPP needs there."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dpp.diagnosis.aws import diagnose
from dpp.diagnosis.checks import Check
from dpp.sections import PRODUCTION
from dpp.store import aws, bucket_parts, queue_parts, sqs
from dpp.store.aws_facts import Asked, gather
from dpp.store.bridge import open_bridge
from dpp.store.provisions import Provided, make

if TYPE_CHECKING:
    from dpp.config import Config


async def examine(config: Config) -> list[Check]:
    """Look at profile, endpoints, credentials, caller, bucket and queue."""
    asked = Asked(
        profile=config.node.profile,
        production=config.node.profile == PRODUCTION,
        results=results(config),
        bucket=config.s3.bucket,
        hints=hints(config),
        queue_url=config.sqs.queue_url,
    )
    async with open_bridge() as bridge:
        return diagnose(await bridge.run(partial(gather, asked)))


async def bootstrap(config: Config) -> list[Provided]:
    """Make what is configured and missing. Raises `CouldNotAsk`."""
    provided: list[Provided] = []
    async with open_bridge() as bridge:
        if config.s3.bucket is not None:
            bucket = partial(bucket_parts.parts_of, wanted=wanted_bucket(config))
            provided += await bridge.run(partial(make, results(config), bucket))
        service, queue_url = hints(config), config.sqs.queue_url
        if service is not None and queue_url is not None:
            queue = partial(queue_parts.parts_of, queue_url=queue_url)
            provided += await bridge.run(partial(make, service, queue))
    return provided


def results(config: Config) -> aws.Service:
    """Return the service that has the results."""
    return aws.Service("s3", config.s3.region, config.s3.endpoint_url)


def hints(config: Config) -> aws.Service | None:
    """Return the service that has the queue; None: there is no queue."""
    if config.sqs.queue_url is None:
        return None
    return sqs.service_of(config.sqs.queue_url, config.sqs.endpoint_url, config.s3.region)


def wanted_bucket(config: Config) -> bucket_parts.Wanted:
    """Return what the bucket should be: it keeps results as long as the most generous plan says."""
    assert config.s3.bucket is not None
    days = [plan.result_days for plan in config.plans.values() if plan.result_days is not None]
    longest = max(config.runs.result_retention_days, *days, 0)
    return bucket_parts.Wanted(config.s3.bucket, longest, config.s3.kms_key_id)
