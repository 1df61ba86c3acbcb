"""The SQL of the store: one file a query in `sql/queries/`, named for what it does.

Each file is compiled once: aiosql's asyncpg adapter turns `:name` into `$n`. A query is called
with exactly its named parameters; a wrong name is a TypeError here, not a surprise on the server.
Only modules of `dpp.store` use it.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol, TypeAlias

from aiosql.adapters.asyncpg import AsyncPGAdapter
from attrs import frozen

from dpp import resources

Row: TypeAlias = Any  # asyncpg.Record: columns by name


class Connection(Protocol):
    """What a query needs of a driver's connection."""

    async def fetch(self, query: str, *args: object) -> list[Row]: ...


@frozen
class Query:
    """A compiled query; `parameters` are the names behind `$1 …`, in order."""

    name: str
    sql: str
    parameters: tuple[str, ...]

    async def fetch(self, connection: Connection, **values: object) -> list[Row]:
        """Run it and return its rows."""
        if values.keys() != set(self.parameters):
            message = f"{self.name} takes {self.parameters}, not {tuple(values)}"
            raise TypeError(message)
        return await connection.fetch(self.sql, *[values[name] for name in self.parameters])

    async def fetch_one(self, connection: Connection, **values: object) -> Row | None:
        """Run it and return its only row, or None."""
        rows = await self.fetch(connection, **values)
        assert len(rows) <= 1, self.name
        return rows[0] if rows else None


def without_comments(text: str) -> str:
    """Drop whole-line comments: the adapter would look for parameters in them."""
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))


def compile_query(path: Path) -> Query:
    """Compile one file."""
    adapter = AsyncPGAdapter()
    sql = adapter.process_sql(path.stem, None, without_comments(path.read_text()))
    return Query(path.stem, sql, tuple(adapter.var_sorted[path.stem]))


class Queries:
    """All queries of a directory, as attributes."""

    def __init__(self, directory: Path) -> None:
        self._queries = {path.stem: compile_query(path) for path in sorted(directory.glob("*.sql"))}

    def __getattr__(self, name: str) -> Query:
        try:
            return self._queries[name]
        except KeyError:
            raise AttributeError(name) from None

    def names(self) -> Sequence[str]:
        """Return the names of all queries."""
        return tuple(self._queries)


queries = Queries(resources.sql_dir() / "queries")
