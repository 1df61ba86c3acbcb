"""`dpp aws`: what DPP needs at AWS, made or brought up to date."""

from __future__ import annotations

import click

from dpp.cli.command import Group, with_session
from dpp.cli.exits import Exit, Stop, Trouble
from dpp.cli.session import Session


@click.group("aws", cls=Group)
def aws() -> None:
    """Make what DPP needs at AWS."""


@aws.command("bootstrap")
@with_session
def bootstrap(session: Session) -> Exit:
    """Make the bucket and the queue that are configured, with all that belongs to them.

    What is as it should be stays; run it again after each change of s3.*, sqs.* or of a retention.
    It needs the rights of config/iam/bootstrap.json and bootstrap-sqs.json, which no node should
    have.
    """
    config = session.node_config(quiet=True)
    if config.s3.bucket is None and config.sqs.queue_url is None:
        todo = "Set s3.bucket (S3_RESULT_BUCKET) or sqs.queue_url (SQS_QUEUE_URL), then ask again."
        what = "Neither bucket nor queue is configured."
        trouble = Trouble("nothing-to-make", what, "DPP changed nothing.", todo)
        raise Stop(Exit.CONFIGURATION, trouble)
    import trio

    from dpp import cloud
    from dpp.blobs import CouldNotAsk

    try:
        provided = trio.run(cloud.bootstrap, config)
    except CouldNotAsk as error:
        did = "What came before is made. It may be asked again."
        todo = "Mend it, with the rights of config/iam/bootstrap*.json; `dpp doctor` says who asks."
        trouble = Trouble("aws-refused", f"AWS: {error.why}.", did, todo)
        raise Stop(Exit.NEGATIVE, trouble) from error
    rows = [(one.resource, one.part, one.outcome.value) for one in provided]
    parts = [{"resource": a, "part": b, "outcome": c} for a, b, c in rows]
    session.out.result({"parts": parts})
    session.out.table(("resource", "part", ""), rows)
    return Exit.GOOD
