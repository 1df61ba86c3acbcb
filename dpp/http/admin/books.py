"""The books and the nodes, as operators look at them: audit, living nodes."""

from collections.abc import Sequence
from typing import Final

import trio
from quart import Quart

from dpp.blobs import Blobs, CouldNotAsk, Pointer, astray
from dpp.findings import Sample
from dpp.http.admin.desk import Desk, Outcome, answers, told
from dpp.http.admin.views import audit_view

# Objects are read whole, up to 64 MiB each, and an audit of small books takes no time at all.
SAMPLE_MAX: Final = 50
SAMPLE_S: Final = 2.0


async def audit(desk: Desk) -> Outcome:
    """GET /admin/v1/audit: one pass over one snapshot of the database, and some large results."""
    books = await desk.store.audit()
    pointers = await desk.store.sample_results(SAMPLE_MAX)
    return told(200, audit_view(books.sampled(await sample(desk.blobs, pointers))))


async def sample(blobs: Blobs, pointers: Sequence[Pointer]) -> Sample:
    """Look at what lies under these keys, for `SAMPLE_S` at most."""
    looked = 0
    strays: list[dict[str, str]] = []
    with trio.move_on_after(SAMPLE_S):  # noqa: ASYNC912 - mostly there is some
        for pointer in pointers:
            try:
                there = await blobs.check(pointer.key)
            except CouldNotAsk as error:
                return Sample(looked=looked, astray=tuple(strays), could_not_ask=error.why)
            looked += 1
            why = astray(pointer, there)
            if why is not None:
                key = pointer.key
                strays.append({"run_id": str(key.run_id), "tenant_id": key.tenant_id, "why": why})
    return Sample(looked=looked, astray=tuple(strays))


def add_to(app: Quart, root: str, desk: Desk) -> None:
    """Put these on the app."""
    app.get(f"{root}/audit")(answers(audit, desk))
