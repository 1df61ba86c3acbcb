"""From the bytes of a submission to the core's `Submission`: key, envelope, digest, appraisal.

What depends on bytes and packs alone is decided here, before any lock; what depends on plan, tenant
or budget is the intake's. The fingerprint covers what the client sent, not the defaults filled in.
"""

from collections.abc import Mapping
from typing import Any, Final

import trio

from dpp import egress, moments, money
from dpp.admission import Submission
from dpp.egress import Rules, Target
from dpp.fingerprints import canonical, fingerprint
from dpp.http.bench import LIGHT_MAX, Bench
from dpp.http.decoder import NotJson, Object, decode_object
from dpp.http.problems import Problem, invalid
from dpp.http.requests import Request
from dpp.http.services import Services
from dpp.http.wire import SubmitRequest, parse_key, read
from dpp.pricing import InputError

KEY_INVALID: Final = Problem(
    "idempotency-key-invalid",
    'send one key of 1 to 255 visible ASCII characters, none of them " \\ , or ;',
)
THREAD_FROM: Final = 1 << 20  # bytes of a body that is too much for one step on the bench


def build(
    services: Services, request: Request, key: str, sent: Object
) -> Submission | list[InputError]:
    """Return the submission, or everything that is wrong with its envelope."""
    envelope = read(sent, SubmitRequest)
    too_long = _timebox(sent.get("timebox_s"), services.bounds.timebox_max_s)
    if isinstance(envelope, list):
        return envelope + too_long
    if too_long:
        return too_long
    assert request.principal is not None
    inputs: Mapping[str, Any] = sent["inputs"]
    max_cost = money.parse(envelope.max_cost_usd)
    return Submission(
        run_id=services.new_run_id(),
        tenant_id=request.principal.tenant_id,
        key_id=request.principal.key_id,
        idempotency_key=key,
        fingerprint=fingerprint({**sent, "max_cost_usd": max_cost}),
        pack_type=envelope.pack_type,
        pack_version=services.packs.version(envelope.pack_type),
        inputs=canonical(inputs),
        max_cost=max_cost,
        priority=envelope.priority,
        timebox_s=envelope.timebox_s or services.bounds.timebox_s,
        trace_id=request.trace_id,
        appraisal=services.packs.appraise(envelope.pack_type, inputs),
        run_at=None if envelope.run_at is None else moments.parse(envelope.run_at),
        start_before=None
        if envelope.start_before is None
        else moments.parse(envelope.start_before),
        metadata=canonical(envelope.metadata) if envelope.metadata else None,
        webhook_url=_normal(envelope.webhook_url, services.outgoing),
    )


def read_key(request: Request) -> str | Problem:
    """Return the idempotency key of the header."""
    lines = request.headers.get(b"idempotency-key", [])
    if not lines:
        return Problem("idempotency-key-missing", "send one Idempotency-Key header")
    return parse_key(lines) or KEY_INVALID


async def receive(
    services: Services, request: Request, key: str, body: bytes
) -> Submission | Problem:
    """Return the submission that a body is, or what is wrong with it."""
    sent = await decoded(services.bench, body)
    if len(body) <= LIGHT_MAX:
        return received(services, request, key, sent)
    return await services.bench.once(lambda: received(services, request, key, sent))


async def decoded(bench: Bench, body: bytes) -> Object | NotJson:
    """Decode a body where nobody has to wait for it."""
    if len(body) <= LIGHT_MAX:
        return decode_object(body)
    if len(body) <= THREAD_FROM:
        return await bench.once(lambda: decode_object(body))
    return await trio.to_thread.run_sync(decode_object, body, limiter=bench.thread)


def received(
    services: Services, request: Request, key: str, sent: Object | NotJson
) -> Submission | Problem:
    """Return the submission that was decoded, or what is wrong with it."""
    if isinstance(sent, NotJson):
        return Problem("malformed-json", sent.detail)
    built = build(services, request, key, sent)
    return invalid(built) if isinstance(built, list) else built


def _timebox(sent: object, most: int) -> list[InputError]:
    if type(sent) is int and sent > most:
        return [InputError("/timebox_s", f"must be at most {most} here")]
    return []


def _normal(url: str | None, rules: Rules) -> str | None:
    """Return a URL as webhooks are stored; the intake refuses one that is below none of them."""
    target = None if url is None else egress.read(url, rules)
    return target.url if isinstance(target, Target) else url
