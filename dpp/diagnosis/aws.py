"""What is wrong with how this node reaches AWS: facts in, a verdict on each out, with its remedy.

A node in production starts only where `refusals` has nothing to say; `dpp doctor` prints all of it.
Stand-ins on the machine itself, and keys that somebody wrote down, are for tests: the first would
lose paid results with the machine, the second outlive whoever copied them.
"""

from collections.abc import Iterator, Sequence

from attrs import field, frozen

from dpp.diagnosis.checks import Check, Unknown

# Who finds credentials that somebody wrote down: they never renew themselves.
STATIC_METHODS = frozenset(
    {"boto-config", "config-file", "env", "explicit", "shared-credentials-file"}
)
WHERE = {
    "env": "AWS_ACCESS_KEY_ID in the environment",
    "shared-credentials-file": "~/.aws/credentials",
    "config-file": "~/.aws/config",
}
ROLE = (
    "Give this machine a role: an instance profile on EC2, a task role on ECS, IAM Roles Anywhere "
    "elsewhere; its policy is config/iam/node.json."
)
NO_KEYS = f"Remove the keys. {ROLE}"


@frozen
class Credentials:
    """What the default chain found: who found it, and nothing that opens a door."""

    method: str
    key_id: str = field(repr=False)

    @property
    def is_static(self) -> bool:
        """Say whether somebody wrote them down."""
        return self.method in STATIC_METHODS


@frozen
class Endpoint:
    """Where a service is asked; `here`: that is this machine; `given`: by a setting."""

    service: str
    url: str
    here: bool
    given: bool


@frozen(kw_only=True)
class Facts:
    """What was found out."""

    profile: str
    production: bool
    endpoints: Sequence[Endpoint]
    credentials: Credentials | Unknown | None
    caller: str | Unknown | None = None  # the ARN; None: there was nobody to ask
    bucket: str | None = None
    bucket_id: str | Unknown | None = None  # None: it has none yet
    queue_url: str | None = None
    dead_letters: int | Unknown | None = None  # None: it has no dead-letter queue


def refusals(facts: Facts) -> list[Check]:
    """Return what keeps a node in production from starting."""
    return [one for one in (*_endpoints(facts), _credentials(facts)) if not one.ok]


def diagnose(facts: Facts) -> list[Check]:
    """Return a verdict on each thing, in the order in which they should be mended."""
    profile = Check("profile", ok=True, found=_profile(facts))
    reached = [profile, *_endpoints(facts), _credentials(facts), _caller(facts)]
    return [*reached, _bucket(facts), *_queue(facts)]


def _profile(facts: Facts) -> str:
    if facts.production:
        return facts.profile
    return f"{facts.profile}: stand-ins on this machine and static keys are let pass"


def _endpoints(facts: Facts) -> Iterator[Check]:
    for one in facts.endpoints:
        name = f"{one.service} endpoint"
        fix = f"Unset {one.service}.endpoint_url, and AWS_ENDPOINT_URL and its like."
        if facts.production and one.here:
            yield Check(name, ok=False, found=f"{one.url} is this machine", fix=fix)
        elif facts.production and one.url.startswith("http://"):
            fix = f"Give {one.service}.endpoint_url an https:// URL, or unset it."
            yield Check(name, ok=False, found=f"{one.url} is not encrypted", fix=fix)
        else:
            note = " (this machine: test credentials)" if one.here else ""
            yield Check(name, ok=True, found=one.url + note)


def _credentials(facts: Facts) -> Check:
    name, found = "credentials", facts.credentials
    if not facts.endpoints:
        return Check(name, ok=True, found="none needed: no service of AWS is in use")
    if all(one.here for one in facts.endpoints) and not facts.production:
        return Check(name, ok=True, found="test credentials, for this machine alone")
    if found is None:
        return Check(name, ok=False, found="the default chain finds none", fix=ROLE)
    if isinstance(found, Unknown):
        return Check(name, ok=False, found=f"the default chain fails: {found.why}", fix=ROLE)
    if not found.is_static:
        return Check(name, ok=True, found=f"of a role ({found.method}), renewed by themselves")
    where = WHERE.get(found.method, found.method)
    if facts.production:
        return Check(name, ok=False, found=f"static keys: {where}", fix=NO_KEYS)
    return Check(name, ok=True, found=f"static keys: {where}; production refuses them")


def _caller(facts: Facts) -> Check:
    name, caller = "caller identity", facts.caller
    if caller is None:
        return Check(name, ok=True, found="not asked: no service of AWS is in use")
    if isinstance(caller, Unknown):
        fix = "Let the machine reach sts.amazonaws.com, and look at its role's trust policy."
        return Check(name, ok=False, found=f"STS does not say: {caller.why}", fix=fix)
    if facts.production and not (":assumed-role/" in caller or ":federated-user/" in caller):
        return Check(name, ok=False, found=f"{caller} is no role", fix=ROLE)
    return Check(name, ok=True, found=caller)


def _bucket(facts: Facts) -> Check:
    name, there = "bucket", facts.bucket_id
    if facts.bucket is None:
        return Check(name, ok=True, found="none: large results lie in the data directory")
    if isinstance(there, Unknown):
        fix = "Make it with `dpp aws bootstrap`; give the role the policy in config/iam/node.json."
        return Check(name, ok=False, found=f"{facts.bucket}: {there.why}", fix=fix)
    told = f"is the store {there}" if there else "answers; no node has used it yet"
    return Check(name, ok=True, found=f"{facts.bucket} {told}")


def _queue(facts: Facts) -> Iterator[Check]:
    name, dead, url = "queue", facts.dead_letters, facts.queue_url
    make = "`dpp aws bootstrap`"
    if url is None:
        return
    if isinstance(dead, Unknown):
        fix = f"Make it with {make}; give the role the policy in config/iam/node-sqs.json."
        yield Check(name, ok=False, found=f"{url}: {dead.why}", fix=fix)
    elif dead is None:
        yield Check(name, ok=False, found=f"{url} has no dead-letter queue", fix=f"Ask {make}.")
    else:
        yield Check(name, ok=True, found=f"{url} answers; dead letters: {dead}")
