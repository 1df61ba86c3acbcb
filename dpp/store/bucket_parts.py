"""The bucket of results, part by part, and the one beside it that its access logs go to.

Private, versioned, encrypted, logged. Its lifecycle lets results expire some time after nobody is
served them any more, or moves them to an archive where they are kept for long; what an operator
added to it stays.
"""

from __future__ import annotations

import json
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from attrs import frozen

from dpp.blobs import CouldNotAsk
from dpp.store.aws import code_of, status_of
from dpp.store.provisions import Part
from dpp.store.s3_objects import PREFIX

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ARCHIVE_DAYS: Final = 90  # a result that is asked for at all is asked for within weeks
# Beyond result_retention_days: those count from the run's end, S3 counts from the write before it,
# and a run may be settled by its object hours later.
GRACE_DAYS: Final = 1
NONCURRENT_DAYS: Final = 7  # for who deleted by mistake to bring back
LOG_DAYS: Final = 90
LOGS: Final = "-logs"
LOG_PREFIX: Final = "s3/"
RULE: Final = "dpp-results"
LOG_RULE: Final = "dpp-logs"
PRIVATE: Final = {
    "BlockPublicAcls": True,
    "IgnorePublicAcls": True,
    "BlockPublicPolicy": True,
    "RestrictPublicBuckets": True,
}
HOME: Final = "us-east-1"  # the one region that must not be named when a bucket is made


@frozen
class Wanted:
    """What the bucket should be. `retention_days`: the longest that any plan serves results."""

    name: str
    retention_days: int
    kms_key_id: str | None = None

    @property
    def logs(self) -> str:
        """The bucket of its access logs."""
        return self.name + LOGS

    def lifecycle(self) -> dict[str, Any]:
        """Return the rule for results."""
        rule = _rule(RULE, PREFIX) | {
            "NoncurrentVersionExpiration": {"NoncurrentDays": NONCURRENT_DAYS}
        }
        if self.retention_days <= ARCHIVE_DAYS:
            return rule | {"Expiration": {"Days": self.retention_days + GRACE_DAYS}}
        return rule | {"Transitions": [{"Days": ARCHIVE_DAYS, "StorageClass": "GLACIER"}]}

    def encryption(self) -> dict[str, Any]:
        """Return the rule for what is stored without a word about it."""
        default = {"SSEAlgorithm": "AES256"}
        if self.kms_key_id is not None:
            default = {"SSEAlgorithm": "aws:kms", "KMSMasterKeyID": self.kms_key_id}
        keyed = self.kms_key_id is not None
        return {"ApplyServerSideEncryptionByDefault": default, "BucketKeyEnabled": keyed}

    def log_policy(self) -> dict[str, Any]:
        """Return who may write access logs: S3 itself, for this bucket alone."""
        return {
            "Version": "2012-10-17",
            "Statement": [
                {
                    "Sid": "AccessLogs",
                    "Effect": "Allow",
                    "Principal": {"Service": "logging.s3.amazonaws.com"},
                    "Action": "s3:PutObject",
                    "Resource": f"arn:aws:s3:::{self.logs}/{LOG_PREFIX}*",
                    "Condition": {"ArnLike": {"aws:SourceArn": f"arn:aws:s3:::{self.name}"}},
                }
            ],
        }


def parts_of(client: Any, wanted: Wanted) -> Sequence[Part]:  # noqa: ANN401  # the driver has no types
    """Return all parts, the bucket of the logs first: logging needs it."""
    logs, results = _Parts(client, wanted.logs), _Parts(client, wanted.name)
    plain = Wanted(wanted.logs, LOG_DAYS).encryption()
    log_rule = _rule(LOG_RULE, LOG_PREFIX) | {"Expiration": {"Days": LOG_DAYS}}
    target = {"TargetBucket": wanted.logs, "TargetPrefix": LOG_PREFIX}
    return (
        logs.bucket(),
        logs.private(),
        logs.encryption(plain),
        logs.lifecycle(log_rule),
        logs.policy(wanted.log_policy()),
        results.bucket(),
        results.private(),
        results.versioning(),
        results.encryption(wanted.encryption()),
        results.logging(target),
        results.lifecycle(wanted.lifecycle()),
    )


