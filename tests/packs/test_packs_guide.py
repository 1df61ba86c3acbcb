"""docs/packs.md: what it shows is run, and does what it says."""

import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import msgspec
import pytest
from attrs import asdict

from dpp.packs.ctx import PackRefused
from dpp.packs.decision.analysis import decide, replay
from dpp.packs.decision.model import DecisionInputs
from dpp.packs.decision.pack import DECISION
from dpp.packs.echo import ECHO
from dpp.packs.inputs import structure
from dpp.packs.registry import AnyPack, Registry
from dpp.packs.results import encode
from dpp.pricing import Appraised, InputError, InputsInvalid
from tests.packs.conftest import NewCtx

GUIDE = (Path(__file__).parents[2] / "docs" / "packs.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", GUIDE, re.DOTALL)


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch) -> AnyPack:
    module = ModuleType("words_pack")
    monkeypatch.setitem(sys.modules, "words_pack", module)
    exec(blocks("python")[0], module.__dict__)  # noqa: S102 - the guide's own example
    pack: AnyPack = module.__dict__["WORDS"]
    return pack


async def test_the_example_is_a_pack_that_runs(words: AnyPack, new_ctx: NewCtx) -> None:
    registry, ctx, sent = (
        Registry.of(words),
        new_ctx(),
        {"text": "to be or not to be", "longest": 2},
    )

    appraised = registry.appraise("words", sent)
    result = await words.run(ctx, sent)

    assert isinstance(appraised, Appraised)
    assert appraised.floor == appraised.price == ctx.charged == 60
    assert json.loads(encode(result)) == {"words": 6, "longest": ["not", "be"]}
    jsonschema.validate(result, msgspec.json.schema(words.result))


async def test_the_example_refuses_as_it_says(words: AnyPack, new_ctx: NewCtx) -> None:
    assert words.appraise({"text": "a", "longest": 101}) == InputsInvalid(
        (InputError("/inputs/longest", "must be at most 100"),)
    )
    with pytest.raises(PackRefused, match="no words"):
        await words.run(new_ctx(), {"text": " "})


def test_the_decision_is_answered_as_printed() -> None:
    sent, printed = map(json.loads, blocks("json"))
    inputs = structure(sent, DecisionInputs)
    assert isinstance(inputs, DecisionInputs)

    result = encode(asdict(decide(inputs)))

    assert json.loads(result) == printed
    assert replay(sent, printed["proof"]) == result


def test_a_proof_is_replayed_as_printed(capsys: pytest.CaptureFixture[str]) -> None:
    digest, again = blocks("python")[-2:]
    for sent in (json.loads(blocks("json")[0]), {"question": "Which ünicode?"}):
        inputs = structure(sent, DecisionInputs)
        assert isinstance(inputs, DecisionInputs)
        result = encode(asdict(decide(inputs)))
        names: dict[str, Any] = {"inputs": sent, "result": json.loads(result)}

        exec(digest + again, names)  # noqa: S102 - the guide's own example

        assert capsys.readouterr().out == "True\n"
        assert names["result_bytes"] == result


@pytest.mark.parametrize("pack", [ECHO, DECISION], ids=lambda pack: pack.pack_type)
def test_types_of_inputs_and_result_make_json_schemas(pack: AnyPack) -> None:
    for kind in (pack.inputs, pack.result):
        jsonschema.Draft202012Validator.check_schema(msgspec.json.schema(kind))


@pytest.mark.parametrize("method", ["weighted_sum", "topsis"])
async def test_a_result_is_valid_by_its_schema(new_ctx: NewCtx, method: str) -> None:
    sent = json.loads(blocks("json")[0]) | {"method": method}

    result = json.loads(encode(await DECISION.run(new_ctx(), sent)))

    jsonschema.validate(result, msgspec.json.schema(DECISION.result))
