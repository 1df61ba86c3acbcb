"""The configuration of a node: read from all sources, checked as a whole, shown without secrets.

Sources, from weak to strong: the shipped file, one file of the operator's, credentials of systemd,
the names of the earlier guide, DPP_SECTION__KEY, flags. All mistakes come back at once, each with
its source and key. `load` reads files and nothing else; what it returns is frozen and handed to
those who use it, each to its own section. `cli` and `node` call this.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cattrs
from attrs import evolve, fields
from cattrs.errors import BaseValidationError

from dpp import money
from dpp.combinations import contradictions, exposed, setting, unused
from dpp.environment import (
    CONFIG_FILE,
    credentials,
    dpp_names,
    earlier_names,
    join_redis_password,
)
from dpp.plans import Plan
from dpp.resources import config_dir
from dpp.rules import MASK, NotAllowed, Rule, Text
from dpp.sections import PRODUCTION, Config, PlanTable
from dpp.settings import DEFAULT, ConfigError, Given, Layer, Schema, read_file, shown
from dpp.urls import passwords

__all__ = [
    "Config",
    "ConfigError",
    "ConfigErrors",
    "choose_file",
    "defaults",
    "load",
    "secrets",
    "show",
]

SYSTEM_FILE = Path("/etc/dpp/dpp.toml")
# Flags by the name of their parameter: the setting each gives, and how people write it.
FLAGS = {
    "data_dir": ("node.data_dir", "--data-dir"),
    "listen": ("http.listen", "--listen"),
    "management": ("management.listen", "--management"),
}
NOT_SECTIONS = frozenset({"plans", "origins", "warnings"})


class ConfigErrors(Exception):
    """What a restart cannot mend: all that is wrong with the configuration, a line each."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__("\n".join(str(error) for error in errors))
        self.errors = errors


def load(
    flags: Mapping[str, object],
    environ: Mapping[str, str],
    file: Path | None = None,
    *,
    system_file: Path | None = SYSTEM_FILE,
) -> Config:
    """Return what all sources say together; `file` is what `--config` names.

    Flags that are None were not given. Raises `ConfigErrors`.
    """
    shipped = read_file(config_dir() / "dpp.toml", SCHEMA, DEFAULT)
    merged = dict(shipped.given)
    chosen = choose_file(file, environ, system_file=system_file)
    layers = [shipped, _merge(merged, read_file(chosen, SCHEMA) if chosen else Layer())]
    layers += [_merge(merged, credentials(environ, SCHEMA))]
    layers += [_merge(merged, earlier_names(environ, merged))]
    layers += [_merge(merged, dpp_names(environ, SCHEMA)), _merge(merged, _flags(flags))]
    layers += [_merge(merged, join_redis_password(merged, environ))]
    config, wrong = _structure(merged, shipped.given)
    errors = [error for layer in layers for error in layer.errors] + list(wrong.values())
    errors += contradictions(config, merged, frozenset(wrong))
    readable = list(exposed(merged, chosen))
    if config.node.profile == PRODUCTION:
        errors += readable
    if errors:
        raise ConfigErrors(tuple(errors))
    origins = MappingProxyType({key: given.origin for key, given in merged.items()})
    warnings = [warning for layer in layers for warning in layer.warnings]
    usual, _ = _structure(shipped.given, shipped.given)
    warnings += [*unused(config, usual, merged), *(str(error) for error in readable)]
    plans = MappingProxyType(dict(config.plans))
    return evolve(config, plans=plans, origins=origins, warnings=tuple(warnings))


def defaults() -> Config:
    """Return what holds where nobody says anything."""
    return load({}, {}, system_file=None)


def choose_file(
    file: Path | None, environ: Mapping[str, str], *, system_file: Path | None = SYSTEM_FILE
) -> Path | None:
    """Return the operator's file: `--config`, else DPP_CONFIG, else the system's if it exists."""
    if file is not None:
        return file
    if environ.get(CONFIG_FILE):
        return Path(environ[CONFIG_FILE])
    return system_file if system_file and system_file.exists() else None


def _merge(merged: dict[str, Given], layer: Layer) -> Layer:
    merged.update(layer.given)
    return layer


def _flags(flags: Mapping[str, object]) -> Layer:
    layer = Layer()
    for name, value in flags.items():
        key, flag = FLAGS[name]
        if value is not None:
            layer.given[key] = Given(Text(value), flag)
    return layer


def show(config: Config) -> dict[str, dict[str, dict[str, object]]]:
    """Return section → key → value and origin, as plain values for JSON; secrets are masked.

    Each stands under the name by which it can be given.
    """
    tables: dict[str, dict[str, dict[str, object]]] = {}
    for key, rule in SCHEMA.rules.items():
        section, _, word = (f"{key}_file" if key in SCHEMA.file_only else key).partition(".")
        value = rule.show(setting(config, key))
        tables.setdefault(section, {})[word] = {"value": value, "origin": config.origins[key]}
    tables["plans"] = {
        name: {"value": _show_plan(plan), "origin": config.origins[f"plans.{name}"]}
        for name, plan in config.plans.items()
    }
    return tables


