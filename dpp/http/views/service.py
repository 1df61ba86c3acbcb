"""What the service says of itself."""

from typing import Literal

from attrs import field, frozen


@frozen(slots=False)
class ServiceView:
    """What answers here."""

    service: str
    version: str
    status: str


@frozen(slots=False)
class HealthView:
    """The process lives."""

    status: str
    version: str


@frozen(slots=False)
class ReadyView:
    """Whether requests should come here, and each dependency in use.

    `degraded`: what is amiss and does not keep requests away. `differing`: nodes whose plans or
    packs are not this node's. `mode`: what operators let all nodes do, where it is not all.
    `draining`: this node stops, or an operator lets it rest; absent where it does not.
    """

    status: Literal["ready", "degraded", "not_ready"]
    services: dict[str, str]
    degraded: list[str] = field(factory=list)
    differing: dict[str, list[str]] = field(factory=dict)
    mode: str | None = None
    draining: bool = False