@frozen
class _Parts:
    """The parts of one bucket, each with what it should be."""

    client: Any
    name: str

    def bucket(self) -> Part:
        return Part(self.name, "bucket", self._exists, self._create)

    def private(self) -> Part:
        write = partial(self._ask, "put_public_access_block")
        return self._part(
            "public access block",
            partial(self._read, "get_public_access_block", "PublicAccessBlockConfiguration"),
            lambda there: there == PRIVATE,
            partial(write, PublicAccessBlockConfiguration=PRIVATE),
        )

    def versioning(self) -> Part:
        on = {"Status": "Enabled"}
        return self._part(
            "versioning",
            partial(self._read, "get_bucket_versioning", "Status"),
            lambda there: there == on["Status"],
            partial(self._ask, "put_bucket_versioning", VersioningConfiguration=on),
        )

    def encryption(self, rule: dict[str, Any]) -> Part:
        found = partial(self._read, "get_bucket_encryption", "ServerSideEncryptionConfiguration")
        whole = {"Rules": [rule]}
        write = partial(self._ask, "put_bucket_encryption")
        return self._part(
            "encryption",
            found,
            lambda there: _encrypts(there, rule),
            partial(write, ServerSideEncryptionConfiguration=whole),
        )

    def logging(self, target: dict[str, Any]) -> Part:
        return self._part(
            "access logging",
            partial(self._read, "get_bucket_logging", "LoggingEnabled"),
            lambda there: there is not None and target.items() <= there.items(),
            partial(
                self._ask, "put_bucket_logging", BucketLoggingStatus={"LoggingEnabled": target}
            ),
        )

    def lifecycle(self, rule: dict[str, Any]) -> Part:
        async def write() -> None:
            others = [one for one in await rules() or () if one.get("ID") != rule["ID"]]
            whole = {"Rules": [*others, rule]}
            await self._ask("put_bucket_lifecycle_configuration", LifecycleConfiguration=whole)

        rules = partial(self._read, "get_bucket_lifecycle_configuration", "Rules")
        return self._part("lifecycle", rules, lambda there: rule in (there or ()), write)

    def policy(self, policy: dict[str, Any]) -> Part:
        return self._part(
            "policy",
            partial(self._read, "get_bucket_policy", "Policy"),
            lambda there: there is not None and json.loads(there) == policy,
            partial(self._ask, "put_bucket_policy", Policy=json.dumps(policy)),
        )

    def _part(
        self,
        name: str,
        read: Callable[[], Any],
        fits: Callable[[Any], bool],
        write: Callable[[], Any],
    ) -> Part:
        async def is_there() -> bool:
            return fits(await read())

        return Part(self.name, name, is_there, write)

    async def _exists(self) -> bool:
        try:
            await self._ask("head_bucket")
        except self.client.exceptions.ClientError as error:
            if status_of(error) != 404:  # noqa: PLR2004  # Not Found
                raise
            return False
        return True

    async def _create(self) -> None:
        region = self.client.meta.region_name
        where = {"LocationConstraint": region}
        more = {} if region == HOME else {"CreateBucketConfiguration": where}
        try:
            await self._ask("create_bucket", **more)
        except self.client.exceptions.BucketAlreadyExists as error:
            raise CouldNotAsk(f"the name {self.name} is somebody else's: choose another") from error
        except self.client.exceptions.BucketAlreadyOwnedByYou:
            return  # made by a try whose answer was lost

    async def _read(self, operation: str, member: str) -> Any:  # noqa: ANN401  # the driver's
        """Return a member of an answer; None where nothing is set."""
        try:
            return (await self._ask(operation)).get(member)
        except self.client.exceptions.ClientError as error:
            if status_of(error) != 404 or code_of(error) == "NoSuchBucket":  # noqa: PLR2004
                raise
            return None

    async def _ask(self, operation: str, **said: Any) -> Any:  # noqa: ANN401  # the driver's
        return await getattr(self.client, operation)(Bucket=self.name, **said)


def _rule(name: str, prefix: str) -> dict[str, Any]:
    return {
        "ID": name,
        "Status": "Enabled",
        "Filter": {"Prefix": prefix},
        "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": 1},
    }


def _encrypts(there: Any, rule: dict[str, Any]) -> bool:  # noqa: ANN401  # the driver's
    """Say whether these rules are this one; S3 adds members of its own."""
    key = "ApplyServerSideEncryptionByDefault"
    return any(
        one.get(key) == rule[key] and one.get("BucketKeyEnabled", False) == rule["BucketKeyEnabled"]
        for one in (there or {}).get("Rules", ())
    )
