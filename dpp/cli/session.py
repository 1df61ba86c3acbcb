"""What was said on the command line about all commands: JSON or not, which configuration and data.

The configuration is read when it is first asked for: many commands need none.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import define

from dpp import datadir
from dpp.cli.output import Output

if TYPE_CHECKING:
    from dpp.config import Config


@define(eq=False)
class Session:
    """One call of the command."""

    out: Output
    config_file: Path | None = None
    data_dir_flag: str | None = None
    _config: Config | None = None

    def config(self, *, tell: bool = True, **flags: str | None) -> Config:
        """Return the configuration with these flags on top; raises `ConfigErrors`.

        Its warnings come out once, here or, with `tell` off, where the node logs them.
        """
        from dpp import config

        if self._config is None or flags:
            given = {"data_dir": self.data_dir_flag, **flags}
            self._config = config.load(given, os.environ, self.config_file)
            for warning in self._config.warnings if tell else ():
                self.out.note(f"warning: {warning}")
        return self._config

    def node_config(self, *, quiet: bool = False, tell: bool = True, **flags: str | None) -> Config:
        """Return the configuration for what runs here and now, and log as it says.

        `quiet`: by default only what a command that lasts a moment has to warn of.
        """
        from dpp import config, logs

        chosen = self.config(tell=tell, **flags)
        asked = chosen.origins["log.level"] != "default"
        level = "WARNING" if quiet and not asked else chosen.log.level
        logs.configure(level, chosen.log.format, secrets=config.secrets(chosen))
        return chosen

    @property
    def names_data_dir(self) -> bool:
        """Say whether this call names a data directory, rather than its configuration."""
        return bool(self.data_dir_flag or os.environ.get("DPP_DATA_DIR"))

    def data_dir(self) -> Path:
        """Return the data directory that these flags, this environment and configuration name."""
        configured = None if self.names_data_dir else self.config().node.data_dir
        chosen = datadir.choose(
            self.data_dir_flag,
            None if configured is None else str(configured),
            os.environ,
            is_root=os.geteuid() == 0,
            home=Path.home(),
        )
        return chosen.absolute()
