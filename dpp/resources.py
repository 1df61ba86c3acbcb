"""Where the files lie that are not Python: the SQL and the default configuration.

An installed wheel carries them as `dpp/share/sql` and `dpp/share/config`. A checkout, and with it
an editable install, has them in `sql/` and `config/` beside the package. Whoever reads such a file
asks here, so that nobody else knows which of the two it is.
"""

from __future__ import annotations

from pathlib import Path

_PACKAGE = Path(__file__).resolve().parent


def sql_dir() -> Path:
    """Return the directory with `migrations/`, `queries/` and the other SQL."""
    return _find("sql")


def config_dir() -> Path:
    """Return the directory with `dpp.toml`, the file of every default."""
    return _find("config")


def units_dir() -> Path:
    """Return the directory with the units of systemd and what belongs to them."""
    return _find("systemd")


def _find(name: str) -> Path:
    shipped = _PACKAGE / "share" / name
    return shipped if shipped.is_dir() else _PACKAGE.parent / name
