"""Commands and groups that take the options which every command has, wherever they stand.

`dpp --json audit` and `dpp audit --json` are the same; of an option given twice the inner one wins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import update_wrapper
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from dpp.cli.session import Session

P = ParamSpec("P")
R = TypeVar("R")


def _session(context: click.Context) -> Session:
    session = context.find_object(Session)
    assert session is not None, "main makes one"
    return session


def _json(context: click.Context, _: click.Parameter, value: bool) -> None:  # noqa: FBT001 - click calls it
    if value:
        _session(context).out.as_json = True


def _config(context: click.Context, _: click.Parameter, value: Path | None) -> None:
    if value is not None:
        _session(context).config_file = value


def _data_dir(context: click.Context, _: click.Parameter, value: str | None) -> None:
    if value is not None:
        _session(context).data_dir_flag = value


def _common(
    *,
    config: str = "Configuration; else DPP_CONFIG, else /etc/dpp/dpp.toml.",
    data_dir: str = "Data directory of the node; else DPP_DATA_DIR, else the usual place.",
) -> list[click.Parameter]:
    return [
        click.Option(
            ["--json"],
            is_flag=True,
            expose_value=False,
            callback=_json,
            help="One JSON document on stdout; logs and progress stay on stderr.",
        ),
        click.Option(
            ["--config"],
            type=click.Path(dir_okay=False, path_type=Path),
            metavar="FILE",
            expose_value=False,
            callback=_config,
            help=config,
        ),
        click.Option(
            ["--data-dir"],
            metavar="DIR",
            expose_value=False,
            callback=_data_dir,
            help=data_dir,
        ),
    ]


class Command(click.Command):
    """A command with the common options after its own; `helps` says where one means other things.

    Its names are those of the parameters.
    """

    def __init__(self, *args: Any, helps: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_common(**(helps or {}))]


class Group(click.Group):
    """A group with the common options; its commands have them too."""

    command_class = Command

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.params = [*self.params, *_common()]


Group.group_class = Group


def with_session(function: Callable[Concatenate[Session, P], R]) -> Callable[P, R]:
    """Hand the session to a command as its first argument."""

    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return function(_session(click.get_current_context()), *args, **kwargs)

    return update_wrapper(call, function)
