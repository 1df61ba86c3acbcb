"""What a policy of IAM allows, as far as ours go: actions and resources, with wildcards."""

from __future__ import annotations

import json
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from attrs import frozen

from dpp.resources import config_dir

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

# The actions that operations need, where their names differ; of S3's service authorization page.
# A HEAD is a GET without its body: there is no action for it.
ACTIONS = {
    "HeadObject": "GetObject",
    "HeadBucket": "ListBucket",
    "ListObjectsV2": "ListBucket",
    "GetPublicAccessBlock": "GetBucketPublicAccessBlock",
    "PutPublicAccessBlock": "PutBucketPublicAccessBlock",
    "GetBucketEncryption": "GetEncryptionConfiguration",
    "PutBucketEncryption": "PutEncryptionConfiguration",
    "GetBucketLifecycleConfiguration": "GetLifecycleConfiguration",
    "PutBucketLifecycleConfiguration": "PutLifecycleConfiguration",
}


@frozen
class Need:
    """An action on a resource that a call needs."""

    action: str
    resource: str


def needs(operation: str, said: Mapping[str, Any]) -> Iterator[Need]:
    """Yield what a call of S3 needs."""
    bucket = f"arn:aws:s3:::{said['Bucket']}"
    if operation == "DeleteObjects":
        for one in said["Delete"]["Objects"]:
            yield Need("s3:DeleteObject", f"{bucket}/{one['Key']}")
        return
    resource = f"{bucket}/{said['Key']}" if "Key" in said else bucket
    yield Need(f"s3:{ACTIONS.get(operation, operation)}", resource)
    if operation == "GetObject":  # else a missing one is forbidden: nobody could tell them apart
        yield Need("s3:ListBucket", bucket)


def queue_needs(operation: str, said: Mapping[str, Any]) -> Iterator[Need]:
    """Yield what a call of SQS needs: a batch needs what one of its kind does."""
    name = said["QueueName"] if "QueueName" in said else said["QueueUrl"].rpartition("/")[2]
    action = f"sqs:{operation.removesuffix('Batch')}"
    yield Need(action, f"arn:aws:sqs:us-east-1:123456789012:{name}")


def statements(name: str, named: str, word: str = "BUCKET") -> list[dict[str, Any]]:
    """Return the statements of a shipped policy; `word` stands there for what is named."""
    text = (config_dir() / "iam" / name).read_text()
    document = json.loads(text.replace(word, named))
    assert document["Version"] == "2012-10-17"
    rows: list[dict[str, Any]] = document["Statement"]
    assert {row["Effect"] for row in rows} == {"Allow"}
    return rows


def grants(rows: list[dict[str, Any]]) -> list[Need]:
    """Return each pair of action and resource pattern."""
    return [
        Need(action, resource)
        for row in rows
        for action in _many(row["Action"])
        for resource in _many(row["Resource"])
    ]


def allows(grant: Need, need: Need) -> bool:
    """Say whether a grant covers what is needed."""
    return grant.action == need.action and fnmatchcase(need.resource, grant.resource)


def _many(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value
