"""The registry: good packs are found, bad ones are named and hide nobody."""

import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
from attrs import frozen

from dpp.money import Micros
from dpp.packs.ctx import Ctx, InfrastructureFault
from dpp.packs.echo import ECHO
from dpp.packs.pack import Pack
from dpp.packs.registry import BUILT_IN, GROUP, PackLoadError, Registry
from dpp.pricing import Appraised, InputError, InputsInvalid, PackUnknown
from tests.packs.conftest import NewCtx

MODULE = """
import attrs
from dpp.packs.echo import ECHO

GOOD = attrs.evolve(ECHO, pack_type="good")
OTHER = attrs.evolve(ECHO, pack_type="other")
ANOTHER_ECHO = attrs.evolve(ECHO, version="6.6.6")
NUMBER = 3


@attrs.frozen
class Odd:
    of: complex


ODD = attrs.evolve(ECHO, pack_type="odd", inputs=Odd)
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (tmp_path / "packs_of_a_test.py").write_text(MODULE)
    (tmp_path / "broken_of_a_test.py").write_text("raise RuntimeError('half installed')")
    (tmp_path / "exits_of_a_test.py").write_text("raise SystemExit(3)")
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("packs_of_a_test", "broken_of_a_test", "exits_of_a_test"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return "packs_of_a_test"


def point(name: str, value: str) -> EntryPoint:
    return EntryPoint(name, value, GROUP)


def test_the_packs_of_dpp_are_there_without_an_installation() -> None:
    registry = Registry.load(found=[])

    assert registry.pack_types == ("decision", "echo")
    assert registry.load_errors == ()


def test_packs_of_dpp_that_are_installed_too_are_no_clash() -> None:
    registry = Registry.load(found=BUILT_IN)

    assert registry.pack_types == ("decision", "echo")
    assert registry.load_errors == ()


def test_what_is_installed_here_loads_without_an_error() -> None:
    assert Registry.load().load_errors == ()


def test_bad_entry_points_are_named_and_hide_no_good_one(module: str) -> None:
    registry = Registry.load(
        found=[
            point("aardvark", f"{module}:MISSING"),
            point("broken", "broken_of_a_test:PACK"),
            point("echo", f"{module}:ANOTHER_ECHO"),
            point("exits", "exits_of_a_test:PACK"),
            point("good", f"{module}:GOOD"),
            point("misnamed", f"{module}:OTHER"),
            point("nowhere", "no_such_module_of_a_test:PACK"),
            point("number", f"{module}:NUMBER"),
        ]
    )

    details = {error.entry_point.split(" ")[0]: error.detail for error in registry.load_errors}
    assert registry.pack_types == ("decision", "echo", "good")
    assert registry.find("echo") is ECHO
    assert details == {
        "aardvark": "cannot be loaded: AttributeError: "
        f"module '{module}' has no attribute 'MISSING'",
        "broken": "cannot be loaded: RuntimeError: half installed",
        "echo": "dpp.packs.echo:ECHO has this name already",
        "exits": "cannot be loaded: SystemExit: 3",
        "misnamed": "gives the pack 'other'; the entry point must have the same name",
        "nowhere": "cannot be loaded: ModuleNotFoundError: "
        "No module named 'no_such_module_of_a_test'",
        "number": "is a int, not a dpp.packs.pack.Pack",
    }


def test_a_load_error_is_one_clear_line() -> None:
    error = PackLoadError("words = words_pack:WORDS", "cannot be loaded: RuntimeError: no")

    assert str(error) == "dpp.packs: words = words_pack:WORDS: cannot be loaded: RuntimeError: no"


@pytest.mark.parametrize("pack_type", ["nope", "", "../echo", "ECHO", "echo\0", "dpp.packs.echo"])
def test_an_unknown_pack_names_the_known(pack_type: str) -> None:
    registry = Registry.of(ECHO)

    assert registry.appraise(pack_type, {}) == PackUnknown(("echo",))
    assert registry.find(pack_type) is None
    assert registry.version(pack_type) == ""


def test_a_known_pack_appraises() -> None:
    registry = Registry.of(ECHO)

    assert registry.appraise("echo", {}) == Appraised(floor=Micros(0), price=None)
    assert registry.version("echo") == ECHO.version


@pytest.mark.parametrize("pack_type", ["", "Echo", "1st", "a" * 65, "a/b", "a\n"])
def test_a_pack_type_is_a_plain_name(pack_type: str) -> None:
    with pytest.raises(ValueError, match="pack_type"):
        Pack(
            pack_type=pack_type,
            version="1",
            inputs=Even,
            result=dict,
            price="nothing",
            quote=quote,
            execute=execute,
        )


@frozen
class Even:
    number: int


def quote(inputs: Even) -> Appraised | InputsInvalid:
    if inputs.number % 2:
        return InputsInvalid((InputError("/inputs/number", "must be even"),))
    return Appraised(floor=Micros(0), price=None)


async def execute(ctx: Ctx, inputs: Even) -> int:
    await ctx.charge(Micros(1), "halving")
    return inputs.number // 2


EVEN = Pack(
    pack_type="even",
    version="1",
    inputs=Even,
    result=int,
    price="a micro",
    quote=quote,
    execute=execute,
)


async def test_a_pack_runs_what_it_admits(new_ctx: NewCtx) -> None:
    assert await EVEN.run(new_ctx(), {"number": 4}) == 2


@pytest.mark.parametrize("inputs", [{"number": 3}, {"number": "4"}, {}, None])
async def test_inputs_of_another_version_are_the_platforms_fault(
    new_ctx: NewCtx, inputs: object
) -> None:
    ctx = new_ctx()

    with pytest.raises(InfrastructureFault, match="even 1 does not accept"):
        await EVEN.run(ctx, inputs)

    assert ctx.charged == 0


def test_facts_are_what_clients_are_told() -> None:
    facts = Registry.of(ECHO, EVEN).facts("even")

    assert facts is not None
    assert (facts.pack_type, facts.version, facts.price) == ("even", "1", "a micro")
    assert facts.input_schema["$defs"] == {
        "Even": {
            "title": "Even",
            "type": "object",
            "properties": {"number": {"type": "integer"}},
            "required": ["number"],
            "additionalProperties": False,
        }
    }
    assert facts.output_schema["type"] == "integer"
    assert Registry.of(ECHO).facts("even") is None


def test_members_that_are_unknown_are_refused_on_every_level() -> None:
    facts = Registry.load(found=[]).facts("decision")

    assert facts is not None
    definitions = facts.input_schema["$defs"]
    assert isinstance(definitions, dict)
    assert {name: one["additionalProperties"] for name, one in definitions.items()} == {
        "DecisionInputs": False,
        "Criterion": False,
    }


def test_a_pack_whose_types_json_does_not_know_is_not_loaded(module: str) -> None:
    registry = Registry.load(found=[point("odd", f"{module}:ODD")])

    (error,) = registry.load_errors
    assert "cannot be described: Odd has no JSON Schema" in error.detail
    assert registry.pack_types == ("decision", "echo")
