"""The facts that `diagnosis` judges: where AWS is asked, as whom, and who answers there.

All of this runs in the bridge's thread.
"""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from attrs import frozen

from dpp.blobs import CouldNotAsk
from dpp.diagnosis.aws import Credentials, Endpoint, Facts
from dpp.diagnosis.checks import Unknown
from dpp.store import aws, sqs
from dpp.store.s3_objects import Bucket
from dpp.store.sqs import look_at_both

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

REPLY_S = 10.0  # of a try
AWS = (".amazonaws.com", ".amazonaws.com.cn")  # hosts of AWS itself


@frozen(kw_only=True)
class Asked:
    """What is configured; None: it is not in use."""

    profile: str
    production: bool
    results: aws.Service
    bucket: str | None
    hints: aws.Service | None = None
    queue_url: str | None = None


async def gather(asked: Asked) -> Facts:
    """Find out; what could not be is `Unknown`, and nothing is raised for it."""
    async with _opened(asked.results) as client, _opened(asked.hints) as queue:
        endpoints = [await _endpoint(asked.results, client)] if asked.bucket else []
        if asked.hints is not None:
            endpoints.append(await _endpoint(asked.hints, queue))
        # Where nothing of AWS is in use the chain would wait ten seconds for a metadata service.
        found = await aws.credentials() if endpoints else None
        return Facts(
            profile=asked.profile,
            production=asked.production,
            endpoints=endpoints,
            credentials=found,
            caller=await _caller(asked, endpoints, found),
            bucket=asked.bucket,
            bucket_id=await _bucket_id(asked, client),
            queue_url=asked.queue_url,
            dead_letters=await _dead_letters(asked.queue_url, queue),
        )


@asynccontextmanager
async def _opened(service: aws.Service | None) -> AsyncIterator[Any]:
    """Give a client, or what keeps us from making one."""
    if service is None:
        yield Unknown("it is not in use")
        return
    async with AsyncExitStack() as stack:
        try:
            client = await stack.enter_async_context(aws.client_of(service))
        except CouldNotAsk as error:
            client = Unknown(error.why)
        yield client


async def _endpoint(service: aws.Service, client: Any) -> Endpoint:  # noqa: ANN401  # the driver has no types
    if isinstance(client, Unknown):
        return Endpoint(service.name, f"none: {client.why}", here=False, given=False)
    return await aws.endpoint_of(service, client)


async def _caller(
    asked: Asked, endpoints: list[Endpoint], found: Credentials | Unknown | None
) -> str | Unknown | None:
    """Ask STS who we are; a store of the operator's own, which is no AWS, is not asked."""
    if not endpoints or not (endpoints[0].here or isinstance(found, Credentials)):
        return None
    if endpoints[0].given and not endpoints[0].here and not _is_aws(endpoints[0].url):
        return None
    url = endpoints[0].url if endpoints[0].here else None
    try:
        async with aws.client_of(aws.Service("sts", asked.results.region, url)) as sts:
            answer = await aws.ask(sts.get_caller_identity, wall_s=REPLY_S)
    except CouldNotAsk as error:
        return Unknown(error.why)
    return str(answer["Arn"])


def _is_aws(url: str) -> bool:
    return (urlsplit(url).hostname or "").endswith(AWS)


async def _bucket_id(asked: Asked, client: Any) -> str | Unknown | None:  # noqa: ANN401  # the driver has no types
    if asked.bucket is None:
        return None
    if isinstance(client, Unknown):
        return client
    try:
        bucket = Bucket(client, asked.bucket)
        there = await aws.ask(bucket.read_id, wall_s=REPLY_S)
    except CouldNotAsk as error:
        return Unknown(error.why)
    return None if there is None else str(there)


async def _dead_letters(url: str | None, client: Any) -> int | Unknown | None:  # noqa: ANN401  # the driver has no types
    if url is None:
        return None
    if isinstance(client, Unknown):
        return client
    try:
        depths = await sqs.ask(partial(look_at_both, client, url), REPLY_S, aws.TRIES_MAX)
    except CouldNotAsk as error:
        return Unknown(error.why)
    return depths.dead
