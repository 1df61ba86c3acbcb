"""The loader of queries: names become numbers, and a wrong name is an error here, not on the server."""  # noqa: E501

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from dpp.resources import sql_dir
from dpp.store.queries import Queries, compile_query, queries, without_comments

FILES = sorted((sql_dir() / "queries").glob("*.sql"))


class Connection:
    """Remembers what it was asked and answers what it was told to."""

    def __init__(self, *rows: Any) -> None:
        self.asked: list[tuple[object, ...]] = []
        self.rows = list(rows)

    async def fetch(self, query: str, *args: object) -> list[Any]:
        self.asked.append((query, *args))
        return self.rows


def load(tmp_path: Path, text: str, name: str = "find_it") -> Queries:
    (tmp_path / f"{name}.sql").write_text(text)
    return Queries(tmp_path)


async def test_values_go_by_name_whatever_their_order(tmp_path: Path) -> None:
    loaded = load(tmp_path, "select :b::text, :a::int, :b from t")
    connection = Connection(1, 2)

    rows = await loaded.find_it.fetch(connection, a=1, b="two")

    assert rows == [1, 2]
    assert loaded.find_it.parameters == ("b", "a")
    assert connection.asked == [("select $1::text, $2::int, $1 from t", "two", 1)]


@pytest.mark.parametrize("values", [{}, {"a": 1}, {"a": 1, "b": 2, "c": 3}, {"a": 1, "c": 3}])
async def test_other_names_than_the_querys_are_refused_unasked(
    tmp_path: Path, values: dict[str, object]
) -> None:
    loaded = load(tmp_path, "select :a, :b")
    connection = Connection()

    with pytest.raises(TypeError, match="find_it takes"):
        await loaded.find_it.fetch(connection, **values)

    assert connection.asked == []


async def test_a_word_with_a_colon_in_a_comment_is_no_parameter(tmp_path: Path) -> None:
    loaded = load(tmp_path, "-- at most :limit rows: see below\n  -- :more\nselect :a")

    assert loaded.find_it.parameters == ("a",)
    assert loaded.find_it.sql == "select $1"


async def test_the_only_row_or_none(tmp_path: Path) -> None:
    loaded = load(tmp_path, "select 1")

    assert await loaded.find_it.fetch_one(Connection()) is None
    assert await loaded.find_it.fetch_one(Connection("row")) == "row"
    with pytest.raises(AssertionError, match="find_it"):
        await loaded.find_it.fetch_one(Connection("row", "another"))


def test_an_unknown_query_is_an_unknown_attribute(tmp_path: Path) -> None:
    loaded = load(tmp_path, "select 1")

    with pytest.raises(AttributeError, match="find_them"):
        _ = loaded.find_them


def test_names_lists_the_files(tmp_path: Path) -> None:
    assert load(tmp_path, "select 1").names() == ("find_it",)
    assert queries.names() == tuple(path.stem for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_each_query_of_ours_has_all_its_parameters_found(path: Path) -> None:
    text = without_comments(path.read_text())
    written = re.findall(r"(?<!:):([a-z][a-z0-9_]*)", text)

    query = compile_query(path)

    assert set(query.parameters) == set(written)
    assert {int(n) for n in re.findall(r"\$([0-9]+)", query.sql)} == set(
        range(1, len(query.parameters) + 1)
    )
    assert ";" not in query.sql
