"""The packs of a node, found once at its start by the entry points of the group `dpp.packs`.

The packs that come with DPP are always there; others come with installed packages. A bad entry
point becomes a `PackLoadError` for the node to log: it never hides a good one, and never takes
the name of one.
"""

from collections.abc import Iterable, Mapping
from importlib.metadata import EntryPoint, entry_points
from types import MappingProxyType
from typing import Any, Self, TypeAlias

from attrs import frozen

from dpp.packs.pack import Pack
from dpp.packs.schemas import NoSchema
from dpp.pricing import Appraisal, PackFacts, PackUnknown

AnyPack: TypeAlias = Pack[Any]

GROUP = "dpp.packs"
BUILT_IN = (  # also when DPP runs from a checkout that nobody installed
    EntryPoint("echo", "dpp.packs.echo:ECHO", GROUP),
    EntryPoint("decision", "dpp.packs.decision.pack:DECISION", GROUP),
)


@frozen
class PackLoadError:
    """An entry point that gives no pack, and why."""

    entry_point: str
    detail: str

    def __str__(self) -> str:
        return f"{GROUP}: {self.entry_point}: {self.detail}"


@frozen
class Registry:
    """The packs of this node by type, and what could not be loaded."""

    packs: Mapping[str, AnyPack]
    load_errors: tuple[PackLoadError, ...] = ()

    @classmethod
    def of(cls, *packs: AnyPack) -> Self:
        """Make a registry of exactly these packs."""
        by_type = {pack.pack_type: pack for pack in packs}
        assert len(by_type) == len(packs), "two packs of one type"
        return cls(MappingProxyType(by_type))

    @classmethod
    def load(cls, found: Iterable[EntryPoint] | None = None) -> Self:
        """Load the built-in packs, then what is `found` (the installed ones), in order of name."""
        installed = entry_points(group=GROUP) if found is None else found
        points = [*BUILT_IN, *sorted(installed, key=lambda point: (point.name, point.value))]
        packs: dict[str, AnyPack] = {}
        sources: dict[str, str] = {}
        errors: list[PackLoadError] = []
        for point in points:
            label = f"{point.name} = {point.value}"
            if sources.get(point.name) == point.value:  # installed from a checkout: listed twice
                continue
            if point.name in packs:
                errors.append(PackLoadError(label, f"{sources[point.name]} has this name already"))
                continue
            loaded = _load(point)
            if isinstance(loaded, str):
                errors.append(PackLoadError(label, loaded))
            else:
                packs[point.name], sources[point.name] = loaded, point.value
        return cls(MappingProxyType(packs), tuple(errors))

    @property
    def versions(self) -> dict[str, str]:
        """Return each pack's version, by type."""
        return {name: pack.version for name, pack in self.packs.items()}

    @property
    def pack_types(self) -> tuple[str, ...]:
        """The types that this node can execute, in order."""
        return tuple(sorted(self.packs))

    def find(self, pack_type: str) -> AnyPack | None:
        """Return the pack of this type, or None."""
        return self.packs.get(pack_type)

    def appraise(self, pack_type: str, inputs: object) -> Appraisal:
        """Say what a submission costs at least, or why it cannot be one. Pure."""
        pack = self.packs.get(pack_type)
        return PackUnknown(self.pack_types) if pack is None else pack.appraise(inputs)

    def version(self, pack_type: str) -> str:
        """Return the pack's version; empty for an unknown pack, whose submission is refused."""
        pack = self.packs.get(pack_type)
        return "" if pack is None else pack.version

    def facts(self, pack_type: str) -> PackFacts | None:
        """Return what clients are told of a pack; None = it is not loaded here."""
        pack = self.packs.get(pack_type)
        return None if pack is None else pack.facts


def _load(point: EntryPoint) -> AnyPack | str:
    """Return the pack behind an entry point, or what is wrong with it."""
    try:
        loaded = point.load()
    except (Exception, SystemExit) as error:  # noqa: BLE001 - importing foreign code: anything may come
        return f"cannot be loaded: {type(error).__name__}: {error}"
    if not isinstance(loaded, Pack):
        return f"is a {type(loaded).__name__}, not a dpp.packs.pack.Pack"
    if loaded.pack_type != point.name:
        return f"gives the pack {loaded.pack_type!r}; the entry point must have the same name"
    try:
        _ = loaded.facts
    except NoSchema as error:
        return f"cannot be described: {error}"
    return loaded
