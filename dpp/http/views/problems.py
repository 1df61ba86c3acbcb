"""Problems (RFC 9457), as the document describes them."""

from attrs import frozen


@frozen(slots=False)
class ProblemView:
    """A problem (RFC 9457); some types carry members of their own."""

    type: str
    title: str
    status: int
    detail: str
    instance: str
    request_id: str
