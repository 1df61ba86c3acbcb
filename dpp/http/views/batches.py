"""The answers to a batch, one a submission."""

from typing import Annotated, Any, Literal

from attrs import frozen
from msgspec import Meta

from dpp.http.views.encoding import SCHEMAS
from dpp.http.views.runs import RunView


@frozen(slots=False)
class BatchRun:
    """The answer to one submission that names a run."""

    status: Literal[201]
    run: RunView
    replayed: bool


@frozen(slots=False)
class BatchRefusal:
    """The answer to one submission that was refused."""

    status: int
    problem: dict[str, Any]


# msgspec makes no schema of a union of classes, so it is written out.
BatchItem = Annotated[
    object,
    Meta(
        extra_json_schema={
            "oneOf": [{"$ref": SCHEMAS + name} for name in ("BatchRun", "BatchRefusal")]
        }
    ),
]


@frozen(slots=False)
class BatchAnswer:
    """The answers to a batch, in the order of its submissions."""

    items: list[BatchItem]
