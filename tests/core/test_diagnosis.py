"""What is said of how a node reaches AWS: each thing that may be wrong, alone."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import evolve

from dpp.diagnosis.aws import Credentials, Endpoint, Facts, diagnose, refusals
from dpp.diagnosis.checks import Unknown, document

AWS = Endpoint("s3", "https://s3.eu-central-1.amazonaws.com", here=False, given=False)
HERE = Endpoint("s3", "http://127.0.0.1:4566", here=True, given=True)
PLAIN = Endpoint("s3", "http://minio.example.com", here=False, given=True)
ROLE = Credentials("iam-role", "ASIA")
ARN = "arn:aws:sts::123456789012:assumed-role/dpp-node/i-1"
GOOD = Facts(
    profile="production",
    production=True,
    endpoints=[AWS],
    credentials=ROLE,
    caller=ARN,
    bucket="dpp-results",
    bucket_id="0c8a6df1-7036-450c-b59c-8189bec9367e",
    queue_url="https://sqs.eu-central-1.amazonaws.com/123456789012/dpp",
    dead_letters=0,
)
STATIC = [
    Credentials(method, "AKIA")
    for method in ("env", "shared-credentials-file", "config-file", "explicit", "boto-config")
]


def wrong(facts: Facts) -> list[str]:
    return [one.name for one in diagnose(facts) if not one.ok]


def test_a_role_its_bucket_and_aws_are_well() -> None:
    assert wrong(GOOD) == []
    assert refusals(GOOD) == []
    assert document(diagnose(GOOD))["ok"] is True


@pytest.mark.parametrize(
    ("change", "name", "refused"),
    [
        ({"endpoints": [HERE]}, "s3 endpoint", True),
        ({"endpoints": [PLAIN]}, "s3 endpoint", True),
        ({"endpoints": [AWS, evolve(HERE, service="sqs")]}, "sqs endpoint", True),
        *[({"credentials": one}, "credentials", True) for one in STATIC],
        ({"credentials": None}, "credentials", True),
        ({"credentials": Unknown("the profile x is none")}, "credentials", True),
        ({"caller": "arn:aws:iam::123456789012:root"}, "caller identity", False),
        ({"caller": "arn:aws:iam::123456789012:user/me"}, "caller identity", False),
        ({"caller": Unknown("AccessDenied")}, "caller identity", False),
        ({"bucket_id": Unknown("there is no bucket dpp-results")}, "bucket", False),
        ({"dead_letters": None}, "queue", False),
        ({"dead_letters": Unknown("there is no such queue")}, "queue", False),
    ],
)
def test_in_production_each_of_these_is_wrong_and_says_what_to_do(
    change: dict[str, Any], name: str, *, refused: bool
) -> None:
    facts = evolve(GOOD, **change)

    assert wrong(facts) == [name]
    (check,) = [one for one in diagnose(facts) if not one.ok]
    assert check.fix
    assert [one.name for one in refusals(facts)] == ([name] if refused else [])


@pytest.mark.parametrize("credentials", [*STATIC, None, Unknown("none")])
def test_a_stand_in_on_this_machine_needs_no_credentials_in_dev(credentials: Any) -> None:
    facts = evolve(GOOD, profile="dev", production=False, endpoints=[HERE], credentials=credentials)

    assert wrong(facts) == []


@pytest.mark.parametrize("credentials", STATIC)
def test_static_keys_are_let_pass_in_dev_and_said(credentials: Credentials) -> None:
    facts = evolve(GOOD, profile="dev", production=False, credentials=credentials)

    assert wrong(facts) == []
    (check,) = [one for one in diagnose(facts) if one.name == "credentials"]
    assert "production refuses them" in check.found


def test_no_key_is_ever_told() -> None:
    facts = evolve(GOOD, credentials=Credentials("env", "AKIACANARY"))

    assert "AKIACANARY" not in f"{facts} {diagnose(facts)}"