def _show_plan(plan: Plan) -> dict[str, object]:
    """Return the plan as its table in a file; what is no limit is left out."""
    fee = plan.fee
    table = {
        "submits_per_minute": plan.submits_per_minute,
        "reads_per_minute": plan.reads_per_minute,
        "concurrent_runs": plan.concurrent_runs,
        "queued_runs": plan.queued_runs,
        "max_cost_usd": None if plan.max_cost is None else money.show(plan.max_cost),
        "max_cost_by_pack_usd": {
            pack: money.show(most) for pack, most in sorted(plan.max_cost_by_pack.items())
        }
        or None,
        "packs": None if plan.packs is None else sorted(plan.packs),
        "spend_per_day_usd": None if plan.spend_per_day is None else money.show(plan.spend_per_day),
        "spend_per_month_usd": None
        if plan.spend_per_month is None
        else money.show(plan.spend_per_month),
        "result_retention_days": plan.result_days,
        "minimum_fee_floor_usd": money.show(fee.floor),
        "minimum_fee_percent": PERCENT.show(fee.percent_ppm),
        "minimum_fee_cap_usd": money.show(fee.cap),
        "weight": plan.weight,
    }
    return {word: value for word, value in table.items() if value is not None}


def secrets(config: Config) -> tuple[str, ...]:
    """Return every secret word in the configuration, for the logs to leave out."""
    urls = (
        config.database.url,
        config.database.migrations_url,
        config.redis.url,
        config.sentry.dsn,
    )
    words = {word for url in urls if url for word in passwords(url)}
    return tuple(sorted(words | {config.management.token or ""} - {""}))


def _structure(
    merged: Mapping[str, Given], shipped: Mapping[str, Given]
) -> tuple[Config, dict[str, ConfigError]]:
    """Return the configuration, and an error for each key that is wrong: the default is there."""
    try:
        return CONVERTER.structure(_nested(merged), Config), {}
    except BaseValidationError as group:
        wrong = {key: _error(key, refusal, merged) for key, refusal in _refusals(group)}
    settings = {_setting_of(key) for key in wrong}
    good = {key: given for key, given in merged.items() if key not in settings}
    good |= {key: shipped[key] for key in settings & shipped.keys()}
    return CONVERTER.structure(_nested(good), Config), wrong


def _nested(settings: Mapping[str, Given]) -> dict[str, dict[str, object]]:
    tables: dict[str, dict[str, object]] = {}
    for key, given in settings.items():
        section, _, word = key.partition(".")
        tables.setdefault(section, {})[word] = given.value
    return {**tables, "plans": {name: (name, table) for name, table in tables["plans"].items()}}


def _refusals(group: BaseValidationError, *path: str) -> Iterator[tuple[str, NotAllowed]]:
    """Walk what cattrs raised; anything but a refusal is a bug and raised again."""
    noted, others = group.group_exceptions()  # type: ignore[attr-defined]
    if others:
        raise group
    for error, note in noted:
        here = (*path, str(getattr(note, "name", None) or note.index))
        if isinstance(error, BaseValidationError):
            yield from _refusals(error, *here)
        elif isinstance(error, NotAllowed):
            yield ".".join(here), error
        else:
            raise group


def _error(key: str, refusal: NotAllowed, merged: Mapping[str, Given]) -> ConfigError:
    given = merged[_setting_of(key)]
    rule, value = SCHEMA.rules.get(key), given.value
    if rule is None and isinstance(value, dict):
        value = value[key.rpartition(".")[2]]
    text = MASK if rule is not None and rule.secret else shown(value)
    return ConfigError(given.origin, key, text, f"must be {refusal}")


def _setting_of(key: str) -> str:
    """Return the setting that this key is of: "plans.basic" for "plans.basic.weight"."""
    return ".".join(key.split(".")[:2])


def _rule(annotation: Any) -> Rule | None:  # noqa: ANN401 - cattrs asks for any type
    found: Rule | None = next(iter(getattr(annotation, "__metadata__", ())), None)
    return found


def _rules(table: type[Any]) -> dict[str, Rule]:
    return {a.name: rule for a in fields(table) if (rule := _rule(a.type)) is not None}


def _schema() -> Schema:
    sections = {a.name: a.type for a in fields(Config) if a.name not in NOT_SECTIONS and a.type}
    return Schema(
        rules={
            f"{section}.{word}": rule
            for section, table in sections.items()
            for word, rule in _rules(table).items()
        },
        plan_rules=_rules(PlanTable),
        file_only=frozenset({"management.token"}),
    )


def _converter() -> cattrs.Converter:
    """Make a converter that reads a field by the rule in its annotation."""
    converter = cattrs.Converter(forbid_extra_keys=True)
    converter.register_structure_hook_factory(
        lambda annotation: _rule(annotation) is not None,
        lambda annotation: lambda value, _: annotation.__metadata__[0].read(value),
    )
    converter.register_structure_hook(
        Plan, lambda named, _: converter.structure(named[1], PlanTable).plan(named[0])
    )
    return converter


SCHEMA = _schema()
PERCENT = SCHEMA.plan_rules["minimum_fee_percent"]
CONVERTER = _converter()
